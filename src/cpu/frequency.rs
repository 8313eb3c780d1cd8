//! The frequency estimators in host memory.

use std::path::Path;

use super::workspace::filled;
use super::{View, ViewMut};
use crate::frequency::{CounterSnapshot, FrequencyConfig, Snapshot, log_expected_count};
use crate::problem::check_length;
use crate::{Error, Result};

const PER_ID: &str = "one for each id";

/// Streaming frequency estimation; see [`FrequencyConfig`].
///
/// ```
/// use inbatch::{cpu, frequency::FrequencyConfig};
/// let mut frequency = cpu::FrequencyEstimator::new(FrequencyConfig::direct(1000, 0.01)?)?;
/// let mut log_q = [0.0; 4];
/// frequency.step(&[7, 7, 42, 999], &mut log_q)?; // counts the batch, then reads: feed it to Batch::log_q
/// assert_eq!(log_q[0], log_q[1]);
/// # Ok::<(), inbatch::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FrequencyEstimator {
    config: FrequencyConfig,
    step: u64,
    last_step: Vec<u64>,
    interval: Vec<f32>,
}

impl FrequencyEstimator {
    /// An estimator that has seen nothing. All its memory, 12 bytes a bucket, is allocated here.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(config: FrequencyConfig) -> Result<Self> {
        let cells = config.cells()?;
        let interval = filled(cells, config.start_interval)?;
        Ok(Self { config, step: 0, last_step: filled(cells, 0)?, interval })
    }

    /// [`FrequencyEstimator::update`], then [`FrequencyEstimator::log_q`] of the same ids.
    ///
    /// # Errors
    /// Those of the two; nothing has changed then.
    pub fn step<'a>(
        &mut self,
        ids: impl Into<View<'a, i64>>,
        log_q: impl Into<ViewMut<'a, f32>>,
    ) -> Result<()> {
        let (ids, log_q) = (ids.into(), log_q.into());
        check_length("log_q", Some(&log_q), ids.0.len(), PER_ID)?;
        self.update(ids)?;
        self.log_q(ids, log_q)
    }

    /// Counts the ids of one step's batch. A batch of any size is one step, an empty one too.
    ///
    /// # Errors
    /// [`Error::UnknownId`] for an id outside a direct table; nothing has changed then.
    pub fn update<'a>(&mut self, ids: impl Into<View<'a, i64>>) -> Result<()> {
        let ids = ids.into().0;
        self.check(ids)?;
        self.step = self.step.wrapping_add(1);
        for k in 0..self.config.hashes {
            for cell in ids.iter().filter_map(|id| self.config.cell(k, *id)) {
                let last = std::mem::replace(&mut self.last_step[cell], self.step);
                // A second sighting in one step is none.
                if last != self.step {
                    self.interval[cell] = self.config.updated(self.interval[cell], self.step - last);
                }
            }
        }
        Ok(())
    }

    /// Writes `log q` of ids, `[n]` both, without counting them: the log of the probability that a step's batch
    /// contains the id.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::UnknownId`]; nothing has been written then.
    pub fn log_q<'a>(&self, ids: impl Into<View<'a, i64>>, log_q: impl Into<ViewMut<'a, f32>>) -> Result<()> {
        let (ids, log_q) = (ids.into(), log_q.into());
        check_length("log_q", Some(&log_q), ids.0.len(), PER_ID)?;
        self.check(ids.0)?;
        for (log_q, id) in log_q.0.iter_mut().zip(ids.0) {
            let cells = (0..self.config.hashes).filter_map(|k| self.config.cell(k, *id));
            let interval = cells.map(|cell| self.interval[cell]).fold(0.0, f32::max);
            *log_q = self.config.log_q(interval);
        }
        Ok(())
    }

    fn check(&self, ids: &[i64]) -> Result<()> {
        check_ids(ids, |id| self.config.cell(0, id).is_some(), self.config.buckets)
    }

    /// The configuration.
    pub fn config(&self) -> &FrequencyConfig {
        &self.config
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Goes on at a later step, for instance because other workers made the steps in between. The next update is
    /// step `step + 1`.
    ///
    /// # Errors
    /// [`Error::StepBackwards`].
    pub fn set_steps(&mut self, step: u64) -> Result<()> {
        if step < self.step {
            return Err(Error::StepBackwards { given: step, current: self.step });
        }
        self.step = step;
        Ok(())
    }

    /// A copy of the whole state.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(&self.config, self.step, self.last_step.clone(), self.interval.clone())
    }

    /// Takes over a snapshot's state, of this or another backend.
    ///
    /// # Errors
    /// [`Error::Snapshot`]; nothing has changed then.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        snapshot.check(&self.config)?;
        self.last_step.copy_from_slice(&snapshot.last_step);
        self.interval.copy_from_slice(&snapshot.interval);
        self.step = snapshot.step;
        Ok(())
    }

    /// Saves a checkpoint; see [`Snapshot::save`].
    ///
    /// # Errors
    /// [`Error::CheckpointIo`], [`Error::Checkpoint`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.snapshot().save(path)
    }

    /// Restores this estimator from a checkpoint.
    ///
    /// # Errors
    /// Those of [`Snapshot::load`] and [`FrequencyEstimator::restore`]; nothing has changed then.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.restore(&Snapshot::load(path)?)
    }
}

