//! Runs CUDA PTX on a CPU, behind the CUDA driver's C interface, with memory and race checks.
mod driver;
pub mod exec;
pub mod memory;
pub mod ptx;
