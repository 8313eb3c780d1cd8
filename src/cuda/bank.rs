//! The memory bank in device memory.

use std::path::Path;

use super::Items;
use super::arguments::{self, bank_state};
use super::buffer::Buffer;
use super::device::Device;
use super::launch::{Grid, Span, int, launch, per_dtype};
use super::module::{File, dtype_index};
use crate::bank::{BankConfig, Snapshot};
use crate::problem::{check_length, row_count};
use crate::{BankColumns, Element, Length, Result};

const PUSH: [&str; 3] = per_dtype!("bank_push");

const WHAT: &str = "the memory bank";

/// A FIFO ring of item embeddings; see [`BankConfig`].
///
/// Its counters live in device memory beside the embeddings, so that a push can be captured in a CUDA graph and
/// replayed; [`MemoryBank::len`] and [`MemoryBank::step`] are explicit reads that wait. The loss sweeps as many
/// columns as the capacity and skips tiles that have nothing to read.
#[derive(Debug)]
pub struct MemoryBank<T: Element> {
    device: Device,
    config: BankConfig,
    embeddings: Buffer<T>,
    log_q: Buffer<f32>,
    item_ids: Buffer<i64>,
    entered: Buffer<u64>,
    state: Buffer<u64>,
}

impl<T: Element> MemoryBank<T> {
    /// An empty bank on a device's stream. All its memory is allocated here.
    ///
    /// # Errors
    /// [`crate::Error::OutOfDeviceMemory`], [`crate::Error::TooLarge`], [`crate::Error::Ptx`].
    pub fn new(device: &Device, config: BankConfig) -> Result<Self> {
        let kept = |kept| if kept { config.capacity } else { 0 };
        let elements = config.capacity.saturating_mul(config.dim);
        let mut bank = Self {
            device: device.clone(),
            config,
            embeddings: Buffer::new(device, elements, WHAT)?,
            log_q: Buffer::new(device, kept(config.log_q), WHAT)?,
            item_ids: Buffer::new(device, kept(config.item_ids), WHAT)?,
            entered: Buffer::new(device, config.capacity, WHAT)?,
            state: Buffer::new(device, bank_state::WORDS, WHAT)?,
        };
        bank.state.fill(0)?;
        device.modules().load(File::Bank)?;
        Ok(bank)
    }

    /// Enqueues a batch, oldest out first. Call it after the step, never before the loss. A batch of any size
    /// counts as one push, an empty one too; of more rows than the capacity the last stay. Waits for nothing.
    ///
    /// # Errors
    /// [`crate::Error::NotRows`], [`crate::Error::Length`], [`crate::Error::BankField`]; the bank is then unchanged.
    pub fn push(&mut self, items: &Items<'_, T>) -> Result<()> {
        let dim = self.config.dim;
        let count = row_count("the embeddings pushed", items.embeddings.length(), dim)?;
        let why = "one for each embedding pushed";
        check_length("log_q", items.log_q.as_ref(), count, why)?;
        check_length("item_ids", items.item_ids.as_ref(), count, why)?;
        self.config.check_fields(items.log_q.is_some(), items.item_ids.is_some())?;

        let embeddings = items.embeddings.bind(&self.device, "the embeddings pushed")?;
        let log_q = items.log_q.as_ref().map(|view| view.bind(&self.device, "log_q")).transpose()?;
        let item_ids = items.item_ids.as_ref().map(|view| view.bind(&self.device, "item_ids")).transpose()?;
        let capacity = self.config.capacity;
        let arguments = arguments::BankPush {
            embeddings: Span::<T>::new(embeddings.pointer, items.embeddings.length())
                .holds(count * dim, "the embeddings pushed")?,
            log_q: log_q.as_ref().map_or(0, |bound| bound.pointer),
            item_ids: item_ids.as_ref().map_or(0, |bound| bound.pointer),
            ring: self.embeddings().holds(capacity * dim, "the ring")?,
            ring_log_q: self.log_q().holds_or_null(capacity, "the ring's log_q")?,
            ring_item_ids: self.item_ids().holds_or_null(capacity, "the ring's item_ids")?,
            entered: self.entered().holds(capacity, "the ring's steps of entry")?,
            state: self.state().holds(bank_state::WORDS, "the bank's state")?,
            capacity: capacity as u64,
            count: count as u64,
            dim: int(dim),
            padding: 0,
        };
        let kept = count.min(capacity);
        if kept > 0 {
            let name = PUSH[dtype_index(T::DTYPE)];
            // SAFETY: the ring's lengths are checked above, those of the pushed fields by `check_length`, and a field is
            // there exactly when the ring keeps it.
            unsafe { launch(&self.device, File::Bank, name, Grid::warps(kept), &arguments)? };
        }
        let one = Grid { blocks: [1, 1, 1], threads: 1, shared: 0 };
        // SAFETY: the kernel touches nothing but the state, whose length is checked above.
        unsafe { launch(&self.device, File::Bank, "bank_advance", one, &arguments) }
    }

