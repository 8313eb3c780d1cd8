//! The CUDA driver's C interface over the executor.
//!
//! Each file exports the `cu*` functions of one subject. A function's body returns [`code::Outcome`]; [`boundary`] turns it into a
//! `CUresult`, so that no panic and no wild pointer crosses into C. Handles are numbers looked up in [`table`]s. Work on a stream is a
//! [`work::Work`], which joins a [`graph`] under capture or else a [`queue`]. [`side`] exports `ptxemu_*`: settings and records for tests.
//!
//! The exported functions cannot be called from Rust: they exist for the shared library.
#![allow(non_snake_case)]

mod alloc;
mod attributes;
mod boundary;
mod code;
mod config;
mod context;
mod copy;
mod device;
mod event;
mod function;
mod graph;
mod host;
mod launch;
mod limits;
mod module;
mod occupancy;
mod programs;
mod queue;
mod records;
mod side;
mod state;
mod stream;
mod substitutes;
mod table;
mod unsupported;
mod work;
