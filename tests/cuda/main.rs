//! The CUDA backend, on the GPU where there is one and on the emulator where there is none: the PTX that runs is the
//! PTX that the crate embeds.
#![cfg(feature = "cuda")]

#[path = "../common/mod.rs"]
mod common;

mod bank;
mod edges;
mod errors;
mod frequency;
mod gathered;
mod graph;
mod hard_negatives;
mod kernels;
mod link;
mod mma;
mod mutants;
mod oracle;
mod parameters;
mod properties;
mod resources;
mod row_negatives;
mod same_bits;
mod sampling;
mod subject;
mod support;
mod table;
