//! The loss over a class table on a GPU. The table travels with each batch, as the rows of a batch do in
//! `step_cuda.rs`.

use std::sync::Arc;

use anyhow::Result;
use inbatch::cuda;
use inbatch::cuda::cudarc::driver::{CudaSlice, CudaStream, DriverError};
use inbatch::table::TableConfig;

use crate::step::{HostBatch, HostGradients, Step};
use crate::step_cuda::{DeviceBatch, DeviceGradients, allocate, explain};

/// The loss and its buffers.
pub(crate) struct CudaClassStep {
    loss: cuda::TableLoss,
    stream: Arc<CudaStream>,
    buffers: Option<Buffers>,
}

struct Buffers {
    inputs: DeviceBatch,
    gradients: DeviceGradients,
    /// The classes that the gradients belong to.
    ids: CudaSlice<i64>,
}

impl CudaClassStep {
    pub(crate) fn new(device: &cuda::Device, config: TableConfig) -> Result<Self> {
        let loss = cuda::TableLoss::new(device, config)?;
        Ok(Self { loss, stream: device.stream().clone(), buffers: None })
    }
}

impl Buffers {
    fn new(stream: &Arc<CudaStream>, batch: &HostBatch) -> Result<Self, DriverError> {
        let (inputs, gradients) = allocate(stream, batch)?;
        Ok(Self { inputs, gradients, ids: stream.alloc_zeros(batch.item_ids.len())? })
    }
}

impl Step for CudaClassStep {
    fn step(&mut self, batch: &HostBatch, gradients: &mut HostGradients) -> Result<f32> {
        // All batches have one shape: allocated once.
        let Buffers { inputs: given, gradients: d, ids } = match &mut self.buffers {
            Some(buffers) => buffers,
            empty => empty.insert(Buffers::new(&self.stream, batch).map_err(explain)?),
        };
        given.upload(&self.stream, batch).map_err(explain)?;

        let (rows, dim) = (batch.rows(), batch.dim);
        let (labels, sampled) = (given.item_ids.slice(..rows), given.item_ids.slice(rows..));
        let mut inputs = cuda::TableBatch::new(&given.users, &given.items, dim, labels, 1, sampled);
        let mut outputs = cuda::TableGradients::new(&mut d.users, &mut *ids, &mut d.items);
        if let Some(log_q) = &given.log_q {
            inputs = inputs.log_q(log_q.slice(..rows), log_q.slice(rows..));
        }
        if let Some(weights) = &given.weights {
            inputs = inputs.row_weights(weights);
        }
        if let (Some(biases), Some(d_biases)) = (&given.biases, &mut d.biases) {
            inputs = inputs.biases(biases);
            outputs = outputs.biases(d_biases);
        }
        let output = self.loss.step(&inputs, &mut outputs)?;
        let (loss, unique) = (output.loss()?, output.unique()?);

        d.download(&self.stream, gradients).map_err(explain)?;
        gradients.item_ids.resize(batch.item_ids.len(), 0);
        self.stream.memcpy_dtoh(&*ids, &mut gradients.item_ids).map_err(explain)?;
        self.stream.synchronize().map_err(explain)?;
        gradients.keep(unique, dim);
        Ok(loss)
    }
}
