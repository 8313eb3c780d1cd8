//! Embeddings trained through cust: its context, stream and buffers, the loss in between.
//!
//!     scripts/with-cust-cuda.sh cargo run --example link_cust --features cust    # on the emulator, no CUDA installed
//!     cargo run --release --example link_cust --features cust                    # with CUDA installed, on a GPU
//!
//! docs/link-cust.md explains it.

use std::sync::Arc;

use anyhow::ensure;
use cust::memory::{CopyDestination, DeviceBuffer};
use cust::stream::{Stream, StreamFlags};
use inbatch::cuda::{Batch, Device, Gradients, InBatchLoss};
use inbatch::link::cust::{device, view, view_mut};
use inbatch::{LossConfig, cpu};

const ROWS: usize = 24;
const DIM: usize = 16;
const STEPS: usize = 12;
const RATE: f32 = 2.0;

fn main() -> anyhow::Result<()> {
    let choice = ptx_emulator_harness::device()?;
    let _context = cust::quick_init()?;
    let device = device(0, Arc::new(Stream::new(StreamFlags::NON_BLOCKING, None)?))?;
    println!("device: {}", device.name());

    let mut random = fastrand::Rng::with_seed(5);
    let mut table = || (0..ROWS * DIM).map(|_| random.f32() - 0.5).collect::<Vec<f32>>();
    let (mut users, mut items) = (table(), table());
    let config = LossConfig::new(0.2)?.normalize(true);
    let mut losses = Vec::new();
    let mut trainer = Trainer::new(&device, config)?;
    for step in 0..STEPS {
        let (loss, d_users, d_items) = trainer.step(&users, &items)?;
        if step == 0 {
            agrees_with_the_cpu(config, &users, &items, loss, &d_users)?;
        }
        println!("step {step:2}  loss {loss:.4}");
        losses.push(loss);
        for (table, gradient) in [(&mut users, &d_users), (&mut items, &d_items)] {
            table.iter_mut().zip(gradient).for_each(|(value, gradient)| *value -= RATE * gradient);
        }
    }
    ensure!(losses[STEPS - 1] < 0.8 * losses[0], "the loss did not fall");
    let report = choice.emulator().and_then(|emulator| emulator.report());
    ensure!(report.is_none(), "the emulator found a defect: {}", report.map(|r| r.text).unwrap_or_default());
    Ok(())
}

/// cust's buffers, kept over all steps. What moves between host and device here is the example's doing, not the loss's.
struct Trainer {
    loss: InBatchLoss,
    users: DeviceBuffer<f32>,
    items: DeviceBuffer<f32>,
    d_users: DeviceBuffer<f32>,
    d_items: DeviceBuffer<f32>,
}

impl Trainer {
    fn new(device: &Device, config: LossConfig) -> anyhow::Result<Self> {
        let buffer = || DeviceBuffer::from_slice(&[f32::NAN; ROWS * DIM]);
        Ok(Self {
            loss: InBatchLoss::new(device, config)?,
            users: buffer()?,
            items: buffer()?,
            d_users: buffer()?,
            d_items: buffer()?,
        })
    }

    fn step(&mut self, users: &[f32], items: &[f32]) -> anyhow::Result<(f32, Vec<f32>, Vec<f32>)> {
        self.users.copy_from(users)?;
        self.items.copy_from(items)?;
        // SAFETY: these buffers are used on the one stream, and by synchronous copies, which wait for it.
        let (batch, mut gradients) = unsafe {
            (
                Batch::new(view(&self.users)?, view(&self.items)?, DIM),
                Gradients::new(view_mut(&mut self.d_users)?, view_mut(&mut self.d_items)?),
            )
        };
        let loss = self.loss.step(&batch, &mut gradients)?.loss()?;
        Ok((loss, self.d_users.as_host_vec()?, self.d_items.as_host_vec()?))
    }
}

/// The same step without a device.
fn agrees_with_the_cpu(
    config: LossConfig,
    users: &[f32],
    items: &[f32],
    loss: f32,
    d_users: &[f32],
) -> anyhow::Result<()> {
    let (mut expected, mut d_items) = (vec![0.0f32; users.len()], vec![0.0f32; items.len()]);
    let mut cpu = cpu::InBatchLoss::new(config)?;
    let batch = cpu::Batch::new(users, items, DIM);
    let output = cpu.step(&batch, &mut cpu::Gradients::new(&mut expected, &mut d_items))?;
    ensure!((loss - output.loss()?).abs() < 1e-5 * loss, "the CPU says {}", output.loss()?);
    let largest = d_users.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    ensure!(largest < 1e-6, "a gradient is {largest} away from the CPU's");
    Ok(())
}
