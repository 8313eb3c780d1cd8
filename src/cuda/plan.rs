//! How a problem is cut for the device: a pure function of the shape and the number of multiprocessors, so that
//! equal calls give equal bits.

use crate::Problem;

/// Embeddings in a tile of the stream.
pub(super) const TILE: usize = 64;

/// Blocks wanted for each multiprocessor: below that, the streamed range is split.
const BLOCKS_PER_MULTIPROCESSOR: usize = 2;

/// Splits never exceed this; the merge walks them one after another.
const MAX_SPLITS: usize = 64;

/// The grid of one sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sweep {
    /// Embeddings owned: users forward, gradient columns backward.
    pub(super) owned: usize,
    /// Tiles of owners.
    pub(super) tiles: usize,
    /// Parts of the streamed range, each with a partial result of its own.
    pub(super) splits: usize,
    /// Streamed tiles in each part.
    pub(super) tiles_per_split: usize,
    /// Output dimensions that a block accumulates in registers: 64, 128 or 256.
    pub(super) chunk: usize,
    /// Chunks of the output; each forms all scores again.
    pub(super) chunks: usize,
}

impl Sweep {
    /// Users against all columns, with or without the output O.
    pub(super) fn forward(problem: &Problem, with_output: bool, multiprocessors: usize) -> Self {
        let dim = if with_output { problem.dim } else { 1 };
        Self::new(problem.rows, problem.columns(), dim, multiprocessors)
    }

    /// The first `owned` gradient columns against all users.
    pub(super) fn backward(problem: &Problem, owned: usize, multiprocessors: usize) -> Self {
        Self::new(owned, problem.rows, problem.dim, multiprocessors)
    }

    fn new(owned: usize, streamed: usize, dim: usize, multiprocessors: usize) -> Self {
        let chunk = match dim {
            0..=64 => 64,
            65..=128 => 128,
            _ => 256,
        };
        let chunks = dim.div_ceil(chunk).max(1);
        let tiles = owned.div_ceil(TILE);
        let streamed_tiles = streamed.div_ceil(TILE).max(1);
        let wanted = (BLOCKS_PER_MULTIPROCESSOR * multiprocessors).div_ceil((tiles * chunks).max(1));
        let splits = wanted.clamp(1, streamed_tiles.min(MAX_SPLITS));
        let tiles_per_split = streamed_tiles.div_ceil(splits);
        // Rounding up may leave the last parts empty.
        let splits = streamed_tiles.div_ceil(tiles_per_split);
        Self { owned, tiles, splits, tiles_per_split, chunk, chunks }
    }

    /// Partial results: one for each owner and split.
    pub(super) fn partials(&self) -> usize {
        self.splits * self.owned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every streamed tile belongs to exactly one split, none is empty, and partials stay bounded.
    #[test]
    fn splits_cover_the_range_and_stay_bounded() {
        for multiprocessors in [1, 4, 132] {
            for owned in [1, 63, 64, 65, 1000, 100_000] {
                for streamed in [1, 64, 65, 4096, 1_000_000] {
                    for dim in [1, 64, 65, 256, 257, 1024] {
                        let sweep = Sweep::new(owned, streamed, dim, multiprocessors);
                        let tiles = streamed.div_ceil(TILE);
                        assert!(sweep.splits * sweep.tiles_per_split >= tiles, "{sweep:?}");
                        assert!((sweep.splits - 1) * sweep.tiles_per_split < tiles, "{sweep:?}");
                        assert!(sweep.chunk * sweep.chunks >= dim, "{sweep:?}");
                        let bound = owned + TILE * 2 * multiprocessors + TILE;
                        assert!(sweep.partials() <= bound + owned, "{sweep:?}");
                    }
                }
            }
        }
    }
}
