//! The training loop's body: batches through the loss into the tables.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use inbatch::bank::BankConfig;
use inbatch::{LearnedTemperature, LossConfig};
use indicatif::ProgressBar;

use crate::class_table::Cosine;
use crate::data::Split;
use crate::device::Device;
use crate::evaluate::{Metrics, evaluate};
use crate::options::{Negatives, Options};
use crate::random::{Purpose, generator};
use crate::sampling::Sampler;
use crate::step::{HostBatch, HostGradients, Step, StepConfig};
use crate::tower::Tower;

/// The model and everything that trains it.
pub(crate) struct Trainer<'a> {
    split: &'a Split,
    users: Tower,
    items: Tower,
    /// `[items, 1]` where items are classes of a table.
    biases: Option<Tower>,
    sampler: Sampler<'a>,
    step: Box<dyn Step>,
    normalize: bool,
    temperature: f32,
    batch: HostBatch,
    gradients: HostGradients,
}

/// What one epoch saw.
pub(crate) struct Passed {
    /// Mean of the batches' losses.
    pub(crate) loss: f64,
    /// `[batches]` time of each: drawing it, loss, optimizer.
    pub(crate) seconds: Vec<f64>,
}

/// Bounds of a temperature that is learnt; the lower one is CLIP's.
const LEARNED_TEMPERATURES: (f32, f32) = (0.01, 1.0);

impl<'a> Trainer<'a> {
    /// Fresh tables, and the loss on `device`: `config`, or the one over a class table that the options ask for.
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
        let sampler = Sampler::new(options, split, batch_size)?;
        let temperature = config.temperature();
        let step = match options.class_table {
            Some(loss) => {
                let step = device.class_step(options.table_config(loss))?;
                Box::new(Cosine::new(step, temperature, options.normalize))
            }
            None => device.step(step_config(options, config, batch_size, sampler.batches())?)?,
        };

        let mut rng = generator(options.seed, Purpose::Tables);
        let mut tower =
            |rows| Tower::new(rows, options.dim, options.optimizer, options.step_size(), &mut rng);
        let (users, items) = (tower(split.users), tower(split.items));
        // Every class as probable as any other, to begin with.
        let biases = vec![-(split.items as f32).ln(); split.items];
        let biases =
            options.class_table.map(|_| Tower::of(biases, 1, options.optimizer, options.step_size()));
        Ok(Self {
            split,
            users,
            items,
            biases,
            sampler,
            step,
            normalize: options.normalize,
            temperature,
            batch: HostBatch::new(options.dim),
            gradients: HostGradients::default(),
        })
    }

    /// Batches of an epoch.
    pub(crate) fn batches(&self) -> usize {
        self.sampler.batches()
    }

    /// One pass over the training pairs.
    pub(crate) fn epoch(&mut self, bar: &ProgressBar) -> Result<Passed> {
        self.sampler.shuffle();
        let batches = self.batches();
        let mut sum = 0.0;
        let mut seconds = Vec::with_capacity(batches);
        for number in 0..batches {
            let begun = Instant::now();
            let loss = self.train_on(number)?;
            seconds.push(begun.elapsed().as_secs_f64());
            sum += f64::from(loss);
            bar.set_message(format!("loss {:.4}", sum / (number + 1) as f64));
            bar.inc(1);
        }
        Ok(Passed { loss: sum / batches as f64, seconds })
    }

    /// One batch through the loss into the tables.
    fn train_on(&mut self, number: usize) -> Result<f32> {
        let Self { batch, gradients, .. } = self;
        self.sampler.fill(number, batch)?;
        self.users.gather(&batch.user_ids, &mut batch.users);
        match &self.biases {
            None => self.items.gather(&batch.item_ids, &mut batch.items),
            // A loss over a class table takes the table.
            Some(biases) => {
                self.items.rows().clone_into(&mut batch.items);
                biases.rows().clone_into(&mut batch.biases);
            }
        }
        if !batch.row_negatives.is_empty() {
            self.items.rows().clone_into(&mut batch.catalogue.embeddings);
        }
        let loss = self.step.step(batch, gradients)?;
        ensure!(loss.is_finite(), "the loss is {loss}: lower --learning-rate or raise --temperature");
        self.users.update(&batch.user_ids, &gradients.users);
        if !batch.row_negatives.is_empty() {
            // Further items of the same update: an item has one gradient, wherever it took part.
            gradients.item_ids.extend(&batch.catalogue.ids);
            gradients.items.extend(&gradients.catalogue);
        }
        self.items.update(&gradients.item_ids, &gradients.items);
        if let Some(biases) = &mut self.biases {
            biases.update(&gradients.item_ids, &gradients.biases);
        }
        Ok(loss)
    }

    /// Ranks by the score the loss was trained on: the cosine or the inner product over the temperature, and the
    /// item's bias if there is one. (Without biases a temperature that was learnt meanwhile changes no ranking.)
    pub(crate) fn evaluate(&self, tail: &[bool]) -> Metrics {
        let Self { users, biases, normalize, temperature, .. } = self;
        let dim = self.batch.dim;
        let norm = |row: &[f32]| if *normalize { dot(row, row).sqrt().max(f32::MIN_POSITIVE) } else { 1.0 };
        let items = self.items.rows();
        let items: Vec<f32> = items
            .chunks_exact(dim)
            .flat_map(|row| {
                let norm = norm(row);
                row.iter().map(move |value| value / norm)
            })
            .collect();
        evaluate(self.split, tail, |user, scores| {
            let user = users.row(user as usize);
            let scale = 1.0 / (norm(user) * temperature);
            for (score, item) in scores.iter_mut().zip(items.chunks_exact(dim)) {
                *score = scale * dot(user, item);
            }
            if let Some(biases) = biases {
                scores.iter_mut().zip(biases.rows()).for_each(|(score, bias)| *score += bias);
            }
        })
    }
}

fn step_config(options: &Options, loss: LossConfig, batch_size: usize, batches: usize) -> Result<StepConfig> {
    let bank = match options.negatives {
        Negatives::Cbns => Some(bank_config(options, batch_size, batches)?),
        Negatives::InBatch | Negatives::Mns | Negatives::Pools => None,
    };
    let (lowest, highest) = LEARNED_TEMPERATURES;
    let learned = options
        .learn_temperature
        .then(|| LearnedTemperature::new(loss.temperature())?.within(lowest, highest))
        .transpose()?;
    Ok(StepConfig { loss, bank, learned })
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
