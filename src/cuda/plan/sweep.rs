//! How one sweep is cut for the device: its kernel, its tiles, its grid.

use std::fmt;

use super::{Kernels, Plan};
use crate::Problem;
use crate::cuda::arguments::Cut;
use crate::cuda::launch::{BLOCK, WARPS_PER_BLOCK, per_dtype};
use crate::cuda::module::{File, dtype_index};

/// One sweep: its kernel and its grid.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sweep {
    /// The kernel's symbol.
    pub kernel: &'static str,
    /// Owned embeddings in a tile: users forward, gradient columns backward.
    pub tile: usize,
    /// Streamed embeddings in a tile.
    pub streamed: usize,
    /// Blocks in each direction of the grid.
    pub blocks: [usize; 3],
    /// Threads in a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared_bytes: u32,
    pub(in crate::cuda) kernels: Kernels,
    pub(in crate::cuda) file: File,
    pub(in crate::cuda) cut: Cut,
    /// Streamed tiles in a split, where there are splits.
    pub(in crate::cuda) tiles_per_split: usize,
}

/// What a sweep computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Loss,
    Forward,
    Backward,
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.blocks;
        let Self { kernel, tile, streamed, threads, shared_bytes, .. } = self;
        write!(f, "{kernel}, tile {tile} x {streamed}, grid {x} x {y} x {z}, {threads} threads")?;
        write!(f, ", {shared_bytes} bytes of dynamic shared memory")
    }
}

impl Plan {
    /// kernels/stream_simt.cuh.
    pub(super) fn simt(&self, mode: Mode, owned: usize, streamed: usize) -> Sweep {
        let Problem { dim, dtype, .. } = self.problem;
        let chunk = if mode == Mode::Loss { 0 } else { bucket(&SIMT_CHUNKS, dim) };
        let chunks = if mode == Mode::Loss { 1 } else { dim.div_ceil(SIMT_CHUNKS[chunk]) };
        let tiles = owned.div_ceil(SIMT_TILE);
        let streamed_tiles = streamed.div_ceil(SIMT_TILE).max(1);
        let blocks = self.hardware.multiprocessors.saturating_mul(BLOCKS_PER_MULTIPROCESSOR);
        let wanted = blocks.div_ceil((tiles * chunks).max(1));
        let splits = wanted.clamp(1, streamed_tiles.min(MAX_SPLITS));
        let tiles_per_split = streamed_tiles.div_ceil(splits);
        // Rounding up may leave the last parts empty.
        let splits = streamed_tiles.div_ceil(tiles_per_split);
        let names = match mode {
            Mode::Loss => &SIMT_LOSS,
            Mode::Forward => &SIMT_FORWARD[chunk],
            Mode::Backward => &SIMT_BACKWARD[chunk],
        };
        Sweep {
            kernel: names[dtype_index(dtype)],
            tile: SIMT_TILE,
            streamed: SIMT_TILE,
            blocks: [tiles, splits, chunks],
            threads: SIMT_THREADS,
            shared_bytes: 0,
            kernels: Kernels::Simt,
            file: File::stream_simt(dtype),
            cut: Cut::splits(owned, SIMT_TILE, splits),
            tiles_per_split,
        }
    }

    /// kernels/hard_negatives.cu: as many splits as the loss's own plain sweep has, so that few rows fill the device too. What
    /// they find makes one partial result of each row.
    pub(super) fn hard_negatives(&self) -> Sweep {
        let Problem { rows, dtype, .. } = self.problem;
        Sweep {
            kernel: HARD_NEGATIVES[dtype_index(dtype)],
            file: File::HardNegatives,
            cut: Cut::splits(rows, SIMT_TILE, 1),
            ..self.simt(Mode::Loss, rows, self.problem.columns())
        }
    }

