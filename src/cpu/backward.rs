//! Sweep 2: owned tiles of gradient columns stream the users, with the statistics that sweep 1 left.

use rayon::prelude::*;

use super::cells::Cells;
use super::columns::{LOG2_E, Segment};
use super::embeddings::{dot, load, load_kept, store_gradient};
use super::exclusion::{Groups, LabelWalks, Walk, mark_positives};
use super::forward::RowSweep;
use super::product::{FEWEST_STREAMED, accumulate, scores};
use super::sigmoid::SigmoidWeights;
use super::simd::{LANE_STEP, Weights};
use super::tallies::{Masses, Side, SymmetricWeights};
use super::tiles::{STREAMED, optional_chunks, tile_range};
use super::workspace::{Backward, Scratch};
use crate::Element;
use crate::config::Link;

/// What the column sweep reads beside the row sweep's inputs.
pub(super) struct ColumnSweep<'a, T> {
    pub(super) forward: &'a RowSweep<'a, T>,
    pub(super) lanes: usize,
    pub(super) rows: &'a Backward,
    /// The columns' own loss, if they have one: its sweep, in which users and items are exchanged, and what it left.
    pub(super) own: Option<(&'a RowSweep<'a, T>, &'a Backward)>,
    /// The only cells that take part, if they were chosen row by row, and how many of each row.
    pub(super) cells: Option<(&'a Cells, usize)>,
}

/// What the gradient weights of chosen cells are made of, `[B]` each.
#[derive(Clone, Copy)]
pub(super) struct RowWeights<'a> {
    pub(super) max: &'a [f32],
    pub(super) weight: &'a [f32],
    /// Cells of each row.
    pub(super) per_row: usize,
}

/// Where the gradients of a segment go.
pub(super) struct ColumnGradients<'a, G> {
    /// `[n, D]`, if wanted.
    pub(super) embeddings: Option<&'a mut [G]>,
    /// `[n]` dlog_q, if wanted.
    pub(super) log_q: Option<&'a mut [f32]>,
    /// `[n]` each column's share of d(1/tau) through scores, if wanted: where columns have a loss of their own.
    pub(super) temperature: Option<&'a mut [f32]>,
}

