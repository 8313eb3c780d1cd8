//! Whole kernels, as nvcc compiles them, against plain Rust.
#![allow(clippy::result_large_err, reason = "the errors of a few calls in a test")]

use ptx_emulator::exec::{Checks, LaunchConfig, LaunchStats, Program, Report, Settings, launch};
use ptx_emulator::memory::DeviceMemory;

/// A device with one loaded module.
struct Device {
    memory: DeviceMemory,
    settings: Settings,
    program: Program,
}

impl Device {
    fn new(ptx: &str) -> Device {
        let memory = DeviceMemory::new(1 << 30);
        let mut settings = Settings::default();
        settings.checks = Checks::ALL;
        settings.seed = 7;
        let program = Program::load(ptx, &settings, &memory).unwrap_or_else(|e| panic!("{e}"));
        Device { memory, settings, program }
    }

    fn upload<T: Copy, const W: usize>(&self, values: &[T], bytes: impl Fn(T) -> [u8; W]) -> u64 {
        let address = self.memory.alloc((values.len() * W) as u64).unwrap();
        let image: Vec<u8> = values.iter().flat_map(|v| bytes(*v)).collect();
        self.memory.copy_from_host(address, &image).unwrap();
        address
    }

    fn download<T, const W: usize>(
        &self,
        address: u64,
        count: usize,
        value: impl Fn([u8; W]) -> T,
    ) -> Vec<T> {
        let mut image = vec![0; count * W];
        self.memory.copy_to_host(&mut image, address).unwrap();
        image.chunks_exact(W).map(|c| value(c.try_into().unwrap())).collect()
    }

    fn launch(
        &self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        params: &[u8],
    ) -> Result<LaunchStats, Report> {
        let config = LaunchConfig { grid, block, dynamic_shared: 0 };
        let kernel = self.program.kernel(kernel).unwrap();
        launch(&self.program, kernel, &config, params, &self.memory, &self.settings)
    }
}

fn params(pointers: &[u64], n: i32) -> Vec<u8> {
    let mut bytes: Vec<u8> = pointers.iter().flat_map(|p| p.to_le_bytes()).collect();
    bytes.extend(n.to_le_bytes());
    bytes
}

fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

const PTX: &str = include_str!("kernels/basic.ptx");

#[test]
fn tiled_product_equals_the_plain_one() {
    let device = Device::new(PTX);
    let n = 128;
    let (a, b) = (noise(1, n * n), noise(2, n * n));
    let (da, db) = (device.upload(&a, f32::to_le_bytes), device.upload(&b, f32::to_le_bytes));
    let dc = device.memory.alloc((n * n * 4) as u64).unwrap();
    let stats = device.launch("gemm", [2, 2, 1], [256, 1, 1], &params(&[da, db, dc], n as i32)).unwrap();
    assert_eq!(stats.opcodes["fma.rn.f32"], 4 * 8 * 16 * n as u64);
    let c = device.download(dc, n * n, f32::from_le_bytes);
    for i in 0..n {
        for j in 0..n {
            let want = (0..n).fold(0f32, |sum, k| a[i * n + k].mul_add(b[k * n + j], sum));
            assert_eq!(c[i * n + j].to_bits(), want.to_bits(), "at {i}, {j}");
        }
    }
}

#[test]
fn softmax_rows_sum_to_one() {
    let device = Device::new(PTX);
    let (rows, n) = (5, 300);
    let x: Vec<f32> = noise(3, rows * n).iter().map(|v| v * 20.0).collect();
    let dx = device.upload(&x, f32::to_le_bytes);
    let dy = device.memory.alloc((rows * n * 4) as u64).unwrap();
    device
        .launch("softmax", [rows as u32, 1, 1], [128, 1, 1], &params(&[dx, dy], n as i32))
        .unwrap_or_else(|e| panic!("{e}"));
    let y = device.download(dy, rows * n, f32::from_le_bytes);
    for row in 0..rows {
        let x = &x[row * n..][..n];
        let most = x.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = x.iter().map(|v| f64::from(v - most).exp()).sum();
        for (k, v) in x.iter().enumerate() {
            let want = f64::from(v - most).exp() / sum;
            let got = f64::from(y[row * n + k]);
            assert!((got - want).abs() <= 1e-6 * want + 1e-12, "row {row}, {k}: {got} for {want}");
        }
    }
}

#[test]
fn divergent_loops_and_atomics() {
    let device = Device::new(PTX);
    let n = 1000;
    let x: Vec<u32> = (0..n).map(|k| 1 + k * 7919 % 5000).collect();
    let steps = |mut v: u64| {
        let mut count = 0u32;
        while v != 1 {
            v = if v % 2 == 1 { 3 * v + 1 } else { v / 2 };
            count += 1;
        }
        count
    };
    let want: Vec<u32> = x.iter().map(|v| steps(u64::from(*v))).collect();
    let dx = device.upload(&x, u32::to_le_bytes);
    let dy = device.memory.alloc(u64::from(n) * 4 + 8).unwrap();
    device.memory.fill32(dy + u64::from(n) * 4, 0, 2).unwrap();
    device
        .launch("collatz", [16, 1, 1], [64, 1, 1], &params(&[dx, dy], n as i32))
        .unwrap_or_else(|e| panic!("{e}"));
    let y = device.download(dy, n as usize + 2, u32::from_le_bytes);
    assert_eq!(y[..n as usize], want);
    assert_eq!(y[n as usize], want.iter().sum::<u32>());
    assert_eq!(y[n as usize + 1], *want.iter().max().unwrap());
}
