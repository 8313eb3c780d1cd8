//! Step and loss-only on the GPU, by batch size, dimension and type. Needs a real device: times on an emulator would
//! mean nothing. Run: `cargo bench --bench cuda`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use inbatch::cuda::cudarc::driver::DeviceRepr;
use inbatch::cuda::{Batch, Device, Gradients, InBatchLoss};
use inbatch::{Element, LossConfig};

fn sweeps<T: Element + DeviceRepr>(
    criterion: &mut Criterion,
    device: &Device,
) -> Result<(), Box<dyn std::error::Error>> {
    let stream = device.stream();
    let mut random = fastrand::Rng::with_seed(1);
    for dim in [64, 128, 256] {
        for n in [256, 1024, 4096, 8192] {
            let mut embeddings =
                || -> Vec<T> { (0..n * dim).map(|_| T::from_f32(random.f32() - 0.5)).collect() };
            let (users, items) = (stream.clone_htod(&embeddings())?, stream.clone_htod(&embeddings())?);
            let (mut d_users, mut d_items) = (users.clone(), items.clone());
            let config = LossConfig::new(0.05)?.normalize(true);
            let mut loss = InBatchLoss::new(device, config)?;
            let name = T::DTYPE.name();
            let mut group = criterion.benchmark_group(format!("cuda/{name}/{dim}"));
            group.throughput(Throughput::Elements((n * n) as u64));
            group.bench_function(BenchmarkId::new("loss", n), |bencher| {
                bencher.iter(|| {
                    loss.evaluate(&Batch::new(&users, &items, dim)).expect("a loss");
                    device.synchronize().expect("the device");
                });
            });
            group.bench_function(BenchmarkId::new("step", n), |bencher| {
                bencher.iter(|| {
                    let mut gradients = Gradients::new(&mut d_users, &mut d_items);
                    loss.step(&Batch::new(&users, &items, dim), &mut gradients).expect("a step");
                    device.synchronize().expect("the device");
                });
            });
            group.finish();
        }
    }
    Ok(())
}

fn cuda(criterion: &mut Criterion) {
    let device = match Device::new(0) {
        Ok(device) => device,
        Err(error) => return println!("cuda: skipped, {error}"),
    };
    println!("cuda: {}", device.name());
    sweeps::<f32>(criterion, &device).expect("f32");
    sweeps::<half::f16>(criterion, &device).expect("f16");
    sweeps::<half::bf16>(criterion, &device).expect("bf16");
}

criterion_group!(benches, cuda);
criterion_main!(benches);
