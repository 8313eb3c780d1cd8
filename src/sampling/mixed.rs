//! The sampling probability of an item that could have come from any of several pools.

use crate::problem::check_length;
use crate::{Backend, Error, Result, portable};

/// One source of the loss's columns, and how likely it is to bring each item: `log_q` has one element for **every**
/// column of the loss, wherever the column itself came from.
///
/// Mixed negative sampling (Yang et al. 2020) has two: the batch, which follows the training data (`FrequencyCounter` with 1
/// draw), and a uniform sample of the catalogue (`Sampler::log_q`). A popular item of the batch could have been drawn
/// uniformly too, and a uniformly drawn one could have been in the batch, so that each column's
///
/// ```text
/// Q*(j) = sum_k n_k q_k(j) / sum_k n_k
/// ```
///
/// sums over all pools: a probability per draw of the mixture. `-inf` (an item that a pool never brings) is legal as long as
/// some pool brings it.
pub struct Pool<'a, B: Backend> {
    draws: usize,
    /// What `log_q` lacks to be the log of an expected count.
    log_scale: f64,
    pub(crate) log_q: B::View<'a, f32>,
}

impl<'a, B: Backend> Pool<'a, B> {
    /// `draws` columns came from here; `log_q` is the log probability of each column's item in one draw.
    pub fn probabilities(draws: usize, log_q: impl Into<B::View<'a, f32>>) -> Self {
        Self { draws, log_scale: portable::ln(draws as f64), log_q: log_q.into() }
    }

    /// `draws` columns came from here; `log_q` is the log expected count of each column's item among them, as samplers
    /// return it.
    pub fn expected_counts(draws: usize, log_q: impl Into<B::View<'a, f32>>) -> Self {
        Self { draws, log_scale: 0.0, log_q: log_q.into() }
    }
}

/// The numbers of a mixture that do not depend on the column.
pub(crate) struct Mixture {
    /// `log n_k`, or 0 for expected counts; -inf for a pool of no columns.
    pub(crate) log_scales: Vec<f64>,
    /// `log sum_k n_k`.
    pub(crate) log_total: f64,
}

impl Mixture {
    /// Pools that one mixture can have.
    pub(crate) const MAX_POOLS: usize = 8;

    /// Checks the pools against the number of columns.
    ///
    /// # Errors
    /// [`Error::NoPools`] unless some pool has columns; [`Error::TooLarge`], [`Error::Length`].
    pub(crate) fn new<B: Backend>(pools: &[Pool<'_, B>], columns: usize) -> Result<Self> {
        if pools.len() > Self::MAX_POOLS {
            let (size, max) = (pools.len() as u128, Self::MAX_POOLS as u128);
            return Err(Error::TooLarge { what: "the number of pools", size, max });
        }
        let total: f64 = pools.iter().map(|pool| pool.draws as f64).sum();
        if total == 0.0 {
            return Err(Error::NoPools);
        }
        for pool in pools {
            check_length("a pool's log_q", Some(&pool.log_q), columns, "one for each column")?;
        }
        let scale = |pool: &Pool<'_, B>| if pool.draws == 0 { f64::NEG_INFINITY } else { pool.log_scale };
        Ok(Self { log_scales: pools.iter().map(scale).collect(), log_total: portable::ln(total) })
    }

    /// `log Q*` of a column whose pools say `log_q`. Mirrored by kernels/sampling.cu.
    pub(crate) fn log_q(&self, log_q: impl Iterator<Item = f32> + Clone) -> f32 {
        let terms =
            || self.log_scales.iter().zip(log_q.clone()).filter(|(scale, _)| **scale != f64::NEG_INFINITY);
        let mut largest = f64::NEG_INFINITY;
        for (scale, log_q) in terms() {
            if log_q.is_nan() {
                return f32::NAN;
            }
            largest = largest.max(scale + f64::from(log_q));
        }
        if largest.is_infinite() {
            return largest as f32;
        }
        let mut sum = 0.0;
        for (scale, log_q) in terms() {
            sum += portable::exp(scale + f64::from(log_q) - largest);
        }
        (largest + portable::ln(sum) - self.log_total) as f32
    }
}
