//! Negatives that belong to one pair each: items that its user has not met in training.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::data::Split;
use crate::random::{Purpose, generator};

/// Draws `per_row` items for each pair, uniformly out of those its user has not met.
pub(crate) struct RowSampler {
    per_row: usize,
    items: usize,
    /// `[users]` items that a user has met, sorted.
    met: Vec<Vec<u32>>,
    rng: ChaCha8Rng,
}

impl RowSampler {
    pub(crate) fn new(per_row: usize, split: &Split, seed: u64) -> Self {
        let mut met = split.seen.clone();
        met.iter_mut().for_each(|items| items.sort_unstable());
        Self { per_row, items: split.items, met, rng: generator(seed, Purpose::RowNegatives) }
    }

    /// `[users, per_row]` items; -1 where a user has met them all.
    pub(crate) fn fill(&mut self, users: &[i64], indices: &mut Vec<i32>) {
        indices.clear();
        for &user in users {
            let met = &self.met[user as usize];
            for _ in 0..self.per_row {
                let all_met = met.len() == self.items;
                indices.push(if all_met { -1 } else { draw(met, self.items, &mut self.rng) });
            }
        }
    }
}

/// Draws until an item is not among `met`: about once, as nobody meets much of a catalogue.
fn draw(met: &[u32], items: usize, rng: &mut ChaCha8Rng) -> i32 {
    loop {
        let item = rng.random_range(0..items as u32);
        if met.binary_search(&item).is_err() {
            return item as i32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Interaction, Interactions};

    #[test]
    fn only_items_that_the_user_has_not_met() {
        // User 0 meets items 3, 1 (and 0, held out), user 1 all five (item 0 twice).
        let histories: [&[u32]; 2] = [&[3, 1, 0], &[4, 2, 1, 3, 0]];
        let all = (0u32..).zip(histories).flat_map(|(user, items)| {
            (0u32..).zip(items).map(move |(k, &item)| Interaction { user, item, time: f64::from(k) })
        });
        let mut split = Split::new(&Interactions { users: 2, items: 5, all: all.collect() }).unwrap();
        split.seen[1].push(0);
        let mut sampler = RowSampler::new(40, &split, 1);
        let mut indices = Vec::new();
        sampler.fill(&[1, 0], &mut indices);
        assert_eq!(indices.len(), 80);
        assert!(indices[..40].iter().all(|&item| item == -1));
        let mut drawn = indices[40..].to_vec();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, [0, 2, 4]);
    }
}
