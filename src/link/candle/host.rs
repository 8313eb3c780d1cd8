//! The operation on candle's CPU tensors.

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Tensor, bail};

use super::op::{Keep, Object, Op};
use super::views::{Reads, Value, host_view, matrix};
use crate::cpu::{Cpu, Gradients, InBatchLoss, MemoryBank, View};
use crate::{Element, Error, Reduction};

impl Op {
    /// A loss object of this operation's configuration.
    fn host_object(&self) -> Result<Box<InBatchLoss>> {
        let taken = self.pool.take(|object| match object {
            Object::Cpu(loss) => Ok(loss),
            #[cfg(feature = "candle-cuda")]
            other => Err(other),
        });
        match taken {
            Some(mut loss) => {
                loss.set_config(self.config);
                Ok(loss)
            }
            None => Ok(Box::new(InBatchLoss::new(self.config)?)),
        }
    }
}

/// The loss as candle stores it.
pub(super) fn forward<T: Element + Value>(
    op: &Op,
    (users, users_layout): (&CpuStorage, &Layout),
    (items, items_layout): (&CpuStorage, &Layout),
) -> Result<(CpuStorage, Shape)> {
    let (rows, dim) = matrix(users_layout, "users")?;
    let (_, item_dim) = matrix(items_layout, "items")?;
    if dim != item_dim {
        bail!("users have {dim} dimensions, items {item_dim}");
    }
    let users = host_view::<T>(users, users_layout, "users")?;
    let items = host_view::<T>(items, items_layout, "items")?;
    let mut loss = op.host_object()?;
    let held = op.inputs.hold();
    let bank = op.inputs.bank.as_ref().map(|bank| bank.lock());
    let bank = bank.as_ref().map(|bank| bank.of::<MemoryBank<T>>()).transpose()?;
    let batch = held.batch::<Cpu, T>((users, items, dim), op.inputs.offset, bank)?;
    let output = match op.keep {
        Keep::ForBackward => loss.forward(&batch)?,
        Keep::Nothing => loss.evaluate(&batch)?,
    };
    let result = match op.config.get_reduction() {
        Reduction::None => (CpuStorage::F32(output.row_losses().to_vec()), Shape::from(rows)),
        _ => (CpuStorage::F32(vec![output.loss()?]), Shape::from(())),
    };
    op.remember(Object::Cpu(loss));
    Ok(result)
}

/// The gradients of users and items.
pub(super) fn backward<T: Element + Value>(
    op: &Op,
    users: &Tensor,
    items: &Tensor,
    upstream: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let (held_users, held_items) = (users.storage_and_layout(), items.storage_and_layout());
    let held_upstream = upstream.storage_and_layout();
    let (_, dim) = matrix(held_users.1, "users")?;
    let (mut d_users, mut d_items) =
        (vec![T::from_f32(0.0); users.elem_count()], vec![T::from_f32(0.0); items.elem_count()]);
    op.with_object(|object| {
        #[cfg_attr(not(feature = "candle-cuda"), expect(irrefutable_let_patterns, reason = "one backend"))]
        let Object::Cpu(loss) = object else {
            return Err(Error::NoForward("it was on another device").into());
        };
        let held = op.inputs.hold();
        let bank = op.inputs.bank.as_ref().map(|bank| bank.lock());
        let bank = bank.as_ref().map(|bank| bank.of::<MemoryBank<T>>()).transpose()?;
        let users: View<'_, T> = Cpu::view(&held_users.0, held_users.1, "users")?;
        let items: View<'_, T> = Cpu::view(&held_items.0, held_items.1, "items")?;
        let upstream: View<'_, f32> = Cpu::view(&held_upstream.0, held_upstream.1, "the upstream gradient")?;
        let batch = held.batch::<Cpu, T>((users, items, dim), op.inputs.offset, bank)?;
        loss.backward(&batch, Some(upstream), &mut Gradients::new(&mut d_users, &mut d_items))?;
        Ok(())
    })?;
    Ok((
        Tensor::from_vec(d_users, users.shape(), &Device::Cpu)?,
        Tensor::from_vec(d_items, items.shape(), &Device::Cpu)?,
    ))
}
