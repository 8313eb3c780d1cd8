//! candle: the loss as an operation on its tensors, with backward.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use inbatch::LossConfig;
//! use inbatch::bank::BankConfig;
//! use inbatch::link::candle::{InBatchLoss, Inputs, MemoryBank};
//! # fn main() -> candle_core::Result<()> {
//! # let device = Device::Cpu;
//! # let users = Var::randn(0f32, 1., (16, 8), &device)?;
//! # let items = Var::randn(0f32, 1., (16, 8), &device)?;
//! # let log_q = Tensor::full(-3f32, 16, &device)?;
//! # let ids = Tensor::arange(0i64, 16, &device)?;
//! let loss = InBatchLoss::new(LossConfig::new(0.05)?.normalize(true));
//! let bank = MemoryBank::new(BankConfig::new(1024, 8)?, users.dtype(), &device)?;
//!
//! // users [B, D], items [C, D]: your towers' outputs.
//! let inputs = Inputs::new().log_q(&log_q).item_ids(&ids).bank(&bank);
//! let value = loss.forward(&users, &items, &inputs)?; // a scalar tensor
//! let gradients = value.backward()?;
//! bank.push(&items, Some(&log_q), Some(&ids))?;
//! # assert_eq!(gradients.get(&users).unwrap().dims(), [16, 8]);
//! # assert_eq!(bank.len()?, 16);
//! # Ok(())
//! # }
//! ```
//!
//! **What is saved for the backward.** candle hands a custom operation's backward nothing but arguments, result
//! and upstream gradient. What the forward found besides (log-sum-exp, `z+`, `O`: f32, `(2 + D) B` values and small
//! change) therefore stays in the operation itself, in the workspace of a loss object that nobody else uses until
//! the graph is dropped. Then it goes back to [`InBatchLoss`], for the next forward: a training loop with one
//! graph at a time allocates one workspace, once. Several graphs may be alive; each has its own.
//!
//! **What is copied.** Nothing, unless a tensor is not contiguous: candle then makes it so. An offset into a larger
//! storage is no copy. Gradients are new tensors, as every gradient of candle's.
//!
//! **Extra negatives** are further rows of `items`: row `i`'s positive is item `i + offset`, the others are negatives
//! with gradient.
//!
//! **CUDA** (feature `candle-cuda`): everything is enqueued on the stream of candle's device, and nothing waits. candle's
//! default device uses the per-thread stream, a different one on every thread: use it from one thread, or create the
//! device by `Device::new_cuda_with_stream`.

mod bank;
#[cfg(feature = "candle-cuda")]
mod device;
mod host;
mod op;
mod views;

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, Tensor};

pub use bank::MemoryBank;
use op::{Keep, Op};

use crate::{Error, LossConfig};

/// In-batch sampled softmax on candle's tensors. Cheap to clone; clones share their workspaces.
#[derive(Clone, Debug)]
pub struct InBatchLoss {
    config: LossConfig,
    pool: Arc<Pool>,
}

impl InBatchLoss {
    /// A loss for tensors on any device. Allocates nothing before its first use.
    pub fn new(config: LossConfig) -> Self {
        Self { config, pool: Arc::default() }
    }

    /// The configuration.
    pub fn config(&self) -> &LossConfig {
        &self.config
    }

    /// Another configuration from the next forward on; graphs that are alive keep theirs.
    pub fn set_config(&mut self, config: LossConfig) {
        self.config = config;
    }

    /// The loss of `users` `[B, D]` against `items` `[C, D]`, both f32, f16 or bf16: a scalar, or `[B]` under
    /// [`crate::Reduction::None`], in f32. Both get gradients, in their own type.
    ///
    /// # Errors
    /// Those of [`crate::Problem::new`], wrapped; candle's own for shapes, types and devices that do not fit.
    pub fn forward(&self, users: &Tensor, items: &Tensor, inputs: &Inputs) -> Result<Tensor> {
        users.contiguous()?.apply_op2(&items.contiguous()?, self.op(inputs, Keep::ForBackward)?)
    }

