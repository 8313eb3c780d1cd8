//! The CUDA backend: handwritten kernels on the caller's stream and buffers.
//!
//! Everything is enqueued on the stream of the [`Device`]; nothing waits unless a method says so, and
//! nothing falls back to the CPU. After the first call of a shape (or [`InBatchLoss::reserve`]) a step
//! allocates nothing and can be captured in a CUDA graph; bank positions, step counter and temperature
//! live in device memory, so a captured step can be replayed.
//!
//! ```no_run
//! use inbatch::{LossConfig, cuda};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = cuda::Device::new(0)?;
//! let stream = device.stream().clone();
//! let users = stream.clone_htod(&vec![0.1f32; 64 * 32])?;
//! let items = stream.clone_htod(&vec![0.2f32; 64 * 32])?;
//! let mut d_users = stream.alloc_zeros::<f32>(64 * 32)?;
//! let mut d_items = stream.alloc_zeros::<f32>(64 * 32)?;
//!
//! let mut loss = cuda::InBatchLoss::new(&device, LossConfig::new(0.05)?.normalize(true))?;
//! let batch = cuda::Batch::new(&users, &items, 32);
//! let output = loss.step(&batch, &mut cuda::Gradients::new(&mut d_users, &mut d_items))?;
//! println!("{} on {}", output.loss()?, device.name()); // the one explicit wait
//! # Ok(())
//! # }
//! ```
//!
//! With cudarc's event tracking on and several streams in use, buffers given as cudarc slices are
//! ordered by their events. Capturing a graph needs tracking off (`CudaContext::disable_event_tracking`),
//! as everywhere in cudarc.

mod arguments;
mod bank;
mod buffer;
mod columns;
mod device;
mod frequency;
mod hard_negatives;
mod inputs;
mod launch;
mod loss;
mod module;
mod output;
mod parameters;
mod plan;
mod ranges;
mod row_negatives;
mod rows;
mod sampler;
mod stream;
mod stream_mma;
mod table;
mod view;
mod workspace;

pub use bank::MemoryBank;
/// The version of cudarc whose types this module takes.
pub use cudarc;
pub use device::{Counters, Device};
pub(crate) use device::{driver_error, primary_context};
pub use frequency::{FrequencyCounter, FrequencyEstimator};
#[doc(hidden)]
pub use hard_negatives::{Mined, mined};
pub use loss::InBatchLoss;
pub use module::{Ptx, ptx};
pub use output::Output;
pub use plan::{Hardware, Kernels, Plan, Sweep};
pub use sampler::{DownSampler, Pool, Sampler, mixed_log_q};
pub use table::{TableLoss, TableOutput};
pub use view::{View, ViewMut};

use crate::{Backend, Element};

/// CUDA: device buffers, kernels on a stream.
#[derive(Clone, Copy, Debug)]
pub enum Cuda {}

impl Backend for Cuda {
    type View<'a, T: bytemuck::Pod> = View<'a, T>;
    type ViewMut<'a, T: bytemuck::Pod> = ViewMut<'a, T>;
    type Bank<T: Element> = MemoryBank<T>;
}

/// A batch in device memory; see [`crate::Batch`].
pub type Batch<'a, T> = crate::Batch<'a, Cuda, T>;

/// Item embeddings in device memory; see [`crate::Items`].
pub type Items<'a, T> = crate::Items<'a, Cuda, T>;

/// Negatives of one row each, in device memory; see [`crate::RowNegatives`].
pub type RowNegatives<'a, T> = crate::RowNegatives<'a, Cuda, T>;

/// Gradients in device memory; see [`crate::Gradients`].
pub type Gradients<'a, G> = crate::Gradients<'a, Cuda, G>;

/// Inputs of a loss over a class table, in device memory; see [`crate::table::TableBatch`].
pub type TableBatch<'a, T> = crate::table::TableBatch<'a, Cuda, T>;

/// Its gradients; see [`crate::table::TableGradients`].
pub type TableGradients<'a, G> = crate::table::TableGradients<'a, Cuda, G>;