    /// The configuration.
    pub fn config(&self) -> &BankConfig {
        &self.config
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Waits, then returns the number of embeddings stored, readable or not.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    pub fn len(&self) -> Result<usize> {
        Ok(usize::try_from(self.counter(bank_state::LENGTH)?).unwrap_or(usize::MAX))
    }

    /// Waits, then says whether nothing has been stored.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Waits, then returns the number of pushes made so far.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    pub fn step(&self) -> Result<u64> {
        self.counter(bank_state::STEP)
    }

    /// Waits, then returns a copy of the whole state in host memory.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        let state = self.state.read(bank_state::WORDS)?;
        let word = |index: usize| state.get(index).copied().unwrap_or(0);
        let config = &self.config;
        let len = usize::try_from(word(bank_state::LENGTH)).unwrap_or(usize::MAX).min(config.capacity);
        let log_q = if config.log_q { Some(self.log_q.read(len)?) } else { None };
        let item_ids = if config.item_ids { Some(self.item_ids.read(len)?) } else { None };
        Ok(Snapshot {
            dtype: T::DTYPE,
            dim: config.dim,
            capacity: config.capacity,
            head: usize::try_from(word(bank_state::HEAD)).unwrap_or(usize::MAX),
            step: word(bank_state::STEP),
            embeddings: bytemuck::cast_slice(&self.embeddings.read(len * config.dim)?).to_vec(),
            log_q,
            item_ids,
            entry_steps: self.entered.read(len)?,
        })
    }

    /// Takes over a snapshot's state, of this or another backend, and waits for the copies. Warm-up and maximal age
    /// stay this bank's own.
    ///
    /// # Errors
    /// [`crate::Error::DtypeMismatch`], [`crate::Error::Snapshot`]; the bank is then unchanged. After
    /// [`crate::Error::Driver`] it is empty.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        snapshot.check(&self.config, T::DTYPE)?;
        // Empty until the last copy is done: a failure in between leaves no half state.
        self.state.fill(0)?;
        self.embeddings.write(&bytemuck::pod_collect_to_vec::<u8, T>(&snapshot.embeddings))?;
        self.log_q.write(snapshot.log_q.as_deref().unwrap_or(&[]))?;
        self.item_ids.write(snapshot.item_ids.as_deref().unwrap_or(&[]))?;
        self.entered.write(&snapshot.entry_steps)?;
        let mut state = [0; bank_state::WORDS];
        state[bank_state::HEAD] = snapshot.head as u64;
        state[bank_state::LENGTH] = snapshot.len() as u64;
        state[bank_state::STEP] = snapshot.step;
        self.state.write(&state)
    }

    /// Waits, then saves a checkpoint; see [`Snapshot::save`].
    ///
    /// # Errors
    /// [`crate::Error::CheckpointIo`], [`crate::Error::Checkpoint`], [`crate::Error::Driver`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.snapshot()?.save(path)
    }

    /// Restores this bank from a checkpoint.
    ///
    /// # Errors
    /// Those of [`Snapshot::load`] and [`MemoryBank::restore`].
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.restore(&Snapshot::load(path)?)
    }

    fn counter(&self, index: usize) -> Result<u64> {
        Ok(self.state.read(bank_state::WORDS)?.get(index).copied().unwrap_or(0))
    }

    pub(super) fn embeddings(&self) -> Span<T> {
        Span::from(&self.embeddings)
    }

    pub(super) fn log_q(&self) -> Span<f32> {
        Span::from(&self.log_q)
    }

    pub(super) fn item_ids(&self) -> Span<i64> {
        Span::from(&self.item_ids)
    }

    pub(super) fn entered(&self) -> Span<u64> {
        Span::from(&self.entered)
    }

    pub(super) fn state(&self) -> Span<u64> {
        Span::from(&self.state)
    }
}

impl<T: Element> BankColumns for MemoryBank<T> {
    fn dim(&self) -> usize {
        self.config.dim
    }

    fn columns(&self) -> usize {
        self.config.capacity
    }

    fn has_log_q(&self) -> bool {
        self.config.log_q
    }

    fn has_item_ids(&self) -> bool {
        self.config.item_ids
    }
}
