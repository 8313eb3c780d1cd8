//! The library at work: one training step on a GPU.
//!
//! The embedding tables stay in host memory, to keep this example's optimizer in plain sight: a
//! batch's rows go up, their gradients come down. A trainer with its tables on the device would
//! hand the loss its own buffers and never wait for it.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use inbatch::cuda::cudarc::driver::{CudaSlice, CudaStream, DriverError};
use inbatch::{LearnedTemperature, Objective, cuda};

use crate::step::{HostBatch, HostGradients, PARAMETER_RATE, Step, StepConfig};

/// The loss and, for cross-batch negatives, the memory bank on a GPU.
pub(crate) struct CudaStep {
    loss: cuda::InBatchLoss,
    bank: Option<cuda::MemoryBank<f32>>,
    learned: Option<LearnedTemperature>,
    stream: Arc<CudaStream>,
    buffers: Option<(DeviceBatch, DeviceGradients)>,
}

impl CudaStep {
    pub(crate) fn new(device: &cuda::Device, config: StepConfig) -> Result<Self> {
        Ok(Self {
            loss: cuda::InBatchLoss::new(device, config.loss)?,
            bank: config.bank.map(|config| cuda::MemoryBank::new(device, config)).transpose()?,
            learned: config.learned,
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
        if let Some(user_log_q) = &on_device.user_log_q {
            inputs = inputs.user_log_q(user_log_q);
        }
        if let Some(weights) = &on_device.weights {
            inputs = inputs.weights(weights);
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
        if let (Some(own), Some(gradient)) = (&on_device.row_negatives, &mut d.catalogue) {
            let pool = cuda::Items::new(&own.embeddings).item_ids(&own.ids);
            let pool = own.log_q.iter().fold(pool, |pool, log_q| pool.log_q(log_q));
            let per_row = batch.negatives_per_row();
            inputs = inputs.row_negatives(cuda::RowNegatives::of_pool(pool, &own.indices, per_row));
            outputs = outputs.row_negatives(gradient);
        }

        let output = self.loss.step(&inputs, &mut outputs)?;
        // After the loss: a batch must not meet its own items in the bank.
        if let Some(bank) = &mut self.bank {
            bank.push(&on_device.columns(0..rows, dim))?;
        }
        let loss = output.loss()?;
        d.download(&self.stream, gradients).map_err(explain)?;
        gradients.item_ids.clone_from(&batch.item_ids);
        if let Some(learned) = &self.learned {
            self.loss.descend_temperature(learned, PARAMETER_RATE)?;
            if let Objective::Sigmoid { .. } = self.loss.config().get_objective() {
                self.loss.descend_bias(PARAMETER_RATE)?;
            }
        }
        Ok(loss)
    }
}

/// A batch in device memory, of the shapes of [`HostBatch`].
pub(crate) struct DeviceBatch {
    pub(crate) user_ids: CudaSlice<i64>,
    pub(crate) item_ids: CudaSlice<i64>,
    pub(crate) users: CudaSlice<f32>,
    pub(crate) items: CudaSlice<f32>,
    pub(crate) biases: Option<CudaSlice<f32>>,
    pub(crate) log_q: Option<CudaSlice<f32>>,
    pub(crate) user_log_q: Option<CudaSlice<f32>>,
    pub(crate) weights: Option<CudaSlice<f32>>,
    row_negatives: Option<DeviceCatalogue>,
}

/// The catalogue in device memory, and its rows that are negatives of one pair each.
struct DeviceCatalogue {
    indices: CudaSlice<i32>,
    ids: CudaSlice<i64>,
    embeddings: CudaSlice<f32>,
    log_q: Option<CudaSlice<f32>>,
}

/// Gradients in device memory: of the users, of each of `item_ids`, and of its bias if there are any.
pub(crate) struct DeviceGradients {
    pub(crate) users: CudaSlice<f32>,
    pub(crate) items: CudaSlice<f32>,
    pub(crate) biases: Option<CudaSlice<f32>>,
    catalogue: Option<CudaSlice<f32>>,
}

pub(crate) fn allocate(
    stream: &Arc<CudaStream>,
    batch: &HostBatch,
) -> Result<(DeviceBatch, DeviceGradients), DriverError> {
    let floats = |count: usize| stream.alloc_zeros::<f32>(count);
    let ids = |host: &[i64]| stream.alloc_zeros::<i64>(host.len());
    let optional = |host: &[f32]| (!host.is_empty()).then(|| floats(host.len())).transpose();
    let (columns, catalogue) = (batch.item_ids.len(), &batch.catalogue);
    let row_negatives = || -> Result<_, DriverError> {
        Ok(DeviceCatalogue {
            indices: stream.alloc_zeros::<i32>(batch.row_negatives.len())?,
            ids: ids(&catalogue.ids)?,
            embeddings: floats(catalogue.embeddings.len())?,
            log_q: optional(&catalogue.log_q)?,
        })
    };
    let inputs = DeviceBatch {
        user_ids: ids(&batch.user_ids)?,
        item_ids: ids(&batch.item_ids)?,
        users: floats(batch.users.len())?,
        items: floats(batch.items.len())?,
        biases: optional(&batch.biases)?,
        log_q: optional(&batch.log_q)?,
        user_log_q: optional(&batch.user_log_q)?,
        weights: optional(&batch.weights)?,
        row_negatives: (!batch.row_negatives.is_empty()).then(row_negatives).transpose()?,
    };
    let gradients = DeviceGradients {
        users: floats(batch.users.len())?,
        items: floats(columns * batch.dim)?,
        biases: (!batch.biases.is_empty()).then(|| floats(columns)).transpose()?,
        catalogue: optional(&catalogue.embeddings)?,
    };
    Ok((inputs, gradients))
}

impl DeviceBatch {
    pub(crate) fn upload(&mut self, stream: &Arc<CudaStream>, batch: &HostBatch) -> Result<(), DriverError> {
        stream.memcpy_htod(&batch.user_ids, &mut self.user_ids)?;
        stream.memcpy_htod(&batch.item_ids, &mut self.item_ids)?;
        stream.memcpy_htod(&batch.users, &mut self.users)?;
        stream.memcpy_htod(&batch.items, &mut self.items)?;
        for (host, device) in [
            (&batch.biases, &mut self.biases),
            (&batch.log_q, &mut self.log_q),
            (&batch.user_log_q, &mut self.user_log_q),
            (&batch.weights, &mut self.weights),
        ] {
            if let Some(device) = device {
                stream.memcpy_htod(host, device)?;
            }
        }
        if let Some(own) = &mut self.row_negatives {
            stream.memcpy_htod(&batch.row_negatives, &mut own.indices)?;
            stream.memcpy_htod(&batch.catalogue.ids, &mut own.ids)?;
            stream.memcpy_htod(&batch.catalogue.embeddings, &mut own.embeddings)?;
            if let Some(log_q) = &mut own.log_q {
                stream.memcpy_htod(&batch.catalogue.log_q, log_q)?;
            }
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
    pub(crate) fn download(
        &self,
        stream: &Arc<CudaStream>,
        gradients: &mut HostGradients,
    ) -> Result<(), DriverError> {
        for (device, host) in [
            (Some(&self.users), &mut gradients.users),
            (Some(&self.items), &mut gradients.items),
            (self.biases.as_ref(), &mut gradients.biases),
            (self.catalogue.as_ref(), &mut gradients.catalogue),
        ] {
            if let Some(device) = device {
                host.resize(device.len(), 0.0);
                stream.memcpy_dtoh(device, host)?;
            }
        }
        stream.synchronize()
    }
}

pub(crate) fn explain(error: DriverError) -> anyhow::Error {
    anyhow!(error).context("moving a batch to the device and its gradients back")
}
