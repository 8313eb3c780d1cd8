//! Ring positions: which slots a push writes and which a loss may read.

use std::ops::Range;

use super::BankConfig;

/// Rows of a pushed batch and the slot where the first of them goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) rows: Range<usize>,
    pub(crate) slot: usize,
}

/// Where a FIFO ring stands. Slots `[0, len)` are filled; `head` is written next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    pub(crate) capacity: usize,
    pub(crate) head: usize,
    pub(crate) len: usize,
    /// Pushes made so far.
    pub(crate) step: u64,
}

impl Ring {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, head: 0, len: 0, step: 0 }
    }

    /// Advances by one push of `rows` rows. Of more rows than the capacity only the newest are kept.
    pub(crate) fn push(&mut self, rows: usize) -> [Span; 2] {
        let kept = rows.min(self.capacity);
        let skipped = rows - kept;
        let straight = kept.min(self.capacity - self.head);
        let spans = [
            Span { rows: skipped..skipped + straight, slot: self.head },
            Span { rows: skipped + straight..rows, slot: 0 },
        ];
        self.head = (self.head + kept) % self.capacity;
        self.len = (self.len + kept).min(self.capacity);
        self.step = self.step.wrapping_add(1);
        spans
    }

    /// The slots that a loss reads: none before the end of the warm-up, none over age. Two ranges,
    /// because the young end of a full ring may wrap around; either may be empty.
    ///
    /// `entry_steps[slot]` is [`Ring::step`] before the push that filled the slot.
    pub(crate) fn readable(&self, config: &BankConfig, entry_steps: &[u64]) -> [Range<usize>; 2] {
        if self.step < config.warm_up {
            return [0..0, 0..0];
        }
        let oldest = (self.head + self.capacity - self.len) % self.capacity;
        let first_step = config.max_age.map_or(0, |age| self.step.saturating_sub(age));
        let too_old = self.count_before(oldest, first_step, entry_steps);
        if too_old == 0 {
            return [0..self.len, 0..0];
        }
        let (first, end) = (oldest + too_old, oldest + self.len);
        if first >= self.capacity {
            return [first - self.capacity..end - self.capacity, 0..0];
        }
        [first..end.min(self.capacity), 0..end.saturating_sub(self.capacity)]
    }

    /// How many slots, from the oldest on, were filled before `step`.
    fn count_before(&self, oldest: usize, step: u64, entry_steps: &[u64]) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            let slot = (oldest + middle) % self.capacity;
            if entry_steps[slot] < step {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Against a queue that is simply pushed and truncated.
    #[test]
    fn positions_follow_a_queue() {
        for capacity in [1, 2, 3, 7, 16] {
            for max_age in [None, Some(0), Some(1), Some(2), Some(5)] {
                let mut config = BankConfig::new(capacity, 1).unwrap().warm_up(2);
                config.max_age = max_age;
                let mut ring = Ring::new(capacity);
                let mut queue: VecDeque<(u64, u64)> = VecDeque::new();
                let (mut slots, mut steps) = (vec![u64::MAX; capacity], vec![u64::MAX; capacity]);
                let mut serial = 0;
                for (push, rows) in [3, 0, 1, 5, 2, 40, 1, 1, 7, 0, 0, 2].into_iter().enumerate() {
                    let batch: Vec<u64> = (serial..serial + rows).collect();
                    serial += rows;
                    for span in ring.push(batch.len()) {
                        for (k, row) in span.rows.enumerate() {
                            slots[span.slot + k] = batch[row];
                            steps[span.slot + k] = push as u64;
                        }
                    }
                    queue.extend(batch.iter().map(|&id| (push as u64, id)));
                    while queue.len() > capacity {
                        queue.pop_front();
                    }
                    let pushes = push as u64 + 1;
                    let expected: Vec<u64> = queue
                        .iter()
                        .filter(|(step, _)| pushes >= 2 && max_age.is_none_or(|age| pushes - step <= age))
                        .map(|(_, id)| *id)
                        .collect();
                    let mut found: Vec<u64> = ring
                        .readable(&config, &steps)
                        .into_iter()
                        .flatten()
                        .map(|slot| slots[slot])
                        .collect();
                    found.sort_unstable();
                    assert_eq!(found, expected, "capacity {capacity}, max age {max_age:?}, push {push}");
                    assert_eq!(ring.len, queue.len());
                    assert_eq!(ring.step, pushes);
                }
            }
        }
    }
}
