//! A generated catalogue: Zipf popularity, planted tastes, and therefore a known best ranking.
//!
//! User u draws distinct items one after another with `P(i | u)` proportional to
//! `popularity_i * exp(strength * <taste_u, trait_i>)`: a Plackett-Luce sequence. The best ranking
//! that any model can give is by that probability.

use anyhow::{Result, ensure};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

use super::{Interaction, Interactions};
use crate::random::{Purpose, generator};

/// Dimension of tastes and traits.
const TRAITS: usize = 8;
/// How much taste matters beside popularity: the standard deviation of its share of the logit.
const STRENGTH: f32 = 2.5;
/// Popularity of the k-th item is `k^-EXPONENT`.
const EXPONENT: f32 = 1.0;
/// Interactions of a user: from the smaller to the larger number.
const HISTORY: std::ops::RangeInclusive<usize> = 20..=60;

/// What the catalogue was generated from.
#[derive(Clone, Debug)]
pub(crate) struct Planted {
    /// `[items]`
    log_popularity: Vec<f32>,
    /// `[users, TRAITS]`
    tastes: Vec<f32>,
    /// `[items, TRAITS]`
    traits: Vec<f32>,
}

impl Planted {
    /// Writes `log P(i | u)` for all items, up to a constant.
    pub(crate) fn score(&self, user: u32, scores: &mut [f32]) {
        let taste = &self.tastes[user as usize * TRAITS..][..TRAITS];
        let items = self.log_popularity.iter().zip(self.traits.chunks_exact(TRAITS));
        for (score, (log_popularity, traits)) in scores.iter_mut().zip(items) {
            *score = log_popularity + taste.iter().zip(traits).map(|(a, b)| a * b).sum::<f32>();
        }
    }
}

/// Draws a catalogue and the interactions of its users; time counts a user's interactions.
pub(crate) fn generate(users: usize, items: usize, seed: u64) -> Result<(Interactions, Planted)> {
    ensure!(users >= 1, "--users must be at least 1");
    let fewest = 2 * HISTORY.end();
    ensure!(
        items >= fewest,
        "--items must be at least {fewest}: a user meets up to {} of them",
        HISTORY.end()
    );
    for (what, count) in [("--users", users), ("--items", items)] {
        ensure!(u32::try_from(count).is_ok(), "{what} {count} is more than 32 bits can number");
    }
    let mut rng = generator(seed, Purpose::Catalogue);
    let scale = STRENGTH / (TRAITS as f32).sqrt();
    let planted = Planted {
        log_popularity: (1..=items).map(|rank| -EXPONENT * (rank as f32).ln()).collect(),
        tastes: normal(users * TRAITS, scale, &mut rng),
        traits: normal(items * TRAITS, 1.0, &mut rng),
    };
    let all = (0..users as u32)
        .into_par_iter()
        .flat_map_iter(|user| {
            let mut rng = generator(seed, Purpose::History(user));
            let history = draw(&planted, user, items, &mut rng);
            history.into_iter().zip(0u32..).map(move |(item, time)| Interaction {
                user,
                item,
                time: f64::from(time),
            })
        })
        .collect();
    Ok((Interactions { users, items, all }, planted))
}

/// Items of one user in the order they are drawn: the largest `logit + Gumbel noise` first, which
/// is sampling without replacement (Kool et al. 2019).
fn draw(planted: &Planted, user: u32, items: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let mut scores = vec![0.0; items];
    planted.score(user, &mut scores);
    let mut keyed: Vec<(f32, u32)> =
        scores.iter().zip(0u32..).map(|(score, item)| (score + standard_gumbel(rng), item)).collect();
    let length = rng.random_range(HISTORY);
    keyed.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    keyed.iter().take(length).map(|&(_, item)| item).collect()
}

fn standard_gumbel(rng: &mut ChaCha8Rng) -> f32 {
    let uniform: f32 = rng.sample(rand_distr::Open01);
    -(-uniform.ln()).ln()
}

fn normal(count: usize, scale: f32, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| scale * rng.sample::<f32, _>(StandardNormal)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_data_and_another_does_not() {
        let one = generate(50, 200, 3).unwrap().0;
        assert_eq!(one.all, generate(50, 200, 3).unwrap().0.all);
        assert_ne!(one.all, generate(50, 200, 4).unwrap().0.all);
    }

    #[test]
    fn items_of_a_user_are_distinct_and_popular_ones_frequent() {
        let (data, _) = generate(400, 200, 1).unwrap();
        let mut met = std::collections::HashSet::new();
        assert!(data.all.iter().all(|one| met.insert((one.user, one.item))));
        let head = data.all.iter().filter(|one| one.item < 20).count();
        let foot = data.all.iter().filter(|one| one.item >= 180).count();
        assert!(head > 3 * foot, "20 head items {head} interactions, 20 foot items {foot}");
    }

    #[test]
    fn catalogues_too_small_are_refused() {
        assert!(generate(0, 200, 0).is_err());
        assert!(generate(10, 100, 0).is_err());
    }
}
