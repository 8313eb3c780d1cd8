//! Groups of instructions in kernels as nvcc compiles them, against plain Rust.
#![allow(clippy::result_large_err, reason = "the errors of a few calls in a test")]

use half::{bf16, f16};
use ptx_emulator::exec::{LaunchConfig, Program, Report, Settings, launch};
use ptx_emulator::memory::DeviceMemory;

const PTX: &str = include_str!("kernels/features.ptx");

/// A device that runs the test kernels, every launch with other orders of warps and blocks.
struct Device {
    memory: DeviceMemory,
    program: Program,
    settings: Settings,
}

impl Device {
    fn new(seed: u64, workers: usize) -> Device {
        let memory = DeviceMemory::new(1 << 24);
        let mut settings = Settings::default();
        settings.seed = seed;
        settings.workers = workers;
        settings.instruction_limit = Some(5_000_000);
        let program = Program::load(PTX, &settings, &memory).unwrap_or_else(|e| panic!("{e}"));
        Device { memory, program, settings }
    }

    fn words(&self, words: &[u32]) -> u64 {
        let address = self.memory.alloc(words.len() as u64 * 4).unwrap();
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.memory.copy_from_host(address, &bytes).unwrap();
        address
    }

    fn floats(&self, floats: &[f32]) -> u64 {
        self.words(&floats.iter().map(|f| f.to_bits()).collect::<Vec<_>>())
    }

    /// A buffer nobody wrote.
    fn room(&self, words: usize) -> u64 {
        self.memory.alloc(words as u64 * 4).unwrap()
    }

