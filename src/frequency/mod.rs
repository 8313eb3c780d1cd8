//! How often an item appears in a batch, learnt from the stream of batches itself.
//!
//! Two estimators, with one twin on each backend:
//!
//! - `FrequencyEstimator`: Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
//!   Recommendations", algorithms 2 and 3. It keeps, for each bucket, the step `A` at which it was last seen and a
//!   moving mean `B` of the steps between two sightings. **It returns the log of the probability that a step's batch
//!   contains the item**, `log p = -log B`: a probability per step, not per draw.
//! - `FrequencyCounter`: exact counts for a catalogue that fits in memory. **It returns the log of the expected count in
//!   `n` draws**, `log (n f / total)`; with `n = 1` the probability per draw.
//!
//! Between the two stands a constant for rare items, `log n`, which a correction of every column (the default
//! [`crate::PositiveCorrection::Corrected`]) does not see, and one of negatives alone does.

mod snapshot;

pub use snapshot::{CounterSnapshot, Snapshot};

use crate::{Error, Result, portable};

/// What a `FrequencyEstimator` is made of.
///
/// At step `t` (from 1) each bucket `h` that some id of the batch falls in is updated once, however often it occurs:
///
/// ```text
/// B[h] <- (1 - learning_rate) B[h] + learning_rate (t - A[h]);   A[h] <- t
/// log q(id) = -log clip(max_k B_k[h_k(id)])                      over the hash functions k
/// ```
///
/// Ids that share a bucket make it look more frequent than each of them is; the maximum over several hash
/// functions takes the table in which that hurt least (algorithm 3). Start values are those of the paper's simulation:
/// `A = 0`, `B = 100`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrequencyConfig {
    pub(crate) buckets: usize,
    pub(crate) hashes: usize,
    /// Whether ids are buckets.
    pub(crate) direct: bool,
    pub(crate) seed: u64,
    pub(crate) learning_rate: f32,
    pub(crate) start_interval: f32,
    pub(crate) clip: [f32; 2],
}

/// The paper's start value of B.
const START_INTERVAL: f32 = 100.0;

impl FrequencyConfig {
    /// No hashing: ids lie in `0..size`, each has a bucket of its own.
    ///
    /// # Errors
    /// [`Error::LearningRate`] unless in (0, 1]; [`Error::NoBuckets`] for a size of 0; [`Error::TooLarge`].
    pub fn direct(size: usize, learning_rate: f32) -> Result<Self> {
        Self::new(size, 1, true, learning_rate)
    }

    /// Any 64-bit ids, in `hashes` tables of `buckets` buckets each.
    ///
    /// # Errors
    /// As [`FrequencyConfig::direct`], also for `hashes` of 0 or above 16.
    pub fn hashed(buckets: usize, hashes: usize, learning_rate: f32) -> Result<Self> {
        Self::new(buckets, hashes, false, learning_rate)
    }

    /// The last interval alone, between 1 and 1000 steps: learning rate 1, clipped. `log q = -log interval`.
    ///
    /// # Errors
    /// As [`FrequencyConfig::direct`].
    pub fn last_interval(size: usize) -> Result<Self> {
        Self::direct(size, 1.0)?.clip(1.0, 1000.0)
    }

    fn new(buckets: usize, hashes: usize, direct: bool, learning_rate: f32) -> Result<Self> {
        if !(learning_rate > 0.0 && learning_rate <= 1.0) {
            return Err(Error::LearningRate(learning_rate));
        }
        if buckets == 0 || hashes == 0 {
            return Err(Error::NoBuckets { buckets, hashes });
        }
        // Tables are the second direction of a grid, and more than a few have no use.
        for (what, size, max) in
            [("the number of buckets", buckets, 1 << 40), ("the number of hashes", hashes, 16)]
        {
            if size > max {
                return Err(Error::TooLarge { what, size: size as u128, max: max as u128 });
            }
        }
        Ok(Self {
            buckets,
            hashes,
            direct,
            seed: 0,
            learning_rate,
            start_interval: START_INTERVAL,
            clip: [0.0, f32::INFINITY],
        })
    }

    /// Where every B starts.
    ///
    /// # Errors
    /// [`Error::Interval`] unless finite and at least 1.
    pub fn start_interval(mut self, steps: f32) -> Result<Self> {
        if !(steps >= 1.0 && steps.is_finite()) {
            return Err(Error::Interval { low: steps, high: steps });
        }
        self.start_interval = steps;
        Ok(self)
    }

    /// Intervals outside `low..=high` count as its end when they are read. B itself is not clipped.
    ///
    /// # Errors
    /// [`Error::Interval`] unless `0 < low <= high` and both are finite.
    pub fn clip(mut self, low: f32, high: f32) -> Result<Self> {
        if !(low > 0.0 && low <= high && high.is_finite()) {
            return Err(Error::Interval { low, high });
        }
        self.clip = [low, high];
        Ok(self)
    }

    /// Other hash functions.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Buckets of all tables together.
    pub(crate) fn cells(&self) -> Result<usize> {
        let cells = self.buckets.checked_mul(self.hashes);
        cells.ok_or(Error::OutOfMemory { bytes: self.buckets as u128 * self.hashes as u128 * 12 })
    }

    /// The cell of an id in table `k`, `None` for an id outside a direct table. Mirrored by kernels/frequency.cu.
    pub(crate) fn cell(&self, k: usize, id: i64) -> Option<usize> {
        if self.direct {
            return usize::try_from(id).ok().filter(|&id| id < self.buckets);
        }
        let hash = mix((id as u64) ^ mix(self.seed.wrapping_add(k as u64)));
        let bucket = (u128::from(hash) * self.buckets as u128) >> 64;
        Some(k * self.buckets + bucket as usize)
    }

    /// B after an interval of `elapsed` steps.
    pub(crate) fn updated(&self, interval: f32, elapsed: u64) -> f32 {
        self.learning_rate.mul_add(elapsed as f32, self.kept() * interval)
    }

    /// 1 - learning_rate.
    pub(crate) fn kept(&self) -> f32 {
        1.0 - self.learning_rate
    }

    /// What a mean interval of B steps means.
    pub(crate) fn log_q(&self, interval: f32) -> f32 {
        let [low, high] = self.clip;
        -portable::ln(f64::from(interval.max(low).min(high))) as f32
    }
}

/// The finaliser of splitmix64: each bit of the result depends on all bits of the argument.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `log (draws f / total)`. An id that was never counted reads as if counted once, so that its log is finite.
pub(crate) fn log_expected_count(draws: f64, count: u64, total: u64) -> f32 {
    let share = count.max(1) as f64 / total.max(1) as f64;
    portable::ln(draws * share) as f32
}
