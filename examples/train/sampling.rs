//! Which pairs and negatives make up a batch, and with which probability an item gets there.

use anyhow::Result;
use inbatch::cpu::{self, DownSampler, FrequencyCounter, FrequencyEstimator};
use inbatch::frequency::FrequencyConfig;
use inbatch::sampling::DownSampling;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;

use crate::data::Split;
use crate::options::{Frequency, Options};
use crate::pools::{Pool, pools};
use crate::random::{Purpose, generator};
use crate::row_negatives::RowSampler;
use crate::step::HostBatch;

/// Draws batches: the training pairs in a new order each epoch, and what the pools bring.
pub(crate) struct Sampler<'a> {
    split: &'a Split,
    batch_size: usize,
    pools: Vec<Pool>,
    row_negatives: Option<RowSampler>,
    log_q: LogQ,
    /// `[users]` log q of users as negatives of items.
    user_log_q: Option<Vec<f32>>,
    thinning: Option<Thinning>,
    order: Vec<usize>,
    rng: ChaCha8Rng,
}

impl<'a> Sampler<'a> {
    /// Batches of `batch_size` pairs, at most all of them, and what the options add to each.
    pub(crate) fn new(options: &Options, split: &'a Split, batch_size: usize) -> Result<Self> {
        let pools = pools(options, split, batch_size)?;
        let thinning = options.down_sample.map(|threshold| Thinning::new(threshold, options.seed, split));
        let per_row = options.row_negatives;
        Ok(Self {
            split,
            batch_size,
            row_negatives: (per_row > 0).then(|| RowSampler::new(per_row, split, options.seed)),
            log_q: LogQ::new(options, split, batch_size, &pools)?,
            pools,
            user_log_q: options.logq_users.then(|| log_shares(&split.user_counts())),
            thinning: thinning.transpose()?,
            order: (0..split.train.len()).collect(),
            rng: generator(options.seed, Purpose::Batches),
        })
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

    /// Fills in ids, log q and weights of the batch with this number of the epoch.
    pub(crate) fn fill(&mut self, number: usize, batch: &mut HostBatch) -> Result<()> {
        batch.user_ids.clear();
        batch.item_ids.clear();
        for &position in &self.order[number * self.batch_size..][..self.batch_size] {
            let (user, item) = self.split.train[position];
            batch.user_ids.push(i64::from(user));
            batch.item_ids.push(i64::from(item));
        }
        for pool in &mut self.pools {
            let filled = batch.item_ids.len();
            batch.item_ids.resize(filled + pool.size, 0);
            pool.sample(&mut batch.item_ids[filled..])?;
        }
        self.log_q.fill(&batch.item_ids, &self.pools, &mut batch.log_q)?;
        if let Some(sampler) = &mut self.row_negatives {
            sampler.fill(&batch.user_ids, &mut batch.row_negatives);
            batch.catalogue.ids.clear();
            batch.catalogue.ids.extend(0..self.split.items as i64);
            self.log_q.fill(&batch.catalogue.ids, &self.pools, &mut batch.catalogue.log_q)?;
        }
        if let Some(log_q) = &self.user_log_q {
            look_up(log_q, &batch.user_ids, &mut batch.user_log_q);
        }
        if let Some(thinning) = &mut self.thinning {
            thinning.fill(&batch.item_ids[..self.batch_size], &mut batch.weights)?;
        }
        Ok(())
    }
}

/// Where the log q of a batch's columns comes from.
enum LogQ {
    /// No correction.
    Without,
    /// `[items]`, from counts.
    Exact(Vec<f32>),
    /// Learnt from the batches: the log of the expected count, by the counts so far.
    Counting(FrequencyCounter),
    /// Learnt from the batches: the log of the probability that a batch contains the item.
    Streaming(FrequencyEstimator),
    /// Expected counts of a single pool, where the batch's own items are no negatives.
    Sampled,
}

/// How fast the streaming estimator forgets. Yi et al. take 0.01 for millions of steps; an epoch here has dozens.
const LEARNING_RATE: f32 = 0.05;

impl LogQ {
    fn new(options: &Options, split: &Split, batch_size: usize, pools: &[Pool]) -> Result<Self> {
        if !options.logq {
            return Ok(Self::Without);
        }
        if options.class_table.is_some() {
            return Ok(Self::Sampled);
        }
        Ok(match options.frequency {
            Frequency::Exact => {
                Self::Exact(mixture(&split.counts, batch_size, pools, options.row_negatives)?)
            }
            Frequency::Counting => Self::Counting(FrequencyCounter::new(split.items)?),
            Frequency::Streaming => {
                let config = FrequencyConfig::direct(split.items, LEARNING_RATE)?;
                Self::Streaming(FrequencyEstimator::new(config)?)
            }
            Frequency::LastInterval => {
                let config = FrequencyConfig::last_interval(split.items)?;
                Self::Streaming(FrequencyEstimator::new(config)?)
            }
        })
    }

