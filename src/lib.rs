//! Fused sampled-softmax losses for two-tower retrieval models.
//!
//! For a batch of (user, item) embeddings this crate computes in-batch sampled-softmax losses and
//! their gradients **without ever storing the `B x N` score matrix**.
//!
//! | | |
//! |---|---|
//! | [`LossConfig`], [`Objective`] | what to compute |
//! | [`cpu`], `cuda` | the backends: the same nouns, `Batch`, `Gradients`, `InBatchLoss`, `MemoryBank` |
//! | [`bank`], [`frequency`], [`sampling`] | what banks, frequency estimators and samplers are configured by; [`table`]: class tables |
//! | `link` | tensors and streams of candle, cust, DLPack and others |
//! | [`objective`], [`oracle`] | the row functions; everything once more in f64, for tests |
//!
//! Start at [`cpu::InBatchLoss`], or at the README. Features: `cuda` (default), `candle`, `candle-cuda`, `cust`, `dlpack`.

pub mod bank;
mod batch;
mod checkpoint;
pub mod config;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod element;
mod error;
pub mod frequency;
pub mod link;
mod metrics;
pub mod objective;
pub mod oracle;
mod portable;
mod problem;
pub mod sampling;
pub mod table;
mod temperature;

pub use batch::{Backend, BankColumns, Batch, Gradients, Items, Length, RowNegatives};
pub use config::{LogQOrder, LossConfig, Objective, PositiveCorrection, Reduction};
pub use element::{Dtype, Element};
pub use error::{Error, Result, Segment};
pub use metrics::Metrics;
pub use problem::Problem;
pub use temperature::LearnedTemperature;

/// The README's code compiles and runs.
#[cfg(all(doctest, feature = "cuda"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// So does that of docs/sampling.md.
#[cfg(doctest)]
#[doc = include_str!("../docs/sampling.md")]
struct Sampling;

/// And that of docs/losses.md.
#[cfg(doctest)]
#[doc = include_str!("../docs/losses.md")]
struct Losses;
