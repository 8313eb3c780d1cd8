//! Which pairs and negatives make up a batch, and with which probability an item gets there.

use anyhow::Result;
use inbatch::cpu::FrequencyEstimator;
use inbatch::frequency::FrequencyConfig;
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;

use crate::data::Split;
use crate::options::{Frequency, Options};
use crate::random::{Purpose, generator};
use crate::step::HostBatch;
use crate::tower::Tower;

/// Draws batches: the training pairs in a new order each epoch, and uniform negatives.
pub(crate) struct Sampler<'a> {
    split: &'a Split,
    batch_size: usize,
    uniform: usize,
    log_q: LogQ,
    order: Vec<usize>,
    rng: ChaCha8Rng,
}

impl<'a> Sampler<'a> {
    /// Batches of `batch_size` pairs, at most all of them, with `uniform` more items each.
    pub(crate) fn new(split: &'a Split, batch_size: usize, uniform: usize, log_q: LogQ, seed: u64) -> Self {
        Self {
            split,
            batch_size,
            uniform,
            log_q,
            order: (0..split.train.len()).collect(),
            rng: generator(seed, Purpose::Batches),
        }
    }

    /// Batches of an epoch. Pairs that do not fill a batch are left for another epoch, so that all
    /// batches have one shape.
    pub(crate) fn batches(&self) -> usize {
        self.order.len() / self.batch_size
    }

    /// Puts the pairs in a new order.
    pub(crate) fn shuffle(&mut self) {
        self.order.shuffle(&mut self.rng);
    }

    /// Fills in the batch with this number of the epoch.
    pub(crate) fn fill(
        &mut self,
        number: usize,
        users: &Tower,
        items: &Tower,
        batch: &mut HostBatch,
    ) -> Result<()> {
        batch.user_ids.clear();
        batch.item_ids.clear();
        for &position in &self.order[number * self.batch_size..][..self.batch_size] {
            let (user, item) = self.split.train[position];
            batch.user_ids.push(i64::from(user));
            batch.item_ids.push(i64::from(item));
        }
        for _ in 0..self.uniform {
            batch.item_ids.push(self.rng.random_range(0..self.split.items) as i64);
        }
        users.gather(&batch.user_ids, &mut batch.users);
        items.gather(&batch.item_ids, &mut batch.items);
        self.log_q.fill(&batch.item_ids, &mut batch.log_q)
    }
}

/// Where the log q of a batch's columns comes from.
pub(crate) enum LogQ {
    /// No correction.
    Without,
    /// `[items]`, from counts.
    Exact(Vec<f32>),
    /// Learnt from the batches: the log of the probability that a batch contains the item.
    Streaming(FrequencyEstimator),
}

/// How fast the streaming estimator forgets. Yi et al. take 0.01 for millions of steps; an epoch here has dozens.
const LEARNING_RATE: f32 = 0.05;

impl LogQ {
    /// What the options ask for, for batches of `batch_size` pairs and `uniform` more items.
    pub(crate) fn new(options: &Options, split: &Split, batch_size: usize, uniform: usize) -> Result<Self> {
        Ok(match (options.logq, options.frequency) {
            (false, _) => Self::Without,
            (true, Frequency::Exact) => Self::Exact(log_q(&split.counts, batch_size, uniform)),
            (true, Frequency::Streaming) => {
                let config = FrequencyConfig::direct(split.items, LEARNING_RATE)?;
                Self::Streaming(FrequencyEstimator::new(config)?)
            }
        })
    }

    fn fill(&mut self, ids: &[i64], target: &mut Vec<f32>) -> Result<()> {
        match self {
            Self::Without => {}
            Self::Exact(log_q) => {
                target.clear();
                target.extend(ids.iter().map(|&id| log_q[id as usize]));
            }
            Self::Streaming(estimator) => {
                target.resize(ids.len(), 0.0);
                estimator.step(ids, &mut target[..])?;
            }
        }
        Ok(())
    }
}