    fn fill(&mut self, ids: &[i64], pools: &[Pool], target: &mut Vec<f32>) -> Result<()> {
        target.clear();
        match self {
            Self::Without => {}
            Self::Exact(log_q) => look_up(log_q, ids, target),
            Self::Counting(counter) => {
                target.resize(ids.len(), 0.0);
                counter.step(ids, &mut target[..])?;
            }
            Self::Streaming(estimator) => {
                target.resize(ids.len(), 0.0);
                estimator.step(ids, &mut target[..])?;
            }
            Self::Sampled => pools.iter().try_for_each(|pool| pool.log_q(ids, target))?,
        }
        Ok(())
    }
}

fn look_up(log_q: &[f32], ids: &[i64], target: &mut Vec<f32>) {
    target.clear();
    target.extend(ids.iter().map(|&id| log_q[id as usize]));
}

/// Draws which positives of a batch are kept: fewer of the popular ones.
struct Thinning {
    sampler: DownSampler,
    log_shares: Vec<f32>,
    of_batch: Vec<f32>,
}

impl Thinning {
    fn new(threshold: f64, seed: u64, split: &Split) -> Result<Self> {
        let sampler = DownSampler::new(DownSampling::new(threshold)?.seed(seed));
        Ok(Self { sampler, log_shares: log_shares(&split.counts), of_batch: Vec::new() })
    }

