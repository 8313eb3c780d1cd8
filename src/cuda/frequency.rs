//! The frequency estimators in device memory, and the launchers of kernels/frequency.cu.

use std::path::Path;

use super::arguments::{self, frequency_state};
use super::buffer::Buffer;
use super::device::Device;
use super::launch::{Grid, Span, int, launch};
use super::module::File;
use super::view::{View, ViewMut};
use crate::frequency::{CounterSnapshot, FrequencyConfig, Snapshot};
use crate::problem::check_length;
use crate::{Error, Length, Result};

const WHAT: &str = "the frequency estimator";
const PER_ID: &str = "one for each id";

/// Streaming frequency estimation; see [`FrequencyConfig`].
///
/// A step is two launches and waits for nothing; its `log_q` goes from device memory into the loss. The step counter
/// lies in device memory too, so that a step can be captured in a CUDA graph and replayed. An id outside a direct table
/// cannot be an error before anybody waits: its `log_q` is NaN, which the loss shows, and
/// [`FrequencyEstimator::unknown_ids`] counts it.
#[derive(Debug)]
pub struct FrequencyEstimator {
    device: Device,
    config: FrequencyConfig,
    last_step: Buffer<u64>,
    interval: Buffer<f32>,
    state: Buffer<u64>,
}

impl FrequencyEstimator {
    /// An estimator that has seen nothing, on a device's stream. All its memory, 12 bytes a bucket, is allocated
    /// here.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`], [`Error::TooLarge`], [`Error::Ptx`].
    pub fn new(device: &Device, config: FrequencyConfig) -> Result<Self> {
        let cells = config.cells()?;
        let mut estimator = Self {
            device: device.clone(),
            config,
            last_step: Buffer::new(device, cells, WHAT)?,
            interval: Buffer::new(device, cells, WHAT)?,
            state: Buffer::new(device, frequency_state::WORDS, WHAT)?,
        };
        estimator.last_step.fill(0)?;
        estimator.interval.set_words(config.start_interval.to_bits())?;
        estimator.state.fill(0)?;
        device.modules().load(File::Frequency)?;
        Ok(estimator)
    }

