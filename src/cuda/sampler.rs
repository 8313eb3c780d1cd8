//! Samplers in device memory, the mixture of several, and the launchers of kernels/sampling.cu.

use super::arguments::{self, sampler_state};
use super::buffer::Buffer;
use super::device::Device;
use super::launch::{BLOCK, Grid, Span, launch};
use super::module::File;
use super::view::{View, ViewMut};
use super::{Cuda, inputs::Guards};
use crate::problem::check_length;
use crate::sampling::{DownSampling, Law, Mixture, SamplerConfig};
use crate::{Length, Result};

const WHAT: &str = "the sampler";

/// Draws ids on the device; see [`crate::sampling`]. The same ids, in the same bits, as [`crate::cpu::Sampler`].
///
/// With replacement a sample is two launches, without one, by a single block. The number of the call lies in device memory,
/// so that a sample can be captured in a CUDA graph: each replay draws new ids.
#[derive(Debug)]
pub struct Sampler {
    device: Device,
    config: SamplerConfig,
    num_sampled: usize,
    limit: u64,
    threshold: Buffer<u64>,
    alias: Buffer<u32>,
    probability: Buffer<f64>,
    keys: Buffer<i64>,
    first: Buffer<u32>,
    state: Buffer<u64>,
}

impl Sampler {
    /// A sampler of `num_sampled` ids a call, on a device's stream. All its memory is allocated here: 20 bytes an id for a
    /// unigram law, some 50 a sampled id without replacement. Waits for the copies.
    ///
    /// # Errors
    /// Those of [`crate::cpu::Sampler::new`], [`crate::Error::OutOfDeviceMemory`], [`crate::Error::Ptx`].
    pub fn new(device: &Device, config: SamplerConfig, num_sampled: usize) -> Result<Self> {
        let limit = config.draw_limit(num_sampled)?;
        // Ids met are at most those kept and a block's more; twice as many slots keep probing short.
        let met = if config.unique { num_sampled + BLOCK as usize } else { 0 };
        let slots = if met > 0 { (2 * met).next_power_of_two() } else { 0 };
        let table = match &config.law {
            Law::Unigram { table, .. } => Some(table.clone()),
            Law::Uniform | Law::LogUniform { .. } => None,
        };
        let ids = table.as_ref().map_or(0, |table| table.alias.len());
        let mut sampler = Self {
            device: device.clone(),
            config,
            num_sampled,
            limit,
            threshold: Buffer::new(device, ids, WHAT)?,
            alias: Buffer::new(device, ids, WHAT)?,
            probability: Buffer::new(device, ids, WHAT)?,
            keys: Buffer::new(device, slots, WHAT)?,
            first: Buffer::new(device, slots, WHAT)?,
            state: Buffer::new(device, sampler_state::WORDS, WHAT)?,
        };
        if let Some(table) = table {
            sampler.threshold.write(&table.threshold)?;
            sampler.alias.write(&table.alias)?;
            sampler.probability.write(&table.probability)?;
        }
        sampler.state.write(&[0, num_sampled as u64])?;
        device.modules().load(File::Sampling)?;
        Ok(sampler)
    }

