//! The GPU step against the CPU step: on a GPU where there is one, else on the emulator.

use inbatch::bank::BankConfig;
use inbatch::{LossConfig, cuda};
use rand::RngExt;
use rand_distr::StandardNormal;

use crate::random::{Purpose, generator};
use crate::step::{CpuStep, HostBatch, HostGradients, Step};
use crate::step_cuda::CudaStep;

const ROWS: usize = 24;
const DIM: usize = 12;

/// A random batch with `uniform` further items, ids repeated.
fn batch(uniform: usize, logq: bool, seed: u64) -> HostBatch {
    let mut rng = generator(seed, Purpose::Batches);
    let columns = ROWS + uniform;
    let mut batch = HostBatch::new(DIM);
    batch.user_ids = (0..ROWS).map(|_| rng.random_range(0..10)).collect();
    batch.item_ids = (0..columns).map(|_| rng.random_range(0..30)).collect();
    batch.users = (0..ROWS * DIM).map(|_| rng.sample(StandardNormal)).collect();
    batch.items = (0..columns * DIM).map(|_| rng.sample(StandardNormal)).collect();
    if logq {
        batch.log_q = (0..columns).map(|_| rng.random_range(-8.0..0.0)).collect();
    }
    batch
}

/// Distance of two vectors over the length of the second.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| f64::from(a - b)));
    difference / norm(&mut expected.iter().map(|&b| f64::from(b)))
}

#[test]
fn the_gpu_step_agrees_with_the_cpu_step() {
    ptx_emulator_harness::device().unwrap();
    let device = cuda::Device::new(0).unwrap();
    let config =
        LossConfig::new(0.2).unwrap().normalize(true).exclude_same_item(true).exclude_same_user(true);
    for (uniform, banked, logq) in [(0, false, true), (7, false, true), (0, true, true), (5, true, false)] {
        let bank = banked.then(|| {
            let bank = BankConfig::new(40, DIM).unwrap();
            if logq { bank } else { bank.without_log_q() }
        });
        let mut on_cpu = CpuStep::new(config, bank).unwrap();
        let mut on_gpu = CudaStep::new(&device, config, bank).unwrap();
        // Three batches: the second meets the first in the bank, the third drives it out.
        for seed in 0..3 {
            let batch = batch(uniform, logq, seed);
            let (mut expected, mut found) = (HostGradients::default(), HostGradients::default());
            let expected_loss = on_cpu.step(&batch, &mut expected).unwrap();
            let found_loss = on_gpu.step(&batch, &mut found).unwrap();
            let what = format!("uniform {uniform}, bank {banked}, logq {logq}, step {seed}");
            assert!((found_loss - expected_loss).abs() < 1e-5 * expected_loss.abs(), "{what}: loss");
            assert!(distance(&found.users, &expected.users) < 1e-5, "{what}: users");
            assert!(distance(&found.items, &expected.items) < 1e-5, "{what}: items");
        }
    }
}