    fn read(&self, address: u64, words: usize) -> Vec<u32> {
        let mut bytes = vec![0; words * 4];
        self.memory.copy_to_host(&mut bytes, address).unwrap();
        bytes.chunks_exact(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect()
    }

    fn read_floats(&self, address: u64, count: usize) -> Vec<f32> {
        self.read(address, count).into_iter().map(f32::from_bits).collect()
    }

    fn try_launch(&self, kernel: &str, shape: [u32; 3], params: &[u8]) -> Result<(), Report> {
        let [blocks, threads, dynamic_shared] = shape;
        let config = LaunchConfig { grid: [blocks, 1, 1], block: [threads, 1, 1], dynamic_shared };
        let kernel = self.program.kernel(kernel).unwrap();
        launch(&self.program, kernel, &config, params, &self.memory, &self.settings).map(|_| ())
    }

    fn launch(&self, kernel: &str, shape: [u32; 3], params: &[u8]) {
        self.try_launch(kernel, shape, params).unwrap_or_else(|report| panic!("{report}"));
    }
}

fn pointers(list: &[u64]) -> Vec<u8> {
    list.iter().flat_map(|p| p.to_le_bytes()).collect()
}

fn collatz(mut v: u64) -> u32 {
    let mut count = 0;
    while v != 1 {
        v = if v % 2 == 1 { 3 * v + 1 } else { v / 2 };
        count += 1;
    }
    count
}

#[test]
fn divergent_calls_of_functions() {
    let device = Device::new(3, 1);
    let y = device.room(96);
    device.launch("calls", [1, 96, 0], &pointers(&[y]));
    let twice = |v: u32| if v % 2 == 1 { collatz(u64::from(v) + 1) * 2 } else { v * 2 };
    let want: Vec<u32> =
        (0..96).map(|t| if t % 3 != 0 { twice(t) } else { collatz(u64::from(t) + 5) }).collect();
    assert_eq!(device.read(y, 96), want);
}

#[test]
fn switches() {
    let device = Device::new(4, 1);
    let y = device.room(64);
    device.launch("cases", [1, 64, 0], &pointers(&[y]));
    let case = |t: u32| match t % 9 {
        0 => t * 3,
        1 => t + 100,
        2 => t ^ 0x55,
        3 => t << 4,
        4 => !t,
        5 => t * t,
        6 => t.wrapping_sub(7),
        7 => t | 0x1000,
        _ => 1,
    };
    assert_eq!(device.read(y, 64), (0..64).map(case).collect::<Vec<_>>());
}

#[test]
fn lanes_exchange_values() {
    let device = Device::new(5, 1);
    let x: Vec<u32> = (0..32).map(|t| (t * 37 + 11) % 101).collect();
    let y = device.room(32 * 20);
    device.launch("warp_operations", [1, 32, 0], &pointers(&[y, device.words(&x)]));
    let got = device.read(y, 32 * 20);
    let odd = x.iter().enumerate().fold(0, |m, (t, v)| m | (v & 1) << t);
    for t in 0..32usize {
        let same = (0..32).filter(|k| x[*k] % 5 == x[t] % 5).fold(0u32, |m, k| m | 1 << k);
        let min = x.iter().map(|v| *v as i32 - 500).min().unwrap() as u32;
        let want = [
            if t >= 3 { x[t - 3] } else { x[t] },
            if t + 5 < 32 { x[t + 5] } else { x[t] },
            x[t ^ 9],
            x[t * 7 % 32],
            if t % 8 >= 2 { x[t - 2] } else { x[t] },
            if t % 16 + 3 < 16 { x[t + 3] } else { x[t] },
            x[t / 4 * 4 + (t + 3) % 4],
            odd,
            1,
            1,
            same,
            0,
            0,
            x.iter().sum(),
            min,
            *x.iter().max().unwrap(),
            x.iter().fold(0, |a, b| a ^ b),
            u32::MAX,
            if t % 2 == 1 { x[(t + 2) % 32] } else { 0 },
            odd.count_ones() * 4 + 2 + u32::from(x.contains(&3)),
        ];
        assert_eq!(got[t * 20..][..20], want, "lane {t}");
    }
}

#[test]
fn atomics_of_all_kinds_on_any_number_of_workers() {
    for workers in [1, 3] {
        let device = Device::new(6, workers);
        let (blocks, threads) = (5u32, 96u32);
        let mut start = vec![0u32; 12];
        (start[1], start[5]) = (u32::MAX, u32::MAX);
        start.resize(12 + 12 * blocks as usize, 0);
        let (g, w) = (device.words(&start), device.words(&[0; 6]));
        let (f, d, h) = (device.words(&[0]), device.words(&[0; 2]), device.words(&[0]));
        device.launch("atomics", [blocks, threads, 0], &pointers(&[g, w, f, d, h]));
        let got = device.read(g, start.len());
        let all: Vec<u32> = (0..blocks * threads).collect();
        check_atomics(&got[..12], &all);
        for block in 0..blocks {
            let own: Vec<u32> = (block * threads..(block + 1) * threads).collect();
            check_atomics(&got[12 + block as usize * 12..][..12], &own);
        }
        let n = u64::from(blocks * threads);
        let wide = device.read(w, 6);
        let wide = |k: usize| u64::from(wide[2 * k]) | u64::from(wide[2 * k + 1]) << 32;
        assert_eq!([wide(0), wide(1), wide(2)], [(n * (n - 1) / 2) << 33, (n - 1) << 40, 1 << 50]);
        assert_eq!(device.read_floats(f, 1), [1.5 * n as f32]);
        let double = device.read(d, 2);
        assert_eq!(f64::from_bits(u64::from(double[0]) | u64::from(double[1]) << 32), 0.25 * n as f64);
        let pair = device.read(h, 1)[0];
        assert_eq!(f16::from_bits(pair as u16).to_f32(), n as f32);
        assert_eq!(f16::from_bits((pair >> 16) as u16).to_f32(), 2.0 * n as f32);
    }
}

fn check_atomics(got: &[u32], threads: &[u32]) {
    let fold = |start: u32, f: &dyn Fn(u32, u32) -> u32| threads.iter().fold(start, |a, t| f(a, *t));
    let count = threads.len() as u32;
    let want = [
        threads.iter().sum(),
        fold(u32::MAX, &|a, t| a.min(t ^ 37)),
        fold(0, &|a, t| a.max(t ^ 37)),
        fold(0, &|a, t| (a as i32).min(t as i32 - 99) as u32),
        fold(0, &|a, t| (a as i32).max(5 - t as i32) as u32),
        fold(u32::MAX, &|a, t| a & !(1 << (t % 32))),
        fold(0, &|a, t| a | 1 << (t % 29)),
        fold(0, &|a, t| a ^ (t * 77)),
        count % 7,
        (7 - count % 7) % 7,
        4711,
        3 * count,
    ];
    assert_eq!(got, want);
}

#[test]
fn vectors_and_bytes() {
    let device = Device::new(7, 1);
    let x: Vec<f32> = (0..128).map(|k| k as f32 * 0.5).collect();
    let b: Vec<u32> = (0..32).map(|k| k * 0x0102_0408 + 0x1122_3344).collect();
    let d: Vec<f64> = (0..64).map(|k| f64::from(k) * 1.25).collect();
    let halves: Vec<u32> = d.iter().flat_map(|v| [v.to_bits() as u32, (v.to_bits() >> 32) as u32]).collect();
    let (y, c, e) = (device.room(128), device.room(32), device.room(128));
    let list = [device.floats(&x), y, device.words(&b), c, device.words(&halves), e];
    device.launch("vectors", [1, 32, 0], &pointers(&list));
    let want: Vec<f32> = x.chunks(4).flat_map(|v| [v[3], v[2], v[1], v[0]]).collect();
    assert_eq!(device.read_floats(y, 128), want);
    let swap = |v: u32| {
        let [p, q, r, s] = v.to_le_bytes();
        u32::from_le_bytes([q, p, s, r])
    };
    assert_eq!(device.read(c, 32), b.iter().map(|v| swap(*v)).collect::<Vec<_>>());
    let got: Vec<f64> = device
        .read(e, 128)
        .chunks(2)
        .map(|w| f64::from_bits(u64::from(w[0]) | u64::from(w[1]) << 32))
        .collect();
    assert_eq!(got, d.chunks(2).flat_map(|v| [v[1] * 2.0, v[0] - 1.0]).collect::<Vec<_>>());
}

#[test]
fn half_precision() {
    let device = Device::new(8, 1);
    let x: Vec<f32> = (0..64).map(|k| (k as f32 - 30.0) * 0.117).collect();
    let y = device.room(32 * 6);
    device.launch("halves", [1, 32, 0], &pointers(&[device.floats(&x), y]));
    let got = device.read_floats(y, 32 * 6);
    for t in 0..32 {
        let (a, b) = (x[t], x[t + 32]);
        // The product of two f16 plus a third is exact in f64.
        let square = |v: f32| {
            let h = f16::from_f32(v).to_f64();
            f16::from_f64(h * h + h).to_f32()
        };
        let product = |v: f32| {
            let h = bf16::from_f32(v).to_f32();
            bf16::from_f32(h * h).to_f32()
        };
        let sum = f16::from_f32(f16::from_f32(a).to_f32() + f16::from_f32(b).to_f32()).to_f32();
        assert_eq!(got[t * 6..][..5], [square(a), square(b), product(a), product(b), sum], "lane {t}");
        let power = f16::from_f32(f16::from_f32(a).to_f32().exp2()).to_f32();
        assert!((got[t * 6 + 5] - power).abs() <= power * 1e-3, "lane {t}");
    }
}

#[test]
fn asynchronous_copies_through_a_ring() {
    let n: i32 = 8 * 256 - 101;
    let x: Vec<f32> = (0..n).map(|k| (k % 977) as f32).collect();
    for seed in 0..4 {
        let device = Device::new(seed, 1);
        let y = device.room(64);
        let mut params = pointers(&[device.floats(&x), y]);
        params.extend(n.to_le_bytes());
        device.launch("tile_copy", [1, 64, 3 * 1024], &params);
        let want: Vec<f32> = (0..64)
            .map(|t| {
                let at = |k: usize, j: usize| x.get(k * 256 + (t * 4 + j + 36) % 256).copied().unwrap_or(0.0);
                (0..8)
                    .flat_map(|k| (0..4).map(move |j| (k, j)))
                    .fold(0.0, |sum, (k, j)| at(k, j).mul_add(k as f32 + 1.0, sum))
            })
            .collect();
        assert_eq!(device.read_floats(y, 64), want);
        // With less shared memory than the ring takes, the copies leave it.
        let report = device.try_launch("tile_copy", [1, 64, 2 * 1024], &params).unwrap_err();
        assert_eq!(report.kind.name(), "OutOfBounds", "{report}");
    }
}

#[test]
fn matrix_fragments() {
    let device = Device::new(9, 1);
    let a: Vec<f16> = (0..256).map(|k| f16::from_f32((k * 37 % 41) as f32 - 20.0)).collect();
    let b: Vec<f16> = (0..128).map(|k| f16::from_f32((k * 23 % 31) as f32 - 15.0)).collect();
    let pack = |h: &[f16]| {
        h.chunks(2).map(|p| u32::from(p[0].to_bits()) | u32::from(p[1].to_bits()) << 16).collect::<Vec<_>>()
    };
    let (c, out) = (device.room(128), device.room(64));
    device.launch(
        "matrices",
        [1, 32, 0],
        &pointers(&[device.words(&pack(&a)), device.words(&pack(&b)), c, out]),
    );
    let got = device.read_floats(c, 128);
    for row in 0..16 {
        for column in 0..8 {
            // Small integers: exact in any order. The accumulator started as 1, 2, 3, 4.
            let start = (1 + column % 2 + row / 8 * 2) as f32;
            let want = (0..16).fold(start, |s, k| s + a[row * 16 + k].to_f32() * b[k * 8 + column].to_f32());
            assert_eq!(got[row * 8 + column], want, "{row}, {column}");
        }
    }
}

#[test]
fn generic_addresses_of_three_spaces() {
    let device = Device::new(10, 1);
    let x: Vec<u32> = (0..64).map(|k| k * k + 17).collect();
    let y = device.room(64);
    device.launch("spaces", [1, 64, 0], &pointers(&[device.words(&x), y]));
    let want = |t: usize| match t % 3 {
        0 => x[(t + 1) % 64] * 2 * 8 + 1,
        // local[(k + t) % 4] = x[t] + k, read at t % 4: k is 0.
        1 => x[t] * 8 + 2,
        _ => x[t / 2] * 8 + 4,
    };
    assert_eq!(device.read(y, 64), (0..64).map(want).collect::<Vec<_>>());
}

#[test]
fn module_variables_and_structures_as_parameters() {
    let device = Device::new(11, 1);
    let (y, z) = (device.room(32), device.room(32));
    let mut params = pointers(&[y, z]);
    for value in [100u32, 200, 300, 400, 500, 0] {
        params.extend(value.to_le_bytes());
    }
    params.extend(2.5f64.to_le_bytes());
    device.launch("variables", [1, 32, 0], &params);
    let table = [11u32, 22, 33, 44];
    let want: Vec<u32> = (0..32).map(|t| table[t % 4] + 100 * (t as u32 % 5 + 1)).collect();
    assert_eq!(device.read(y, 32), want);
    let want: Vec<f32> = (0..32).map(|t| [0.5, 3.0][t % 2] * 2.5).collect();
    assert_eq!(device.read_floats(z, 32), want);
    let (address, bytes) = device.program.global("table").unwrap();
    assert_eq!(bytes, 16);
    assert_eq!(device.read(address, 4), [11, 5, 33, 44]);
}

#[test]
fn spinning_lanes_do_not_starve_the_one_that_holds_the_lock() {
    let device = Device::new(12, 1);
    let y = device.words(&[0, 0]);
    device.launch("lock", [1, 64, 0], &pointers(&[y]));
    assert_eq!(device.read(y, 2), [0, 64]);
}