/// Exact counts of ids in `0..size`, for catalogues that fit in memory; see [`crate::frequency`].
///
/// The log of the expected count in `n` draws, `log (n f / total)`. An id never counted reads as if counted once.
#[derive(Clone, Debug)]
pub struct FrequencyCounter {
    counts: Vec<u64>,
    total: u64,
}

impl FrequencyCounter {
    /// Nothing counted yet.
    ///
    /// # Errors
    /// [`Error::NoBuckets`], [`Error::OutOfMemory`].
    pub fn new(size: usize) -> Result<Self> {
        if size == 0 {
            return Err(Error::NoBuckets { buckets: 0, hashes: 1 });
        }
        Ok(Self { counts: filled(size, 0)?, total: 0 })
    }

    /// [`FrequencyCounter::update`], then [`FrequencyCounter::log_q`] of the same ids in as many draws.
    ///
    /// # Errors
    /// Those of the two; nothing has changed then.
    pub fn step<'a>(
        &mut self,
        ids: impl Into<View<'a, i64>>,
        log_q: impl Into<ViewMut<'a, f32>>,
    ) -> Result<()> {
        let (ids, log_q) = (ids.into(), log_q.into());
        check_length("log_q", Some(&log_q), ids.0.len(), PER_ID)?;
        self.update(ids)?;
        self.log_q(ids.0.len(), ids, log_q)
    }

    /// Counts ids, each as often as it occurs.
    ///
    /// # Errors
    /// [`Error::UnknownId`]; nothing has changed then.
    pub fn update<'a>(&mut self, ids: impl Into<View<'a, i64>>) -> Result<()> {
        let ids = ids.into().0;
        self.check(ids)?;
        for id in ids {
            let count = &mut self.counts[*id as usize];
            *count = count.wrapping_add(1);
        }
        self.total = self.total.wrapping_add(ids.len() as u64);
        Ok(())
    }

    /// Writes the log of the expected count of ids in `draws` draws, `[n]` both; with 1 draw, of their probability.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::UnknownId`]; nothing has been written then.
    pub fn log_q<'a>(
        &self,
        draws: usize,
        ids: impl Into<View<'a, i64>>,
        log_q: impl Into<ViewMut<'a, f32>>,
    ) -> Result<()> {
        let (ids, log_q) = (ids.into(), log_q.into());
        check_length("log_q", Some(&log_q), ids.0.len(), PER_ID)?;
        self.check(ids.0)?;
        for (log_q, id) in log_q.0.iter_mut().zip(ids.0) {
            *log_q = log_expected_count(draws as f64, self.counts[*id as usize], self.total);
        }
        Ok(())
    }

    fn check(&self, ids: &[i64]) -> Result<()> {
        let size = self.counts.len();
        check_ids(ids, |id| usize::try_from(id).is_ok_and(|id| id < size), size)
    }

    /// A copy of the whole state.
    pub fn snapshot(&self) -> CounterSnapshot {
        CounterSnapshot { counts: self.counts.clone() }
    }

    /// Takes over a snapshot's counts, of this or another backend, or those of the whole training set.
    ///
    /// # Errors
    /// [`Error::Snapshot`], [`Error::TooLarge`]; nothing has changed then.
    pub fn restore(&mut self, snapshot: &CounterSnapshot) -> Result<()> {
        self.total = snapshot.check(self.counts.len())?;
        self.counts.copy_from_slice(&snapshot.counts);
        Ok(())
    }
}

/// An error for the first id that is not known.
pub(super) fn check_ids(ids: &[i64], known: impl Fn(i64) -> bool, size: usize) -> Result<()> {
    match ids.iter().find(|id| !known(**id)) {
        Some(&id) => Err(Error::UnknownId { id, size }),
        None => Ok(()),
    }
}
