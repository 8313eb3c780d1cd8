//! `cuDeviceGetAttribute`: the pretended device as numbers.

use super::code::{Code, Outcome};
use super::config::Config;
use super::limits::{
    Limits, MAX_BLOCK_DIM, MAX_GRID_DIM, MAX_THREADS_PER_BLOCK, REGISTERS, SHARED_PER_BLOCK, WARP_SIZE,
};

/// One past the largest attribute number that CUDA 13 knows.
const END: u32 = 150;

/// The value of attribute `number` (`CUdevice_attribute`) for the device that `config` describes.
///
/// What the emulator lacks (textures, managed memory, memory pools, clusters, peers, ...) reads 0, which is how a device says "no".
pub(crate) fn value(number: u32, config: &Config) -> Outcome<i32> {
    let settings = &config.settings;
    let limits = Limits::of(settings.compute_capability);
    let value: u32 = match number {
        1 => MAX_THREADS_PER_BLOCK,
        2 => MAX_BLOCK_DIM[0],
        3 => MAX_BLOCK_DIM[1],
        4 => MAX_BLOCK_DIM[2],
        5 => MAX_GRID_DIM[0],
        6 => MAX_GRID_DIM[1],
        7 => MAX_GRID_DIM[2],
        8 => SHARED_PER_BLOCK,
        9 => 65_536, // TOTAL_CONSTANT_MEMORY
        10 => WARP_SIZE,
        11 => i32::MAX as u32, // MAX_PITCH
        12 => REGISTERS,       // per block
        13 => 1_410_000,       // CLOCK_RATE, kHz
        14 => 512,             // TEXTURE_ALIGNMENT
        15 => 1,               // GPU_OVERLAP
        16 => settings.multiprocessors,
        31 => 1,         // CONCURRENT_KERNELS
        36 => 1_215_000, // MEMORY_CLOCK_RATE, kHz
        37 => 5_120,     // GLOBAL_MEMORY_BUS_WIDTH, bits
        38 => limits.l2_bytes,
        39 => limits.threads_per_multiprocessor,
        40 => 2, // ASYNC_ENGINE_COUNT
        41 => 1, // UNIFIED_ADDRESSING
        75 => settings.compute_capability.0,
        76 => settings.compute_capability.1,
        78..=80 => 1, // STREAM_PRIORITIES, GLOBAL_L1_CACHE, LOCAL_L1_CACHE
        81 => limits.shared_per_multiprocessor,
        82 => REGISTERS, // per multiprocessor
        87 => 2,         // SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO
        97 => limits.shared_opt_in,
        99 => 1, // HOST_REGISTER_SUPPORTED
        106 => limits.blocks_per_multiprocessor,
        111 => limits.shared_reserved,
        other if other > 0 && other < END => 0,
        _ => return Err(Code::INVALID_VALUE),
    };
    Ok(i32::try_from(value).unwrap_or(i32::MAX))
}
