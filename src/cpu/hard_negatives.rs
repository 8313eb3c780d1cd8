//! The search for each row's hardest negatives: sweep 1 offers every logit to a list of the best, K of each row and split.
//!
//! A list holds cells as numbers in one order, the harder the greater: logits first (NaN above all, so that it is seen),
//! then columns, of which the first is the harder. It is a heap with its least on top, which almost every cell fails to
//! beat. What is found does not depend on the cut: the numbers are all different.

use super::cells::{NONE, RowCells};

/// A cell as a number. 0 is no cell's.
fn rank(x: f32, column: u32) -> u64 {
    // -0 equals 0.
    let bits = (x + 0.0).to_bits();
    let ordered = match (x.is_nan(), x.is_sign_negative() && bits != 0) {
        (true, _) => u32::MAX,
        (false, true) => !bits,
        (false, false) => bits | (1 << 31),
    };
    (u64::from(ordered) << 32) | u64::from(!column)
}

/// The cell of a number.
fn cell(rank: u64) -> (f32, u32) {
    let ordered = (rank >> 32) as u32;
    match (rank, ordered >> 31) {
        (0, _) => (f32::NEG_INFINITY, NONE),
        (_, 1) => (f32::from_bits(ordered & (u32::MAX >> 1)), !(rank as u32)),
        _ => (f32::from_bits(!ordered), !(rank as u32)),
    }
}

/// Puts a number in the place of the least, if it is greater.
fn offer(list: &mut [u64], rank: u64) {
    if rank <= list[0] {
        return;
    }
    let mut hole = 0;
    loop {
        let (left, right) = (2 * hole + 1, 2 * hole + 2);
        let child = if right < list.len() && list[right] < list[left] { right } else { left };
        if child >= list.len() || rank <= list[child] {
            break;
        }
        list[hole] = list[child];
        hole = child;
    }
    list[hole] = rank;
}

/// The lists of one row tile and split, `[lanes, K]`.
pub(super) struct Lists<'a> {
    lists: &'a mut [u64],
    per_row: usize,
}

impl<'a> Lists<'a> {
    /// Nothing found yet; `least` is what a logit of each lane must exceed.
    pub(super) fn new(lists: &'a mut [u64], lanes: usize, least: &mut [f32]) -> Self {
        lists.fill(0);
        least.fill(f32::NEG_INFINITY);
        Self { per_row: lists.len() / lanes, lists }
    }

    /// Offers a tile of logits `[columns, lanes]` whose first column is `first`.
    pub(super) fn offer(&mut self, logits: &[f32], rows: usize, first: usize, least: &mut [f32]) {
        for (logits, column) in logits.chunks_exact(least.len()).zip(first as u32..) {
            for (lane, (&x, least)) in logits.iter().zip(&mut *least).take(rows).enumerate() {
                // Of equal logits the earlier column stays; NaN is not less than anything.
                if x <= *least {
                    continue;
                }
                let list = &mut self.lists[lane * self.per_row..(lane + 1) * self.per_row];
                offer(list, rank(x, column));
                *least = cell(list[0]).0;
            }
        }
    }
}

/// The hardest of all splits of the row at `lane`, in the order of their columns; `found` is `[splits, lanes, K]`.
pub(super) fn merge(found: &mut [u64], lanes: usize, lane: usize, cells: RowCells<'_>) {
    let per_row = cells.logits.len();
    let row = lane * per_row..(lane + 1) * per_row;
    let (first, others) = found.split_at_mut(lanes * per_row);
    let list = &mut first[row.clone()];
    for other in others.chunks_exact(lanes * per_row) {
        other[row.clone()].iter().for_each(|rank| offer(list, *rank));
    }
    list.sort_unstable_by_key(|rank| cell(*rank).1);
    for ((rank, x), column) in list.iter().zip(cells.logits).zip(cells.columns) {
        (*x, *column) = cell(*rank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_the_order_of_hardness() {
        let inf = f32::INFINITY;
        let harder = [f32::NAN, inf, f32::MAX, 1.5, 1e-40, 0.0, -1e-40, -1.5, f32::MIN, -inf];
        for pair in harder.windows(2) {
            assert!(rank(pair[0], 9) > rank(pair[1], 3), "{pair:?}");
            assert!(rank(pair[0], 3) > rank(pair[0], 9), "{pair:?}");
        }
        for x in harder {
            let (back, column) = cell(rank(x, 7));
            assert!((back == x || (back.is_nan() && x.is_nan())) && column == 7, "{x}");
        }
        assert_eq!(rank(-0.0, 1), rank(0.0, 1));
        assert!(rank(-f32::NAN, 1) == rank(f32::NAN, 1) && rank(-inf, u32::MAX) > 0);
    }

    #[test]
    fn a_list_keeps_the_greatest() {
        let mut random = fastrand::Rng::with_seed(3);
        for kept in [1, 2, 3, 7, 8, 64] {
            let mut all: Vec<u64> = (0..300).map(|_| random.u64(1..)).collect();
            let mut list = vec![0; kept];
            all.iter().for_each(|rank| offer(&mut list, *rank));
            all.sort_unstable_by(|a, b| b.cmp(a));
            list.sort_unstable_by(|a, b| b.cmp(a));
            assert_eq!(list, all[..kept]);
        }
    }
}
