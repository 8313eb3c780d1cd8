//! What memory banks share on every backend: configuration, ring positions, checkpoints.

mod ring;
mod snapshot;

pub(crate) use ring::{Ring, Span};
pub use snapshot::Snapshot;

use crate::{Error, Result};

/// A FIFO memory bank of item embeddings from earlier batches (cross-batch negatives, Wang et al.
/// 2021, "Cross-Batch Negative Sampling for Training Two-Tower Recommenders").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BankConfig {
    pub(crate) capacity: usize,
    pub(crate) dim: usize,
    pub(crate) warm_up: u64,
    pub(crate) max_age: Option<u64>,
    pub(crate) log_q: bool,
    pub(crate) item_ids: bool,
}

impl BankConfig {
    /// Room for `capacity` embeddings of dimension `dim`. Log q and item ids are kept with each;
    /// no warm-up, no maximal age.
    ///
    /// # Errors
    /// [`Error::BankCapacity`], [`Error::Dimension`].
    pub fn new(capacity: usize, dim: usize) -> Result<Self> {
        if capacity == 0 {
            return Err(Error::BankCapacity);
        }
        if dim == 0 || dim > crate::problem::MAX_DIM {
            return Err(Error::Dimension { dim, max: crate::problem::MAX_DIM });
        }
        Ok(Self { capacity, dim, warm_up: 0, max_age: None, log_q: true, item_ids: true })
    }

    /// The bank is not read until this many pushes have been made.
    pub fn warm_up(mut self, pushes: u64) -> Self {
        self.warm_up = pushes;
        self
    }

    /// Embeddings older than this many pushes are not read. The last push has age 1.
    pub fn max_age(mut self, pushes: u64) -> Self {
        self.max_age = Some(pushes);
        self
    }

    /// Keeps no log q: for losses without the correction.
    pub fn without_log_q(mut self) -> Self {
        self.log_q = false;
        self
    }

    /// Keeps no item ids: for losses without exclusion by item.
    pub fn without_item_ids(mut self) -> Self {
        self.item_ids = false;
        self
    }

    /// Whether a push brings what this bank keeps, no more and no less.
    pub(crate) fn check_fields(&self, log_q: bool, item_ids: bool) -> Result<()> {
        let word = |with| if with { "with" } else { "without" };
        for (field, built, came) in [("log_q", self.log_q, log_q), ("item_ids", self.item_ids, item_ids)] {
            if built != came {
                return Err(Error::BankField { field, built: word(built), came: word(came) });
            }
        }
        Ok(())
    }
}
