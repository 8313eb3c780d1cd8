//! The library at work: one training step on a GPU.
//!
//! The embedding tables stay in host memory, to keep this example's optimizer in plain sight: a
//! batch's rows go up, their gradients come down. A trainer with its tables on the device would
//! hand the loss its own buffers and never wait for it.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use inbatch::bank::BankConfig;
use inbatch::cuda::cudarc::driver::{CudaSlice, CudaStream, DeviceRepr, DriverError, ValidAsZeroBits};
use inbatch::{LossConfig, cuda};

use crate::step::{HostBatch, HostGradients, Step};

/// The loss and, for cross-batch negatives, the memory bank on a GPU.
pub(crate) struct CudaStep {
    loss: cuda::InBatchLoss,
    bank: Option<cuda::MemoryBank<f32>>,
    stream: Arc<CudaStream>,
    buffers: Option<(DeviceBatch, DeviceGradients)>,
}

impl CudaStep {
    pub(crate) fn new(device: &cuda::Device, config: LossConfig, bank: Option<BankConfig>) -> Result<Self> {
        Ok(Self {
            loss: cuda::InBatchLoss::new(device, config)?,
            bank: bank.map(|config| cuda::MemoryBank::new(device, config)).transpose()?,
            stream: device.stream().clone(),
            buffers: None,
        })
    }
}

impl Step for CudaStep {
    fn step(&mut self, batch: &HostBatch, gradients: &mut HostGradients) -> Result<f32> {
        // All batches have one shape: allocated once.
        let (on_device, d) = match &mut self.buffers {
            Some(buffers) => buffers,
            empty => empty.insert(allocate(&self.stream, batch).map_err(explain)?),
        };
        on_device.upload(&self.stream, batch).map_err(explain)?;

        let (rows, columns, dim) = (batch.rows(), batch.item_ids.len(), batch.dim);
        let mut inputs = cuda::Batch::new(&on_device.users, on_device.items.slice(..rows * dim), dim)
            .item_ids(on_device.item_ids.slice(..rows))
            .user_ids(&on_device.user_ids);
        if let Some(log_q) = &on_device.log_q {
            inputs = inputs.log_q(log_q.slice(..rows));
        }
        let (d_items, d_extra) = d.items.split_at_mut(rows * dim);
        let mut outputs = cuda::Gradients::new(&mut d.users, d_items);
        if columns > rows {
            inputs = inputs.extra(on_device.columns(rows..columns, dim));
            outputs = outputs.extra(d_extra);
        }
        if let Some(bank) = &self.bank {
            inputs = inputs.bank(bank);
        }

        let output = self.loss.step(&inputs, &mut outputs)?;
        // After the loss: a batch must not meet its own items in the bank.
        if let Some(bank) = &mut self.bank {
            bank.push(&on_device.columns(0..rows, dim))?;
        }
        let loss = output.loss()?;
        d.download(&self.stream, gradients).map_err(explain)?;
        Ok(loss)
    }
}

/// A batch in device memory, of the shapes of [`HostBatch`].
struct DeviceBatch {
    user_ids: CudaSlice<i64>,
    item_ids: CudaSlice<i64>,
    users: CudaSlice<f32>,
    items: CudaSlice<f32>,
    log_q: Option<CudaSlice<f32>>,
}

/// Gradients in device memory, of the shapes of [`HostGradients`].
struct DeviceGradients {
    users: CudaSlice<f32>,
    items: CudaSlice<f32>,
}

fn allocate(
    stream: &Arc<CudaStream>,
    batch: &HostBatch,
) -> Result<(DeviceBatch, DeviceGradients), DriverError> {
    fn like<T: DeviceRepr + ValidAsZeroBits>(
        stream: &Arc<CudaStream>,
        host: &[T],
    ) -> Result<CudaSlice<T>, DriverError> {
        stream.alloc_zeros(host.len())
    }
    let inputs = DeviceBatch {
        user_ids: like(stream, &batch.user_ids)?,
        item_ids: like(stream, &batch.item_ids)?,
        users: like(stream, &batch.users)?,
        items: like(stream, &batch.items)?,
        log_q: if batch.log_q.is_empty() { None } else { Some(like(stream, &batch.log_q)?) },
    };
    let gradients =
        DeviceGradients { users: like(stream, &batch.users)?, items: like(stream, &batch.items)? };
    Ok((inputs, gradients))
}

impl DeviceBatch {
    fn upload(&mut self, stream: &Arc<CudaStream>, batch: &HostBatch) -> Result<(), DriverError> {
        stream.memcpy_htod(&batch.user_ids, &mut self.user_ids)?;
        stream.memcpy_htod(&batch.item_ids, &mut self.item_ids)?;
        stream.memcpy_htod(&batch.users, &mut self.users)?;
        stream.memcpy_htod(&batch.items, &mut self.items)?;
        if let Some(log_q) = &mut self.log_q {
            stream.memcpy_htod(&batch.log_q, log_q)?;
        }
        Ok(())
    }

    /// Some of the items, as extra negatives or for the memory bank.
    fn columns(&self, range: Range<usize>, dim: usize) -> cuda::Items<'_, f32> {
        let embeddings = self.items.slice(range.start * dim..range.end * dim);
        let items = cuda::Items::new(embeddings).item_ids(self.item_ids.slice(range.clone()));
        match &self.log_q {
            Some(log_q) => items.log_q(log_q.slice(range)),
            None => items,
        }
    }
}

impl DeviceGradients {
    fn download(&self, stream: &Arc<CudaStream>, gradients: &mut HostGradients) -> Result<(), DriverError> {
        gradients.users.resize(self.users.len(), 0.0);
        gradients.items.resize(self.items.len(), 0.0);
        stream.memcpy_dtoh(&self.users, &mut gradients.users)?;
        stream.memcpy_dtoh(&self.items, &mut gradients.items)?;
        stream.synchronize()
    }
}

fn explain(error: DriverError) -> anyhow::Error {
    anyhow!(error).context("moving a batch to the device and its gradients back")
}
