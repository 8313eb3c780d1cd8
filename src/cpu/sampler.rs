//! Samplers in host memory, and the mixture of several of them.

use std::collections::HashSet;

use rayon::prelude::*;

use super::frequency::check_ids;
use super::{Cpu, View, ViewMut};
use crate::problem::check_length;
use crate::sampling::{DownSampling, Mixture, SamplerConfig, draw};
use crate::{Error, Result};

/// Draws ids; see [`crate::sampling`].
///
/// ```
/// use inbatch::{cpu, sampling::SamplerConfig};
/// let config = SamplerConfig::log_uniform(1000)?.without_replacement().seed(7);
/// let mut sampler = cpu::Sampler::new(config, 4)?;
/// let (mut ids, mut log_q) = ([0; 4], [0.0; 4]);
/// sampler.sample(&mut ids, &mut log_q)?; // log_q: logs of expected counts
/// assert!(ids.iter().all(|id| (0..1000).contains(id)));
/// # Ok::<(), inbatch::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplerConfig,
    num_sampled: usize,
    limit: u64,
    call: u64,
    tries: u64,
    seen: HashSet<i64>,
}

impl Sampler {
    /// A sampler of `num_sampled` ids a call.
    ///
    /// # Errors
    /// [`Error::NoSamples`] for 0; without replacement [`Error::TooManyUnique`] for more than have a probability,
    /// [`Error::TooManyDraws`] if rare ids would take forever.
    pub fn new(config: SamplerConfig, num_sampled: usize) -> Result<Self> {
        let limit = config.draw_limit(num_sampled)?;
        let mut seen = HashSet::new();
        if config.unique {
            let bytes = num_sampled as u128 * 16;
            seen.try_reserve(num_sampled).map_err(|_| Error::OutOfMemory { bytes })?;
        }
        Ok(Self { config, num_sampled, limit, call: 0, tries: num_sampled as u64, seen })
    }

    /// Draws: `[num_sampled]` ids and the logs of their expected counts.
    ///
    /// # Errors
    /// [`Error::Length`]; no draw has been made then.
    pub fn sample<'a>(
        &mut self,
        ids: impl Into<ViewMut<'a, i64>>,
        log_q: impl Into<ViewMut<'a, f32>>,
    ) -> Result<()> {
        let (ids, log_q) = (ids.into(), log_q.into());
        check_length("ids", Some(&ids), self.num_sampled, "the sampler's num_sampled")?;
        check_length("log_q", Some(&log_q), self.num_sampled, "the sampler's num_sampled")?;
        let mut complete = self.num_sampled;
        if self.config.unique {
            complete = self.draw_unique(ids.0);
        } else {
            let (config, call) = (&self.config, self.call);
            let draws = ids.0.par_iter_mut().enumerate().with_min_len(1024);
            draws.for_each(|(i, id)| *id = config.id(draw(config.seed, call, i as u64)));
        }
        self.call = self.call.wrapping_add(1);
        let (config, tries) = (&self.config, self.tries);
        let columns = log_q.0.par_iter_mut().zip(&*ids.0).with_min_len(1024);
        columns.for_each(|(log_q, id)| *log_q = config.log_expected_count(*id, tries));
        log_q.0[complete..].fill(f32::NAN);
        Ok(())
    }

    /// First appearances in the order of the draws. Returns how many there are: less than asked with odds of 2^-64.
    fn draw_unique(&mut self, ids: &mut [i64]) -> usize {
        self.seen.clear();
        let mut found = 0;
        for index in 0..self.limit {
            let id = self.config.id(draw(self.config.seed, self.call, index));
            if self.seen.insert(id) {
                ids[found] = id;
                found += 1;
                if found == ids.len() {
                    self.tries = index + 1;
                    return found;
                }
            }
        }
        self.tries = self.limit;
        let first = ids[0];
        ids[found..].fill(first);
        found
    }

    /// Writes the log of the expected count of any ids in the last sample, `[n]` both: for the true classes of a
    /// sampled softmax, or as a pool of [`mixed_log_q`]. -inf for an id that is never drawn.
    ///
    /// Before the first call, without replacement, it stands for `num_sampled` draws.
    ///
    /// # Errors
    /// [`Error::Length`]; [`Error::UnknownId`] for an id outside the range.
    pub fn log_q<'a>(&self, ids: impl Into<View<'a, i64>>, log_q: impl Into<ViewMut<'a, f32>>) -> Result<()> {
        let (ids, log_q) = (ids.into(), log_q.into());
        check_length("log_q", Some(&log_q), ids.0.len(), "one for each id")?;
        let range = self.config.range;
        let known = |id| u64::try_from(id).is_ok_and(|id| id < range);
        check_ids(ids.0, known, usize::try_from(range).unwrap_or(usize::MAX))?;
        for (log_q, id) in log_q.0.iter_mut().zip(ids.0) {
            *log_q = self.config.log_expected_count(*id, self.tries);
        }
        Ok(())
    }

    /// The distribution.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// Calls made: with the seed, the whole state of the generator.
    pub fn calls(&self) -> u64 {
        self.call
    }

    /// Goes on after `calls` calls, as a checkpoint says.
    pub fn set_calls(&mut self, calls: u64) {
        self.call = calls;
    }

    /// Draws that the last call made.
    pub fn tries(&self) -> u64 {
        self.tries
    }
}

/// `log Q*` of every column from all pools; see [`Pool`].
///
/// # Errors
/// [`Error::NoPools`], [`Error::TooLarge`], [`Error::Length`]; nothing has been written then.
pub fn mixed_log_q<'a>(pools: &[Pool<'_>], log_q: impl Into<ViewMut<'a, f32>>) -> Result<()> {
    let log_q = log_q.into();
    let mixture = Mixture::new(pools, log_q.0.len())?;
    for (column, log_q) in log_q.0.iter_mut().enumerate() {
        *log_q = mixture.log_q(pools.iter().map(|pool| pool.log_q.0[column]));
    }
    Ok(())
}

/// A source of columns in slices; see [`crate::sampling::Pool`].
pub type Pool<'a> = crate::sampling::Pool<'a, Cpu>;

/// Draws which positives are kept; see [`DownSampling`].
#[derive(Clone, Debug)]
pub struct DownSampler {
    config: DownSampling,
    call: u64,
}

impl DownSampler {
    /// No call made yet.
    pub fn new(config: DownSampling) -> Self {
        Self { config, call: 0 }
    }

    /// Row weights, `[n]` both: 1 for a positive that is kept, 0 for one that is not, given the log of its item's share
    /// of all positives (`FrequencyCounter` with 1 draw).
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn weights<'a>(
        &mut self,
        log_shares: impl Into<View<'a, f32>>,
        weights: impl Into<ViewMut<'a, f32>>,
    ) -> Result<()> {
        let (log_shares, weights) = (log_shares.into(), weights.into());
        check_length("weights", Some(&weights), log_shares.0.len(), "one for each share")?;
        for ((row, weight), log_share) in (0..).zip(weights.0.iter_mut()).zip(log_shares.0) {
            *weight = self.config.weight(self.call, row, *log_share);
        }
        self.call = self.call.wrapping_add(1);
        Ok(())
    }

    /// Calls made: with the seed, the whole state.
    pub fn calls(&self) -> u64 {
        self.call
    }

    /// Goes on after `calls` calls, as a checkpoint says.
    pub fn set_calls(&mut self, calls: u64) {
        self.call = calls;
    }
}
