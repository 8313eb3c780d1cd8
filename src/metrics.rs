//! What sweep 1 counts by the way: how the positive ranks among its row's negatives.

use crate::Objective;
use crate::objective::sampled_softmax_at;

/// Counts of one call under [`LossConfig::metrics`](crate::LossConfig::metrics), one of each for every row, whatever its
/// weight. They see the negatives that the loss saw: in-batch metrics, not those of a catalogue.
///
/// Ranks compare corrected logits, as the loss does, and count only negatives strictly above the positive: a tie is the
/// positive's. A NaN on either side counts against the positive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// `[B]` negatives with `z_ij > z_i+`: 0 for a positive on top.
    pub ranks: Vec<u32>,
    /// `[B]` negatives left after exclusion, those at -inf left out; at most as many as
    /// [`LossConfig::hard_negatives`](crate::LossConfig::hard_negatives) keeps.
    pub negatives: Vec<u32>,
    /// `[B]` columns, and negatives of the row's own, excluded by item id or user id.
    pub excluded: Vec<u32>,
    /// `[B]` `P+ = e^{z+} / (e^{z+} + sum_j e^{z_ij})`; under the sigmoid link `sigmoid(z+)`.
    pub positive_probabilities: Vec<f32>,
}

impl Metrics {
    /// The share of rows whose positive is among the `k` highest logits.
    pub fn recall_at(&self, k: usize) -> f64 {
        self.mean_over_ranks(|rank| if rank < k as f64 { 1.0 } else { 0.0 })
    }

    /// Mean reciprocal rank, `1 / (1 + rank)`.
    pub fn mean_reciprocal_rank(&self) -> f64 {
        self.mean_over_ranks(|rank| 1.0 / (1.0 + rank))
    }

    /// Normalised discounted cumulative gain at `k` with one relevant item: `1 / log2(2 + rank)` below `k`, else 0.
    pub fn ndcg_at(&self, k: usize) -> f64 {
        self.mean_over_ranks(|rank| if rank < k as f64 { 1.0 / (2.0 + rank).log2() } else { 0.0 })
    }

    /// Mean of [`Metrics::positive_probabilities`].
    pub fn mean_positive_probability(&self) -> f64 {
        mean(self.positive_probabilities.iter().map(|p| f64::from(*p)))
    }

    /// Pairs excluded in the whole batch.
    pub fn excluded_pairs(&self) -> u64 {
        self.excluded.iter().map(|n| u64::from(*n)).sum()
    }

    fn mean_over_ranks(&self, gain: impl Fn(f64) -> f64) -> f64 {
        mean(self.ranks.iter().map(|rank| gain(f64::from(*rank))))
    }
}

/// The probability of each row's positive, from its logit and what the sweep left.
pub(crate) fn positive_probabilities(objective: Objective, z_positive: &[f32], lse: &[f32]) -> Vec<f32> {
    let sigmoid_link = matches!(objective, Objective::Sigmoid { .. });
    let probability =
        |(z, lse): (&f32, &f32)| sampled_softmax_at(if sigmoid_link { *z } else { z - lse }).negative;
    z_positive.iter().zip(lse).map(probability).collect()
}

/// 0 for no values.
fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1);
    values.sum::<f64>() / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let metrics = Metrics {
            ranks: vec![0, 1, 3, 9],
            negatives: vec![10; 4],
            excluded: vec![0, 2, 0, 1],
            positive_probabilities: vec![0.5, 0.25, 0.25, 0.0],
        };
        assert_eq!(metrics.recall_at(0), 0.0);
        assert_eq!([1, 2, 4, 10].map(|k| metrics.recall_at(k)), [0.25, 0.5, 0.75, 1.0]);
        assert_eq!(metrics.mean_reciprocal_rank(), (1.0 + 0.5 + 0.25 + 0.1) / 4.0);
        let gains = [1.0, 1.0 / 3f64.log2(), 1.0 / 5f64.log2()];
        assert!((metrics.ndcg_at(5) - gains.iter().sum::<f64>() / 4.0).abs() < 1e-15);
        assert_eq!((metrics.mean_positive_probability(), metrics.excluded_pairs()), (0.25, 3));
        assert_eq!(Metrics::default().recall_at(1), 0.0);
    }
}
