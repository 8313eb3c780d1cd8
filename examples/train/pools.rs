//! Items that a batch gets beside its pairs' own: one of the library's samplers for each pool of them.

use anyhow::Result;
use inbatch::cpu;
use inbatch::sampling::SamplerConfig;
use rand::Rng;

use crate::data::Split;
use crate::options::{ClassTable, Negatives, Options};
use crate::random::{Purpose, generator};

/// word2vec's distortion of counts.
const DISTORTION: f64 = 0.75;

/// A sampler of items and how many it brings into each batch.
pub(crate) struct Pool {
    sampler: cpu::Sampler,
    pub(crate) size: usize,
    /// For a law over ranks.
    ranking: Option<Ranking>,
    log_q: Vec<f32>,
}

/// Items by falling popularity: `log_uniform` takes an id for the rank.
struct Ranking {
    items: Vec<i64>,
    ranks: Vec<i64>,
}

impl Pool {
    fn new(config: SamplerConfig, size: usize, ranking: Option<Ranking>) -> Result<Self> {
        Ok(Self { sampler: cpu::Sampler::new(config, size)?, size, ranking, log_q: vec![0.0; size] })
    }

    /// Draws the items of one batch, `[size]`.
    pub(crate) fn sample(&mut self, ids: &mut [i64]) -> Result<()> {
        self.sampler.sample(&mut *ids, &mut self.log_q)?;
        if let Some(Ranking { items, .. }) = &self.ranking {
            ids.iter_mut().for_each(|id| *id = items[*id as usize]);
        }
        Ok(())
    }

    /// The log of the expected count of any items in the sample that was drawn last.
    pub(crate) fn log_q(&self, ids: &[i64], log_q: &mut Vec<f32>) -> Result<()> {
        log_q.resize(ids.len(), 0.0);
        match &self.ranking {
            Some(Ranking { ranks, .. }) => {
                let ranks: Vec<i64> = ids.iter().map(|&id| ranks[id as usize]).collect();
                self.sampler.log_q(&ranks, &mut log_q[..])?;
            }
            None => self.sampler.log_q(ids, &mut log_q[..])?,
        }
        Ok(())
    }
}

/// The pools that the options ask for, for batches of `batch_size` pairs.
pub(crate) fn pools(options: &Options, split: &Split, batch_size: usize) -> Result<Vec<Pool>> {
    let items = split.items as u64;
    let counts: Vec<f64> = split.counts.iter().map(|&count| f64::from(count)).collect();
    let uniform = SamplerConfig::uniform(items)?;
    let popular = SamplerConfig::unigram(&counts, DISTORTION, 0)?;
    let sampled = options.sampled.unwrap_or(batch_size.min(split.items / 2));
    let laws = match (options.class_table, options.negatives) {
        (Some(ClassTable::SampledSoftmax | ClassTable::Nce), _) => {
            let ranked = SamplerConfig::log_uniform(items)?.without_replacement();
            vec![(ranked, sampled, Some(Ranking::new(split)))]
        }
        (Some(ClassTable::Neg), _) => vec![(popular, sampled, None)],
        (None, Negatives::InBatch | Negatives::Cbns) => vec![],
        (None, Negatives::Mns) => vec![(uniform, options.uniform.unwrap_or(batch_size), None)],
        (None, Negatives::Pools) => {
            let tail: Vec<f64> = split.tail().iter().map(|&tail| f64::from(u8::from(tail))).collect();
            let cold = SamplerConfig::unigram(&tail, 1.0, 0)?;
            let quarter = batch_size / 4;
            vec![(uniform, batch_size - 2 * quarter, None), (popular, quarter, None), (cold, quarter, None)]
        }
    };
    let mut seeds = generator(options.seed, Purpose::Samplers);
    let laws = laws.into_iter().filter(|(_, size, _)| *size > 0);
    laws.map(|(law, size, ranking)| Pool::new(law.seed(seeds.next_u64()), size, ranking)).collect()
}

impl Ranking {
    fn new(split: &Split) -> Self {
        let items: Vec<i64> = split.by_popularity().iter().map(|&item| item as i64).collect();
        let mut ranks = vec![0; items.len()];
        for (rank, &item) in (0..).zip(&items) {
            ranks[item as usize] = rank;
        }
        Self { items, ranks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Interaction, Interactions};
    use clap::Parser;

    /// Item i of 10 has i interactions to train on.
    fn split() -> Split {
        let all = (0..10u32)
            .flat_map(|item| (0..item).map(move |user| Interaction { user, item, time: f64::from(item) }))
            .chain((0..9).map(|user| Interaction { user, item: 0, time: 10.0 }))
            .collect();
        Split::new(&Interactions { users: 9, items: 10, all }).unwrap()
    }

    fn pools_of(more: &[&str]) -> Vec<Pool> {
        let options = Options::parse_from(["train"].iter().chain(more));
        pools(&options, &split(), 8).unwrap()
    }

    #[test]
    fn sizes_add_up_to_the_batch() {
        for (more, expected) in [
            (&[][..], &[][..]),
            (&["--negatives", "mns"], &[8]),
            (&["--negatives", "mns", "--uniform", "3"], &[3]),
            (&["--negatives", "mns", "--uniform", "0"], &[]),
            (&["--negatives", "pools"], &[4, 2, 2]),
            (&["--class-table", "nce"], &[5]),
            (&["--class-table", "nce", "--sampled", "7"], &[7]),
        ] {
            let sizes: Vec<usize> = pools_of(more).iter().map(|pool| pool.size).collect();
            assert_eq!(sizes, expected, "{more:?}");
        }
    }

    #[test]
    fn cold_items_are_those_of_the_tail() {
        let mut cold = pools_of(&["--negatives", "pools"]).pop().unwrap();
        let mut log_q = Vec::new();
        cold.log_q(&[9, 8, 7, 0], &mut log_q).unwrap();
        // 2 draws out of 8 items; the fifth of 10 items that is not tail are 9 and 8.
        assert_eq!(log_q, [f32::NEG_INFINITY, f32::NEG_INFINITY, 0.25f32.ln(), 0.25f32.ln()]);
        for _ in 0..50 {
            let mut ids = [0; 2];
            cold.sample(&mut ids).unwrap();
            assert!(ids.iter().all(|id| (0..8).contains(id)), "{ids:?}");
        }
    }

    #[test]
    fn log_uniform_draws_popular_items_most_and_knows_their_counts() {
        let mut pool = pools_of(&["--class-table", "sampled-softmax", "--sampled", "3"]).pop().unwrap();
        let (mut met, mut ids, mut expected, mut log_q) = ([0; 10], [0; 3], [0.0; 10], Vec::new());
        let all: Vec<i64> = (0..10).collect();
        for _ in 0..2000 {
            pool.sample(&mut ids).unwrap();
            ids.iter().for_each(|&id| met[id as usize] += 1);
            pool.log_q(&all, &mut log_q).unwrap();
            expected.iter_mut().zip(&log_q).for_each(|(sum, log_q)| *sum += log_q.exp());
        }
        assert!(met[9] > met[5] && met[5] > met[1], "{met:?}");
        // Expected counts take the number of draws as given, which is off by some per cent.
        for (met, expected) in met.iter().zip(expected) {
            assert!((f64::from(*met) / f64::from(expected) - 1.0).abs() < 0.2, "{met} {expected}");
        }
    }
}
