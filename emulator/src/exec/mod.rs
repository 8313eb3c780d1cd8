//! Warps of 32 lanes executing a resolved program.
//!
//! What is decided here where PTX leaves room or asks for little:
//! - Blocks run to their end, one after the other on each worker, in an order that the seed sets. A block that waits
//!   for another one which has not started waits for ever: the launch ends with `InstructionLimit`. Grid-wide barriers
//!   are therefore not supported; "the last block to finish" is.
//! - Warps take turns of random length. Within a warp the lanes furthest behind run first, so that paths join again;
//!   lanes that stay apart for long take turns too, so that a spinning lane cannot starve the one it waits for.
//! - A barrier must be reached by every thread of the block (or of the warps that its count names): threads that have
//!   exited do not count as arrived, unless barriers are not checked.
//! - A warp operation waits for the lanes of its mask that have not exited; to read the value of one that takes no
//!   part is a defect.
//! - Shuffles, votes and `redux` order no memory accesses; `bar.warp.sync` and barriers do.
//! - Lanes of one instruction may store to the same place if they store the same value; otherwise it is a race.
//! - Asynchronous copies arrive at the wait that covers them, never earlier; what they will overwrite is poisoned when
//!   they start.
mod access;
mod async_copy;
mod atomic;
mod barrier;
mod block;
mod bounds;
mod fault;
mod forms;
mod launch;
mod machine;
mod matrix;
mod op;
mod program;
mod race;
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