    /// Enqueues a sample: `[num_sampled]` ids and the logs of their expected counts.
    ///
    /// # Errors
    /// [`crate::Error::Length`], [`crate::Error::Elsewhere`]; nothing has been enqueued then.
    pub fn sample<'a>(
        &mut self,
        ids: impl Into<ViewMut<'a, i64>>,
        log_q: impl Into<ViewMut<'a, f32>>,
    ) -> Result<()> {
        let (mut ids, mut log_q) = (ids.into(), log_q.into());
        check_length("ids", Some(&ids), self.num_sampled, "the sampler's num_sampled")?;
        check_length("log_q", Some(&log_q), self.num_sampled, "the sampler's num_sampled")?;
        let ids = ids.bind(&self.device, "ids")?;
        let log_q = log_q.bind(&self.device, "log_q")?;
        let (count, one) = (self.num_sampled, Grid { blocks: [1, 1, 1], threads: 1, shared: 0 });
        let arguments =
            self.arguments(Span::new(ids.pointer, count), Span::new(log_q.pointer, count), count)?;
        let device = &self.device;
        if self.config.unique {
            let grid = Grid::one_block();
            // SAFETY: every length that the kernel reads or writes is checked in `arguments`; the hash table has room
            // for every id that it may meet.
            return unsafe { launch(device, File::Sampling, "sample_unique_ids", grid, &arguments) };
        }
        // SAFETY: every length that the kernel reads or writes is checked in `arguments`.
        unsafe { launch(device, File::Sampling, "sample_ids", Grid::threads(count), &arguments)? };
        // SAFETY: the kernel touches nothing but the state, whose length is checked in `arguments`.
        unsafe { launch(device, File::Sampling, "sampler_advance", one, &arguments) }
    }

    /// Enqueues the log of the expected count of any ids in the last sample, `[n]` both: for the true classes of a
    /// sampled softmax, or as a pool of [`mixed_log_q`]. -inf for an id that is never drawn, NaN for one outside the
    /// range.
    ///
    /// Before the first call, without replacement, it stands for `num_sampled` draws.
    ///
    /// # Errors
    /// [`crate::Error::Length`], [`crate::Error::Elsewhere`].
    pub fn log_q<'a>(&self, ids: impl Into<View<'a, i64>>, log_q: impl Into<ViewMut<'a, f32>>) -> Result<()> {
        let (ids, mut log_q) = (ids.into(), log_q.into());
        let count = ids.length();
        check_length("log_q", Some(&log_q), count, "one for each id")?;
        let ids = ids.bind(&self.device, "ids")?;
        let log_q = log_q.bind(&self.device, "log_q")?;
        if count == 0 {
            return Ok(());
        }
        let arguments =
            self.arguments(Span::new(ids.pointer, count), Span::new(log_q.pointer, count), count)?;
        // SAFETY: every length that the kernel reads or writes is checked in `arguments`; ids are compared with the
        // range before they are used.
        unsafe { launch(&self.device, File::Sampling, "sampler_log_q", Grid::threads(count), &arguments) }
    }

    fn arguments(&self, ids: Span<i64>, log_q: Span<f32>, count: usize) -> Result<arguments::Sample> {
        let config = &self.config;
        let (law, log_range, reserved) = match config.law {
            Law::Uniform => (0, 0.0, 0),
            Law::LogUniform { log_range } => (1, log_range, 0),
            Law::Unigram { reserved, .. } => (2, 0.0, reserved),
        };
        let columns = if law == 2 { (config.range - reserved) as usize } else { 0 };
        Ok(arguments::Sample {
            threshold: Span::from(&self.threshold).holds(columns, "the alias table")?,
            alias: Span::from(&self.alias).holds(columns, "the alias table")?,
            probability: Span::from(&self.probability).holds(columns, "the probabilities")?,
            state: Span::from(&self.state).holds(sampler_state::WORDS, "the sampler's state")?,
            ids: ids.holds(count, "ids")?,
            log_q: log_q.holds(count, "log_q")?,
            keys: self.keys.pointer(),
            first: Span::from(&self.first).holds(self.keys.len(), "the hash table")?,
            count: count as u64,
            slots: self.keys.len() as u64,
            range: config.range,
            reserved,
            seed: config.seed,
            limit: self.limit,
            log_range,
            law,
            unique: i32::from(config.unique),
        })
    }

    /// The distribution.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// Waits, then returns the number of calls made: with the seed, the whole state of the generator.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    pub fn calls(&self) -> Result<u64> {
        self.word(sampler_state::CALL)
    }

    /// Waits, then returns the number of draws that the last call made.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    pub fn tries(&self) -> Result<u64> {
        self.word(sampler_state::TRIES)
    }

    /// Waits, and goes on after `calls` calls, as a checkpoint says.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    pub fn set_calls(&mut self, calls: u64) -> Result<()> {
        self.state.write(&[calls])
    }

    fn word(&self, index: usize) -> Result<u64> {
        Ok(self.state.read(sampler_state::WORDS)?.get(index).copied().unwrap_or(0))
    }
}

/// A source of columns in device memory; see [`crate::sampling::Pool`].
pub type Pool<'a> = crate::sampling::Pool<'a, Cuda>;

