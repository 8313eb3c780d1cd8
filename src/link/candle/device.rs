//! The operation on candle's CUDA tensors: on the stream of their device, waiting for nothing.

use std::any::Any;

use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Layout, Result, Shape, Storage, Tensor, bail};
use cudarc::driver::{CudaSlice, DevicePtrMut, result};

use super::bank::{AnyBank, Pushed};
use super::op::{Keep, Object, Op};
use super::views::{Reads, Value, matrix, offsets};
use crate::bank::{BankConfig, Snapshot};
use crate::cuda::{Cuda, Device, Gradients, InBatchLoss, MemoryBank, View, driver_error};
use crate::{Element, Error, Length, Reduction};

impl Reads for Cuda {
    fn view<'a, T: Value>(storage: &'a Storage, layout: &Layout, what: &'static str) -> Result<View<'a, T>> {
        match storage {
            Storage::Cuda(storage) => device_view(storage, layout, what),
            _ => {
                bail!("{what} is on {:?}, the users are on CUDA: move it there", storage.device().location())
            }
        }
    }
}

fn device_view<'a, T: Value>(
    storage: &'a CudaStorage,
    layout: &Layout,
    what: &'static str,
) -> Result<View<'a, T>> {
    let (start, end) = offsets(layout, what)?;
    match storage.as_cuda_slice::<T>() {
        Ok(slice) if end <= slice.len() => Ok(slice.slice(start..end).into()),
        Ok(_) => bail!("{what}: the layout reaches beyond the storage"),
        Err(error) => Err(error.context(format!("{what} has another type than the loss takes"))),
    }
}

impl Op {
    /// A loss object of this operation's configuration, on this stream.
    fn device_object(&self, device: &Device) -> Result<Box<InBatchLoss>> {
        let taken = self.pool.take(|object| match object {
            Object::Cuda(loss) if loss.device().stream() == device.stream() => Ok(loss),
            other => Err(other),
        });
        let Some(mut loss) = taken else {
            return Ok(Box::new(InBatchLoss::new(device, self.config)?));
        };
        if *loss.config() != self.config {
            loss.set_config(self.config)?;
        }
        Ok(loss)
    }
}

/// The loss as candle stores it.
pub(super) fn forward<T: Element + Value>(
    op: &Op,
    (users, users_layout): (&CudaStorage, &Layout),
    (items, items_layout): (&CudaStorage, &Layout),
) -> Result<(CudaStorage, Shape)> {
    let (rows, dim) = matrix(users_layout, "users")?;
    let (_, item_dim) = matrix(items_layout, "items")?;
    if dim != item_dim {
        bail!("users have {dim} dimensions, items {item_dim}");
    }
    let cuda = users.device.clone();
    let users = device_view::<T>(users, users_layout, "users")?;
    let items = device_view::<T>(items, items_layout, "items")?;
    let mut loss = op.device_object(&Device::on_stream(cuda.cuda_stream())?)?;
    let held = op.inputs.hold();
    let bank = op.inputs.bank.as_ref().map(|bank| bank.lock());
    let bank = bank.as_ref().map(|bank| bank.of::<MemoryBank<T>>()).transpose()?;
    let batch = held.batch::<Cuda, T>((users, items, dim), op.inputs.offset, bank)?;
    let output = match op.keep {
        Keep::ForBackward => loss.forward(&batch)?,
        Keep::Nothing => loss.evaluate(&batch)?,
    };
    // The workspace is written again by the next forward; candle's tensors keep their values.
    let (result, shape) = match op.config.get_reduction() {
        Reduction::None => (copy(&output.device_row_losses(), &cuda)?, Shape::from(rows)),
        _ => (copy(&output.device_loss()?, &cuda)?, Shape::from(())),
    };
    op.remember(Object::Cuda(loss));
    Ok((CudaStorage::wrap_cuda_slice(result, cuda), shape))
}

fn copy(source: &View<'_, f32>, cuda: &CudaDevice) -> Result<CudaSlice<f32>> {
    let stream = cuda.cuda_stream();
    // SAFETY: written by the copy that follows, before anything reads it.
    let mut target = unsafe { cuda.alloc::<f32>(source.length()) }?;
    let (pointer, guard) = target.device_ptr_mut(&stream);
    let bytes = size_of::<f32>() * source.length();
    // SAFETY: both sides have that many bytes; the source belongs to the loss object on the same stream.
    unsafe { result::memcpy_dtod_async(pointer, source.device_pointer(), bytes, stream.cu_stream()) }
        .map_err(|e| driver_error("copying the loss", e))?;
    drop(guard);
    Ok(target)
}

/// The gradients of users and items.
pub(super) fn backward<T: Element + Value>(
    op: &Op,
    cuda: &CudaDevice,
    users: &Tensor,
    items: &Tensor,
    upstream: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let (held_users, held_items) = (users.storage_and_layout(), items.storage_and_layout());
    let held_upstream = upstream.storage_and_layout();
    let (_, dim) = matrix(held_users.1, "users")?;
    // SAFETY: the backward overwrites all of both.
    let (mut d_users, mut d_items) =
        unsafe { (cuda.alloc::<T>(users.elem_count())?, cuda.alloc::<T>(items.elem_count())?) };
    op.with_object(|object| {
        let Object::Cuda(loss) = object else {
            return Err(Error::NoForward("it was on another device").into());
        };
        let held = op.inputs.hold();
        let bank = op.inputs.bank.as_ref().map(|bank| bank.lock());
        let bank = bank.as_ref().map(|bank| bank.of::<MemoryBank<T>>()).transpose()?;
        let users: View<'_, T> = Cuda::view(&held_users.0, held_users.1, "users")?;
        let items: View<'_, T> = Cuda::view(&held_items.0, held_items.1, "items")?;
        let upstream: View<'_, f32> = Cuda::view(&held_upstream.0, held_upstream.1, "the upstream gradient")?;
        let batch = held.batch::<Cuda, T>((users, items, dim), op.inputs.offset, bank)?;
        loss.backward(&batch, Some(upstream), &mut Gradients::new(&mut d_users, &mut d_items))?;
        Ok(())
    })?;
    let tensor = |slice, like: &Tensor| {
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, cuda.clone()));
        Tensor::from_storage(storage, like.shape(), BackpropOp::none(), false)
    };
    Ok((tensor(d_users, users), tensor(d_items, items)))
}

/// A bank on the stream of candle's device.
pub(super) fn bank<T: Element + Value>(config: BankConfig, cuda: &CudaDevice) -> Result<Box<dyn AnyBank>> {
    Ok(Box::new(MemoryBank::<T>::new(&Device::on_stream(cuda.cuda_stream())?, config)?))
}

impl<T: Element + Value> AnyBank for MemoryBank<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn push(&mut self, pushed: &Pushed<'_>) -> Result<()> {
        Ok(self.push(&pushed.items::<Cuda, T>()?)?)
    }

    fn len(&self) -> Result<usize> {
        Ok(self.len()?)
    }

    fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.snapshot()?)
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        Ok(self.restore(snapshot)?)
    }
}
