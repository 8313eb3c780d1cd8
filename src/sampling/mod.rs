//! Samplers of negatives, and what their numbers mean for the correction.
//!
//! A sampler draws ids on the device that the loss runs on, and writes beside each **the log of its expected
//! count** in the sample, TensorFlow's quantity: `log (n p)` with replacement, `log -expm1(tries log1p(-p))` without (TensorFlow takes `n p` for a sample without
//! replacement that happened to need no further try; this crate does not). Draw
//! `i` of call `c` is a function of `(seed, c, i)` (Philox), so that both backends draw the same ids, in the same
//! bits, and a replayed CUDA graph draws new ones.

mod alias;
mod keep;
mod mixed;
mod philox;

use std::sync::Arc;

pub(crate) use alias::Table;
pub use keep::DownSampling;
pub(crate) use mixed::Mixture;
pub use mixed::Pool;
pub(crate) use philox::draw;

use crate::{Error, Result, portable};

/// Ids that a sampler can range over.
const MAX_RANGE: u64 = 1 << 40;

/// Draws that a sample without replacement may be expected to need.
const MAX_DRAWS: u64 = 1 << 25;

/// What is drawn from: ids `0..range` with their probabilities.
#[derive(Clone, Debug)]
pub(crate) enum Law {
    Uniform,
    LogUniform { log_range: f64 },
    Unigram { table: Arc<Table>, reserved: u64 },
}

/// A distribution over ids `0..range`, with or without replacement.
#[derive(Clone, Debug)]
pub struct SamplerConfig {
    pub(crate) law: Law,
    pub(crate) range: u64,
    pub(crate) unique: bool,
    pub(crate) seed: u64,
}

impl SamplerConfig {
    /// Every id alike: `p = 1 / range`.
    ///
    /// # Errors
    /// [`Error::SamplingRange`] unless `range` is in `1..=2^40`.
    pub fn uniform(range: u64) -> Result<Self> {
        Self::new(Law::Uniform, range)
    }

    /// Zipf's law, roughly: `p_k = log((k + 2) / (k + 1)) / log(range + 1)`. **Ids must be sorted by falling
    /// frequency**: id 0 is taken for the most popular one, whether it is or not.
    ///
    /// # Errors
    /// As [`SamplerConfig::uniform`].
    pub fn log_uniform(range: u64) -> Result<Self> {
        Self::new(Law::LogUniform { log_range: portable::ln((range as f64) + 1.0) }, range)
    }

    /// In proportion to `weights[k]^distortion`, for ids `reserved + k`: counts and 0.75 are word2vec's, 0 is uniform
    /// over ids of positive weight, 1 the unigram law itself. Ids below `reserved` (padding, unknown) have `p = 0`, and so
    /// have ids of weight 0 whatever the distortion. An alias table: a draw costs two reads.
    ///
    /// # Errors
    /// [`Error::Weight`] for a weight that is negative or not finite, or whose power is not finite;
    /// [`Error::Distortion`] if that is not finite; [`Error::NoWeight`] if nothing is left; [`Error::SamplingRange`].
    pub fn unigram(weights: &[f64], distortion: f64, reserved: u64) -> Result<Self> {
        let table = Arc::new(Table::new(weights, distortion)?);
        Self::new(Law::Unigram { table, reserved }, reserved.saturating_add(weights.len() as u64))
    }

    fn new(law: Law, range: u64) -> Result<Self> {
        if range == 0 || range > MAX_RANGE {
            return Err(Error::SamplingRange { range, max: MAX_RANGE });
        }
        Ok(Self { law, range, unique: false, seed: 0 })
    }

    /// Draws until there are as many different ids as asked, and keeps each once, in the order of their first
    /// appearance.
    pub fn without_replacement(mut self) -> Self {
        self.unique = true;
        self
    }

    /// Other random numbers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// One more than the largest id.
    pub fn range(&self) -> u64 {
        self.range
    }

