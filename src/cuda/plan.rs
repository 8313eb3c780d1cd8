//! Which kernels a problem gets and how it is cut for the device: a pure function of the device's properties, the
//! problem and the configuration, so that equal calls give equal bits.

use std::fmt;

use super::arguments::Cut;
use super::launch::{BLOCK, WARPS_PER_BLOCK, per_dtype};
use super::module::{File, dtype_index};
use super::workspace::{Purpose, Sizes};
use crate::config::Link;
use crate::{Dtype, LossConfig, Problem};

/// What of a device decides the kernels; see [`super::Device::hardware`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hardware {
    /// Compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Whether tensor cores may be used.
    pub tensor_cores: bool,
}

impl Hardware {
    /// A device of this compute capability, tensor cores in use where it has them.
    pub const fn new(compute_capability: (u32, u32), multiprocessors: usize) -> Self {
        Self { compute_capability, multiprocessors, tensor_cores: true }
    }

    /// Bytes of shared memory that the blocks of one multiprocessor have together. A capability that is not known here
    /// counts as one with little.
    fn shared_bytes(&self) -> usize {
        match self.compute_capability {
            (8, 0 | 7) => 164 << 10,
            (9, _) | (10, _) => 228 << 10,
            _ => 100 << 10,
        }
    }
}

/// The stream's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kernels {
    /// Plain f32 arithmetic: every type, every dimension, every feature.
    Simt,
    /// `mma.sync` on tensor cores: f16 and bf16 at dimensions that it takes.
    Mma,
}

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
    pub(super) kernels: Kernels,
    pub(super) file: File,
    pub(super) cut: Cut,
    /// Streamed tiles in a split, where there are splits.
    pub(super) tiles_per_split: usize,
}

/// What a sweep computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Loss,
    Forward,
    Backward,
}

/// The kernels, grids and memory of calls on one problem. Prints as a short table.
///
/// ```
/// use inbatch::cuda::{Hardware, Kernels, Plan};
/// use inbatch::{Dtype, LossConfig, Problem};
/// # fn main() -> Result<(), inbatch::Error> {
/// let problem = Problem {
///     rows: 16_384,
///     dim: 128,
///     batch_columns: 16_384,
///     extra_columns: 0,
///     bank_columns: 0,
///     row_negatives: 0,
///     pool: None,
///     offset: 0,
///     dtype: Dtype::Bf16,
/// };
/// let plan = Plan::new(&Hardware::new((9, 0), 132), &problem, &LossConfig::new(0.05)?);
/// assert_eq!(plan.kernels(), Kernels::Mma);
/// assert_eq!(plan.forward().kernel, "stream_mma_forward_128_bf16");
/// println!("{plan}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    hardware: Hardware,
    problem: Problem,
    config: LossConfig,
    /// Why the tensor cores stay idle.
    obstacle: Option<&'static str>,
}

impl Plan {
    /// The plan for embeddings whose rows all start at multiples of 16 bytes, as allocations do. Others are read by
    /// the SIMT kernels, unless they are normalised.
    pub fn new(hardware: &Hardware, problem: &Problem, config: &LossConfig) -> Self {
        Self::with_alignment(hardware, problem, config, true)
    }

    /// `aligned` says whether every embedding that is read starts at a multiple of 16 bytes.
    pub(super) fn with_alignment(
        hardware: &Hardware,
        problem: &Problem,
        config: &LossConfig,
        aligned: bool,
    ) -> Self {
        let obstacle = obstacle(hardware, problem, config, aligned);
        Self { hardware: *hardware, problem: *problem, config: *config, obstacle }
    }

    /// The kernels chosen.
    pub fn kernels(&self) -> Kernels {
        if self.obstacle.is_some() { Kernels::Simt } else { Kernels::Mma }
    }

