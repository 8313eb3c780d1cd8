//! Sweep 2: owned tiles of gradient columns stream the users, with the statistics that sweep 1 left.

use rayon::prelude::*;

use super::columns::Segment;
use super::embeddings::{load, load_kept, store_gradient};
use super::exclusion::{Groups, Walk, mark_positives};
use super::forward::RowSweep;
use super::product::{FEWEST_STREAMED, accumulate, scores};
use super::simd::Weights;
use super::tiles::{STREAMED, tile_range};
use super::workspace::{Backward, Scratch};
use crate::Element;

/// What the column sweep reads beside the row sweep's inputs.
pub(super) struct ColumnSweep<'a, T> {
    pub(super) forward: RowSweep<'a, T>,
    pub(super) lanes: usize,
    pub(super) rows: &'a Backward,
}

impl<T: Element> ColumnSweep<'_, T> {
    /// `dv_j = sum_i g_i a_i / tau W_ij u_i - [j = pos(i)] g_i b_i / tau u_i` of every column of a segment.
    pub(super) fn run<G: Element>(&self, segment: &Segment<'_, T>, target: &mut [G]) {
        let size = self.lanes * self.forward.problem.dim;
        target.par_chunks_mut(size).with_max_len(1).enumerate().for_each(|(tile, target)| {
            let mut scratch = self.forward.prepared.scratch();
            self.tile(segment, tile, &mut scratch, target);
        });
    }

    fn tile<G: Element>(
        &self,
        segment: &Segment<'_, T>,
        tile: usize,
        scratch: &mut Scratch,
        target: &mut [G],
    ) {
        let RowSweep { problem, user_norms, .. } = self.forward;
        let (lanes, dim) = (self.lanes, problem.dim);
        let inside = tile_range(tile, lanes, segment.count);
        let columns = segment.first + inside.start..segment.first + inside.end;
        let norms = self.forward.column_norms.map(|norms| &norms[columns.clone()]);
        let source = &segment.embeddings[inside.start * dim..inside.end * dim];
        let owned = load(source, 0..inside.len(), dim, norms, lanes, &mut scratch.owned);
        let bias = &mut scratch.bias[..lanes];
        self.forward.correction.biases(segment, inside.clone(), bias);
        let cursors = &mut scratch.cursors[..2 * lanes];
        let mut walks =
            Walk::start_all(self.forward.exclusions, Groups::rows_of, columns.clone(), 0, cursors);
        let mut label_cursors = vec![0; self.forward.labels.len() * lanes];
        let start = |(labels, cursors)| Walk::start(labels, Groups::rows_of, columns.clone(), 0, cursors);
        let mut label_walks: Vec<_> =
            self.forward.labels.iter().zip(label_cursors.chunks_exact_mut(lanes)).map(start).collect();
        let accumulator = &mut scratch.accumulator[..inside.len() * dim];
        for streamed_tile in 0..problem.rows.div_ceil(STREAMED) {
            let rows = tile_range(streamed_tile, STREAMED, problem.rows);
            let keep = |i: usize| self.rows.rows[i].negative != 0.0;
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
            for walk in walks.iter_mut().flatten().chain(&mut label_walks) {
                walk.mark(rows.clone(), cells, lanes);
            }
            let weights = Weights {
                scores: cells,
                lanes,
                scale: self.forward.scale,
                bias,
                max: &self.rows.max[rows.clone()],
                coefficient: &self.rows.weight[rows.clone()],
            };
            weights.run(self.forward.arch);
            accumulate(cells, lanes, users.first(rows.len()), accumulator, streamed_tile > 0);
        }
        self.subtract_positives(columns.clone(), &mut scratch.streamed, accumulator);
        for (k, target) in target.chunks_exact_mut(dim).enumerate() {
            let gradient = &accumulator[k * dim..(k + 1) * dim];
            store_gradient(gradient, owned.row(k), norms.map(|norms| norms[k]), target);
        }
    }

    /// The part of each column as some row's positive.
    fn subtract_positives(
        &self,
        columns: std::ops::Range<usize>,
        buffer: &mut [f32],
        accumulator: &mut [f32],
    ) {
        let RowSweep { problem, users, user_norms, .. } = self.forward;
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