    /// [`FrequencyEstimator::update`], then [`FrequencyEstimator::log_q`] of the same ids, in two launches.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Elsewhere`]; nothing has changed then.
    pub fn step<'a>(
        &mut self,
        ids: impl Into<View<'a, i64>>,
        log_q: impl Into<ViewMut<'a, f32>>,
    ) -> Result<()> {
        let (ids, mut log_q) = (ids.into(), log_q.into());
        check_length("log_q", Some(&log_q), ids.length(), PER_ID)?;
        self.count(&ids)?;
        self.read(&ids, Some(&mut log_q), true)
    }

    /// Counts the ids of one step's batch. A batch of any size is one step, an empty one too.
    ///
    /// # Errors
    /// [`Error::Elsewhere`], [`Error::TooLarge`].
    pub fn update<'a>(&mut self, ids: impl Into<View<'a, i64>>) -> Result<()> {
        let ids = ids.into();
        self.count(&ids)?;
        self.read(&ids, None, true)
    }

    /// Writes `log q` of ids, `[n]` both, without counting them: the log of the probability that a step's batch
    /// contains the id.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Elsewhere`].
    pub fn log_q<'a>(&self, ids: impl Into<View<'a, i64>>, log_q: impl Into<ViewMut<'a, f32>>) -> Result<()> {
        let (ids, mut log_q) = (ids.into(), log_q.into());
        check_length("log_q", Some(&log_q), ids.length(), PER_ID)?;
        self.read(&ids, Some(&mut log_q), false)
    }

    fn count(&self, ids: &View<'_, i64>) -> Result<()> {
        let bound = ids.bind(&self.device, "ids")?;
        let count = ids.length();
        if count == 0 {
            return Ok(());
        }
        let mut grid = Grid::threads(count);
        grid.blocks[1] = self.config.hashes;
        let arguments = self.arguments(Span::new(bound.pointer, count), Span::NULL, count, false)?;
        // SAFETY: every length that the kernel reads or writes has been checked; cells lie inside the tables.
        unsafe { launch(&self.device, File::Frequency, "frequency_update", grid, &arguments) }
    }

    fn read(&self, ids: &View<'_, i64>, log_q: Option<&mut ViewMut<'_, f32>>, advance: bool) -> Result<()> {
        let bound = ids.bind(&self.device, "ids")?;
        let log_q = log_q.map(|view| view.bind(&self.device, "log_q")).transpose()?;
        // Without a buffer to write there is nothing to read: one thread ends the step.
        let count = if log_q.is_some() { ids.length() } else { 0 };
        let target = log_q.as_ref().map_or(Span::NULL, |bound| Span::new(bound.pointer, count));
        if count == 0 && !advance {
            return Ok(());
        }
        let arguments = self.arguments(Span::new(bound.pointer, count), target, count, advance)?;
        // SAFETY: every length that the kernel reads or writes has been checked; cells lie inside the tables.
        unsafe {
            launch(&self.device, File::Frequency, "frequency_read", Grid::threads(count.max(1)), &arguments)
        }
    }

    fn arguments(
        &self,
        ids: Span<i64>,
        log_q: Span<f32>,
        count: usize,
        advance: bool,
    ) -> Result<arguments::Frequency> {
        let config = &self.config;
        let cells = config.cells()?;
        Ok(arguments::Frequency {
            ids: ids.holds(count, "ids")?,
            last_step: Span::from(&self.last_step).holds(cells, "the last steps")?,
            interval: Span::from(&self.interval).holds(cells, "the intervals")?,
            state: Span::from(&self.state).holds(frequency_state::WORDS, "the estimator's state")?,
            log_q: log_q.holds_or_null(count, "log_q")?,
            count: count as u64,
            buckets: config.buckets as u64,
            seed: config.seed,
            hashes: int(config.hashes),
            direct: i32::from(config.direct),
            learning_rate: config.learning_rate,
            kept: config.kept(),
            low: config.clip[0],
            high: config.clip[1],
            advance: i32::from(advance),
            padding: 0,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &FrequencyConfig {
        &self.config
    }

    /// Waits, then returns the number of steps made.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn steps(&self) -> Result<u64> {
        word(&self.state, frequency_state::STEP)
    }

    /// Waits, then returns how many ids so far had no bucket, counted in every step that they came in.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn unknown_ids(&self) -> Result<u64> {
        word(&self.state, frequency_state::UNKNOWN)
    }

    /// Waits, then goes on at a later step, for instance because other workers made the steps in between. The next
    /// update is step `step + 1`.
    ///
    /// # Errors
    /// [`Error::StepBackwards`], [`Error::Driver`].
    pub fn set_steps(&mut self, step: u64) -> Result<()> {
        let current = self.steps()?;
        if step < current {
            return Err(Error::StepBackwards { given: step, current });
        }
        self.state.write(&[step])
    }

    /// Waits, then returns a copy of the whole state in host memory.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        let cells = self.config.cells()?;
        let (last_step, interval) = (self.last_step.read(cells)?, self.interval.read(cells)?);
        Ok(Snapshot::new(&self.config, self.steps()?, last_step, interval))
    }

    /// Takes over a snapshot's state, of this or another backend, and waits for the copies.
    ///
    /// # Errors
    /// [`Error::Snapshot`]; nothing has changed then. [`Error::Driver`].
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        snapshot.check(&self.config)?;
        self.last_step.write(&snapshot.last_step)?;
        self.interval.write(&snapshot.interval)?;
        self.state.write(&[snapshot.step, 0])
    }

    /// Waits, then saves a checkpoint; see [`Snapshot::save`].
    ///
    /// # Errors
    /// [`Error::CheckpointIo`], [`Error::Checkpoint`], [`Error::Driver`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.snapshot()?.save(path)
    }

    /// Restores this estimator from a checkpoint.
    ///
    /// # Errors
    /// Those of [`Snapshot::load`] and [`FrequencyEstimator::restore`].
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.restore(&Snapshot::load(path)?)
    }
}

/// Exact counts of ids in `0..size`, for catalogues that fit in memory; see [`crate::frequency`].
///
/// The log of the expected count in `n` draws, `log (n f / total)`. An id never counted reads as if counted once; one
/// outside the catalogue reads as NaN and is counted by [`FrequencyCounter::unknown_ids`].
#[derive(Debug)]
pub struct FrequencyCounter {
    device: Device,
    counts: Buffer<u64>,
    state: Buffer<u64>,
}

