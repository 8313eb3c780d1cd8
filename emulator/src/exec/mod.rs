//! Warps of 32 lanes executing a resolved program.
mod access;
mod async_copy;
mod atomic;
mod barrier;
mod block;
mod fault;
mod forms;
mod launch;
mod machine;
mod matrix;
mod op;
mod program;
mod random;
mod regs;
mod report;
mod resolve;
pub mod scalar;
mod settings;
mod shuffle;
mod special;
mod warp;
mod warp_ops;

pub use launch::launch;
pub use program::{Kernel, LaunchConfig, LaunchStats, LoadError, ParamInfo, Program};
pub use report::{FaultKind, Report};
pub use resolve::{accepted_forms, special_registers};
pub use settings::{Checks, Settings};
