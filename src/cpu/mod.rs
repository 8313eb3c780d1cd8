//! The CPU backend: the same sweeps, tiled and multi-threaded.

mod bank;
mod loss;
mod view;

pub use bank::{BankRows, MemoryBank};
pub use loss::{InBatchLoss, Output};
pub use view::{View, ViewMut};

use crate::{Backend, Element};

/// The CPU: borrowed slices, threads from rayon's current pool.
#[derive(Clone, Copy, Debug)]
pub enum Cpu {}

impl Backend for Cpu {
    type View<'a, T: bytemuck::Pod> = View<'a, T>;
    type ViewMut<'a, T: bytemuck::Pod> = ViewMut<'a, T>;
    type Bank<T: Element> = MemoryBank<T>;
}

/// A batch of slices; see [`crate::Batch`].
pub type Batch<'a, T> = crate::Batch<'a, Cpu, T>;

/// Extra negatives in slices; see [`crate::Extra`].
pub type Extra<'a, T> = crate::Extra<'a, Cpu, T>;

/// Gradient slices; see [`crate::Gradients`].
pub type Gradients<'a, G> = crate::Gradients<'a, Cpu, G>;