    /// The loss alone, outside of any graph: half of a forward's arithmetic, and nothing is kept.
    ///
    /// # Errors
    /// As [`InBatchLoss::forward`].
    pub fn evaluate(&self, users: &Tensor, items: &Tensor, inputs: &Inputs) -> Result<Tensor> {
        users.contiguous()?.apply_op2_no_bwd(&items.contiguous()?, &self.op(inputs, Keep::Nothing)?)
    }

    fn op(&self, inputs: &Inputs, keep: Keep) -> Result<Op> {
        Ok(Op::new(self.config, inputs.contiguous()?, self.pool.clone(), keep))
    }
}

/// What the loss takes besides embeddings, on their device. None of it gets a gradient.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    log_q: Option<Tensor>,
    item_ids: Option<Tensor>,
    user_ids: Option<Tensor>,
    weights: Option<Tensor>,
    offset: usize,
    bank: Option<MemoryBank>,
}

impl Inputs {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `[C]` f32, natural logarithms of each item's sampling probability (or expected count).
    pub fn log_q(mut self, log_q: &Tensor) -> Self {
        self.log_q = Some(log_q.clone());
        self
    }

    /// `[C]` i64 item ids.
    pub fn item_ids(mut self, item_ids: &Tensor) -> Self {
        self.item_ids = Some(item_ids.clone());
        self
    }

    /// `[B]` i64 user ids.
    pub fn user_ids(mut self, user_ids: &Tensor) -> Self {
        self.user_ids = Some(user_ids.clone());
        self
    }

    /// `[B]` f32 row weights.
    pub fn weights(mut self, weights: &Tensor) -> Self {
        self.weights = Some(weights.clone());
        self
    }

    /// Row i's positive is item `i + offset`.
    pub fn offset(mut self, offset: usize) -> Self {
        self.offset = offset;
        self
    }

    /// Embeddings of earlier batches as further negatives. Read by the forward alone: a push before the backward is fine.
    pub fn bank(mut self, bank: &MemoryBank) -> Self {
        self.bank = Some(bank.clone());
        self
    }

    fn contiguous(&self) -> Result<Self> {
        let contiguous = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::contiguous).transpose();
        Ok(Self {
            log_q: contiguous(&self.log_q)?,
            item_ids: contiguous(&self.item_ids)?,
            user_ids: contiguous(&self.user_ids)?,
            weights: contiguous(&self.weights)?,
            ..self.clone()
        })
    }
}

/// Loss objects between two uses.
#[derive(Debug, Default)]
struct Pool(Mutex<Vec<op::Object>>);

impl Pool {
    /// The first object that `fits` makes something of.
    fn take<T>(&self, mut fits: impl FnMut(op::Object) -> std::result::Result<T, op::Object>) -> Option<T> {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for index in 0..objects.len() {
            match fits(objects.swap_remove(index)) {
                Ok(taken) => return Some(taken),
                Err(object) => {
                    objects.push(object);
                    let last = objects.len() - 1;
                    objects.swap(index, last);
                }
            }
        }
        None
    }

    fn put(&self, object: op::Object) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(object);
    }
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        Self::wrap(error)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    #[test]
    fn as_many_workspaces_as_graphs_that_were_alive_at_once() -> Result<()> {
        let users = candle_core::Var::ones((3, 4), DType::F32, &Device::Cpu)?;
        let items = Tensor::ones((5, 4), DType::F32, &Device::Cpu)?;
        let loss = InBatchLoss::new(LossConfig::new(0.1)?);
        let idle = || loss.pool.0.lock().unwrap().len();
        for _ in 0..3 {
            let value = loss.forward(&users, &items, &Inputs::new())?;
            assert_eq!(idle(), 0, "the graph has it");
            value.backward()?;
            drop(value);
            assert_eq!(idle(), 1);
        }
        let graphs = [(); 2].map(|()| loss.forward(&users, &items, &Inputs::new()));
        assert_eq!(idle(), 0);
        drop(graphs);
        assert_eq!(idle(), 2);
        loss.evaluate(&users, &items, &Inputs::new())?;
        assert_eq!(idle(), 2);
        Ok(())
    }
}
