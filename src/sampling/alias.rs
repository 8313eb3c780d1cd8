//! The alias method (Walker 1977, Vose 1991): any discrete law by one column and one coin.

use crate::{Error, Result};

/// Column k is id k with chance `threshold[k] / 2^64`, else id `alias[k]`.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) threshold: Vec<u64>,
    pub(crate) alias: Vec<u32>,
    pub(crate) probability: Vec<f64>,
}

impl Table {
    /// In proportion to `weights[k]^distortion`; weight 0 is probability 0.
    pub(crate) fn new(weights: &[f64], distortion: f64) -> Result<Self> {
        if !distortion.is_finite() {
            return Err(Error::Distortion(distortion));
        }
        let max = i32::MAX as usize;
        if weights.len() > max {
            let (size, max) = (weights.len() as u128, max as u128);
            return Err(Error::TooLarge { what: "the number of weights", size, max });
        }
        let mut powers = Vec::with_capacity(weights.len());
        for (index, &weight) in weights.iter().enumerate() {
            let power = if weight == 0.0 { 0.0 } else { weight.powf(distortion) };
            if !(weight >= 0.0 && weight.is_finite() && power.is_finite()) {
                return Err(Error::Weight { index, weight });
            }
            powers.push(power);
        }
        // Divided by the largest first: the sum of large powers may be infinite.
        let largest = powers.iter().copied().fold(0.0, f64::max);
        if largest == 0.0 {
            return Err(Error::NoWeight { distortion });
        }
        let sum: f64 = powers.iter().map(|power| power / largest).sum();
        let probability: Vec<f64> = powers.iter().map(|power| power / largest / sum).collect();
        let (threshold, alias) = split(&probability);
        Ok(Self { threshold, alias, probability })
    }

    pub(crate) fn len(&self) -> u64 {
        self.alias.len() as u64
    }

    /// The id of a column and a coin.
    pub(crate) fn pick(&self, column: usize, coin: u64) -> u64 {
        if coin < self.threshold[column] { column as u64 } else { u64::from(self.alias[column]) }
    }
}

/// Fills each column up to 1 / n with the surplus of another one.
fn split(probability: &[f64]) -> (Vec<u64>, Vec<u32>) {
    let count = probability.len();
    let mut left: Vec<f64> = probability.iter().map(|p| p * count as f64).collect();
    let (mut small, mut large): (Vec<u32>, Vec<u32>) =
        (0..count as u32).partition(|k| left[*k as usize] < 1.0);
    let mut threshold = vec![u64::MAX; count];
    let mut alias: Vec<u32> = (0..count as u32).collect();
    while let (Some(&short), Some(&long)) = (small.last(), large.last()) {
        small.pop();
        let share = left[short as usize];
        threshold[short as usize] = (share * 18_446_744_073_709_551_616.0) as u64;
        alias[short as usize] = long;
        left[long as usize] -= 1.0 - share;
        if left[long as usize] < 1.0 {
            large.pop();
            small.push(long);
        }
    }
    // What rounding has left over is full, but an id of weight 0 must not come up.
    let heaviest = (0..count).max_by(|a, b| probability[*a].total_cmp(&probability[*b])).unwrap_or(0);
    for k in small.into_iter().map(|k| k as usize).filter(|k| probability[*k] == 0.0) {
        threshold[k] = 0;
        alias[k] = heaviest as u32;
    }
    (threshold, alias)
}