    /// Why the tensor cores are not used, if they are not.
    pub fn obstacle(&self) -> Option<&'static str> {
        self.obstacle
    }

    /// The sweep of an evaluation.
    pub fn loss(&self) -> Sweep {
        self.sweep(Mode::Loss, self.problem.rows, self.problem.columns())
    }

    /// The first sweep of a step.
    pub fn forward(&self) -> Sweep {
        self.sweep(Mode::Forward, self.problem.rows, self.problem.columns())
    }

    /// The second sweep of a step, over all columns that have a gradient.
    pub fn backward(&self) -> Sweep {
        self.backward_of(self.problem.gradient_columns(), false)
    }

    /// The second sweep over the first `owned` columns. Their masses, which gradients of log q need, are added up by
    /// the SIMT kernels alone.
    pub(super) fn backward_of(&self, owned: usize, with_masses: bool) -> Sweep {
        let kernels = if with_masses { Kernels::Simt } else { self.kernels() };
        self.sweep_by(kernels, Mode::Backward, owned, self.problem.rows)
    }

    /// Bytes of device memory beside inputs and outputs, for any call on the problem.
    pub fn workspace_bytes(&self) -> usize {
        self.bytes(&Sizes::all(self))
    }

    /// Bytes of all workspaces where the main one has these sizes.
    pub(super) fn bytes(&self, sizes: &Sizes) -> usize {
        // Both directions of a symmetric loss have a workspace.
        let other = if self.config.is_symmetric() { sizes.without_scalars().bytes() } else { 0 };
        let row_negatives = Sizes::of_row_negatives(self, Purpose::Backward).bytes();
        sizes.bytes().saturating_add(other).saturating_add(row_negatives)
    }

    /// `K`, where each row has negatives for itself: row negatives, or those that mining keeps.
    pub(super) fn gathered(&self) -> Option<usize> {
        let row_negatives = self.problem.row_negatives;
        self.config.get_hard_negatives().or((row_negatives > 0).then_some(row_negatives))
    }

    /// kernels/row_negatives.cu: the sums over the rows that name each of the first `owned` columns.
    pub(super) fn gathered_backward(&self, owned: usize) -> Sweep {
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

    pub(super) fn problem(&self) -> &Problem {
        &self.problem
    }

    pub(super) fn config(&self) -> &LossConfig {
        &self.config
    }

    /// Whether the sweeps read scaled copies of the embeddings, which the workspace holds.
    pub(super) fn copies_embeddings(&self) -> bool {
        self.kernels() == Kernels::Mma && self.config.normalizes()
    }

    fn sweep(&self, mode: Mode, owned: usize, streamed: usize) -> Sweep {
        self.sweep_by(self.kernels(), mode, owned, streamed)
    }

    fn sweep_by(&self, kernels: Kernels, mode: Mode, owned: usize, streamed: usize) -> Sweep {
        match kernels {
            Kernels::Simt => self.simt(mode, owned, streamed),
            Kernels::Mma => self.mma(mode, owned, streamed),
        }
    }

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

    /// kernels/stream_mma.cuh and kernels/stream_mma_wide.cuh.
    fn mma(&self, mode: Mode, owned: usize, streamed: usize) -> Sweep {
        let Problem { dim, dtype, .. } = self.problem;
        // The loss alone has no output to find room for: one kernel does for all dimensions up to 128.
        let reach = if mode == Mode::Loss { dim.max(MMA_DIMS[1]) } else { dim };
        let at = bucket(&MMA_DIMS, reach);
        let shape = Shape::of(reach);
        let fitting = self.hardware.shared_bytes() / (shape.shared as usize + SHARED_RESERVED);
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

/// Why a problem cannot have the tensor cores, the first reason that applies: the whole table of the dispatch.
fn obstacle(
    hardware: &Hardware,
    problem: &Problem,
    config: &LossConfig,
    aligned: bool,
) -> Option<&'static str> {
    let largest = MMA_DIMS[MMA_DIMS.len() - 1];
    let copied = config.normalizes();
    [
        (!hardware.tensor_cores, "tensor cores are switched off"),
        (hardware.compute_capability < (8, 0), "the compute capability is below 8.0"),
        (problem.dtype == Dtype::F32, "the embeddings are f32"),
        (!problem.dim.is_multiple_of(16), "the dimension is no multiple of 16"),
        (problem.dim < 32 || problem.dim > largest, "the dimension is outside 32 to 1024"),
        (
            Shape::of(problem.dim).shared as usize + SHARED_RESERVED > hardware.shared_bytes(),
            "the device has too little shared memory for the dimension",
        ),
        (!aligned && !copied, "an embedding starts at no multiple of 16 bytes"),
        (!mma_has(config), "the configuration asks for what only the SIMT kernels have"),
    ]
    .into_iter()
    .find_map(|(applies, why)| applies.then_some(why))
}

/// Whether the tensor-core kernels have everything that a configuration asks for.
fn mma_has(config: &LossConfig) -> bool {
    let features = config.sweep_features();
    features.link == Link::Softmax && !features.counts && !features.moment && !features.symmetric
}

/// The first entry that reaches `dim`, or the last.
fn bucket(reach: &[usize], dim: usize) -> usize {
    reach.iter().position(|&reach| dim <= reach).unwrap_or(reach.len() - 1)
}

const WARP: usize = 32;
/// Blocks wanted for each multiprocessor where a warp searches the rows for each column.
const GATHERING_BLOCKS: usize = 8;
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
}

