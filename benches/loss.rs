//! One step and one evaluation over batch size and dimension; throughput in scores (B x N).
//!
//! `cargo bench --bench loss`, or `cargo bench --bench loss -- cpu/step/f32/128` for a part of it.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use inbatch::{LossConfig, cpu};

const BATCHES: [usize; 6] = [256, 512, 1024, 2048, 4096, 8192];
const DIMENSIONS: [usize; 3] = [64, 128, 256];

struct Inputs {
    users: Vec<f32>,
    items: Vec<f32>,
    log_q: Vec<f32>,
    /// Zipf: accidental hits as a real batch has them.
    item_ids: Vec<i64>,
}

impl Inputs {
    fn new(rows: usize, dim: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let mut embeddings = || (0..rows * dim).map(|_| random.f32() - 0.5).collect();
        let (users, items) = (embeddings(), embeddings());
        let log_q = (0..rows).map(|_| -10.0 * random.f32()).collect();
        let item_ids = (0..rows).map(|_| 1e5f64.powf(random.f64()) as i64).collect();
        Self { users, items, log_q, item_ids }
    }

    fn batch(&self, dim: usize) -> cpu::Batch<'_, f32> {
        cpu::Batch::new(&self.users, &self.items, dim).log_q(&self.log_q).item_ids(&self.item_ids)
    }
}

fn cpu(criterion: &mut Criterion) {
    let config = LossConfig::new(0.05).expect("a valid temperature").exclude_same_item(true).normalize(true);
    for dim in DIMENSIONS {
        for (name, gradients) in [("step", true), ("evaluate", false)] {
            let mut group = criterion.benchmark_group(format!("cpu/{name}/f32/{dim}"));
            group.sample_size(10).warm_up_time(Duration::from_millis(500));
            group.measurement_time(Duration::from_secs(3));
            for rows in BATCHES {
                let inputs = Inputs::new(rows, dim);
                let mut d_users = vec![0.0_f32; rows * dim];
                let mut d_items = vec![0.0_f32; rows * dim];
                let mut loss = cpu::InBatchLoss::new(config).expect("a loss");
                group.throughput(Throughput::Elements((rows * rows) as u64));
                group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
                    bencher.iter(|| {
                        let batch = inputs.batch(dim);
                        let output = match gradients {
                            true => loss.step(&batch, &mut cpu::Gradients::new(&mut d_users, &mut d_items)),
                            false => loss.evaluate(&batch),
                        };
                        output.and_then(|output| output.loss()).expect("a loss")
                    });
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, cpu);
criterion_main!(benches);
