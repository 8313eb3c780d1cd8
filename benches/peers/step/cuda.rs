//! The CUDA backend as a peer.

use inbatch::Element;
use inbatch::bank::BankConfig;
use inbatch::cuda::cudarc::driver::sys::{CUdevice_attribute, CUevent_flags};
use inbatch::cuda::cudarc::driver::{CudaSlice, DeviceRepr};
use inbatch::cuda::{Batch, Device, Gradients, InBatchLoss, Items, MemoryBank, Output};

use super::inputs::Inputs;
use super::{Peer, Result};

pub(super) struct Cuda<T: Element> {
    device: Device,
    dim: usize,
    users: CudaSlice<T>,
    items: CudaSlice<T>,
    log_q: CudaSlice<f32>,
    ids: CudaSlice<i64>,
    bank: Option<MemoryBank<T>>,
    d_users: CudaSlice<T>,
    d_items: CudaSlice<T>,
    loss: InBatchLoss,
    /// Bytes held before the first step: the bank's.
    held: u64,
    /// Overwritten before each timed step, so that it finds nothing in the second-level cache.
    flush: CudaSlice<u8>,
}

impl<T: Element + DeviceRepr> Cuda<T> {
    pub(super) fn new(inputs: Inputs<T>) -> Result<Self> {
        let device = Device::new(0)?;
        let stream = device.stream().clone();
        let banked = inputs.bank_ids.len();
        let mut bank = None;
        if banked > 0 {
            let ring = bank.insert(MemoryBank::new(&device, BankConfig::new(banked, inputs.dim)?)?);
            let embeddings = stream.clone_htod(&inputs.bank)?;
            let (log_q, ids) = (stream.clone_htod(&inputs.bank_log_q)?, stream.clone_htod(&inputs.bank_ids)?);
            ring.push(&Items::new(&embeddings).log_q(&log_q).item_ids(&ids))?;
            device.synchronize()?;
        }
        let l2 = stream.context().attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?;
        let poison = vec![T::from_f32(f32::NAN); inputs.users.len()];
        Ok(Self {
            dim: inputs.dim,
            users: stream.clone_htod(&inputs.users)?,
            items: stream.clone_htod(&inputs.items)?,
            log_q: stream.clone_htod(&inputs.log_q)?,
            ids: stream.clone_htod(&inputs.ids)?,
            bank,
            d_users: stream.clone_htod(&poison)?,
            d_items: stream.clone_htod(&poison)?,
            loss: InBatchLoss::new(&device, inputs.config)?,
            held: device.counters().allocated_bytes,
            flush: stream.alloc_zeros(4 * l2.max(1 << 20) as usize)?,
            device,
        })
    }

    /// Enqueues one step.
    fn run(&mut self) -> Result<Output<'_>> {
        let mut batch = Batch::new(&self.users, &self.items, self.dim).log_q(&self.log_q).item_ids(&self.ids);
        if let Some(bank) = &self.bank {
            batch = batch.bank(bank);
        }
        Ok(self.loss.step(&batch, &mut Gradients::new(&mut self.d_users, &mut self.d_items))?)
    }
}

impl<T: Element + DeviceRepr> Peer for Cuda<T> {
    fn step(&mut self) -> Result<f64> {
        let stream = self.device.stream().clone();
        stream.memset_zeros(&mut self.flush)?;
        let begin = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        self.run()?;
        let end = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        self.device.synchronize()?;
        Ok(f64::from(begin.elapsed_ms(&end)?))
    }

    fn check(&mut self) -> Result<(f32, [Vec<f32>; 2])> {
        let loss = self.run()?.loss()?;
        let read = |slice: &CudaSlice<T>| -> Result<Vec<f32>> {
            Ok(self.device.stream().clone_dtoh(slice)?.into_iter().map(T::to_f32).collect())
        };
        Ok((loss, [read(&self.d_users)?, read(&self.d_items)?]))
    }

    fn memory(&mut self) -> Result<u64> {
        self.run()?;
        self.device.synchronize()?;
        Ok(self.device.counters().allocated_bytes - self.held)
    }
}