impl<T: Element> ColumnSweep<'_, T> {
    /// `dv_j = sum_i g_i a_i / tau W_ij u_i - [j = pos(i)] g_i b_i / tau u_i` of every column of a segment, and
    /// `dlog_q_j` from the sum of the same weights.
    pub(super) fn run<G: Element>(&self, segment: &Segment<'_, T>, target: ColumnGradients<'_, G>) {
        let ColumnGradients { embeddings, log_q, temperature } = target;
        if embeddings.is_none() && log_q.is_none() && temperature.is_none() {
            return;
        }
        let (size, tiles) = (self.lanes * self.forward.problem.dim, segment.count.div_ceil(self.lanes));
        let chunks = (
            optional_chunks(embeddings, size, tiles),
            optional_chunks(log_q, self.lanes, tiles),
            optional_chunks(temperature, self.lanes, tiles),
        );
        let chunks = chunks.into_par_iter().with_max_len(1).enumerate();
        chunks.for_each(|(tile, (embeddings, log_q, temperature))| {
            let mut scratch = self.forward.prepared.scratch();
            let embeddings = embeddings.unwrap_or_default();
            let (log_q, temperature) = (log_q.unwrap_or_default(), temperature.unwrap_or_default());
            self.tile(segment, tile, &mut scratch, embeddings, log_q, temperature);
        });
    }

    /// One tile of columns; an empty target is not wanted.
    fn tile<G: Element>(
        &self,
        segment: &Segment<'_, T>,
        tile: usize,
        scratch: &mut Scratch,
        target: &mut [G],
        log_q: &mut [f32],
        temperature: &mut [f32],
    ) {
        let RowSweep { problem, user_norms, .. } = *self.forward;
        let (lanes, dim) = (self.lanes, problem.dim);
        let inside = tile_range(tile, lanes, segment.count);
        let columns = segment.first + inside.start..segment.first + inside.end;
        let norms = self.forward.column_norms.map(|norms| &norms[columns.clone()]);
        let source = &segment.embeddings[inside.start * dim..inside.end * dim];
        let owned = load(source, 0..inside.len(), dim, norms, lanes, &mut scratch.owned);
        let bias = &mut scratch.bias[..lanes];
        self.forward.correction.biases(segment, inside.clone(), bias);
        let (cursors, of_labels) = scratch.cursors.split_at_mut(2 * lanes);
        let mut walks =
            Walk::start_all(self.forward.exclusions, Groups::rows_of, columns.clone(), 0, cursors);
        let labels = self.forward.labels;
        let mut label_walks =
            LabelWalks::start(labels, Groups::rows_of, columns.clone(), 0, lanes, of_labels);
        let accumulator = &mut scratch.accumulator[..inside.len() * dim];
        let mass = &mut scratch.mass[..lanes];
        mass.fill(0.0);
        if let Some((cells, per_row)) = self.cells {
            let rows = RowWeights { max: &self.rows.max, weight: &self.rows.weight, per_row };
            let columns = columns.clone();
            self.forward.gather(cells, columns, rows, accumulator, mass, &mut scratch.streamed);
        }
        let streamed_tiles = if self.cells.is_some() { 0 } else { problem.rows.div_ceil(STREAMED) };
        for streamed_tile in 0..streamed_tiles {
            let rows = tile_range(streamed_tile, STREAMED, problem.rows);
            let keep = |i: usize| self.own.is_some() || self.rows.rows[i].negative != 0.0;
            let users = load_kept(
                self.forward.users,
                rows.clone(),
                dim,
                user_norms,
                FEWEST_STREAMED,
                keep,
                &mut scratch.streamed,
            );
            scores(owned, users, &mut scratch.scores);
            let cells = &mut scratch.scores[..rows.len() * lanes];
            mark_positives(columns.clone(), rows.clone(), -(problem.offset as isize), cells, lanes);
            for walk in walks.iter_mut().flatten() {
                walk.mark(rows.clone(), cells, lanes, None);
            }
            label_walks.mark(rows.clone(), cells, None);
            let (scale, arch) = (self.forward.scale, self.forward.arch);
            let coefficient = &self.rows.weight[rows.clone()];
            let max = &self.rows.max[rows.clone()];
            match (self.own, self.forward.fields.link) {
                (None, Link::Softmax) => {
                    Weights { scores: cells, lanes, scale, bias, max, coefficient }.run(arch);
                }
                (None, Link::Sigmoid) => {
                    SigmoidWeights { scores: cells, lanes, scale, bias, coefficient }.run(arch);
                }
                (Some((own, left)), _) => {
                    let mut row_bias = [0.0; STREAMED];
                    own.correction.biases(&own.columns.segments[0], rows.clone(), &mut row_bias);
                    // Lanes beyond the last column have no weight.
                    let (mut own_max, mut own_coefficient) = ([0.0; 2 * LANE_STEP], [0.0; 2 * LANE_STEP]);
                    own_max[..inside.len()].copy_from_slice(&left.max[inside.clone()]);
                    own_coefficient[..inside.len()].copy_from_slice(&left.weight[inside.clone()]);
                    let streamed = Side { bias: &row_bias, max, coefficient };
                    let owned = Side { bias, max: &own_max, coefficient: &own_coefficient };
                    SymmetricWeights { scores: cells, lanes, scale, streamed, owned, mass }.run(arch);
                }
            }
            if !log_q.is_empty() && self.own.is_none() {
                Masses { scores: cells, lanes, mass }.run(arch);
            }
            if !target.is_empty() {
                accumulate(cells, lanes, users.first(rows.len()), accumulator, streamed_tile > 0);
            }
        }
        self.finish_log_q(columns.clone(), mass, log_q);
        if target.is_empty() {
            return;
        }
        self.subtract_positives(columns.clone(), &mut scratch.streamed, accumulator);
        let tau = LOG2_E / f64::from(self.forward.scale);
        for (k, target) in target.chunks_exact_mut(dim).enumerate() {
            let gradient = &accumulator[k * dim..(k + 1) * dim];
            if let Some(share) = temperature.get_mut(k) {
                *share = (dot(gradient, owned.row(k)) * tau) as f32;
            }
            // What no row has chosen has no gradient, whatever it holds.
            if self.cells.is_some() && gradient.iter().all(|d| *d == 0.0) {
                target.fill(G::default());
                continue;
            }
            store_gradient(gradient, owned.row(k), norms.map(|norms| norms[k]), target);
        }
    }

    /// `dlog_q_j` of each column: what it takes from its logits, and its part as some row's positive.
    fn finish_log_q(&self, columns: std::ops::Range<usize>, mass: &[f32], log_q: &mut [f32]) {
        let RowSweep { problem, correction, scale, .. } = self.forward;
        // The weights of the sweep hold 1/tau.
        let factor = -correction.scale * LOG2_E / f64::from(*scale);
        for ((target, mass), j) in log_q.iter_mut().zip(mass).zip(columns) {
            let owner = j.checked_sub(problem.offset).filter(|i| *i < problem.rows);
            let positive = owner.map_or(0.0, |i| f64::from(self.rows.rows[i].log_q));
            *target = (factor * f64::from(*mass) + positive) as f32;
        }
    }

    /// The part of each column as some row's positive.
    fn subtract_positives(
        &self,
        columns: std::ops::Range<usize>,
        buffer: &mut [f32],
        accumulator: &mut [f32],
    ) {
        let RowSweep { problem, users, user_norms, .. } = *self.forward;
        let dim = problem.dim;
        let first = columns.start.max(problem.offset);
        let last = columns.end.min(problem.offset + problem.rows);
        if first >= last {
            return;
        }
        let rows = first - problem.offset..last - problem.offset;
        let loaded = load(users, rows.clone(), dim, user_norms, 0, buffer);
        for (k, i) in rows.enumerate() {
            let positive = self.rows.rows[i].positive;
            if positive != 0.0 {
                let at = (first - columns.start + k) * dim;
                for (d, u) in accumulator[at..at + dim].iter_mut().zip(loaded.row(k)) {
                    *d -= positive * u;
                }
            }
        }
    }
}
