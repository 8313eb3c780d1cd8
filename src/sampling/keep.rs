//! Down-sampling of popular positives.

use crate::sampling::draw;
use crate::{Error, Result, portable};

/// word2vec's down-sampling: a positive is kept with probability
///
/// ```text
/// keep(f) = min(1, (sqrt(f / t) + 1) t / f)        f: the item's share of all positives, t: the threshold
/// ```
///
/// so that popular items do not crowd out the others. (This is the program's formula; the paper, Mikolov et al. 2013, prints
/// `sqrt(t / f)`.) A `DownSampler` turns shares into row weights of 1 and 0; a row of weight 0 is out of every sum exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DownSampling {
    log_threshold: f64,
    seed: u64,
}

impl DownSampling {
    /// Thresholds of 1e-5 to 1e-3 are usual.
    ///
    /// # Errors
    /// [`Error::Threshold`] unless finite and above 0.
    pub fn new(threshold: f64) -> Result<Self> {
        if !(threshold > 0.0 && threshold.is_finite()) {
            return Err(Error::Threshold(threshold));
        }
        Ok(Self { log_threshold: portable::ln(threshold), seed: 0 })
    }

    /// Other random numbers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The probability of keeping a positive whose item has the log share `log_f`.
    pub fn keep_probability(&self, log_share: f64) -> f64 {
        // (sqrt(f / t) + 1) t / f = sqrt(t / f) + t / f.
        let ratio = portable::exp(self.log_threshold - log_share);
        let keep = ratio.sqrt() + ratio;
        if keep > 1.0 { 1.0 } else { keep }
    }

    /// The weight of row `row` in call `call`; NaN for a NaN, so that the loss shows it. Mirrored by
    /// kernels/sampling.cu.
    pub(crate) fn weight(&self, call: u64, row: u64, log_share: f32) -> f32 {
        let keep = self.keep_probability(f64::from(log_share));
        if keep.is_nan() {
            return f32::NAN;
        }
        let [random, _] = draw(self.seed, call, row);
        let unit = (random >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
        if unit < keep { 1.0 } else { 0.0 }
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn parameters(&self) -> (f64, u64) {
        (self.log_threshold, self.seed)
    }
}
