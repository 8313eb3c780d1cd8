//! Data races by happens-before: clocks say what is ordered, cells remember who accessed each word last.
//!
//! Two accesses race if at least one writes, at least one is weak (not atomic, volatile or relaxed), they share a
//! byte, and nothing orders them. Ordered are: accesses of one thread; the lanes of a warp by `bar.warp.sync`; the
//! warps of a block by barriers; threads anywhere by a fence before a strong write that another thread reads before a
//! fence of its own. Shuffles and votes order nothing, as PTX says.
mod cell;
mod clock;
mod order;
mod pages;
mod shadow;

pub(crate) use cell::{Conflict, Kind, Touch};
pub(crate) use clock::BlockClock;
pub(crate) use order::SyncTable;
pub(crate) use pages::{OpenPage, Pages};
pub(crate) use shadow::{Me, Shadow};
