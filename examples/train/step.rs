//! The library at work: one training step on the CPU.
//!
//! `step_cuda.rs` is the same on a GPU.

use std::ops::Range;

use anyhow::Result;
use inbatch::bank::BankConfig;
use inbatch::{LearnedTemperature, LossConfig, Objective, cpu};

/// Inputs of a step in host memory: `B` pairs and `E` further items.
#[derive(Clone, Default)]
pub(crate) struct HostBatch {
    pub(crate) dim: usize,
    /// `[B]`
    pub(crate) user_ids: Vec<i64>,
    /// `[B + E]`: the pairs' items, then the further ones.
    pub(crate) item_ids: Vec<i64>,
    /// `[B, dim]`
    pub(crate) users: Vec<f32>,
    /// `[B + E, dim]`; for a loss over a class table the whole table, `[classes, dim]`.
    pub(crate) items: Vec<f32>,
    /// `[B, K]` rows of `catalogue` that are negatives of one pair each, or below 0 for none; or empty.
    pub(crate) row_negatives: Vec<i32>,
    pub(crate) catalogue: Catalogue,
    /// `[classes]` of a class table, or empty.
    pub(crate) biases: Vec<f32>,
    /// `[B + E]`, or empty without the correction.
    pub(crate) log_q: Vec<f32>,
    /// `[B]` the same of users as negatives of items, or empty.
    pub(crate) user_log_q: Vec<f32>,
    /// `[B]` weights of the pairs, or empty.
    pub(crate) weights: Vec<f32>,
}

/// All items, as the pool of negatives that belong to one pair each; or nothing.
#[derive(Clone, Default)]
pub(crate) struct Catalogue {
    /// `[items]`
    pub(crate) ids: Vec<i64>,
    /// `[items, dim]`
    pub(crate) embeddings: Vec<f32>,
    /// `[items]`, or empty without the correction.
    pub(crate) log_q: Vec<f32>,
}

impl HostBatch {
    /// An empty batch.
    pub(crate) fn new(dim: usize) -> Self {
        Self { dim, ..Self::default() }
    }

    /// `B`.
    pub(crate) fn rows(&self) -> usize {
        self.user_ids.len()
    }

    /// `K`
    pub(crate) fn negatives_per_row(&self) -> usize {
        self.row_negatives.len().checked_div(self.rows()).unwrap_or(0)
    }

    /// Some of the items, as extra negatives or for the memory bank.
    fn columns(&self, range: Range<usize>) -> cpu::Items<'_, f32> {
        let embeddings = &self.items[range.start * self.dim..range.end * self.dim];
        let items = cpu::Items::new(embeddings).item_ids(&self.item_ids[range.clone()]);
        if self.log_q.is_empty() { items } else { items.log_q(&self.log_q[range]) }
    }
}

/// Gradients of a step.
#[derive(Default)]
pub(crate) struct HostGradients {
    /// `[B, dim]`
    pub(crate) users: Vec<f32>,
    /// `[n]` the items that get a gradient; the same one several times, or not.
    pub(crate) item_ids: Vec<i64>,
    /// `[n, dim]`
    pub(crate) items: Vec<f32>,
    /// `[items, dim]` as negatives of one pair each, or empty.
    pub(crate) catalogue: Vec<f32>,
    /// `[n]` for a class table with biases, or empty.
    pub(crate) biases: Vec<f32>,
}

/// Something that runs the loss on one batch: the CPU or a GPU.
pub(crate) trait Step {
    /// Writes the gradients and returns the loss.
    fn step(&mut self, batch: &HostBatch, gradients: &mut HostGradients) -> Result<f32>;
}

/// What a step computes with the items of the batch as negatives.
#[derive(Clone, Copy)]
pub(crate) struct StepConfig {
    pub(crate) loss: LossConfig,
    /// For cross-batch negatives.
    pub(crate) bank: Option<BankConfig>,
    /// For a temperature that is learnt, and with it the bias of the sigmoid.
    pub(crate) learned: Option<LearnedTemperature>,
}

/// Step size of the temperature's logarithm and of the sigmoid's bias, by plain gradient descent.
pub(crate) const PARAMETER_RATE: f32 = 0.01;

/// The loss and, for cross-batch negatives, the memory bank on the CPU.
pub(crate) struct CpuStep {
    loss: cpu::InBatchLoss,
    bank: Option<cpu::MemoryBank<f32>>,
    learned: Option<LearnedTemperature>,
}

impl CpuStep {
    pub(crate) fn new(config: StepConfig) -> Result<Self> {
        Ok(Self {
            loss: cpu::InBatchLoss::new(config.loss)?,
            bank: config.bank.map(cpu::MemoryBank::new).transpose()?,
            learned: config.learned,
        })
    }
}

impl Step for CpuStep {
    fn step(&mut self, batch: &HostBatch, gradients: &mut HostGradients) -> Result<f32> {
        let (rows, columns, dim) = (batch.rows(), batch.item_ids.len(), batch.dim);
        let mut inputs = cpu::Batch::new(&batch.users, &batch.items[..rows * dim], dim)
            .item_ids(&batch.item_ids[..rows])
            .user_ids(&batch.user_ids);
        if !batch.log_q.is_empty() {
            inputs = inputs.log_q(&batch.log_q[..rows]);
        }
        if !batch.user_log_q.is_empty() {
            inputs = inputs.user_log_q(&batch.user_log_q);
        }
        if !batch.weights.is_empty() {
            inputs = inputs.weights(&batch.weights);
        }
        gradients.item_ids.clone_from(&batch.item_ids);
        gradients.users.resize(batch.users.len(), 0.0);
        gradients.items.resize(batch.items.len(), 0.0);
        let (d_items, d_extra) = gradients.items.split_at_mut(rows * dim);
        let mut outputs = cpu::Gradients::new(&mut gradients.users, d_items);
        if columns > rows {
            inputs = inputs.extra(batch.columns(rows..columns));
            outputs = outputs.extra(d_extra);
        }
        if let Some(bank) = &self.bank {
            inputs = inputs.bank(bank);
        }
        let Catalogue { ids, embeddings, log_q } = &batch.catalogue;
        gradients.catalogue.resize(embeddings.len(), 0.0);
        if !batch.row_negatives.is_empty() {
            let pool = cpu::Items::new(embeddings).item_ids(ids);
            let pool = if log_q.is_empty() { pool } else { pool.log_q(log_q) };
            let per_row = batch.negatives_per_row();
            inputs = inputs.row_negatives(cpu::RowNegatives::of_pool(pool, &batch.row_negatives, per_row));
            outputs = outputs.row_negatives(&mut gradients.catalogue);
        }

        let mut config = *self.loss.config();
        let output = self.loss.step(&inputs, &mut outputs)?;
        let loss = output.loss()?;
        // After the loss: a batch must not meet its own items in the bank.
        if let Some(bank) = &mut self.bank {
            bank.push(&batch.columns(0..rows))?;
        }
        if let Some(learned) = &mut self.learned {
            learned.descend(PARAMETER_RATE, output.d_inverse_temperature()?)?;
            if let Objective::Sigmoid { bias } = config.get_objective() {
                let bias = bias - PARAMETER_RATE * output.d_bias()?;
                config = config.objective(Objective::Sigmoid { bias })?;
            }
            self.loss.set_config(config.with_temperature(learned.temperature())?);
        }
        Ok(loss)
    }
}