    /// kernels/row_negatives.cu: the sums over the rows that name each of the first `owned` columns.
    pub(in crate::cuda) fn gathered_backward(&self, owned: usize) -> Sweep {
        let tiles = owned.div_ceil(WARPS_PER_BLOCK);
        let streamed_tiles = self.problem.rows.div_ceil(WARP).max(1);
        let blocks = self.hardware.multiprocessors.saturating_mul(GATHERING_BLOCKS);
        let splits = blocks.div_ceil(tiles.max(1)).clamp(1, streamed_tiles.min(MAX_SPLITS));
        let tiles_per_split = streamed_tiles.div_ceil(splits);
        let splits = streamed_tiles.div_ceil(tiles_per_split);
        Sweep {
            kernel: GATHERED_BACKWARD[dtype_index(self.problem.dtype)],
            tile: WARPS_PER_BLOCK,
            streamed: WARP,
            blocks: [tiles, splits, 1],
            threads: BLOCK,
            shared_bytes: 0,
            kernels: Kernels::Simt,
            file: File::RowNegatives,
            cut: Cut::splits(owned, WARPS_PER_BLOCK, splits),
            tiles_per_split,
        }
    }

    /// kernels/stream_mma.cuh and kernels/stream_mma_wide.cuh.
    pub(super) fn mma(&self, mode: Mode, owned: usize, streamed: usize) -> Sweep {
        let Problem { dim, dtype, .. } = self.problem;
        // The loss alone has no output to find room for: one kernel does for all dimensions up to 128.
        let reach = if mode == Mode::Loss { dim.max(MMA_DIMS[1]) } else { dim };
        let at = bucket(&MMA_DIMS, reach);
        let shape = Shape::of(reach);
        let fitting = self.hardware.shared_bytes() / (shape.block_bytes());
        let blocks = self.hardware.multiprocessors.saturating_mul(fitting.clamp(1, shape.resident));
        let cut = Cut::ranges(owned, shape.tile, streamed.div_ceil(shape.streamed), blocks);
        let names = match mode {
            Mode::Loss => &MMA_LOSS[at - 1],
            Mode::Forward => &MMA_FORWARD[at],
            Mode::Backward => &MMA_BACKWARD[at],
        };
        Sweep {
            kernel: names[dtype_index(dtype)],
            tile: shape.tile,
            streamed: shape.streamed,
            blocks: [usize::try_from(cut.ranges).unwrap_or(1), 1, 1],
            threads: shape.threads,
            shared_bytes: shape.shared,
            kernels: Kernels::Mma,
            file: if dim > NARROW { File::stream_mma_wide(dtype) } else { File::stream_mma(dtype) },
            cut,
            tiles_per_split: 0,
        }
    }
}

/// The first entry that reaches `dim`, or the last.
fn bucket(reach: &[usize], dim: usize) -> usize {
    reach.iter().position(|&reach| dim <= reach).unwrap_or(reach.len() - 1)
}

/// Rows that a warp searches at once.
const WARP: usize = 32;
/// Blocks wanted for each multiprocessor where a warp searches the rows for each column.
const GATHERING_BLOCKS: usize = 8;
const HARD_NEGATIVES: [&str; 3] = per_dtype!("hard_negatives");
const GATHERED_BACKWARD: [&str; 3] = per_dtype!("row_negative_backward");

/// Embeddings in a tile of the SIMT kernels, owned and streamed alike.
const SIMT_TILE: usize = 64;
const SIMT_THREADS: u32 = 256;
/// Output dimensions that a block has in registers; beyond the last, chunks of it.
const SIMT_CHUNKS: [usize; 3] = [64, 128, 256];
/// Blocks wanted for each multiprocessor: below that, the streamed range is split.
const BLOCKS_PER_MULTIPROCESSOR: usize = 2;
/// Splits never exceed this; the merge walks them one after another.
const MAX_SPLITS: usize = 64;

const SIMT_LOSS: [&str; 3] = per_dtype!("stream_loss");
const SIMT_FORWARD: [[&str; 3]; 3] =
    per_dtype!("stream_forward_64", "stream_forward_128", "stream_forward_256");
const SIMT_BACKWARD: [[&str; 3]; 3] =
    per_dtype!("stream_backward_64", "stream_backward_128", "stream_backward_256");

/// The tiles of the tensor-core kernels, a kernel for dimensions up to each of these.
const MMA_DIMS: [usize; 4] = [64, 128, 256, 1024];
/// Above this the dimensions are dealt out among the warps of a block.
const NARROW: usize = 256;

/// A tile and what a block needs for it.
struct Shape {
    tile: usize,
    streamed: usize,
    threads: u32,
    shared: u32,
    /// Blocks of a multiprocessor that the registers allow.
    resident: usize,
}

