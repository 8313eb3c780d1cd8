//! The library at work: one training step on the CPU.
//!
//! `step_cuda.rs` is the same on a GPU.

use anyhow::Result;
use inbatch::bank::BankConfig;
use inbatch::{LossConfig, cpu};

/// Inputs of a step in host memory: `B` pairs and `E` further items.
pub(crate) struct HostBatch {
    pub(crate) dim: usize,
    /// `[B]`
    pub(crate) user_ids: Vec<i64>,
    /// `[B + E]`: the pairs' items, then the further ones.
    pub(crate) item_ids: Vec<i64>,
    /// `[B, dim]`
    pub(crate) users: Vec<f32>,
    /// `[B + E, dim]`
    pub(crate) items: Vec<f32>,
    /// `[B + E]`, or empty without the correction.
    pub(crate) log_q: Vec<f32>,
}

impl HostBatch {
    /// An empty batch.
    pub(crate) fn new(dim: usize) -> Self {
        Self {
            dim,
            user_ids: Vec::new(),
            item_ids: Vec::new(),
            users: Vec::new(),
            items: Vec::new(),
            log_q: Vec::new(),
        }
    }

    /// `B`.
    pub(crate) fn rows(&self) -> usize {
        self.user_ids.len()
    }
}

/// Gradients of a step, of the shapes of [`HostBatch`]'s `users` and `items`.
#[derive(Default)]
pub(crate) struct HostGradients {
    pub(crate) users: Vec<f32>,
    pub(crate) items: Vec<f32>,
}

/// Something that runs the loss on one batch: the CPU or a GPU.
pub(crate) trait Step {
    /// Writes the gradients and returns the loss.
    fn step(&mut self, batch: &HostBatch, gradients: &mut HostGradients) -> Result<f32>;
}

/// The loss and, for cross-batch negatives, the memory bank on the CPU.
pub(crate) struct CpuStep {
    loss: cpu::InBatchLoss,
    bank: Option<cpu::MemoryBank<f32>>,
}

impl CpuStep {
    pub(crate) fn new(config: LossConfig, bank: Option<BankConfig>) -> Result<Self> {
        Ok(Self { loss: cpu::InBatchLoss::new(config)?, bank: bank.map(cpu::MemoryBank::new).transpose()? })
    }
}

impl Step for CpuStep {
    fn step(&mut self, batch: &HostBatch, gradients: &mut HostGradients) -> Result<f32> {
        let rows = batch.rows();
        let (items, extra) = batch.items.split_at(rows * batch.dim);
        let (item_ids, extra_ids) = batch.item_ids.split_at(rows);
        let log_q = (!batch.log_q.is_empty()).then(|| batch.log_q.split_at(rows));

        let mut inputs =
            cpu::Batch::new(&batch.users, items, batch.dim).item_ids(item_ids).user_ids(&batch.user_ids);
        let mut pushed = cpu::Items::new(items).item_ids(item_ids);
        if let Some((log_q, _)) = log_q {
            inputs = inputs.log_q(log_q);
            pushed = pushed.log_q(log_q);
        }
        if !extra.is_empty() {
            let mut negatives = cpu::Items::new(extra).item_ids(extra_ids);
            if let Some((_, extra_log_q)) = log_q {
                negatives = negatives.log_q(extra_log_q);
            }
            inputs = inputs.extra(negatives);
        }
        if let Some(bank) = &self.bank {
            inputs = inputs.bank(bank);
        }

        gradients.users.resize(batch.users.len(), 0.0);
        gradients.items.resize(batch.items.len(), 0.0);
        let (d_items, d_extra) = gradients.items.split_at_mut(items.len());
        let mut outputs = cpu::Gradients::new(&mut gradients.users, d_items);
        if !d_extra.is_empty() {
            outputs = outputs.extra(d_extra);
        }

        let loss = self.loss.step(&inputs, &mut outputs)?.loss()?;
        // After the loss: a batch must not meet its own items in the bank.
        if let Some(bank) = &mut self.bank {
            bank.push(&pushed)?;
        }
        Ok(loss)
    }
}
