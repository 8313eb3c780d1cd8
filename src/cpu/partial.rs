//! Partial softmax sums form a monoid: `(m, l, O)` of any set of columns merges with that of another.
//!
//! For each row, over the columns seen: `m = max x_j` (base 2), `l = sum 2^(x_j - m)`,
//! `O = sum 2^(x_j - m) v_j`. The empty set has `l = 0`. `m` is kept within the finite f32, which makes
//! the infinities come out right: with every cell absent `2^(-inf - m) = 0`, and a column at +inf gives
//! `l = inf` instead of `inf - inf`.

//!
//! Under the sigmoid link nothing is exponentiated against a maximum: the pair is `(sum softplus(z_j), sum sigmoid(z_j))`,
//! O is weighted by sigmoid, and merging is adding.
//!
//! Beside the pair a partial may carry the weighted sum of the column biases, and counts.

use super::product::{Rows, accumulate};
use crate::LossConfig;
use crate::config::Link;

/// What the statistics of a partial consist of, `[words, lanes]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    pub(super) link: Link,
    moment: bool,
    counts: bool,
}

/// Rows of counts: negatives, excluded pairs, negatives above the positive.
const COUNTS: usize = 3;

impl Fields {
    pub(super) fn of(config: &LossConfig) -> Self {
        let features = config.sweep_features();
        Self { link: features.link, moment: features.moment, counts: features.counts }
    }

    pub(super) fn words(self) -> usize {
        2 + usize::from(self.moment) + if self.counts { COUNTS } else { 0 }
    }
}

/// Integer counts of one row tile, `[lanes]` each.
pub(super) struct Counts<'a> {
    pub(super) negatives: &'a mut [u32],
    pub(super) excluded: &'a mut [u32],
    /// Negatives above the positive.
    pub(super) above: &'a mut [u32],
}

/// Partial sums of one row tile.
pub(super) struct Partial<'a> {
    link: Link,
    /// `[lanes]`; `sum softplus(z)` under the sigmoid link.
    pub(super) max: &'a mut [f32],
    /// `[lanes]`; `sum sigmoid(z)` under the sigmoid link.
    pub(super) sum: &'a mut [f32],
    /// `[lanes]` sums of weight times column bias, if wanted.
    pub(super) moment: Option<&'a mut [f32]>,
    /// If wanted.
    pub(super) counts: Option<Counts<'a>>,
    /// `[lanes, D]`; `None` when only the loss is wanted.
    output: Option<&'a mut [f32]>,
    /// Whether `output` holds anything yet.
    written: bool,
}

impl<'a> Partial<'a> {
    /// `stats` is `[fields.words(), lanes]`.
    pub(super) fn new(fields: Fields, stats: &'a mut [f32], output: Option<&'a mut [f32]>) -> Self {
        let lanes = stats.len() / fields.words();
        let (max, stats) = stats.split_at_mut(lanes);
        let (sum, stats) = stats.split_at_mut(lanes);
        let (moment, stats) = stats.split_at_mut(if fields.moment { lanes } else { 0 });
        let moment = fields.moment.then_some(moment);
        let counts = fields.counts.then(|| {
            // The same words, as integers.
            let counts = bytemuck::cast_slice_mut(stats);
            let (negatives, counts) = counts.split_at_mut(lanes);
            let (excluded, above) = counts.split_at_mut(lanes);
            Counts { negatives, excluded, above }
        });
        Self { link: fields.link, max, sum, moment, counts, output, written: true }
    }

    /// Becomes the partial of no columns.
    pub(super) fn clear(&mut self) {
        self.max.fill(if self.link == Link::Softmax { -f32::MAX } else { 0.0 });
        self.sum.fill(0.0);
        if let Some(moment) = &mut self.moment {
            moment.fill(0.0);
        }
        if let Some(counts) = &mut self.counts {
            counts.negatives.fill(0);
            counts.excluded.fill(0);
            counts.above.fill(0);
        }
        self.written = false;
    }

    /// O of no columns, for a sweep that adds none.
    pub(super) fn clear_output(&mut self) {
        if let Some(output) = self.output.as_deref_mut() {
            output.fill(0.0);
            self.written = true;
        }
    }

    /// Raises the maxima of the first `rows` rows to `max` and rescales what is there.
    pub(super) fn raise(&mut self, max: &[f32], rows: usize, dim: usize) {
        for (row, new) in max.iter().enumerate().take(rows) {
            let old = self.max[row];
            let new = new.clamp(-f32::MAX, f32::MAX);
            if new == old {
                continue;
            }
            let factor = (old - new).exp2();
            self.max[row] = new;
            self.sum[row] *= factor;
            if let Some(moment) = &mut self.moment {
                moment[row] *= factor;
            }
            if let Some(output) = self.output.as_deref_mut().filter(|_| self.written) {
                output[row * dim..(row + 1) * dim].iter_mut().for_each(|o| *o *= factor);
            }
        }
    }

    /// Adds `sum_s weights[s, row] streamed_s` to O.
    pub(super) fn add(&mut self, weights: &[f32], lanes: usize, streamed: Rows<'_>, rows: usize) {
        if let Some(output) = self.output.as_deref_mut() {
            let output = &mut output[..rows * streamed.dim()];
            accumulate(weights, lanes, streamed, output, self.written);
            self.written = true;
        }
    }