impl Shape {
    fn of(dim: usize) -> Self {
        let narrow = |tile, streamed, shared| Self { tile, streamed, threads: 128, shared, resident: 2 };
        match dim {
            0..=64 => narrow(128, 64, 45_728),
            65..=128 => narrow(128, 32, 67_712),
            129..=NARROW => narrow(64, 32, 72_016),
            257..=512 => Self::wide(4, 2),
            _ => Self::wide(8, 1),
        }
    }

    /// `WideSlice` for each warp, and `WideShared`.
    fn wide(warps: u32, resident: usize) -> Self {
        Self { tile: 32, streamed: 16, threads: 32 * warps, shared: 14_336 * warps + 7_632, resident }
    }

    fn block_bytes(&self) -> usize {
        self.shared as usize + SHARED_RESERVED
    }
}

/// Shared memory that the device keeps for itself in each block.
const SHARED_RESERVED: usize = 1 << 10;

/// The largest dimension of the tensor-core kernels.
pub(super) const LARGEST: usize = MMA_DIMS[MMA_DIMS.len() - 1];

/// Shared memory that a block of the tensor-core kernels takes at a dimension.
pub(super) fn block_bytes(dim: usize) -> usize {
    Shape::of(dim).block_bytes()
}

/// From the second reach on.
const MMA_LOSS: [[&str; 3]; 3] =
    per_dtype!("stream_mma_loss_128", "stream_mma_loss_256", "stream_mma_loss_1024");
const MMA_FORWARD: [[&str; 3]; 4] = per_dtype!(
    "stream_mma_forward_64",
    "stream_mma_forward_128",
    "stream_mma_forward_256",
    "stream_mma_forward_1024"
);
const MMA_BACKWARD: [[&str; 3]; 4] = per_dtype!(
    "stream_mma_backward_64",
    "stream_mma_backward_128",
    "stream_mma_backward_256",
    "stream_mma_backward_1024"
);

#[cfg(test)]
mod tests {
    use super::super::tests::{config, problem};
    use super::*;
    use crate::Dtype;
    use crate::cuda::Hardware;

    /// Every streamed tile belongs to exactly one split, none is empty, and partials stay bounded.
    #[test]
    fn splits_cover_the_range_and_stay_bounded() {
        for multiprocessors in [1, 4, 132] {
            for owned in [1, 63, 64, 65, 1000, 100_000] {
                for streamed in [1, 64, 65, 4096, 1_000_000] {
                    for dim in [1, 64, 65, 256, 257, 1024] {
                        let hardware = Hardware::new((7, 5), multiprocessors);
                        let plan = Plan::new(&hardware, &problem(1, 1, dim, Dtype::F32), &config());
                        let sweep = plan.simt(Mode::Forward, owned, streamed);
                        let tiles = streamed.div_ceil(SIMT_TILE);
                        let splits = sweep.blocks[1];
                        assert!(splits * sweep.tiles_per_split >= tiles, "{sweep:?}");
                        assert!((splits - 1) * sweep.tiles_per_split < tiles, "{sweep:?}");
                        let bound = owned + SIMT_TILE * 2 * multiprocessors + SIMT_TILE;
                        assert!(sweep.cut.partial_rows() <= bound + owned, "{sweep:?}");
                    }
                }
            }
        }
    }

    /// Registers allow two blocks a multiprocessor, shared memory sometimes one.
    #[test]
    fn the_grid_is_what_the_device_holds() {
        let big = |dim| problem(65_536, 65_536, dim, Dtype::Bf16);
        for (capability, dim, resident) in [
            ((8, 0), 64, 2),
            ((8, 0), 128, 2),
            ((8, 0), 256, 2),
            ((8, 6), 64, 2),
            ((8, 6), 128, 1),
            ((8, 9), 256, 1),
            ((9, 0), 256, 2),
            ((12, 0), 128, 1),
            ((8, 0), 512, 2),
            ((8, 0), 1024, 1),
            ((8, 6), 512, 1),
            ((9, 0), 1024, 1),
        ] {
            let plan = Plan::new(&Hardware::new(capability, 100), &big(dim), &config());
            let blocks = plan.forward().blocks[0];
            assert!(blocks <= 100 * resident && 8 * blocks >= 7 * 100 * resident, "{plan}");
            // What one block may ask for is 1 KiB less than the multiprocessor has.
            assert!(
                plan.forward().shared_bytes as usize <= Hardware::new(capability, 1).shared_bytes() - 1024
            );
        }
    }
}