/// Shared memory that the device keeps for itself in each block.
const SHARED_RESERVED: usize = 1 << 10;

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

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.blocks;
        let Self { kernel, tile, streamed, threads, shared_bytes, .. } = self;
        write!(f, "{kernel}, tile {tile} x {streamed}, grid {x} x {y} x {z}, {threads} threads")?;
        write!(f, ", {shared_bytes} bytes of dynamic shared memory")
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { rows, dim, dtype, .. } = self.problem;
        let (major, minor) = self.hardware.compute_capability;
        let multiprocessors = self.hardware.multiprocessors;
        writeln!(
            f,
            "{rows} x {} x {dim} {dtype}, compute capability {major}.{minor}, {multiprocessors} multiprocessors",
            self.problem.columns()
        )?;
        match self.obstacle {
            Some(why) => writeln!(f, "kernels:   SIMT ({why})")?,
            None => writeln!(f, "kernels:   tensor cores (mma.sync)")?,
        }
        writeln!(f, "loss only: {}", self.loss())?;
        writeln!(f, "forward:   {}", self.forward())?;
        writeln!(f, "backward:  {}", self.backward())?;
        write!(f, "workspace: {} bytes", self.workspace_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(rows: usize, columns: usize, dim: usize, dtype: Dtype) -> Problem {
        Problem {
            rows,
            dim,
            batch_columns: columns,
            extra_columns: 0,
            bank_columns: 0,
            row_negatives: 0,
            pool: None,
            offset: 0,
            dtype,
        }
    }

    fn config() -> LossConfig {
        LossConfig::new(0.1).unwrap()
    }

    /// Every streamed tile belongs to exactly one split, none is empty, and partials stay bounded.
    #[test]
    fn splits_cover_the_range_and_stay_bounded() {
        for multiprocessors in [1, 4, 132] {
            for owned in [1, 63, 64, 65, 1000, 100_000] {
                for streamed in [1, 64, 65, 4096, 1_000_000] {
                    for dim in [1, 64, 65, 256, 257, 1024] {
                        let hardware = Hardware::new((7, 5), multiprocessors);
                        let plan = Plan::new(&hardware, &problem(1, 1, dim, Dtype::F32), &config());
                        let sweep = plan.sweep(Mode::Forward, owned, streamed);
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

    /// The table, one row for each reason.
    #[test]
    fn the_dispatch_table() {
        let ampere = Hardware::new((8, 0), 108);
        let ada = Hardware::new((8, 9), 128);
        let no_tensor_cores = Hardware { tensor_cores: false, ..ampere };
        let (bf16, f16, f32) = (Dtype::Bf16, Dtype::F16, Dtype::F32);
        let normalized = config().normalize(true);
        let (plain, mma) = (config(), None);
        for (hardware, dim, dtype, config, aligned, expected) in [
            (ampere, 128, bf16, plain, true, mma),
            (ampere, 32, f16, plain, true, mma),
            (ampere, 256, f16, normalized, true, mma),
            (Hardware::new((12, 0), 170), 80, bf16, plain, true, mma),
            (ampere, 64, bf16, normalized, false, mma),
            (ampere, 272, bf16, plain, true, mma),
            (ampere, 1024, f16, plain, true, mma),
            (ada, 512, f16, plain, true, mma),
            (ada, 528, f16, plain, true, Some("shared memory")),
            (no_tensor_cores, 128, bf16, plain, true, Some("switched off")),
            (Hardware::new((7, 5), 40), 128, f16, plain, true, Some("below 8.0")),
            (ampere, 128, f32, plain, true, Some("f32")),
            (ampere, 40, bf16, plain, true, Some("multiple of 16")),
            (ampere, 16, bf16, plain, true, Some("outside")),
            (ampere, 1040, bf16, plain, true, Some("outside")),
            (ampere, 64, bf16, plain, false, Some("16 bytes")),
        ] {
            let plan = Plan::with_alignment(&hardware, &problem(5, 9, dim, dtype), &config, aligned);
            match (plan.obstacle(), expected) {
                (None, None) => assert_eq!(plan.kernels(), Kernels::Mma),
                (Some(why), Some(word)) => assert!(why.contains(word), "{why} is not {word}"),
                other => panic!("{dim} {dtype}: {other:?}"),
            }
            let wanted = if expected.is_none() { "stream_mma_" } else { "stream_" };
            for sweep in [plan.loss(), plan.forward(), plan.backward()] {
                assert!(sweep.kernel.starts_with(wanted), "{plan}");
                assert_eq!(sweep.kernel.starts_with("stream_mma_"), expected.is_none(), "{plan}");
                assert!(sweep.kernel.ends_with(dtype.name()), "{plan}");
                assert!(plan.to_string().contains(&sweep.to_string()));
            }
            assert!(plan.to_string().contains(&format!("workspace: {} bytes", plan.workspace_bytes())));
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

    /// Beside inputs and outputs the workspace is below 3 (B + N) D floats at the sizes that matter.
    #[test]
    fn the_workspace_stays_small() {
        let hardware = Hardware::new((9, 0), 132);
        for (n, dim) in [(16_384, 64), (16_384, 128), (65_536, 128), (65_536, 256)] {
            for config in [config(), config().normalize(true).exclude_same_item(true)] {
                let plan = Plan::new(&hardware, &problem(n, n, dim, Dtype::Bf16), &config);
                assert!(plan.workspace_bytes() < 3 * 2 * n * dim * 4, "{plan}");
            }
        }
    }
}
