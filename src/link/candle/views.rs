//! candle's tensors as a backend borrows them.

use candle_core::{CpuStorage, Layout, Result, Storage, StorageRef, Tensor, WithDType, bail};
#[cfg(feature = "candle-cuda")]
use cudarc::driver::DeviceRepr;

use super::Inputs;
use crate::{Backend, Batch, Element, cpu};

/// A type of values that tensors and backends share.
#[cfg(not(feature = "candle-cuda"))]
pub(super) trait Value: WithDType + bytemuck::Pod {}
#[cfg(not(feature = "candle-cuda"))]
impl<T: WithDType + bytemuck::Pod> Value for T {}

/// A type of values that tensors and backends share.
#[cfg(feature = "candle-cuda")]
pub(super) trait Value: WithDType + bytemuck::Pod + candle_core::cuda::CudaDType + DeviceRepr {}
#[cfg(feature = "candle-cuda")]
impl<T: WithDType + bytemuck::Pod + candle_core::cuda::CudaDType + DeviceRepr> Value for T {}

/// A backend that can read candle's tensors.
pub(super) trait Reads: Backend {
    /// A contiguous tensor's values. `what` is for the error message.
    fn view<'a, T: Value>(
        storage: &'a Storage,
        layout: &Layout,
        what: &'static str,
    ) -> Result<Self::View<'a, T>>;
}

impl Reads for cpu::Cpu {
    fn view<'a, T: Value>(
        storage: &'a Storage,
        layout: &Layout,
        what: &'static str,
    ) -> Result<cpu::View<'a, T>> {
        match storage {
            Storage::Cpu(storage) => host_view(storage, layout, what),
            _ => bail!(
                "{what} is on {:?}, the users are on the CPU: move it there",
                storage.device().location()
            ),
        }
    }
}

/// [`Reads::view`] of a storage that is known to be the CPU's.
pub(super) fn host_view<'a, T: Value>(
    storage: &'a CpuStorage,
    layout: &Layout,
    what: &'static str,
) -> Result<cpu::View<'a, T>> {
    let (start, end) = offsets(layout, what)?;
    match storage.as_slice::<T>() {
        Ok(values) if end <= values.len() => Ok(values[start..end].into()),
        Ok(_) => bail!("{what}: the layout reaches beyond the storage"),
        Err(error) => Err(error.context(format!("{what} has another type than the loss takes"))),
    }
}

/// Where a contiguous tensor lies in its storage.
pub(super) fn offsets(layout: &Layout, what: &'static str) -> Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some(offsets) => Ok(offsets),
        None => bail!("{what} is not contiguous: call contiguous() on it"),
    }
}

/// The rows of a matrix and their length.
pub(super) fn matrix(layout: &Layout, what: &'static str) -> Result<(usize, usize)> {
    layout.shape().dims2().map_err(|error| error.context(format!("{what} must be a matrix of embeddings")))
}

/// A tensor that is locked for reading.
pub(super) type Held<'a> = (StorageRef<'a>, &'a Layout);

/// The inputs' tensors, locked for reading.
pub(super) struct HeldInputs<'a> {
    log_q: Option<Held<'a>>,
    item_ids: Option<Held<'a>>,
    user_ids: Option<Held<'a>>,
    weights: Option<Held<'a>>,
}

impl Inputs {
    pub(super) fn hold(&self) -> HeldInputs<'_> {
        HeldInputs {
            log_q: self.log_q.as_ref().map(Tensor::storage_and_layout),
            item_ids: self.item_ids.as_ref().map(Tensor::storage_and_layout),
            user_ids: self.user_ids.as_ref().map(Tensor::storage_and_layout),
            weights: self.weights.as_ref().map(Tensor::storage_and_layout),
        }
    }
}

impl HeldInputs<'_> {
    /// A backend's batch of all there is.
    pub(super) fn batch<'a, B: Reads, T: Element>(
        &'a self,
        (users, items, dim): (B::View<'a, T>, B::View<'a, T>, usize),
        offset: usize,
        bank: Option<&'a B::Bank<T>>,
    ) -> Result<Batch<'a, B, T>> {
        let mut batch = Batch::new(users, items, dim).offset(offset);
        if let Some(log_q) = optional::<B, f32>(&self.log_q, "log_q")? {
            batch = batch.log_q(log_q);
        }
        if let Some(item_ids) = optional::<B, i64>(&self.item_ids, "item_ids")? {
            batch = batch.item_ids(item_ids);
        }
        if let Some(user_ids) = optional::<B, i64>(&self.user_ids, "user_ids")? {
            batch = batch.user_ids(user_ids);
        }
        if let Some(weights) = optional::<B, f32>(&self.weights, "weights")? {
            batch = batch.weights(weights);
        }
        Ok(match bank {
            Some(bank) => batch.bank(bank),
            None => batch,
        })
    }
}

/// [`Reads::view`] of a tensor that may be absent.
pub(super) fn optional<'a, B: Reads, T: Value>(
    held: &'a Option<Held<'_>>,
    what: &'static str,
) -> Result<Option<B::View<'a, T>>> {
    held.as_ref().map(|(storage, layout)| B::view(storage, layout, what)).transpose()
}