/// `[items]` log q of each item: the probability that a column drawn at random from a batch is it.
///
/// A column is one of `batch_size` positives, item i with `p_i = count_i / total` in the training
/// pairs, or one of `uniform` negatives, each item with `1 / items`:
/// `q_i = (batch_size p_i + uniform / items) / (batch_size + uniform)`. Without uniform negatives
/// that is `p_i`. An item that cannot be drawn has log q -inf, and no batch ever holds it.
fn log_q(counts: &[u32], batch_size: usize, uniform: usize) -> Vec<f32> {
    let total: f64 = counts.iter().map(|&count| f64::from(count)).sum();
    let (batch_size, uniform) = (batch_size as f64, uniform as f64);
    let flat = uniform / counts.len() as f64;
    let log_q = |&count: &u32| {
        let expected = batch_size * f64::from(count) / total + flat;
        (expected / (batch_size + uniform)).ln() as f32
    };
    counts.iter().map(log_q).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Interaction, Interactions};
    use crate::options::OptimizerChoice;

    #[test]
    fn log_q_of_a_batch_is_the_share_of_training_pairs() {
        let log_q = log_q(&[6, 0, 2], 4, 0);
        assert_eq!(log_q, [0.75f32.ln(), f32::NEG_INFINITY, 0.25f32.ln()]);
    }

    #[test]
    fn log_q_of_mixed_negatives_by_hand() {
        // 4 columns by popularity, 2 uniform over 4 items: (4 p + 2/4) / 6.
        let found = log_q(&[5, 0, 3, 2], 4, 2);
        for (found, expected) in found.iter().zip([2.5f32 / 6.0, 0.5 / 6.0, 1.7 / 6.0, 1.3 / 6.0]) {
            assert!((found - expected.ln()).abs() < 1e-6);
        }
    }

    #[test]
    fn the_streaming_estimate_nears_the_counts() {
        // Item 0 in every batch, item 1 in every fourth.
        let mut streaming = LogQ::Streaming(
            FrequencyEstimator::new(FrequencyConfig::direct(2, LEARNING_RATE).unwrap()).unwrap(),
        );
        let mut found = Vec::new();
        for step in 0..800 {
            let ids: &[i64] = if step % 4 == 3 { &[0, 1] } else { &[0] };
            streaming.fill(ids, &mut found).unwrap();
        }
        assert!((found[0] - 0.0).abs() < 0.01 && (found[1] - 0.25f32.ln()).abs() < 0.05, "{found:?}");
    }

    #[test]
    fn an_epoch_holds_each_pair_once_and_columns_know_their_log_q() {
        let all = (0..4)
            .flat_map(|user| (0..4).map(move |item| Interaction { user, item, time: f64::from(item) }))
            .collect();
        let split = Split::new(&Interactions { users: 4, items: 5, all }).unwrap();
        let mut rng = generator(1, Purpose::Tables);
        let users = Tower::new(4, 3, OptimizerChoice::Adam, 0.1, &mut rng);
        let items = Tower::new(5, 3, OptimizerChoice::Adam, 0.1, &mut rng);
        let mut sampler = Sampler::new(&split, 6, 2, LogQ::Exact(log_q(&split.counts, 6, 2)), 5);
        let mut batch = HostBatch::new(3);
        let mut met = Vec::new();
        sampler.shuffle();
        assert_eq!(sampler.batches(), 2);
        for number in 0..2 {
            sampler.fill(number, &users, &items, &mut batch).unwrap();
            assert_eq!((batch.user_ids.len(), batch.item_ids.len()), (6, 8));
            assert_eq!((batch.users.len(), batch.items.len(), batch.log_q.len()), (18, 24, 8));
            for (column, &id) in batch.item_ids.iter().enumerate() {
                assert_eq!(&batch.items[column * 3..][..3], items.row(id as usize));
            }
            assert!(batch.log_q.iter().all(|value| value.is_finite()));
            met.extend(batch.user_ids.iter().zip(&batch.item_ids).map(|(&u, &i)| (u as u32, i as u32)));
        }
        met.sort_unstable();
        assert_eq!(met, split.train);
    }
}
