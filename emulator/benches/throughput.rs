//! Warp instructions per second on one core, with and without checks: `cargo bench -p ptx-emulator`, and `-- gemm`
//! or `-- softmax` for one kernel.
use ptx_emulator::exec::{Checks, LaunchConfig, Program, Settings, launch};
use ptx_emulator::memory::DeviceMemory;
use std::time::{Duration, Instant};

const PTX: &str = include_str!("../tests/kernels/basic.ptx");
/// Each figure is the best of as many launches as fit into this time.
const TIME: Duration = Duration::from_secs(2);

fn main() {
    println!("{:<28} {:>8} {:>22}", "kernel", "checks", "M warp instructions/s");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (kernel, grid, block, n) in [("gemm", [4, 4, 1], 256, 256), ("softmax", [64, 1, 1], 128, 1024)] {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == kernel) {
            continue;
        }
        for (name, checks) in [("off", Checks::NONE), ("on", Checks::ALL)] {
            println!("{kernel:<28} {name:>8} {:>22.1}", measure(kernel, grid, block, n, checks));
        }
    }
}

fn measure(kernel: &str, grid: [u32; 3], block: u32, n: i32, checks: Checks) -> f64 {
    let memory = DeviceMemory::new(1 << 30);
    let mut settings = Settings::default();
    settings.workers = 1;
    settings.checks = checks;
    let program = Program::load(PTX, &settings, &memory).expect("the module loads");
    let elements = (n * n) as u64;
    let mut params = Vec::new();
    for _ in 0..if kernel == "gemm" { 3 } else { 2 } {
        let buffer = memory.alloc(elements * 4).expect("memory");
        let values: Vec<u8> =
            (0..elements).flat_map(|k| (((k * 7919) % 1013) as f32 / 1013.0).to_le_bytes()).collect();
        memory.copy_from_host(buffer, &values).expect("copy");
        params.extend(buffer.to_le_bytes());
    }
    params.extend(n.to_le_bytes());
    let kernel = program.kernel(kernel).expect("the kernel");
    let config = LaunchConfig { grid, block: [block, 1, 1], dynamic_shared: 0 };
    let (start, mut best) = (Instant::now(), 0f64);
    while start.elapsed() < TIME {
        let begun = cpu_time(start);
        let stats =
            launch(&program, kernel, &config, &params, &memory, &settings).unwrap_or_else(|e| panic!("{e}"));
        best = best.max(stats.warp_instructions as f64 / (cpu_time(start) - begun) / 1e6);
    }
    best
}

/// Seconds that this thread ran, so that a busy machine does not matter; where the system does not tell, seconds
/// since `start`.
fn cpu_time(start: Instant) -> f64 {
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = ran.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| start.elapsed().as_secs_f64(), |ns| ns / 1e9)
}