impl FrequencyCounter {
    /// Nothing counted yet, on a device's stream.
    ///
    /// # Errors
    /// [`Error::NoBuckets`], [`Error::OutOfDeviceMemory`], [`Error::TooLarge`], [`Error::Ptx`].
    pub fn new(device: &Device, size: usize) -> Result<Self> {
        if size == 0 {
            return Err(Error::NoBuckets { buckets: 0, hashes: 1 });
        }
        let mut counter = Self {
            device: device.clone(),
            counts: Buffer::new(device, size, WHAT)?,
            state: Buffer::new(device, frequency_state::WORDS, WHAT)?,
        };
        counter.counts.fill(0)?;
        counter.state.fill(0)?;
        device.modules().load(File::Frequency)?;
        Ok(counter)
    }

    /// [`FrequencyCounter::update`], then [`FrequencyCounter::log_q`] of the same ids in as many draws.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Elsewhere`]; nothing has changed then.
    pub fn step<'a>(
        &mut self,
        ids: impl Into<View<'a, i64>>,
        log_q: impl Into<ViewMut<'a, f32>>,
    ) -> Result<()> {
        let (ids, mut log_q) = (ids.into(), log_q.into());
        check_length("log_q", Some(&log_q), ids.length(), PER_ID)?;
        self.launch("counter_update", ids.length(), &ids, None)?;
        self.launch("counter_read", ids.length(), &ids, Some(&mut log_q))
    }

    /// Counts ids, each as often as it occurs.
    ///
    /// # Errors
    /// [`Error::Elsewhere`], [`Error::TooLarge`].
    pub fn update<'a>(&mut self, ids: impl Into<View<'a, i64>>) -> Result<()> {
        self.launch("counter_update", 0, &ids.into(), None)
    }

    /// Writes the log of the expected count of ids in `draws` draws, `[n]` both; with 1 draw, of their probability.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Elsewhere`].
    pub fn log_q<'a>(
        &self,
        draws: usize,
        ids: impl Into<View<'a, i64>>,
        log_q: impl Into<ViewMut<'a, f32>>,
    ) -> Result<()> {
        let (ids, mut log_q) = (ids.into(), log_q.into());
        check_length("log_q", Some(&log_q), ids.length(), PER_ID)?;
        self.launch("counter_read", draws, &ids, Some(&mut log_q))
    }

    /// One of the two kernels; the update writes no `log_q`.
    fn launch(
        &self,
        kernel: &'static str,
        draws: usize,
        ids: &View<'_, i64>,
        log_q: Option<&mut ViewMut<'_, f32>>,
    ) -> Result<()> {
        let count = ids.length();
        let bound = ids.bind(&self.device, "ids")?;
        let log_q = log_q.map(|view| view.bind(&self.device, "log_q")).transpose()?;
        if count == 0 {
            return Ok(());
        }
        let arguments = arguments::Counter {
            ids: Span::<i64>::new(bound.pointer, count).holds(count, "ids")?,
            counts: self.counts.pointer(),
            state: Span::from(&self.state).holds(frequency_state::WORDS, "the counter's state")?,
            log_q: log_q.as_ref().map_or(0, |bound| bound.pointer),
            count: count as u64,
            size: self.counts.len() as u64,
            draws: draws as f64,
        };
        // SAFETY: the ids' length is `count`, which `check_length` has compared with that of `log_q`; the read gets
        // one, the update needs none. Ids are compared with the size before they are used.
        unsafe { launch(&self.device, File::Frequency, kernel, Grid::threads(count), &arguments) }
    }

    /// Waits, then returns how many ids so far were outside the catalogue.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn unknown_ids(&self) -> Result<u64> {
        word(&self.state, frequency_state::UNKNOWN)
    }

    /// Waits, then returns a copy of the whole state in host memory.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn snapshot(&self) -> Result<CounterSnapshot> {
        Ok(CounterSnapshot { counts: self.counts.read(self.counts.len())? })
    }

    /// Takes over a snapshot's counts, of this or another backend, or those of the whole training set, and waits for
    /// the copies.
    ///
    /// # Errors
    /// [`Error::Snapshot`], [`Error::TooLarge`]; nothing has changed then. [`Error::Driver`].
    pub fn restore(&mut self, snapshot: &CounterSnapshot) -> Result<()> {
        let total = snapshot.check(self.counts.len())?;
        self.counts.write(&snapshot.counts)?;
        let mut state = [0; frequency_state::WORDS];
        state[frequency_state::TOTAL] = total;
        self.state.write(&state)
    }
}

fn word(state: &Buffer<u64>, index: usize) -> Result<u64> {
    Ok(state.read(frequency_state::WORDS)?.get(index).copied().unwrap_or(0))
}