/// Enqueues `log Q*` of every column from all pools, one launch; see [`Pool`].
///
/// # Errors
/// [`crate::Error::NoPools`], [`crate::Error::TooLarge`], [`crate::Error::Length`], [`crate::Error::Elsewhere`]; nothing
/// has been enqueued then.
pub fn mixed_log_q<'a>(
    device: &Device,
    pools: &[Pool<'_>],
    log_q: impl Into<ViewMut<'a, f32>>,
) -> Result<()> {
    let mut log_q = log_q.into();
    let count = log_q.length();
    let mixture = Mixture::new(pools, count)?;
    let mut arguments = arguments::MixedLogQ {
        log_q: [0; Mixture::MAX_POOLS],
        log_scale: [f64::NEG_INFINITY; Mixture::MAX_POOLS],
        log_total: mixture.log_total,
        mixed: 0,
        count: count as u64,
        pools: 0,
        padding: 0,
    };
    let mut guards = Guards::new();
    for (k, (pool, log_scale)) in pools.iter().zip(&mixture.log_scales).enumerate() {
        let bound = pool.log_q.bind(device, "a pool's log_q")?;
        arguments.log_q[k] = bound.pointer;
        arguments.log_scale[k] = *log_scale;
        arguments.pools += 1;
        guards.push(bound);
    }
    let target = log_q.bind(device, "log_q")?;
    arguments.mixed = target.pointer;
    if count == 0 {
        return Ok(());
    }
    // SAFETY: every pool has `count` elements, as `Mixture::new` has checked, and so has the result.
    unsafe { launch(device, File::Sampling, "mixed_log_q", Grid::threads(count), &arguments) }
}

/// Draws on the device which positives are kept; see [`DownSampling`]. The same weights as [`crate::cpu::DownSampler`];
/// each replay of a captured graph draws anew.
#[derive(Debug)]
pub struct DownSampler {
    device: Device,
    config: DownSampling,
    state: Buffer<u64>,
}

impl DownSampler {
    /// No call made yet.
    ///
    /// # Errors
    /// [`crate::Error::OutOfDeviceMemory`], [`crate::Error::Ptx`].
    pub fn new(device: &Device, config: DownSampling) -> Result<Self> {
        let mut state = Buffer::new(device, sampler_state::WORDS, WHAT)?;
        state.fill(0)?;
        device.modules().load(File::Sampling)?;
        Ok(Self { device: device.clone(), config, state })
    }

    /// Enqueues row weights, `[n]` both: 1 for a positive that is kept, 0 for one that is not, given the log of its
    /// item's share of all positives (`FrequencyCounter` with 1 draw).
    ///
    /// # Errors
    /// [`crate::Error::Length`], [`crate::Error::Elsewhere`].
    pub fn weights<'a>(
        &mut self,
        log_shares: impl Into<View<'a, f32>>,
        weights: impl Into<ViewMut<'a, f32>>,
    ) -> Result<()> {
        let (log_shares, mut weights) = (log_shares.into(), weights.into());
        let count = log_shares.length();
        check_length("weights", Some(&weights), count, "one for each share")?;
        let source = log_shares.bind(&self.device, "log_shares")?;
        let target = weights.bind(&self.device, "weights")?;
        let (log_threshold, seed) = self.config.parameters();
        let arguments = arguments::Keep {
            log_shares: source.pointer,
            weights: target.pointer,
            state: Span::from(&self.state).holds(sampler_state::WORDS, "the state")?,
            count: count as u64,
            seed,
            log_threshold,
        };
        let (device, one) = (&self.device, Grid { blocks: [1, 1, 1], threads: 1, shared: 0 });
        if count > 0 {
            // SAFETY: both buffers have `count` elements, as `check_length` has seen.
            unsafe { launch(device, File::Sampling, "keep_positives", Grid::threads(count), &arguments)? };
        }
        // SAFETY: the kernel touches nothing but the state, whose length is checked above.
        unsafe { launch(device, File::Sampling, "keep_advance", one, &arguments) }
    }

    /// Waits, then returns the number of calls made: with the seed, the whole state.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    pub fn calls(&self) -> Result<u64> {
        Ok(self.state.read(sampler_state::WORDS)?.get(sampler_state::CALL).copied().unwrap_or(0))
    }

    /// Waits, and goes on after `calls` calls, as a checkpoint says.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    pub fn set_calls(&mut self, calls: u64) -> Result<()> {
        self.state.write(&[calls])
    }
}
