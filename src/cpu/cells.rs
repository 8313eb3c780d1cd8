//! Negatives that are chosen row by row: a row's own, or its hardest. K cells of each row, whose logits are kept, so that
//! the backward needs no second sweep for them.

use std::ops::Range;

use rayon::prelude::*;

use super::columns::{LOG2_E, Segment};
use super::embeddings::{dot, load};
use super::exclusion::list_members;
use super::forward::RowSweep;
use super::hard_negatives;
use super::partial::Partial;
use super::tiles::{RowPartition, optional_chunks, tile_range};
use super::workspace::{Forward, Scratch, grow};
use crate::config::Link;
use crate::objective::sampled_softmax_at;
use crate::{Element, LossConfig, Problem, Result};

/// The column of a cell that holds no negative.
pub(super) const NONE: u32 = u32::MAX;

/// The chosen cells of a call.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// `[B, K]` logits in base 2, -inf where there is no negative.
    logits: Vec<f32>,
    /// `[B, K]`.
    columns: Vec<u32>,
    /// `[B, K]` cells, column by column and row by row.
    order: Vec<u32>,
    /// Where each gradient column's cells begin in `order`.
    starts: Vec<u32>,
    /// `[row_tiles, splits, lanes, K]`: what the search for the hardest has found, see [`hard_negatives`].
    pub(super) found: Vec<u64>,
}

/// Lengths of the buffers.
#[derive(Clone, Copy, Debug)]
pub(super) struct CellSizes {
    cells: usize,
    /// Columns that receive a gradient, if gradients are wanted.
    owned: Option<usize>,
    found: usize,
}

/// `K`, if cells are chosen at all.
pub(super) fn cells_per_row(config: &LossConfig, problem: &Problem) -> Option<usize> {
    let own = (problem.row_negatives > 0 || problem.pool.is_some()).then_some(problem.row_negatives);
    config.get_hard_negatives().or(own)
}

impl CellSizes {
    pub(super) fn of(
        config: &LossConfig,
        problem: &Problem,
        partition: RowPartition,
        gradients: bool,
    ) -> Option<Self> {
        let per_row = cells_per_row(config, problem)?;
        let listed = partition.items().saturating_mul(partition.lanes).saturating_mul(per_row);
        Some(Self {
            cells: problem.rows.saturating_mul(per_row),
            owned: gradients.then(|| owned_columns(problem)),
            found: if config.get_hard_negatives().is_some() { listed } else { 0 },
        })
    }

    pub(super) fn bytes(&self) -> u128 {
        let of_gradients = self.owned.map_or(0, |owned| (self.cells as u128 + owned as u128 + 1) * 4);
        self.cells as u128 * 8 + of_gradients + self.found as u128 * 8
    }
}

/// Columns that receive a gradient, the row negatives' embeddings included.
fn owned_columns(problem: &Problem) -> usize {
    problem.gradient_columns().saturating_add(problem.row_negative_embeddings())
}

impl Cells {
    pub(super) fn reserve(&mut self, sizes: &CellSizes) -> Result<()> {
        grow(&mut self.logits, sizes.cells)?;
        grow(&mut self.columns, sizes.cells)?;
        grow(&mut self.found, sizes.found)?;
        if let Some(owned) = sizes.owned {
            grow(&mut self.order, sizes.cells)?;
            grow(&mut self.starts, owned + 1)?;
        }
        Ok(())
    }

    /// Lists the cells of each gradient column. The bank's have no gradient.
    pub(super) fn sort(&mut self, per_row: usize, problem: &Problem) {
        let cells = problem.rows * per_row;
        let starts = &mut self.starts[..owned_columns(problem) + 1];
        list_members(&self.columns[..cells], starts, &mut self.order);
    }

    fn of_column(&self, column: usize) -> &[u32] {
        &self.order[self.starts[column] as usize..self.starts[column + 1] as usize]
    }
}

/// The cells of one row.
pub(super) struct RowCells<'a> {
    pub(super) logits: &'a mut [f32],
    pub(super) columns: &'a mut [u32],
}

/// Forward: where a row tile's cells come from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// `[B, K]` places among the embeddings, or one after another.
    Own(Option<&'a [i32]>),
    /// What [`RowSweep::mine`] has found.
    Found,
}

