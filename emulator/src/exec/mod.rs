//! Warps of 32 lanes executing a resolved program.
mod program;
mod report;
pub mod scalar;
mod settings;

pub use program::{Kernel, LaunchConfig, LaunchStats, LoadError, ParamInfo, Program, launch};
pub use report::{FaultKind, Report};
pub use settings::{Checks, Settings};
