//! Sweep 1: owned row tiles stream all columns; an online softmax over the negatives alone.

use pulp::Arch;
use rayon::prelude::*;

use super::columns::{Columns, Correction, LOG2_E};
use super::embeddings::load;
use super::exclusion::{Groups, LabelWalks, Walk, mark_positives};
use super::hard_negatives::Lists;
use super::partial::{Fields, Partial};
use super::product::{FEWEST_STREAMED, Rows, scores};
use super::sigmoid::Sigmoids;
use super::simd::{Exponentials, LANE_STEP, Logits};
use super::tallies::{Moments, Ranks};
use super::tiles::{RowPartition, optional_chunks, tile_range};
use super::workspace::{Forward, Prepared, Scratch};
use crate::config::Link;
use crate::cpu::Batch;
use crate::{Element, LossConfig, Problem};

/// What the sweep reads.
pub(super) struct RowSweep<'a, T> {
    pub(super) problem: &'a Problem,
    pub(super) partition: RowPartition,
    pub(super) users: &'a [T],
    pub(super) columns: &'a Columns<'a, T>,
    pub(super) correction: Correction,
    /// log2(e) / tau.
    pub(super) scale: f32,
    /// `[B]` and `[N]`, if the loss normalises.
    pub(super) user_norms: Option<&'a [f64]>,
    pub(super) column_norms: Option<&'a [f64]>,
    /// By item id and by user id.
    pub(super) exclusions: [Option<&'a Groups>; 2],
    /// Accidental hits of each true class in turn, for the losses over a class table.
    pub(super) labels: &'a [Groups],
    pub(super) prepared: &'a Prepared,
    pub(super) fields: Fields,
    pub(super) corrects_positive: bool,
    pub(super) arch: Arch,
}

impl<'a, T: Element> RowSweep<'a, T> {
    pub(super) fn new(
        config: &LossConfig,
        problem: &'a Problem,
        batch: &'a Batch<'_, T>,
        columns: &'a Columns<'a, T>,
        prepared: &'a Prepared,
    ) -> Self {
        let norms = |norms: &'a [f64]| config.normalizes().then_some(norms);
        Self {
            problem,
            partition: RowPartition::new(problem, columns.tiles()),
            users: batch.users.0,
            columns,
            correction: Correction::new(config, batch.log_q.is_some()),
            scale: (LOG2_E / f64::from(config.temperature())) as f32,
            user_norms: norms(&prepared.user_norms),
            column_norms: norms(&prepared.column_norms),
            exclusions: [
                config.excludes_same_item().then_some(&prepared.same_item),
                config.excludes_same_user().then_some(&prepared.same_user),
            ],
            labels: &[],
            prepared,
            fields: Fields::of(config),
            corrects_positive: config.corrects_positive(),
            arch: Arch::new(),
        }
    }

    /// Fills the partials `[row_tiles, splits]`: statistics and, if `gradients`, O.
    pub(super) fn run(&self, target: &mut Forward, gradients: bool) {
        self.sweep(target, None, gradients);
    }

    /// Fills `found` with the `per_row` hardest negatives of each row and split, and the partials with those of no
    /// columns, but for the counts of excluded pairs.
    pub(super) fn mine(&self, target: &mut Forward, found: &mut [u64], per_row: usize, gradients: bool) {
        let length = self.partition.items() * self.partition.lanes * per_row;
        self.sweep(target, Some(&mut found[..length]), gradients);
    }

    fn sweep(&self, target: &mut Forward, found: Option<&mut [u64]>, gradients: bool) {
        let RowPartition { lanes, splits, .. } = self.partition;
        let items = self.partition.items();
        let words = self.fields.words() * lanes;
        let per_item = found.as_ref().map_or(0, |found| found.len() / items);
        let outputs = gradients.then_some(&mut target.outputs[..]);
        let work = (
            target.stats[..items * words].par_chunks_exact_mut(words).with_max_len(1),
            optional_chunks(outputs, lanes * self.problem.dim, items),
            optional_chunks(found, per_item, items),
        );
        work.into_par_iter().enumerate().for_each(|(item, (stats, output, found))| {
            let mut scratch = self.prepared.scratch();
            let partial = Partial::new(self.fields, stats, output);
            self.partial(item / splits, item % splits, &mut scratch, partial, found);
        });
    }

