//! The training loop's body: batches through the loss into the tables.

use anyhow::{Context, Result, ensure};
use inbatch::LossConfig;
use inbatch::bank::BankConfig;
use indicatif::ProgressBar;

use crate::data::Split;
use crate::device::Device;
use crate::evaluate::{Metrics, evaluate};
use crate::options::{Negatives, Options};
use crate::random::{Purpose, generator};
use crate::sampling::{LogQ, Sampler};
use crate::step::{HostBatch, HostGradients, Step};
use crate::tower::Tower;

/// The model and everything that trains it.
pub(crate) struct Trainer<'a> {
    split: &'a Split,
    users: Tower,
    items: Tower,
    sampler: Sampler<'a>,
    step: Box<dyn Step>,
    normalize: bool,
    dim: usize,
    batch: HostBatch,
    gradients: HostGradients,
}

impl<'a> Trainer<'a> {
    /// Fresh tables, and the loss `config` on `device`.
    pub(crate) fn new(
        options: &Options,
        config: LossConfig,
        split: &'a Split,
        device: &Device,
    ) -> Result<Self> {
        let batch_size = options.batch_size.min(split.train.len());
        if batch_size < options.batch_size {
            println!("batch size: {batch_size}, as there are no more interactions");
        }
        let uniform = options.uniform_negatives(batch_size);
        let log_q = LogQ::new(options, split, batch_size, uniform)?;
        let sampler = Sampler::new(split, batch_size, uniform, log_q, options.seed);
        let bank = match options.negatives {
            Negatives::Cbns => Some(bank_config(options, batch_size, sampler.batches())?),
            Negatives::InBatch | Negatives::Mns => None,
        };
        let step = device.step(config, bank)?;

        let mut rng = generator(options.seed, Purpose::Tables);
        let mut tower =
            |rows| Tower::new(rows, options.dim, options.optimizer, options.step_size(), &mut rng);
        let (users, items) = (tower(split.users), tower(split.items));
        Ok(Self {
            split,
            users,
            items,
            sampler,
            step,
            normalize: options.normalize,
            dim: options.dim,
            batch: HostBatch::new(options.dim),
            gradients: HostGradients::default(),
        })
    }

    /// Batches of an epoch.
    pub(crate) fn batches(&self) -> usize {
        self.sampler.batches()
    }

    /// One pass over the training pairs; returns the mean of the batches' losses.
    pub(crate) fn epoch(&mut self, bar: &ProgressBar) -> Result<f64> {
        self.sampler.shuffle();
        let batches = self.batches();
        let mut sum = 0.0;
        for number in 0..batches {
            self.sampler.fill(number, &self.users, &self.items, &mut self.batch)?;
            let loss = self.step.step(&self.batch, &mut self.gradients)?;
            ensure!(loss.is_finite(), "the loss is {loss}: lower --learning-rate or raise --temperature");
            self.users.update(&self.batch.user_ids, &self.gradients.users);
            self.items.update(&self.batch.item_ids, &self.gradients.items);
            sum += f64::from(loss);
            bar.set_message(format!("loss {:.4}", sum / (number + 1) as f64));
            bar.inc(1);
        }
        Ok(sum / batches as f64)
    }

    /// Ranks by the score the loss was trained on: the cosine, or the inner product. A user's own
    /// norm and the temperature change no ranking.
    pub(crate) fn evaluate(&self, tail: &[bool]) -> Metrics {
        let items: Vec<f32> = (0..self.split.items)
            .flat_map(|item| {
                let row = self.items.row(item);
                let norm = if self.normalize { dot(row, row).sqrt().max(f32::MIN_POSITIVE) } else { 1.0 };
                row.iter().map(move |value| value / norm)
            })
            .collect();
        let (users, dim) = (&self.users, self.dim);
        evaluate(self.split, tail, |user, scores| {
            let user = users.row(user as usize);
            for (score, item) in scores.iter_mut().zip(items.chunks_exact(dim)) {
                *score = dot(user, item);
            }
        })
    }
}

fn bank_config(options: &Options, batch_size: usize, batches: usize) -> Result<BankConfig> {
    let warm_up = options.bank_warm_up.unwrap_or(2 * batches as u64);
    let capacity = options.bank_capacity.unwrap_or(batch_size);
    let config =
        BankConfig::new(capacity, options.dim).context("--bank-capacity and --dim")?.warm_up(warm_up);
    Ok(if options.logq { config } else { config.without_log_q() })
}

/// The inner product, in eight lanes so that the compiler can use vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    let mut lanes = [0.0f32; 8];
    for (x, y) in a.zip(b) {
        for lane in 0..8 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}