    /// Merges another partial of the same `rows` rows into this one.
    pub(super) fn merge(&mut self, other: &Partial<'_>, rows: usize, dim: usize) {
        for row in 0..rows {
            let (mine, theirs) = match self.link {
                Link::Softmax => {
                    let max = self.max[row].max(other.max[row]);
                    let factors = ((self.max[row] - max).exp2(), (other.max[row] - max).exp2());
                    self.max[row] = max;
                    factors
                }
                Link::Sigmoid => {
                    self.max[row] += other.max[row];
                    (1.0, 1.0)
                }
            };
            self.sum[row] = self.sum[row] * mine + other.sum[row] * theirs;
            if let (Some(moment), Some(other)) = (&mut self.moment, &other.moment) {
                moment[row] = moment[row] * mine + other[row] * theirs;
            }
            if let (Some(output), Some(other)) = (self.output.as_deref_mut(), other.output.as_deref()) {
                let span = row * dim..(row + 1) * dim;
                for (o, p) in output[span.clone()].iter_mut().zip(&other[span]) {
                    *o = *o * mine + *p * theirs;
                }
            }
            if let (Some(counts), Some(other)) = (&mut self.counts, &other.counts) {
                counts.negatives[row] += other.negatives[row];
                counts.excluded[row] += other.excluded[row];
                counts.above[row] += other.above[row];
            }
        }
    }

    /// O of a row, before division by its sum.
    pub(super) fn output_row(&mut self, row: usize, dim: usize) -> Option<&mut [f32]> {
        self.output.as_deref_mut().map(|output| &mut output[row * dim..(row + 1) * dim])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: Fields = Fields { link: Link::Softmax, moment: false, counts: false };

    /// A base-2 logit and an embedding.
    type Column = (f32, [f32; 3]);

    /// Owned storage for a partial of one row.
    #[derive(Clone)]
    struct One {
        stats: [f32; 2],
        output: [f32; 3],
    }

    impl One {
        fn of(columns: &[Column]) -> Self {
            let mut one = One { stats: [0.0; 2], output: [f32::NAN; 3] };
            let mut partial = Partial::new(FIELDS, &mut one.stats, Some(&mut one.output));
            partial.clear();
            for (x, v) in columns {
                let mut weight = [0.0; 1];
                let max = [partial.max[0].max(*x)];
                partial.raise(&max, 1, 3);
                weight[0] = (x - partial.max[0]).exp2();
                partial.sum[0] += weight[0];
                partial.add(&weight, 1, Rows::new(v, 3), 1);
            }
            one
        }

        fn merged(mut self, mut other: One) -> Self {
            Partial::new(FIELDS, &mut self.stats, Some(&mut self.output)).merge(
                &Partial::new(FIELDS, &mut other.stats, Some(&mut other.output)),
                1,
                3,
            );
            self
        }

        /// log2 of the whole sum, and the mean embedding.
        fn value(&self) -> [f32; 4] {
            let [max, sum] = self.stats;
            let [a, b, c] = self.output;
            [max + sum.log2(), a / sum, b / sum, c / sum]
        }
    }

    fn close(a: [f32; 4], b: [f32; 4]) -> bool {
        a.iter().zip(b).all(|(a, b)| *a == b || (a - b).abs() <= 1e-5 * (1.0 + b.abs()))
    }

    /// Columns in three sets, some of them absent or hugely apart.
    fn sets() -> Vec<[Vec<Column>; 3]> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut columns = |n: usize, scale: f32| -> Vec<Column> {
            (0..n)
                .map(|_| {
                    let x = (random.f32() - 0.5) * scale;
                    (x, [random.f32() - 0.5, random.f32() - 0.5, random.f32() - 0.5])
                })
                .collect()
        };
        let absent = vec![(f32::NEG_INFINITY, [1.0, 2.0, 3.0])];
        vec![
            [columns(5, 1.0), columns(9, 10.0), columns(1, 100.0)],
            [columns(3, 1000.0), columns(3, 1.0), columns(30, 300.0)],
            [absent.clone(), columns(4, 2.0), absent.clone()],
            [columns(2, 2.0), absent.clone(), columns(2, 400.0)],
        ]
    }

    #[test]
    fn merging_is_associative_and_equals_one_sweep() {
        for [a, b, c] in sets() {
            let [one, two, three] = [&a, &b, &c].map(|set| One::of(set));
            let left = one.clone().merged(two.clone()).merged(three.clone()).value();
            let right = one.merged(two.merged(three)).value();
            let whole = One::of(&[a, b, c].concat()).value();
            assert!(close(left, right), "{left:?} {right:?}");
            assert!(close(left, whole), "{left:?} {whole:?}");
        }
    }

    #[test]
    fn the_empty_partial_changes_nothing() {
        let empty = One::of(&[(f32::NEG_INFINITY, [1.0; 3])]);
        for [a, _, _] in sets() {
            let one = One::of(&a);
            let (left, right) = (empty.clone().merged(one.clone()), one.clone().merged(empty.clone()));
            if one.stats[1] > 0.0 {
                assert_eq!(left.value(), one.value());
                assert_eq!(right.value(), one.value());
            }
        }
        assert_eq!(empty.clone().merged(empty).stats[1], 0.0);
    }
}
