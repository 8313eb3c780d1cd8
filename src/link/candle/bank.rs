//! The memory bank for candle's tensors, on their device.

use std::any::Any;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result, Tensor, bail};
use half::{bf16, f16};

use super::op::per_dtype;
use super::views::{Held, Reads, Value, optional};
use crate::bank::{BankConfig, Snapshot};
use crate::{Element, Items, cpu};

/// A memory bank of item embeddings; see [`BankConfig`] and [`cpu::MemoryBank`]. Clones are the same bank.
#[derive(Clone)]
pub struct MemoryBank {
    bank: Arc<Mutex<Box<dyn AnyBank>>>,
    dtype: DType,
    device: Device,
}

impl MemoryBank {
    /// An empty bank of embeddings of a type (f32, f16, bf16) on a device. All its memory is allocated here.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`], [`crate::Error::OutOfDeviceMemory`], wrapped; candle's own for another type or device.
    pub fn new(config: BankConfig, dtype: DType, device: &Device) -> Result<Self> {
        let bank = match device {
            Device::Cpu => per_dtype!(dtype, host(config)),
            #[cfg(feature = "candle-cuda")]
            Device::Cuda(cuda) => {
                use super::device::bank;
                per_dtype!(dtype, bank(config, cuda))
            }
            other => bail!("inbatch has no memory bank on {:?}", other.location()),
        }?;
        Ok(Self { bank: Arc::new(Mutex::new(bank)), dtype, device: device.clone() })
    }

    /// Stores a batch, oldest out first. Call it after the step. `items` is `[n, D]`, detached from its graph by
    /// being copied; `log_q` `[n]` f32 and `item_ids` `[n]` i64 as the configuration keeps them.
    ///
    /// # Errors
    /// As [`cpu::MemoryBank::push`], wrapped; candle's own for another type or device. The bank is then unchanged.
    pub fn push(&self, items: &Tensor, log_q: Option<&Tensor>, item_ids: Option<&Tensor>) -> Result<()> {
        if items.dtype() != self.dtype || !items.device().same_device(&self.device) {
            bail!(
                "the bank holds {:?} on {:?}, the items are {:?} on {:?}",
                self.dtype,
                self.device.location(),
                items.dtype(),
                items.device().location()
            );
        }
        let contiguous = |tensor: Option<&Tensor>| tensor.map(Tensor::contiguous).transpose();
        let (items, log_q, item_ids) = (items.contiguous()?, contiguous(log_q)?, contiguous(item_ids)?);
        let pushed = Pushed {
            items: items.storage_and_layout(),
            log_q: log_q.as_ref().map(Tensor::storage_and_layout),
            item_ids: item_ids.as_ref().map(Tensor::storage_and_layout),
        };
        self.lock().0.push(&pushed)
    }

    /// Embeddings stored. On CUDA this waits.
    ///
    /// # Errors
    /// [`crate::Error::Driver`], wrapped.
    pub fn len(&self) -> Result<usize> {
        self.lock().0.len()
    }

    /// Whether nothing is stored. On CUDA this waits.
    ///
    /// # Errors
    /// As [`MemoryBank::len`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// A copy of the whole state, which any backend's bank restores. On CUDA this waits.
    ///
    /// # Errors
    /// [`crate::Error::Driver`], wrapped.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.lock().0.snapshot()
    }

    /// Takes over a snapshot's state.
    ///
    /// # Errors
    /// As [`cpu::MemoryBank::restore`], wrapped.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<()> {
        self.lock().0.restore(snapshot)
    }

    /// Saves a checkpoint; see [`Snapshot::save`].
    ///
    /// # Errors
    /// Those of [`Snapshot::save`] and [`MemoryBank::snapshot`], wrapped.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(self.snapshot()?.save(path)?)
    }

    /// Restores this bank from a checkpoint.
    ///
    /// # Errors
    /// Those of [`Snapshot::load`] and [`MemoryBank::restore`], wrapped.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<()> {
        self.restore(&Snapshot::load(path)?)
    }

    pub(super) fn lock(&self) -> Locked<'_> {
        Locked(self.bank.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for MemoryBank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBank")
            .field("dtype", &self.dtype)
            .field("device", &self.device.location())
            .finish()
    }
}

/// A bank in use.
pub(super) struct Locked<'a>(MutexGuard<'a, Box<dyn AnyBank>>);

impl Locked<'_> {
    /// The backend's bank, which must be of the batch's type and on its device.
    pub(super) fn of<B: Any>(&self) -> Result<&B> {
        match self.0.as_any().downcast_ref() {
            Some(bank) => Ok(bank),
            None => bail!("the memory bank has another type than the users, or is on another device"),
        }
    }
}

/// What a push brings, locked for reading.
pub(super) struct Pushed<'a> {
    items: Held<'a>,
    log_q: Option<Held<'a>>,
    item_ids: Option<Held<'a>>,
}

impl Pushed<'_> {
    pub(super) fn items<B: Reads, T: Element + Value>(&self) -> Result<Items<'_, B, T>> {
        let (storage, layout) = &self.items;
        let mut items = Items::<B, T>::new(B::view::<T>(storage, layout, "items")?);
        if let Some(log_q) = optional::<B, f32>(&self.log_q, "log_q")? {
            items = items.log_q(log_q);
        }
        if let Some(item_ids) = optional::<B, i64>(&self.item_ids, "item_ids")? {
            items = items.item_ids(item_ids);
        }
        Ok(items)
    }
}

/// A backend's bank of some type of embeddings.
pub(super) trait AnyBank: Send {
    fn as_any(&self) -> &dyn Any;
    fn push(&mut self, pushed: &Pushed<'_>) -> Result<()>;
    fn len(&self) -> Result<usize>;
    fn snapshot(&self) -> Result<Snapshot>;
    fn restore(&mut self, snapshot: &Snapshot) -> Result<()>;
}

fn host<T: Element + Value>(config: BankConfig) -> Result<Box<dyn AnyBank>> {
    Ok(Box::new(cpu::MemoryBank::<T>::new(config)?))
}

impl<T: Element + Value> AnyBank for cpu::MemoryBank<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn push(&mut self, pushed: &Pushed<'_>) -> Result<()> {
        Ok(self.push(&pushed.items::<cpu::Cpu, T>()?)?)
    }

    fn len(&self) -> Result<usize> {
        Ok(self.len())
    }

    fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.snapshot())
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        Ok(self.restore(snapshot)?)
    }
}
