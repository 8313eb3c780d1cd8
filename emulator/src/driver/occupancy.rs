//! How many blocks of a kernel fit on a multiprocessor.

use super::boundary::{Handle, Out, driver_api};
use super::code::{Code, Outcome};
use super::function::Function;
use super::limits::{REGISTERS, WARP_SIZE};
use super::state::ready;

/// Shared memory is handed out in pieces of this size, bytes.
const SHARED_UNIT: u64 = 128;
/// Registers are handed out to warps in pieces of this many.
const REGISTER_UNIT: u32 = 256;

/// `CUoccupancyB2DSize`: dynamic shared memory for a block size.
type DynamicShared = Option<unsafe extern "C" fn(i32) -> usize>;

/// Blocks of `threads` threads with `dynamic` bytes of dynamic shared memory that fit on one multiprocessor.
fn blocks(function: &Function, threads: u32, dynamic: u64) -> Outcome<u32> {
    let (kernel, limits) = (function.kernel()?, function.limits());
    let shared = u64::from(kernel.static_shared) + dynamic;
    if threads == 0 || threads > kernel.max_threads || shared > u64::from(limits.shared_opt_in) {
        return Ok(0);
    }
    let warps = threads.div_ceil(WARP_SIZE);
    let by_threads = limits.threads_per_multiprocessor / (warps * WARP_SIZE);
    let warp_registers = (function.registers()? * WARP_SIZE).next_multiple_of(REGISTER_UNIT);
    let by_registers = REGISTERS / warp_registers / warps;
    let block_shared = shared.next_multiple_of(SHARED_UNIT) + u64::from(limits.shared_reserved);
    let by_shared = u64::from(limits.shared_per_multiprocessor).checked_div(block_shared).unwrap_or(u64::MAX);
    let by_shared = u32::try_from(by_shared).unwrap_or(u32::MAX);
    Ok(by_threads.min(by_registers).min(by_shared).min(limits.blocks_per_multiprocessor))
}

fn count_blocks(out: &Out<i32>, function: Handle, threads: i32, dynamic: usize) -> Outcome {
    let function = ready()?.functions.get(function)?;
    let threads = u32::try_from(threads).ok().filter(|threads| *threads > 0).ok_or(Code::INVALID_VALUE)?;
    out.set(blocks(&function, threads, dynamic as u64)? as i32)
}

/// The block size with the most threads per multiprocessor, the larger one when several tie.
fn best_block(
    grid: &Out<i32>,
    block: &Out<i32>,
    function: Handle,
    sizes: DynamicShared,
    fixed: usize,
    most: i32,
) -> Outcome {
    let function = ready()?.functions.get(function)?;
    let largest = function.kernel()?.max_threads;
    let largest = if most > 0 { largest.min(most as u32) } else { largest };
    let mut best = (0, 0, 0);
    for threads in (1..=largest.div_ceil(WARP_SIZE)).map(|warps| (warps * WARP_SIZE).min(largest)) {
        let dynamic = match sizes {
            // SAFETY: the caller's function, called as its type says.
            Some(size_of) => unsafe { size_of(threads as i32) },
            None => fixed,
        };
        let resident = blocks(&function, threads, dynamic as u64)?;
        best = best.max((resident * threads, threads, resident));
    }
    let multiprocessors = function.module.context.config.settings.multiprocessors;
    grid.set(best.2.saturating_mul(multiprocessors) as i32)?;
    block.set(best.1 as i32)
}

driver_api! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(out: Out<i32>, function: Handle, threads: i32, dynamic: usize) {
        count_blocks(&out, function, threads, dynamic)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(out: Out<i32>, function: Handle, threads: i32, dynamic: usize, _flags: u32) {
        count_blocks(&out, function, threads, dynamic)
    }

    fn cuOccupancyMaxPotentialBlockSize(grid: Out<i32>, block: Out<i32>, function: Handle, sizes: DynamicShared, dynamic: usize, most: i32) {
        best_block(&grid, &block, function, sizes, dynamic, most)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(grid: Out<i32>, block: Out<i32>, function: Handle, sizes: DynamicShared, dynamic: usize, most: i32, _flags: u32) {
        best_block(&grid, &block, function, sizes, dynamic, most)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(out: Out<usize>, function: Handle, count: i32, threads: i32) {
        let function = ready()?.functions.get(function)?;
        let count = u32::try_from(count).ok().filter(|count| *count > 0).ok_or(Code::INVALID_VALUE)?;
        let threads = u32::try_from(threads).map_err(|_| Code::INVALID_VALUE)?;
        if blocks(&function, threads, 0)? < count {
            return Err(Code::INVALID_VALUE);
        }
        let limits = function.limits();
        let share = limits.shared_per_multiprocessor / count;
        let free = share.saturating_sub(limits.shared_reserved).min(limits.shared_opt_in).saturating_sub(function.kernel()?.static_shared);
        out.set((free as u64 / SHARED_UNIT * SHARED_UNIT) as usize)
    }
}
