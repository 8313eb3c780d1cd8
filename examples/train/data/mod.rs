//! Interactions between users and items, from a file or generated.

mod file;
mod planted;
mod split;

pub(crate) use file::{Columns, read};
pub(crate) use planted::{Planted, generate};
pub(crate) use split::Split;

/// One user met one item at one time. Ids count from 0 without gaps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interaction {
    pub(crate) user: u32,
    pub(crate) item: u32,
    pub(crate) time: f64,
}

/// All interactions, with the number of users and items that ids count.
#[derive(Clone, Debug)]
pub(crate) struct Interactions {
    pub(crate) users: usize,
    pub(crate) items: usize,
    pub(crate) all: Vec<Interaction>,
}