    /// The partial of row tile `tile` over the columns of split `split`, or its hardest negatives.
    fn partial(
        &self,
        tile: usize,
        split: usize,
        scratch: &mut Scratch,
        mut partial: Partial<'_>,
        found: Option<&mut [u64]>,
    ) {
        let RowPartition { lanes, .. } = self.partition;
        let dim = self.problem.dim;
        let rows = tile_range(tile, lanes, self.problem.rows);
        let owned = load(self.users, rows.clone(), dim, self.user_norms, lanes, &mut scratch.owned);
        let tiles = self.partition.tiles_of(split);
        let first = self.columns.tile(tiles.start).columns().start;
        let (cursors, of_labels) = scratch.cursors.split_at_mut(2 * lanes);
        let mut walks = Walk::start_all(self.exclusions, Groups::columns_of, rows.clone(), first, cursors);
        let mut label_walks =
            LabelWalks::start(self.labels, Groups::columns_of, rows.clone(), first, lanes, of_labels);
        partial.clear();
        let mut lists = found.map(|found| Lists::new(found, lanes, &mut scratch.reference[..lanes]));
        if lists.is_some() {
            partial.clear_output();
        } else if partial.counts.is_some() {
            let reference = &mut scratch.reference[..lanes];
            self.references(rows.clone(), owned, &mut scratch.scores, &mut scratch.streamed, reference);
        }
        for tile in tiles {
            let tile = self.columns.tile(tile);
            let columns = tile.columns();
            let norms = self.column_norms.map(|norms| &norms[tile.segment.first..]);
            let streamed = load(
                tile.segment.embeddings,
                tile.inside.clone(),
                dim,
                norms,
                FEWEST_STREAMED,
                &mut scratch.streamed,
            );
            scores(owned, streamed, &mut scratch.scores);
            let cells = &mut scratch.scores[..columns.len() * lanes];
            mark_positives(rows.clone(), columns.clone(), self.problem.offset as isize, cells, lanes);
            for walk in walks.iter_mut().flatten() {
                let excluded = partial.counts.as_mut().map(|counts| &mut *counts.excluded);
                walk.mark(columns.clone(), cells, lanes, excluded);
            }
            label_walks.mark(
                columns.clone(),
                cells,
                partial.counts.as_mut().map(|counts| &mut *counts.excluded),
            );
            let bias = &mut scratch.bias[..columns.len()];
            self.correction.biases(&tile.segment, tile.inside, bias);
            let max = &mut scratch.max[..lanes];
            max.copy_from_slice(partial.max);
            Logits { scores: cells, lanes, scale: self.scale, bias, max }.run(self.arch);
            if let Some(lists) = &mut lists {
                lists.offer(cells, rows.len(), columns.start, &mut scratch.reference[..lanes]);
                continue;
            }
            if let Some(counts) = &mut partial.counts {
                let reference = &scratch.reference[..lanes];
                Ranks { scores: cells, lanes, reference, counts }.run(self.arch);
            }
            match self.fields.link {
                Link::Softmax => {
                    partial.raise(max, rows.len(), dim);
                    Exponentials { scores: cells, lanes, max: partial.max, sum: partial.sum }.run(self.arch);
                }
                Link::Sigmoid => {
                    let (losses, sum) = (&mut *partial.max, &mut *partial.sum);
                    Sigmoids { scores: cells, lanes, losses, sum }.run(self.arch);
                }
            }
            if let Some(moment) = partial.moment.as_mut().filter(|_| self.correction.scale != 0.0) {
                Moments { scores: cells, lanes, bias, moment }.run(self.arch);
            }
            partial.add(cells, lanes, streamed.first(columns.len()), rows.len());
        }
    }

    /// [`Self::references`] of a row tile, into the scratch.
    pub(super) fn tile_references(&self, rows: std::ops::Range<usize>, scratch: &mut Scratch) {
        let lanes = self.partition.lanes;
        let Scratch { owned, scores, streamed, reference, .. } = scratch;
        let owned = load(self.users, rows.clone(), self.problem.dim, self.user_norms, lanes, owned);
        self.references(rows, owned, scores, streamed, &mut reference[..lanes]);
    }

    /// The positives' logits in base 2, with the sweep's own roundings: an item that equals the positive then ties
    /// with it, whatever its place.
    fn references(
        &self,
        rows: std::ops::Range<usize>,
        owned: Rows<'_>,
        cells: &mut [f32],
        buffer: &mut [f32],
        reference: &mut [f32],
    ) {
        let lanes = reference.len();
        let items = &self.columns.segments[0];
        let positives = rows.start + self.problem.offset..rows.end + self.problem.offset;
        let positives_loaded = load(
            items.embeddings,
            positives.clone(),
            self.problem.dim,
            self.column_norms,
            FEWEST_STREAMED,
            buffer,
        );
        scores(owned, positives_loaded, cells);
        let cells = &mut cells[..rows.len() * lanes];
        let mut bias = [0.0; 2 * LANE_STEP];
        if self.corrects_positive {
            self.correction.biases(items, positives, &mut bias);
        } else {
            self.correction.constant(&mut bias);
        }
        Logits { scores: cells, lanes, scale: self.scale, bias: &bias, max: reference }.run(self.arch);
        for (lane, cell) in reference.iter_mut().zip(cells.iter().step_by(lanes + 1)) {
            *lane = *cell;
        }
    }
}