impl<T: Element> RowSweep<'_, T> {
    /// Fills the cells and adds each row's to its first partial.
    pub(super) fn add_cells(
        &self,
        source: Source<'_>,
        per_row: usize,
        cells: &mut Cells,
        target: &mut Forward,
        gradients: bool,
    ) {
        if per_row == 0 {
            return;
        }
        let RowPartition { lanes, splits, row_tiles, .. } = self.partition;
        let (count, dim, words) = (self.problem.rows, self.problem.dim, self.fields.words() * lanes);
        let outputs = gradients.then_some(&mut target.outputs[..]);
        let found = matches!(source, Source::Found).then_some(&mut cells.found[..]);
        let tiles = (
            target.stats.par_chunks_exact_mut(splits * words),
            optional_chunks(outputs, splits * lanes * dim, row_tiles),
            optional_chunks(found, splits * lanes * per_row, row_tiles),
            cells.logits[..count * per_row].par_chunks_mut(lanes * per_row),
            cells.columns[..count * per_row].par_chunks_mut(lanes * per_row),
        );
        tiles.into_par_iter().enumerate().for_each(|(tile, (stats, output, found, logits, columns))| {
            let output = output.map(|output| &mut output[..lanes * dim]);
            let mut partial = Partial::new(self.fields, &mut stats[..words], output);
            let mut scratch = self.prepared.scratch();
            let rows = tile_range(tile, lanes, count);
            match (source, found) {
                (Source::Own(indices), _) => {
                    let cells = RowCells { logits: &mut *logits, columns: &mut *columns };
                    self.own_cells(rows.clone(), indices, cells, &mut scratch, &mut partial);
                }
                (Source::Found, found) => {
                    if partial.counts.is_some() {
                        self.tile_references(rows.clone(), &mut scratch);
                    }
                    let found = found.unwrap_or_default();
                    let rows = logits.chunks_exact_mut(per_row).zip(columns.chunks_exact_mut(per_row));
                    for (lane, (logits, columns)) in rows.enumerate() {
                        hard_negatives::merge(found, lanes, lane, RowCells { logits, columns });
                    }
                }
            }
            self.absorb(rows.len(), logits, columns, &mut scratch, &mut partial);
        });
    }

    /// Adds cells to the partial of their row tile; the positives' logits stand in the scratch, where counts are wanted.
    fn absorb(
        &self,
        rows: usize,
        logits: &[f32],
        columns: &[u32],
        scratch: &mut Scratch,
        partial: &mut Partial<'_>,
    ) {
        let (dim, per_row) = (self.problem.dim, logits.len() / rows);
        if self.fields.link == Link::Softmax {
            let max = &mut scratch.max[..rows];
            for ((max, old), logits) in max.iter_mut().zip(&*partial.max).zip(logits.chunks_exact(per_row)) {
                *max = logits.iter().fold(*old, |max, x| max.max(*x));
            }
            partial.raise(max, rows, dim);
        }
        let cells = logits.chunks_exact(per_row).zip(columns.chunks_exact(per_row));
        for (lane, (logits, columns)) in cells.enumerate() {
            let (mut losses, mut sum, mut moment) = (0.0, 0.0, 0.0);
            for (&x, &column) in logits.iter().zip(columns).filter(|(x, _)| **x != f32::NEG_INFINITY) {
                let (weight, loss) = self.cell_weight(x, partial.max[lane]);
                (losses, sum) = (losses + f64::from(loss), sum + f64::from(weight));
                let (segment, place) = self.columns.at(column as usize);
                if partial.moment.is_some() {
                    let bias = self.bias(segment, place);
                    if bias != f32::NEG_INFINITY {
                        moment += f64::from(weight) * f64::from(bias);
                    }
                }
                if let Some(output) = partial.output_row(lane, dim) {
                    let v = self.embedding(segment, place, &mut scratch.streamed);
                    output.iter_mut().zip(v).for_each(|(o, v)| *o += weight * v);
                }
                if let Some(counts) = &mut partial.counts {
                    counts.negatives[lane] += 1;
                    // A NaN on either side counts as above.
                    let not_above = x <= scratch.reference[lane];
                    counts.above[lane] += u32::from(!not_above);
                }
            }
            partial.sum[lane] += sum as f32;
            if self.fields.link == Link::Sigmoid {
                partial.max[lane] += losses as f32;
            }
            if let Some(target) = &mut partial.moment {
                target[lane] += moment as f32;
            }
        }
    }

    /// `2^(x - max)`, or sigmoid and softplus of the logit.
    fn cell_weight(&self, x: f32, max: f32) -> (f32, f32) {
        match self.fields.link {
            Link::Softmax => ((x - max).exp2(), 0.0),
            Link::Sigmoid => {
                let term = sampled_softmax_at((f64::from(x) / LOG2_E) as f32);
                (term.negative, term.loss)
            }
        }
    }

    /// The base-2 bias of one column.
    fn bias(&self, segment: &Segment<'_, T>, place: usize) -> f32 {
        let mut bias = [0.0];
        self.correction.biases(segment, place..place + 1, &mut bias);
        bias[0]
    }

    /// One embedding as it enters a product.
    fn embedding<'b>(&self, segment: &Segment<'b, T>, place: usize, buffer: &'b mut [f32]) -> &'b [f32] {
        let norms = self.column_norms.map(|norms| &norms[segment.first..]);
        load(segment.embeddings, place..place + 1, self.problem.dim, norms, 0, buffer).row(0)
    }

    /// The base-2 logit of one pair, with this file's own roundings: an embedding that equals the positive ties with it.
    pub(super) fn pair(
        &self,
        user: &[f32],
        segment: &Segment<'_, T>,
        place: usize,
        corrected: bool,
        buffer: &mut [f32],
    ) -> f32 {
        let score = dot(user, self.embedding(segment, place, buffer)) * f64::from(self.scale);
        let bias = match corrected {
            true => f64::from(self.bias(segment, place)),
            false => self.correction.bias * LOG2_E,
        };
        (score + bias) as f32
    }

    /// Backward: `sum weight u_i` over the cells of each column of `columns`, and the sums of the weights.
    pub(super) fn gather(
        &self,
        cells: &Cells,
        columns: Range<usize>,
        rows: super::backward::RowWeights<'_>,
        accumulator: &mut [f32],
        mass: &mut [f32],
        buffer: &mut [f32],
    ) {
        let (dim, per_row) = (self.problem.dim, rows.per_row);
        accumulator.fill(0.0);
        for ((target, mass), column) in accumulator.chunks_exact_mut(dim).zip(mass).zip(columns) {
            let mut sum = 0.0;
            for &cell in cells.of_column(column) {
                let i = cell as usize / per_row;
                // A row without gradient takes no part, whatever it holds.
                if rows.weight[i] == 0.0 {
                    continue;
                }
                let weight = rows.weight[i] * self.cell_weight(cells.logits[cell as usize], rows.max[i]).0;
                sum += f64::from(weight);
                let user = load(self.users, i..i + 1, dim, self.user_norms, 0, buffer).row(0);
                target.iter_mut().zip(user).for_each(|(d, u)| *d += weight * u);
            }
            *mass = sum as f32;
        }
    }
}