    /// The probability of an id in one draw; 0 outside the range.
    pub fn probability(&self, id: i64) -> f64 {
        let Some(k) = u64::try_from(id).ok().filter(|&k| k < self.range) else { return 0.0 };
        match &self.law {
            Law::Uniform => 1.0 / self.range as f64,
            Law::LogUniform { log_range } => portable::ln_1p(1.0 / (k as f64 + 1.0)) / log_range,
            Law::Unigram { table, reserved } => {
                let known = k.checked_sub(*reserved).and_then(|k| table.probability.get(k as usize));
                known.copied().unwrap_or(0.0)
            }
        }
    }

    /// The id that two random numbers stand for.
    pub(crate) fn id(&self, [first, second]: [u64; 2]) -> i64 {
        let below = |n: u64| ((u128::from(first) * u128::from(n)) >> 64) as u64;
        let id = match &self.law {
            Law::Uniform => below(self.range),
            Law::LogUniform { log_range } => {
                let unit = (first >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
                let value = portable::exp(unit * log_range) as u64;
                value.clamp(1, self.range) - 1
            }
            Law::Unigram { table, reserved } => reserved + table.pick(below(table.len()) as usize, second),
        };
        id as i64
    }

    /// The log of the expected count of an id in a sample of `n` ids that took `tries` draws.
    pub(crate) fn log_expected_count(&self, id: i64, tries: u64) -> f32 {
        let p = self.probability(id);
        let tries = tries as f64;
        let count = if self.unique { -portable::exp_m1(tries * portable::ln_1p(-p)) } else { tries * p };
        portable::ln(count) as f32
    }

    /// Whether `num_sampled` ids can be drawn, and after how many draws to give up: 0 with replacement.
    ///
    /// # Errors
    /// [`Error::NoSamples`], [`Error::TooLarge`], [`Error::TooManyUnique`], [`Error::TooManyDraws`].
    pub(crate) fn draw_limit(&self, num_sampled: usize) -> Result<u64> {
        let max = i32::MAX as usize;
        if num_sampled == 0 {
            return Err(Error::NoSamples);
        }
        if num_sampled > max {
            let (size, max) = (num_sampled as u128, max as u128);
            return Err(Error::TooLarge { what: "the number of samples", size, max });
        }
        if !self.unique {
            return Ok(0);
        }
        let available = match &self.law {
            Law::Unigram { table, .. } => table.probability.iter().filter(|p| **p > 0.0).count() as u64,
            _ => self.range,
        };
        if num_sampled as u64 > available {
            return Err(Error::TooManyUnique { num_sampled, available });
        }
        // With half an id missing on average, 64 times as many draws leave one missing with odds of 2^-64.
        let mut draws = num_sampled as u64;
        while self.expected_unique(draws as f64) < num_sampled as f64 - 0.5 {
            draws *= 2;
            if draws > MAX_DRAWS {
                return Err(Error::TooManyDraws { num_sampled, max: MAX_DRAWS });
            }
        }
        Ok(64 * draws)
    }

    /// At least about how many different ids `draws` draws bring.
    fn expected_unique(&self, draws: f64) -> f64 {
        let seen = |p: f64| -portable::exp_m1(draws * portable::ln_1p(-p));
        match &self.law {
            Law::Uniform => self.range as f64 * seen(1.0 / self.range as f64),
            Law::Unigram { table, .. } => table.probability.iter().map(|p| seen(*p)).sum(),
            Law::LogUniform { .. } => {
                // Neighbours by the block, 64 to an octave, each with the probability of the block's last id.
                let (mut first, mut sum) = (0u64, 0.0);
                while first < self.range {
                    let block = (first / 64).max(1).min(self.range - first);
                    sum += block as f64 * seen(self.probability((first + block - 1) as i64));
                    first += block;
                }
                sum
            }
        }
    }
}
