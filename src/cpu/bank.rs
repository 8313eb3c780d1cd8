//! The memory bank in host memory.

use std::ops::Range;
use std::path::Path;

use super::workspace::filled;
use crate::bank::{BankConfig, Ring, Snapshot, Span};
use crate::cpu::Items;
use crate::problem::{check_length, row_count};
use crate::{BankColumns, Element, Error, Result};

/// A FIFO ring of item embeddings; see [`BankConfig`].
#[derive(Clone, Debug)]
pub struct MemoryBank<T> {
    config: BankConfig,
    ring: Ring,
    embeddings: Vec<T>,
    log_q: Vec<f32>,
    item_ids: Vec<i64>,
    entry_steps: Vec<u64>,
    readable: [Range<usize>; 2],
}

/// A run of neighbouring slots that the loss reads.
pub(super) struct Slots<'a, T> {
    pub(super) embeddings: &'a [T],
    pub(super) log_q: Option<&'a [f32]>,
    pub(super) item_ids: Option<&'a [i64]>,
}

impl<T: Element> MemoryBank<T> {
    /// An empty bank. All its memory is allocated here.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(config: BankConfig) -> Result<Self> {
        let BankConfig { capacity, dim, .. } = config;
        let elements = capacity
            .checked_mul(dim)
            .ok_or(Error::OutOfMemory { bytes: capacity as u128 * dim as u128 * size_of::<T>() as u128 })?;
        let kept = |kept| if kept { capacity } else { 0 };
        Ok(Self {
            config,
            ring: Ring::new(capacity),
            embeddings: filled(elements, T::default())?,
            log_q: filled(kept(config.log_q), 0.0)?,
            item_ids: filled(kept(config.item_ids), 0)?,
            entry_steps: filled(capacity, 0)?,
            readable: [0..0, 0..0],
        })
    }

    /// Enqueues a batch, oldest out first. Call it after the step, never before the loss. A batch of
    /// any size counts as one push, an empty one too; of more rows than the capacity the last stay.
    ///
    /// # Errors
    /// [`Error::NotRows`], [`Error::Length`], [`Error::BankField`]; the bank is then unchanged.
    pub fn push(&mut self, items: &Items<'_, T>) -> Result<()> {
        let dim = self.config.dim;
        let rows = row_count("the embeddings pushed", items.embeddings.0.len(), dim)?;
        let why = "one for each embedding pushed";
        check_length("log_q", items.log_q.as_ref(), rows, why)?;
        check_length("item_ids", items.item_ids.as_ref(), rows, why)?;
        self.config.check_fields(items.log_q.is_some(), items.item_ids.is_some())?;
        let step = self.ring.step;
        for Span { rows, slot } in self.ring.push(rows) {
            let slots = slot..slot + rows.len();
            self.embeddings[slots.start * dim..slots.end * dim]
                .copy_from_slice(&items.embeddings.0[rows.start * dim..rows.end * dim]);
            if let Some(log_q) = &items.log_q {
                self.log_q[slots.clone()].copy_from_slice(&log_q.0[rows.clone()]);
            }
            if let Some(item_ids) = &items.item_ids {
                self.item_ids[slots.clone()].copy_from_slice(&item_ids.0[rows]);
            }
            self.entry_steps[slots].fill(step);
        }
        self.readable = self.ring.readable(&self.config, &self.entry_steps);
        Ok(())
    }

    /// The configuration.
    pub fn config(&self) -> &BankConfig {
        &self.config
    }

    /// Embeddings stored, readable or not.
    pub fn len(&self) -> usize {
        self.ring.len
    }

    /// Whether nothing has been stored.
    pub fn is_empty(&self) -> bool {
        self.ring.len == 0
    }

    /// Pushes made so far.
    pub fn step(&self) -> u64 {
        self.ring.step
    }

    /// A copy of the whole state.
    pub fn snapshot(&self) -> Snapshot {
        let len = self.ring.len;
        Snapshot {
            dtype: T::DTYPE,
            dim: self.config.dim,
            capacity: self.config.capacity,
            head: self.ring.head,
            step: self.ring.step,
            embeddings: bytemuck::cast_slice(&self.embeddings[..len * self.config.dim]).to_vec(),
            log_q: self.config.log_q.then(|| self.log_q[..len].to_vec()),
            item_ids: self.config.item_ids.then(|| self.item_ids[..len].to_vec()),
            entry_steps: self.entry_steps[..len].to_vec(),
        }
    }

    /// Takes over a snapshot's state, of this or another backend. Warm-up and maximal age stay this
    /// bank's own.
    ///
    /// # Errors
    /// [`Error::DtypeMismatch`], [`Error::Snapshot`]; the bank is then unchanged.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        snapshot.check(&self.config, T::DTYPE)?;
        let len = snapshot.len();
        let embeddings = &mut self.embeddings[..len * self.config.dim];
        bytemuck::cast_slice_mut(embeddings).copy_from_slice(&snapshot.embeddings);
        if let Some(log_q) = &snapshot.log_q {
            self.log_q[..len].copy_from_slice(log_q);
        }
        if let Some(item_ids) = &snapshot.item_ids {
            self.item_ids[..len].copy_from_slice(item_ids);
        }
        self.entry_steps[..len].copy_from_slice(&snapshot.entry_steps);
        self.ring = snapshot.ring();
        self.readable = self.ring.readable(&self.config, &self.entry_steps);
        Ok(())
    }

    /// Saves a checkpoint; see [`Snapshot::save`].
    ///
    /// # Errors
    /// [`Error::CheckpointIo`], [`Error::Checkpoint`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.snapshot().save(path)
    }

    /// Restores this bank from a checkpoint.
    ///
    /// # Errors
    /// Those of [`Snapshot::load`] and [`MemoryBank::restore`]; the bank is then unchanged.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.restore(&Snapshot::load(path)?)
    }

    /// What the loss reads now, in place.
    pub(super) fn readable(&self) -> [Slots<'_, T>; 2] {
        let dim = self.config.dim;
        self.readable.clone().map(|slots| Slots {
            embeddings: &self.embeddings[slots.start * dim..slots.end * dim],
            log_q: self.config.log_q.then(|| &self.log_q[slots.clone()]),
            item_ids: self.config.item_ids.then(|| &self.item_ids[slots]),
        })
    }
}

impl<T: Element> BankColumns for MemoryBank<T> {
    fn dim(&self) -> usize {
        self.config.dim
    }

    fn columns(&self) -> usize {
        self.readable.iter().map(ExactSizeIterator::len).sum()
    }

    fn has_log_q(&self) -> bool {
        self.config.log_q
    }

    fn has_item_ids(&self) -> bool {
        self.config.item_ids
    }
}
