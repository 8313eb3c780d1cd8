//! Data races by happens-before: clocks say what is ordered, cells remember who accessed each word last.
//!
//! Two accesses race if at least one writes, at least one is weak (not atomic, volatile or relaxed), they share a
//! byte, and nothing orders them. Ordered are: accesses of one thread; the lanes of a warp by `bar.warp.sync`; the
//! warps of a block by barriers; threads anywhere by a fence before a strong write that another thread reads before a
//! fence of its own. Shuffles and votes order nothing, as PTX says.
//!
//! Where the shadows are coarser than PTX, they are so in the direction of silence: fences and what is learnt through
//! them count for the whole warp, and a word read by several blocks may be written by a block that knows something of
//! each of them. A launch comes after all earlier launches on the same memory.
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
