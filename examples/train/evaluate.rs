//! Leave-one-out evaluation: where does a user's held-out item rank among all items not yet met?

use std::cmp::Ordering;

use rayon::prelude::*;

use crate::data::Split;

/// Length of the list whose items are looked at.
const SHORT: usize = 10;
/// Length of the longer list.
const LONG: usize = 50;

/// Means over the users with a held-out item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Metrics {
    /// Share of users whose held-out item is among the first 10.
    pub(crate) recall_10: f64,
    /// Share of users whose held-out item is among the first 50.
    pub(crate) recall_50: f64,
    /// `1 / log2(1 + place)` where the place (from 1) is at most 10, else 0.
    pub(crate) ndcg_10: f64,
    /// Share of tail items among all first 10s.
    pub(crate) tail_share: f64,
}

/// Ranks all items but those a user met in training, by `score(user, scores)`, which writes one
/// score an item. `tail` tells which items belong to the tail.
pub(crate) fn evaluate(split: &Split, tail: &[bool], score: impl Fn(u32, &mut [f32]) + Sync) -> Metrics {
    let of_users: Vec<UserResult> = split
        .held_out
        .par_iter()
        .map_init(Buffers::default, |buffers, &(user, target)| {
            let Buffers { scores, order } = buffers;
            scores.clear();
            scores.resize(split.items, 0.0);
            score(user, scores);
            order.clear();
            order.extend(0..split.items as u32);
            let seen = &split.seen[user as usize];
            for &item in seen {
                order[item as usize] = u32::MAX;
            }
            order.retain(|&item| item != u32::MAX);
            UserResult::new(scores, order, target, tail)
        })
        .collect();
    Metrics::mean(&of_users)
}

/// Buffers of one thread.
#[derive(Default)]
struct Buffers {
    scores: Vec<f32>,
    order: Vec<u32>,
}

/// What one user's ranking says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct UserResult {
    /// Items ranked above the held-out one; ties are not.
    above: usize,
    /// Items in the short list, and those of the tail among them.
    listed: usize,
    listed_tail: usize,
}

impl UserResult {
    /// `candidates` is brought into another order.
    fn new(scores: &[f32], candidates: &mut [u32], target: u32, tail: &[bool]) -> Self {
        let score = |item: u32| scores[item as usize];
        // A score that is not a number counts as above: a broken model must not look perfect.
        let is_above = |item: u32| {
            !matches!(score(item).partial_cmp(&score(target)), Some(Ordering::Less | Ordering::Equal))
        };
        let above = candidates.iter().filter(|&&item| item != target && is_above(item)).count();
        let listed = SHORT.min(candidates.len());
        if listed < candidates.len() {
            // Ties in the list go to the smaller id.
            candidates.select_nth_unstable_by(listed, |&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
        }
        let listed_tail = candidates[..listed].iter().filter(|&&item| tail[item as usize]).count();
        Self { above, listed, listed_tail }
    }
}

impl Metrics {
    fn mean(of_users: &[UserResult]) -> Self {
        let users = of_users.len() as f64;
        let within = |length| of_users.iter().filter(|one| one.above < length).count() as f64 / users;
        let gain =
            |one: &UserResult| if one.above < SHORT { 1.0 / (one.above as f64 + 2.0).log2() } else { 0.0 };
        let listed: usize = of_users.iter().map(|one| one.listed).sum();
        let listed_tail: usize = of_users.iter().map(|one| one.listed_tail).sum();
        Self {
            recall_10: within(SHORT),
            recall_50: within(LONG),
            ndcg_10: of_users.iter().map(gain).sum::<f64>() / users,
            tail_share: listed_tail as f64 / listed as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Interaction, Interactions};

    /// Users 0, 1, 2 over 100 items: each met items 0 and 1, and items 20, 30, 90 are held out.
    fn split() -> Split {
        let last = [20, 30, 90];
        let all = (0..3)
            .flat_map(|user| {
                [0, 1, last[user as usize]].into_iter().enumerate().map(move |(time, item)| Interaction {
                    user,
                    item,
                    time: time as f64,
                })
            })
            .collect();
        Split::new(&Interactions { users: 3, items: 100, all }).unwrap()
    }

    fn falling(_: u32, scores: &mut [f32]) {
        scores.iter_mut().enumerate().for_each(|(item, score)| *score = -(item as f32));
    }

    #[test]
    fn metrics_by_hand() {
        let split = split();
        let tail: Vec<bool> = (0..100).map(|item| item >= 7).collect();
        // Items in falling order: 20 has 18 above it (0 and 1 are left out), 30 has 28, 90 has 88.
        // For user 0 the score of 20 is raised above all but items 2, 3, 4: place 4.
        let found = evaluate(&split, &tail, |user, scores| {
            falling(user, scores);
            if user == 0 {
                scores[20] = -4.5;
            }
        });
        let third = 1.0 / 3.0;
        assert_eq!(found.recall_10, third);
        assert_eq!(found.recall_50, 2.0 * third);
        assert!((found.ndcg_10 - third / 5f64.log2()).abs() < 1e-12);
        // Lists: users 1 and 2 have 2..=11, five of them (7..=11) tail; user 0 has 2..=10 and 20,
        // five tail too (7, 8, 9, 10, 20).
        assert!((found.tail_share - 15.0 / 30.0).abs() < 1e-12);
    }

    #[test]
    fn first_place_is_a_full_gain() {
        let split = split();
        let found = evaluate(&split, &[false; 100], |user, scores| {
            falling(user, scores);
            scores[[20, 30, 90][user as usize]] = 1.0;
        });
        assert_eq!(found, Metrics { recall_10: 1.0, recall_50: 1.0, ndcg_10: 1.0, tail_share: 0.0 });
    }

    #[test]
    fn ties_are_not_above_and_nan_is() {
        let split = split();
        let tail = [false; 100];
        assert_eq!(evaluate(&split, &tail, |_, scores| scores.fill(1.0)).recall_10, 1.0);
        assert_eq!(evaluate(&split, &tail, |_, scores| scores.fill(f32::NAN)).recall_50, 0.0);
    }

    #[test]
    fn met_items_do_not_compete() {
        let split = split();
        let found = evaluate(&split, &[false; 100], |_, scores| {
            scores.fill(0.0);
            scores[..2].fill(100.0);
        });
        assert_eq!(found.recall_10, 1.0);
    }
}
