//! The operation: which backend, which type, and the loss object that it carries from forward to backward.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, bail};
use half::{bf16, f16};

use super::{Inputs, Pool};
use crate::{Error, LossConfig, cpu};

/// What a forward is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// A backward may follow.
    ForBackward,
    /// The loss alone.
    Nothing,
}

/// A loss object of either backend.
#[derive(Debug)]
pub(super) enum Object {
    Cpu(Box<cpu::InBatchLoss>),
    #[cfg(feature = "candle-cuda")]
    Cuda(Box<crate::cuda::InBatchLoss>),
}

/// One forward, and the backwards that belong to it.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) config: LossConfig,
    pub(super) inputs: Inputs,
    pub(super) pool: Arc<Pool>,
    pub(super) keep: Keep,
    /// What the forward used; there is none before it.
    object: Mutex<Option<Object>>,
}

impl Op {
    pub(super) fn new(config: LossConfig, inputs: Inputs, pool: Arc<Pool>, keep: Keep) -> Self {
        Self { config, inputs, pool, keep, object: Mutex::new(None) }
    }

    /// Remembers the forward's object for the backward.
    pub(super) fn remember(&self, object: Object) {
        *self.object.lock().unwrap_or_else(PoisonError::into_inner) = Some(object);
    }

    /// Lends the forward's object.
    pub(super) fn with_object<R>(&self, use_it: impl FnOnce(&mut Object) -> Result<R>) -> Result<R> {
        match self.object.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(object) => use_it(object),
            None => Err(Error::NoForward("there was none").into()),
        }
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        if let Some(object) = self.object.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            self.pool.put(object);
        }
    }
}

/// Calls a function with the type parameter that belongs to a tensor's type.
macro_rules! per_dtype {
    ($dtype:expr, $function:ident($($argument:expr),*)) => {
        match $dtype {
            DType::F32 => $function::<f32>($($argument),*),
            DType::F16 => $function::<f16>($($argument),*),
            DType::BF16 => $function::<bf16>($($argument),*),
            other => bail!("embeddings of type {other:?}: the loss takes f32, f16 and bf16; use to_dtype"),
        }
    };
}
pub(super) use per_dtype;

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        "inbatch"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use super::host::forward;
        use candle_core::backend::BackendStorage;
        per_dtype!(s1.dtype(), forward(self, (s1, l1), (s2, l2)))
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(
        &self,
        s1: &candle_core::CudaStorage,
        l1: &Layout,
        s2: &candle_core::CudaStorage,
        l2: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        use super::device::forward;
        use candle_core::backend::BackendStorage;
        per_dtype!(s1.dtype(), forward(self, (s1, l1), (s2, l2)))
    }

    fn bwd(
        &self,
        users: &Tensor,
        items: &Tensor,
        _loss: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        // candle may have summed it up in another layout.
        let upstream = upstream.contiguous()?;
        let (d_users, d_items) = match users.device() {
            Device::Cpu => {
                use super::host::backward;
                per_dtype!(users.dtype(), backward(self, users, items, &upstream))
            }
            #[cfg(feature = "candle-cuda")]
            Device::Cuda(device) => {
                use super::device::backward;
                per_dtype!(users.dtype(), backward(self, device, users, items, &upstream))
            }
            other => bail!("inbatch has no backward on {:?}", other.location()),
        }?;
        Ok((Some(d_users), Some(d_items)))
    }
}
