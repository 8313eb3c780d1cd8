//! The CPU backend: the same sweeps, tiled and multi-threaded.

mod backward;
mod bank;
mod cells;
mod columns;
mod embeddings;
mod exclusion;
mod forward;
mod frequency;
mod hard_negatives;
mod loss;
mod output;
mod partial;
mod prepare;
mod product;
mod row_negatives;
mod rows;
mod sampler;
mod sigmoid;
mod simd;
mod table;
mod tallies;
mod tiles;
mod view;
mod workspace;

pub use bank::MemoryBank;
pub use frequency::{FrequencyCounter, FrequencyEstimator};
pub use loss::InBatchLoss;
pub use output::Output;
pub use sampler::{DownSampler, Pool, Sampler, mixed_log_q};
pub use table::{TableLoss, TableOutput};
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

/// Item embeddings in slices; see [`crate::Items`].
pub type Items<'a, T> = crate::Items<'a, Cpu, T>;

/// Negatives of one row each, in slices; see [`crate::RowNegatives`].
pub type RowNegatives<'a, T> = crate::RowNegatives<'a, Cpu, T>;

/// Gradient slices; see [`crate::Gradients`].
pub type Gradients<'a, G> = crate::Gradients<'a, Cpu, G>;

/// Inputs of a loss over a class table, in slices; see [`crate::table::TableBatch`].
pub type TableBatch<'a, T> = crate::table::TableBatch<'a, Cpu, T>;

/// Its gradients; see [`crate::table::TableGradients`].
pub type TableGradients<'a, G> = crate::table::TableGradients<'a, Cpu, G>;
