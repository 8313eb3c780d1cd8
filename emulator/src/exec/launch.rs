//! Launches: checks of their shape, blocks on host threads, what they did.
use super::block::Runner;
use super::machine::Launch;
use super::program::{Kernel, LaunchConfig, LaunchStats, Program};
use super::random::Random;
use super::{FaultKind, Report, Settings};
use crate::memory::DeviceMemory;
use crate::memory::race::SyncTable;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Runs one grid to its end.
///
/// # Errors
/// A [`Report`] of the first defect found; memory then holds what was written before it. With several workers and
/// several defects, which one is first may differ from run to run.
#[expect(clippy::result_large_err, reason = "a report ends a launch: its size costs nothing")]
pub fn launch(
    program: &Program,
    kernel: &Kernel,
    config: &LaunchConfig,
    params: &[u8],
    memory: &DeviceMemory,
    settings: &Settings,
) -> Result<LaunchStats, Report> {
    let refuse = |message: String| invalid(kernel, message);
    let code =
        program.code(&kernel.name).ok_or_else(|| refuse("the kernel is not part of this module".into()))?;
    check_shape(kernel, config).map_err(refuse)?;
    if params.len() < code.param_bytes as usize {
        return Err(refuse(format!(
            "{} bytes of parameters are needed, {} were given",
            code.param_bytes,
            params.len()
        )));
    }
    let view = memory.view();
    let params = &params[..code.param_bytes as usize];
    let blocks: u64 = config.grid.iter().map(|n| u64::from(*n)).product();
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let launch = Launch {
        kernel: &kernel.name,
        code,
        params,
        view: &view,
        settings,
        config,
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
        blocks: blocks as u32,
        order: SyncTable::default(),
    };
    let workers = (settings.workers.max(1) as u64).min(blocks) as usize;
    let queue = Queue::new(blocks, settings.seed);
    let mut counts = vec![0u64; code.instructions.len()];
    let mut reports = Vec::new();
    if workers == 1 {
        work(&launch, &queue, &Mutex::new(&mut counts), &Mutex::new(&mut reports));
    } else {
        let (counts, reports) = (Mutex::new(&mut counts), Mutex::new(&mut reports));
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| work(&launch, &queue, &counts, &reports));
            }
        });
    }
    // The block that comes first in the queue's order decides, whichever thread was faster.
    reports.sort_by_key(|(turn, _)| *turn);
    if let Some((_, report)) = reports.into_iter().next() {
        return Err(*report);
    }
    let mut stats = LaunchStats::default();
    for (instruction, count) in code.instructions.iter().zip(&counts) {
        if *count > 0 {
            stats.warp_instructions += count;
            *stats.opcodes.entry(code.names[instruction.name as usize].clone()).or_default() += count;
        }
    }
    Ok(stats)
}

fn invalid(kernel: &Kernel, message: String) -> Report {
    Report {
        kind: FaultKind::InvalidLaunch,
        kernel: kernel.name.clone(),
        line: 0,
        text: String::new(),
        block: [0; 3],
        thread: [0; 3],
        address: None,
        allocation: None,
        message,
    }
}

fn check_shape(kernel: &Kernel, config: &LaunchConfig) -> Result<(), String> {
    let threads = config.block.iter().try_fold(1u32, |product, n| product.checked_mul(*n));
    let threads =
        threads.filter(|threads| *threads <= kernel.max_threads && *threads > 0).ok_or_else(|| {
            format!("a block of {:?} threads; this kernel takes 1 to {}", config.block, kernel.max_threads)
        })?;
    if config.grid.contains(&0) {
        return Err(format!("a grid of {:?} blocks; each dimension must be at least 1", config.grid));
    }
    if kernel.required_block.is_some_and(|block| block != config.block) {
        return Err(format!(
            "a block of {:?}; the kernel requires {:?}",
            config.block, kernel.required_block
        ));
    }
    if u64::from(kernel.static_shared) + u64::from(config.dynamic_shared) > 227 << 10 {
        return Err(format!("{} threads with more than 227 KiB of shared memory", threads));
    }
    Ok(())
}

/// Blocks in a seeded order, handed out once each.
struct Queue {
    next: AtomicU64,
    blocks: u64,
    /// Turn `t` is block `(t * stride + start) % blocks`: a permutation, as the stride shares no factor.
    stride: u64,
    start: u64,
    stop: AtomicBool,
}

impl Queue {
    fn new(blocks: u64, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let wide = |random: &mut Random| u64::from(random.next()) << 32 | u64::from(random.next());
        let start = wide(&mut random) % blocks;
        let mut stride = wide(&mut random) % blocks;
        while gcd(stride, blocks) != 1 {
            stride = (stride + 1) % blocks.max(2);
        }
        Queue { next: AtomicU64::new(0), blocks, stride, start, stop: AtomicBool::new(false) }
    }

    /// The next turn and its block.
    fn take(&self) -> Option<(u64, u64)> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let block = u128::from(turn) * u128::from(self.stride) + u128::from(self.start);
        (turn < self.blocks).then_some((turn, (block % u128::from(self.blocks)) as u64))
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

type Reports = Vec<(u64, Box<Report>)>;

fn work(launch: &Launch<'_>, queue: &Queue, counts: &Mutex<&mut Vec<u64>>, reports: &Mutex<&mut Reports>) {
    let mut runner = Runner::new(launch);
    while let Some((turn, block)) = queue.take() {
        if let Err(report) = runner.run(block) {
            queue.stop.store(true, Ordering::Relaxed);
            reports.lock().unwrap_or_else(PoisonError::into_inner).push((turn, report));
        }
    }
    let mut sums = counts.lock().unwrap_or_else(PoisonError::into_inner);
    for (sum, count) in sums.iter_mut().zip(&runner.machine.counts) {
        *sum += count;
    }
}
