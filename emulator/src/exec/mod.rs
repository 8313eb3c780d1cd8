//! Warps of 32 lanes executing a resolved program.
mod forms;
mod op;
mod program;
mod regs;
mod report;
mod resolve;
pub mod scalar;
mod settings;
mod special;

pub use program::{Kernel, LaunchConfig, LaunchStats, LoadError, ParamInfo, Program, launch};
pub use report::{FaultKind, Report};
pub use resolve::{accepted_forms, special_registers};
pub use settings::{Checks, Settings};
