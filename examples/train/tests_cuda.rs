//! The GPU step against the CPU step: on a GPU where there is one, else on the emulator.

use inbatch::bank::BankConfig;
use inbatch::table::TableConfig;
use inbatch::{LearnedTemperature, LossConfig, Objective, cuda};
use rand::RngExt;
use rand_distr::StandardNormal;

use crate::class_table::CpuClassStep;
use crate::class_table_cuda::CudaClassStep;
use crate::random::{Purpose, generator};
use crate::step::{Catalogue, CpuStep, HostBatch, HostGradients, Step, StepConfig};
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

/// Steps of both devices, batch after batch, must agree.
fn compare(what: &str, mut on_cpu: impl Step, mut on_gpu: impl Step, batch: impl Fn(u64) -> HostBatch) {
    for seed in 0..3 {
        let batch = batch(seed);
        let (mut expected, mut found) = (HostGradients::default(), HostGradients::default());
        let expected_loss = on_cpu.step(&batch, &mut expected).unwrap();
        let found_loss = on_gpu.step(&batch, &mut found).unwrap();
        let what = format!("{what}, step {seed}");
        assert!((found_loss - expected_loss).abs() < 1e-5 * expected_loss.abs(), "{what}: loss");
        assert_eq!(found.item_ids, expected.item_ids, "{what}");
        assert!(distance(&found.users, &expected.users) < 1e-5, "{what}: users");
        assert!(distance(&found.items, &expected.items) < 1e-5, "{what}: items");
        if !batch.row_negatives.is_empty() {
            assert!(distance(&found.catalogue, &expected.catalogue) < 1e-5, "{what}: catalogue");
        }
        assert_eq!(expected.biases.is_empty(), batch.biases.is_empty(), "{what}: biases");
        if !batch.biases.is_empty() {
            assert!(distance(&found.biases, &expected.biases) < 1e-5, "{what}: biases");
        }
    }
}

#[test]
fn the_gpu_step_agrees_with_the_cpu_step() {
    ptx_emulator_harness::device().unwrap();
    let device = cuda::Device::new(0).unwrap();
    let loss = LossConfig::new(0.2).unwrap().normalize(true).exclude_same_item(true).exclude_same_user(true);
    let in_batch = StepConfig { loss, bank: None, learned: None };
    let both = |what: &str, config, batch: &dyn Fn(u64) -> HostBatch| {
        compare(what, CpuStep::new(config).unwrap(), CudaStep::new(&device, config).unwrap(), batch);
    };
    for (uniform, banked, logq) in [(0, false, true), (7, false, true), (0, true, true), (5, true, false)] {
        // Three batches: the second meets the first in the bank, the third drives it out.
        let bank = banked.then(|| {
            let bank = BankConfig::new(40, DIM).unwrap();
            if logq { bank } else { bank.without_log_q() }
        });
        let what = format!("uniform {uniform}, bank {banked}, logq {logq}");
        both(&what, StepConfig { bank, ..in_batch }, &|seed| batch(uniform, logq, seed));
    }
    for logq in [true, false] {
        let with_own = |seed| {
            // Four of 30 items for each row, some rows with fewer.
            let HostBatch { items, log_q, .. } = batch(30 - ROWS, logq, seed + 10);
            let catalogue = Catalogue { ids: (0..30).collect(), embeddings: items, log_q };
            let row_negatives = (0..4 * ROWS as i32).map(|k| k * 7 % 31 - 1).collect();
            HostBatch { catalogue, row_negatives, ..batch(3, logq, seed) }
        };
        both("row negatives", in_batch, &with_own);
        let hard = StepConfig { loss: loss.hard_negatives(5).unwrap(), ..in_batch };
        both("hard negatives", hard, &|seed| batch(3, logq, seed));
    }
    let weighted = |seed| {
        let weights = (0..ROWS).map(|row| (row % 3) as f32).collect();
        let user_log_q = (0..ROWS).map(|row| -(row as f32) / 4.0).collect();
        HostBatch { weights, user_log_q, ..batch(0, true, seed) }
    };
    let symmetric = loss.symmetric(true);
    both("symmetric, weights", StepConfig { loss: symmetric, ..in_batch }, &weighted);
    // The second batch meets the temperature and the bias that the first one left.
    let sigmoid = loss.objective(Objective::Sigmoid { bias: -2.0 }).unwrap();
    let learned = Some(LearnedTemperature::new(0.2).unwrap());
    both("learnt temperature", StepConfig { learned, ..in_batch }, &|seed| batch(0, true, seed));
    let learnt = StepConfig { loss: sigmoid, learned, bank: None };
    both("learnt temperature and bias", learnt, &|seed| batch(0, false, seed));
}

#[test]
fn the_class_table_on_the_gpu_agrees_with_the_cpu() {
    ptx_emulator_harness::device().unwrap();
    let device = cuda::Device::new(0).unwrap();
    let softmax = TableConfig::sampled_softmax();
    for (what, config, biased) in [
        ("sampled softmax", softmax, true),
        ("nce", TableConfig::nce(), true),
        ("negative sampling", TableConfig::negative_sampling(), false),
    ] {
        let on_cpu = CpuClassStep::new(config);
        let on_gpu = CudaClassStep::new(&device, config).unwrap();
        compare(what, on_cpu, on_gpu, |seed| {
            // Ids of the batch are below 30: a table of 30 classes.
            let HostBatch { item_ids, log_q, weights, .. } = batch(9, true, seed);
            let classes = batch(30 - ROWS, false, seed + 10).items;
            let biases = if biased { (0..30).map(|class| class as f32 / 30.0).collect() } else { vec![] };
            HostBatch { item_ids, log_q, weights, items: classes, biases, ..batch(0, false, seed) }
        });
    }
}
