//! The library at work: one training step on the CPU.
//!
//! `step_cuda.rs` is the same on a GPU.

use std::ops::Range;

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

    /// Some of the items, as extra negatives or for the memory bank.
    fn columns(&self, range: Range<usize>) -> cpu::Items<'_, f32> {
        let embeddings = &self.items[range.start * self.dim..range.end * self.dim];
        let items = cpu::Items::new(embeddings).item_ids(&self.item_ids[range.clone()]);
        if self.log_q.is_empty() { items } else { items.log_q(&self.log_q[range]) }
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
        let (rows, columns, dim) = (batch.rows(), batch.item_ids.len(), batch.dim);
        let mut inputs = cpu::Batch::new(&batch.users, &batch.items[..rows * dim], dim)
            .item_ids(&batch.item_ids[..rows])
            .user_ids(&batch.user_ids);
        if !batch.log_q.is_empty() {
            inputs = inputs.log_q(&batch.log_q[..rows]);
        }
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

        let loss = self.loss.step(&inputs, &mut outputs)?.loss()?;
        // After the loss: a batch must not meet its own items in the bank.
        if let Some(bank) = &mut self.bank {
            bank.push(&batch.columns(0..rows))?;
        }
        Ok(loss)
    }
}
