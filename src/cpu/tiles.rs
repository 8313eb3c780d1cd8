//! How rows and columns are cut into tiles. The cut depends on the problem alone, never on the number of
//! threads, so that results do not either.

use std::ops::Range;

use rayon::iter::Either;
use rayon::prelude::*;

use super::simd::LANE_STEP;
use crate::Problem;

/// Rows streamed past an owned tile at a time.
pub(super) const STREAMED: usize = 256;

/// Work items to aim at, so that many cores have something to do.
const ITEMS: usize = 64;

/// A split of the columns is not worth its merge below this many tiles.
const TILES_PER_SPLIT: usize = 4;

/// Owned rows of a tile: products are a few per cent faster on 128, small batches need more tiles.
pub(super) fn lanes(owned: usize) -> usize {
    if owned >= ITEMS * LANE_STEP { 2 * LANE_STEP } else { LANE_STEP }
}

/// The rows of tile `tile` out of `count` rows.
pub(super) fn tile_range(tile: usize, size: usize, count: usize) -> Range<usize> {
    tile * size..((tile + 1) * size).min(count)
}

/// `count` chunks of a buffer for as many work items, of which the last may be shorter, or for each of them nothing.
pub(super) fn optional_chunks<X: Send>(
    buffer: Option<&mut [X]>,
    size: usize,
    count: usize,
) -> impl IndexedParallelIterator<Item = Option<&mut [X]>> {
    match buffer {
        Some(buffer) => Either::Left(buffer.par_chunks_mut(size).take(count).map(Some)),
        None => Either::Right((0..count).into_par_iter().map(|_| None)),
    }
}

/// The forward sweep's cut: `row_tiles x splits` independent partials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowPartition {
    pub(super) lanes: usize,
    pub(super) row_tiles: usize,
    pub(super) splits: usize,
    pub(super) column_tiles: usize,
}

impl RowPartition {
    pub(super) fn new(problem: &Problem, column_tiles: usize) -> Self {
        let lanes = lanes(problem.rows);
        let row_tiles = problem.rows.div_ceil(lanes);
        let splits = (ITEMS / row_tiles.max(1)).min(column_tiles / TILES_PER_SPLIT).max(1);
        Self { lanes, row_tiles, splits, column_tiles }
    }

    pub(super) fn items(&self) -> usize {
        self.row_tiles * self.splits
    }

    /// The column tiles of split `split`.
    pub(super) fn tiles_of(&self, split: usize) -> Range<usize> {
        let cut = |s: usize| (s as u128 * self.column_tiles as u128 / self.splits as u128) as usize;
        cut(split)..cut(split + 1)
    }
}

/// Column tiles of a problem: one more than needed if the bank's young end wraps around.
pub(super) fn most_column_tiles(problem: &Problem) -> usize {
    let Problem { batch_columns, extra_columns, bank_columns, .. } = *problem;
    let tiles = |columns: usize| columns.div_ceil(STREAMED);
    tiles(batch_columns)
        .saturating_add(tiles(extra_columns))
        .saturating_add(tiles(bank_columns))
        .saturating_add(usize::from(bank_columns > 0))
}
