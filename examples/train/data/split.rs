//! Leave-one-out: the last interaction of each user is held out.

use anyhow::{Result, ensure};

use super::{Interaction, Interactions};

/// A user and an item.
pub(crate) type Pair = (u32, u32);

/// Training pairs and what is held out for evaluation.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    pub(crate) users: usize,
    pub(crate) items: usize,
    /// Pairs to train on.
    pub(crate) train: Vec<Pair>,
    /// `[users]` items that a user meets in training.
    pub(crate) seen: Vec<Vec<u32>>,
    /// The last interaction of each user who has at least two.
    pub(crate) held_out: Vec<Pair>,
    /// `[items]` how often an item occurs in `train`.
    pub(crate) counts: Vec<u32>,
}

impl Split {
    /// Splits interactions. An item that a user met several times counts once, at its last time;
    /// at equal times the later line is the later interaction. A user with a single item stays in
    /// training.
    pub(crate) fn new(interactions: &Interactions) -> Result<Self> {
        let mut seen = vec![Vec::new(); interactions.users];
        let mut train = Vec::new();
        let mut held_out = Vec::new();
        for (user, history) in (0u32..).zip(histories(interactions)) {
            let (&last, earlier) = match history.split_last() {
                Some(split) if history.len() > 1 => split,
                _ => {
                    train.extend(history.iter().map(|&item| (user, item)));
                    seen[user as usize] = history;
                    continue;
                }
            };
            held_out.push((user, last));
            train.extend(earlier.iter().map(|&item| (user, item)));
            seen[user as usize] = earlier.to_vec();
        }
        ensure!(
            !held_out.is_empty(),
            "no user has two different items: nothing can be held out for evaluation"
        );
        let mut counts = vec![0; interactions.items];
        for &(_, item) in &train {
            counts[item as usize] += 1;
        }
        Ok(Self { users: interactions.users, items: interactions.items, train, seen, held_out, counts })
    }

    /// `[users]` how often a user occurs in `train`.
    pub(crate) fn user_counts(&self) -> Vec<u32> {
        self.seen.iter().map(|items| items.len() as u32).collect()
    }

    /// `[items]` true for the tail: all items but the most popular fifth in training.
    pub(crate) fn tail(&self) -> Vec<bool> {
        let mut tail = vec![true; self.items];
        for &item in &self.by_popularity()[..self.items / 5] {
            tail[item] = false;
        }
        tail
    }

    /// All items, the most popular in training first.
    pub(crate) fn by_popularity(&self) -> Vec<usize> {
        let mut items: Vec<usize> = (0..self.items).collect();
        items.sort_by_key(|&item| std::cmp::Reverse(self.counts[item]));
        items
    }
}

/// Each user's distinct items in order of time.
fn histories(interactions: &Interactions) -> Vec<Vec<u32>> {
    let mut order: Vec<&Interaction> = interactions.all.iter().collect();
    // Stable: equal times keep the order of the file.
    order.sort_by(|a, b| a.user.cmp(&b.user).then(a.time.total_cmp(&b.time)));
    let mut histories = vec![Vec::new(); interactions.users];
    let mut met_by = vec![u32::MAX; interactions.items];
    // Backwards, so that the last meeting of an item is the one that is kept.
    for one in order.iter().rev() {
        if met_by[one.item as usize] != one.user {
            met_by[one.item as usize] = one.user;
            histories[one.user as usize].push(one.item);
        }
    }
    for history in &mut histories {
        history.reverse();
    }
    histories
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interactions(users: usize, items: usize, all: &[(u32, u32, f64)]) -> Interactions {
        let all = all.iter().map(|&(user, item, time)| Interaction { user, item, time }).collect();
        Interactions { users, items, all }
    }

    #[test]
    fn the_last_by_time_is_held_out() {
        let data = interactions(
            3,
            6,
            &[
                (0, 0, 30.0),
                (1, 3, 5.0),
                (0, 1, 10.0),
                (0, 2, 20.0),
                (1, 4, 5.0), // a tie: the later line is the later interaction
                (2, 5, 1.0), // a single interaction stays in training
            ],
        );
        let split = Split::new(&data).unwrap();
        assert_eq!(split.held_out, [(0, 0), (1, 4)]);
        assert_eq!(split.train, [(0, 1), (0, 2), (1, 3), (2, 5)]);
        assert_eq!(split.seen, [vec![1, 2], vec![3], vec![5]]);
        assert_eq!(split.counts, [0, 1, 1, 1, 0, 1]);
    }

    #[test]
    fn a_repeated_item_counts_once_at_its_last_time() {
        let data = interactions(1, 3, &[(0, 0, 1.0), (0, 1, 2.0), (0, 0, 3.0), (0, 2, 2.5)]);
        let split = Split::new(&data).unwrap();
        assert_eq!(split.held_out, [(0, 0)]);
        assert_eq!(split.train, [(0, 1), (0, 2)]);
    }

    #[test]
    fn the_tail_is_all_but_the_most_popular_fifth() {
        let data = interactions(2, 5, &[(0, 3, 1.0), (1, 3, 1.0), (0, 1, 2.0), (1, 1, 2.0)]);
        let split = Split::new(&data).unwrap();
        assert_eq!(split.tail(), [true, true, true, false, true]);
    }

    #[test]
    fn nothing_to_hold_out_is_an_error() {
        let data = interactions(2, 2, &[(0, 0, 1.0), (1, 1, 1.0), (1, 1, 2.0)]);
        assert!(Split::new(&data).is_err());
    }
}