    /// Weights 1 and 0 of a batch's pairs.
    fn fill(&mut self, ids: &[i64], weights: &mut Vec<f32>) -> Result<()> {
        look_up(&self.log_shares, ids, &mut self.of_batch);
        weights.resize(ids.len(), 0.0);
        Ok(self.sampler.weights(&self.of_batch, &mut weights[..])?)
    }
}

/// `[n]` the log of each count's share of all: how probable it is in one draw.
fn log_shares(counts: &[u32]) -> Vec<f32> {
    let total: f64 = counts.iter().map(|&count| f64::from(count)).sum();
    counts.iter().map(|&count| (f64::from(count) / total).ln() as f32).collect()
}

/// `[items]` log q of each item: the probability that a column drawn at random from a batch is it.
///
/// A column is one of `batch_size` positives, item i with `p_i = count_i / total` in the training
/// pairs, or it is from a pool k of `n_k`: `q_i = (batch_size p_i + sum_k n_k q_ki) / (batch_size + sum_k n_k)`.
/// Without pools that is `p_i`. A row's own negatives are a uniform pool more: that its user's items are not among
/// them is left out, as users meet little of a catalogue. An item that cannot be drawn has log q -inf, and no batch ever holds it.
fn mixture(counts: &[u32], batch_size: usize, pools: &[Pool], per_row: usize) -> Result<Vec<f32>> {
    let all: Vec<i64> = (0..counts.len() as i64).collect();
    let shares = log_shares(counts);
    let mut of_pools = vec![Vec::new(); pools.len()];
    for (log_q, pool) in of_pools.iter_mut().zip(pools) {
        pool.log_q(&all, log_q)?;
    }
    let uniform = vec![-(counts.len() as f32).ln(); counts.len()];
    let mut sources =
        vec![cpu::Pool::probabilities(batch_size, &shares), cpu::Pool::probabilities(per_row, &uniform)];
    sources.extend(pools.iter().zip(&of_pools).map(|(pool, q)| cpu::Pool::expected_counts(pool.size, q)));
    let mut log_q = vec![0.0; counts.len()];
    cpu::mixed_log_q(&sources, &mut log_q)?;
    Ok(log_q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Interaction, Interactions};
    use clap::Parser;

    fn options(more: &[&str]) -> Options {
        Options::parse_from(["train", "--seed", "5"].iter().chain(more))
    }

    /// Four users who met items 0 to 3 of 5, the last of which is held out; items 0, 1, 2 are to train on.
    fn split() -> Split {
        let all = (0..4)
            .flat_map(|user| (0..4).map(move |item| Interaction { user, item, time: f64::from(item) }))
            .collect();
        Split::new(&Interactions { users: 4, items: 5, all }).unwrap()
    }

    #[test]
    fn log_q_of_a_batch_is_the_share_of_training_pairs() {
        let log_q = mixture(&[6, 0, 2], 4, &[], 0).unwrap();
        assert_eq!(log_q, [0.75f32.ln(), f32::NEG_INFINITY, 0.25f32.ln()]);
    }

    #[test]
    fn log_q_of_mixed_negatives_by_hand() {
        let pools = pools(&options(&["--negatives", "mns", "--uniform", "2"]), &split(), 4).unwrap();
        // 4 columns by popularity, 2 uniform over 5 items: (4 p + 2/5) / 6.
        let found = mixture(&[5, 0, 3, 2, 0], 4, &pools, 0).unwrap();
        // The same from two uniform negatives of each row's own.
        let of_rows = mixture(&[5, 0, 3, 2, 0], 4, &[], 2).unwrap();
        for ((found, of_row), expected) in found.iter().zip(of_rows).zip([2.4f32, 0.4, 1.6, 1.2, 0.4]) {
            let expected = (expected / 6.0).ln();
            assert!((found - expected).abs() < 1e-6 && (of_row - expected).abs() < 1e-6, "{found} {of_row}");
        }
    }

    #[test]
    fn log_q_of_three_pools_by_hand() {
        let pools = pools(&options(&["--negatives", "pools"]), &split(), 4).unwrap();
        // 4 by popularity; 2 uniform over 5; 1 by count^0.75, alike for items 0, 1, 2; 1 of the tail, all but item 0.
        let found = mixture(&split().counts, 4, &pools, 0).unwrap();
        let third = 4.0 / 3.0 + 2.0 / 5.0 + 1.0 / 3.0;
        for (item, expected) in [third, third + 0.25, third + 0.25, 0.65, 0.65].into_iter().enumerate() {
            assert!((found[item] - (expected / 8.0f32).ln()).abs() < 1e-6, "{item}: {found:?}");
        }
    }

    #[test]
    fn estimates_near_the_counts() {
        let of = |mut log_q: LogQ| {
            // Item 0 in every batch, item 1 in every fourth.
            let mut found = Vec::new();
            for step in 0..800 {
                let ids: &[i64] = if step % 4 == 3 { &[0, 1] } else { &[0] };
                log_q.fill(ids, &[], &mut found).unwrap();
            }
            found
        };
        let log_q = |frequency| LogQ::new(&options(&["--frequency", frequency]), &split(), 2, &[]).unwrap();
        let found = of(log_q("streaming"));
        assert!((found[0] - 0.0).abs() < 0.01 && (found[1] - 0.25f32.ln()).abs() < 0.05, "{found:?}");
        let found = of(log_q("last-interval"));
        assert!(found[0] == 0.0 && (found[1] - 0.25f32.ln()).abs() < 1e-6, "{found:?}");
        // Two draws: 2 * 4/5 and 2 * 1/5.
        let found = of(log_q("counting"));
        assert!((found[0] - 1.6f32.ln()).abs() < 1e-6 && (found[1] - 0.4f32.ln()).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn an_epoch_holds_each_pair_once_and_columns_know_their_log_q() {
        let split = split();
        let more = ["--negatives", "mns", "--uniform", "2", "--symmetric", "--logq-users"];
        let mut sampler = Sampler::new(&options(&more), &split, 6).unwrap();
        let mut batch = HostBatch::new(3);
        let mut met = Vec::new();
        sampler.shuffle();
        assert_eq!(sampler.batches(), 2);
        for number in 0..2 {
            sampler.fill(number, &mut batch).unwrap();
            assert_eq!((batch.user_ids.len(), batch.item_ids.len(), batch.log_q.len()), (6, 8, 8));
            assert!(batch.log_q.iter().all(|value| value.is_finite()));
            assert_eq!(batch.user_log_q, [0.25f32.ln(); 6]);
            assert!(batch.weights.is_empty());
            met.extend(batch.user_ids.iter().zip(&batch.item_ids).map(|(&u, &i)| (u as u32, i as u32)));
        }
        met.sort_unstable();
        assert_eq!(met, split.train);
    }

    #[test]
    fn popular_positives_are_dropped_more_often() {
        // Counts 4, 4, 4 of 12: share 1/3, kept with sqrt(t / f) + t / f = 0.316 + 0.1 at t = 1/30.
        let split = split();
        let mut sampler = Sampler::new(&options(&["--down-sample", "0.03333333"]), &split, 12).unwrap();
        let mut batch = HostBatch::new(3);
        let mut kept = 0.0;
        for _ in 0..500 {
            sampler.fill(0, &mut batch).unwrap();
            assert!(batch.weights.iter().all(|&weight| weight == 0.0 || weight == 1.0));
            kept += batch.weights.iter().sum::<f32>();
        }
        assert!((kept / 6000.0 - 0.416).abs() < 0.03, "{kept}");
    }

    #[test]
    fn a_class_table_has_the_samplers_counts() {
        let split = split();
        let mut sampler = Sampler::new(&options(&["--class-table", "nce"]), &split, 4).unwrap();
        let (mut batch, mut expected) = (HostBatch::new(3), Vec::new());
        sampler.fill(0, &mut batch).unwrap();
        assert_eq!((batch.item_ids.len(), batch.log_q.len()), (6, 6));
        sampler.pools[0].log_q(&batch.item_ids, &mut expected).unwrap();
        assert_eq!(batch.log_q, expected);
    }
}
