//! Every buffer of a loss object, sized from the problem before anything runs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cells::{CellSizes, Cells};
use super::exclusion::Groups;
use super::partial::Fields;
use super::tiles::{RowPartition, STREAMED, lanes, most_column_tiles};
use crate::{Error, LossConfig, Problem, Result};

/// What the forward pass leaves for the backward pass, one for each row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowState {
    /// Largest logit among the negatives, in base 2, kept finite.
    pub(super) max: f32,
    /// `sum_j 2^(x_j - max)`.
    pub(super) sum: f32,
    /// `a_i` of the objective.
    pub(super) negative: f32,
    /// `b_i` of the objective.
    pub(super) positive: f32,
    /// The objective's own derivative with respect to 1/tau.
    pub(super) inverse_temperature: f32,
    /// `sum_j W_ij` of the sigmoid link, 1 for the softmax.
    pub(super) mass: f32,
    /// `sum_j W_ij log q's part of z_ij`, where log q stands inside the temperature.
    pub(super) moment: f32,
    /// The same part of z+.
    pub(super) positive_moment: f32,
    /// dloss / dlog_q_+.
    pub(super) log_q: f32,
}

/// What the column sweep needs of one row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowGradient {
    /// `g_i a_i / tau`.
    pub(super) negative: f32,
    /// `g_i b_i / tau`.
    pub(super) positive: f32,
    /// `g_i` times dloss / dlog_q_+.
    pub(super) log_q: f32,
    /// The row's share of dloss / d(1/tau).
    pub(super) d_inverse_temperature: f64,
    /// The row's share of dloss / dbias.
    pub(super) d_bias: f64,
}

/// One thread's buffers.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[STREAMED, lanes]`: the only scores that ever exist.
    pub(super) scores: Vec<f32>,
    /// `[lanes, D]` owned embeddings, when they must be converted.
    pub(super) owned: Vec<f32>,
    /// `[STREAMED, D]` streamed embeddings, when they must be converted.
    pub(super) streamed: Vec<f32>,
    /// `[lanes, D]`.
    pub(super) accumulator: Vec<f32>,
    /// Base-2 biases of a tile's columns.
    pub(super) bias: Vec<f32>,
    /// `[lanes]` running maxima.
    pub(super) max: Vec<f32>,
    /// `[lanes]` the positives' logits in base 2, where ranks are counted.
    pub(super) reference: Vec<f32>,
    /// `[lanes]` sums of gradient weights.
    pub(super) mass: Vec<f32>,
    /// `[2 + labels, lanes]` positions in the excluded partners by item, by user, and by each place of a label where a
    /// class table's rows have any.
    pub(super) cursors: Vec<u32>,
}

/// All buffers, by who writes them. They only grow.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) prepared: Prepared,
    pub(super) cells: Cells,
    pub(super) forward: Forward,
    pub(super) backward: Backward,
}

/// What a forward prepares from the inputs and both sweeps read.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// `[B]` and `[N]` reciprocal norms, when the loss normalises.
    pub(super) user_norms: Vec<f64>,
    pub(super) column_norms: Vec<f64>,
    pub(super) same_item: Groups,
    pub(super) same_user: Groups,
    scratch: Vec<Mutex<Scratch>>,
}

/// What sweep 1 and its row stage write.
#[derive(Debug, Default)]
pub(super) struct Forward {
    /// `[row_tiles, splits, lanes, D]`: partial O, then O itself in each tile's first split.
    pub(super) outputs: Vec<f32>,
    /// `[row_tiles, splits, words, lanes]`: statistics of the partials, see [`Fields`].
    pub(super) stats: Vec<f32>,
    pub(super) rows: Vec<RowState>,
    pub(super) row_losses: Vec<f32>,
    pub(super) log_sum_exp: Vec<f32>,
    pub(super) z_positive: Vec<f32>,
    /// `[B]` each, if counted.
    pub(super) ranks: Vec<u32>,
    pub(super) negatives: Vec<u32>,
    pub(super) excluded: Vec<u32>,
}

/// What the backward row stage writes and sweep 2 reads.
#[derive(Debug, Default)]
pub(super) struct Backward {
    pub(super) rows: Vec<RowGradient>,
    /// `[B]` [`RowState::max`], side by side for the sweep.
    pub(super) max: Vec<f32>,
    /// `[B]` `g_i a_i / tau / sum_i`.
    pub(super) weight: Vec<f32>,
    /// `[B]` each item's share of d(1/tau), where items have a loss of their own.
    pub(super) terms: Vec<f32>,
}

/// Lengths of all buffers for one problem.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    rows: usize,
    columns: usize,
    dim: usize,
    items: usize,
    row_lanes: usize,
    scratch_lanes: usize,
    threads: usize,
    gradients: bool,
    words: usize,
    counts: bool,
    symmetric: bool,
    norms: bool,
    same_item: bool,
    same_user: bool,
    cells: Option<CellSizes>,
}

impl Sizes {
    fn of(problem: &Problem, config: &LossConfig, gradients: bool) -> Self {
        let partition = RowPartition::new(problem, most_column_tiles(problem));
        Self {
            rows: problem.rows,
            columns: problem.columns().saturating_add(problem.row_negative_embeddings()),
            dim: problem.dim,
            items: partition.items(),
            row_lanes: partition.lanes,
            scratch_lanes: scratch_lanes(problem),
            threads: rayon::current_num_threads(),
            gradients,
            words: Fields::of(config).words(),
            counts: config.sweep_features().counts,
            symmetric: config.is_symmetric(),
            norms: config.normalizes(),
            same_item: config.excludes_same_item(),
            same_user: config.excludes_same_user(),
            cells: CellSizes::of(config, problem, partition, gradients),
        }
    }

    fn bytes(&self) -> u128 {
        let times = |a: usize, b: usize| a as u128 * b as u128;
        let row = size_of::<RowState>() + 3 * 4;
        let per_thread = size_of::<Mutex<Scratch>>() as u128
            + times(STREAMED, self.scratch_lanes) * 4
            + times(STREAMED + 2 * self.scratch_lanes, self.dim) * 4
            + times(STREAMED.max(self.scratch_lanes) + 5 * self.scratch_lanes, 4);
        let mut bytes = self.cells.map_or(0, |cells| cells.bytes());
        bytes += times(self.rows, row) + times(self.items, self.words * self.row_lanes * 4);
        if self.counts {
            bytes += times(self.rows, 3 * 4);
        }
        if self.gradients {
            bytes += match self.symmetric {
                true => times(self.rows, 4),
                false => times(self.items, self.row_lanes) * self.dim as u128 * 4,
            };
            bytes += times(self.rows, size_of::<RowGradient>() + 2 * 4);
        }
        if self.norms {
            bytes += (self.rows as u128 + self.columns as u128) * 8;
        }
        for asked in [self.same_item, self.same_user] {
            if asked {
                bytes += Groups::bytes(self.rows, self.columns);
            }
        }
        bytes + per_thread * self.threads as u128
    }
}

/// Lengthens a buffer to at least `len`, without the reserve that `Vec` would add.
pub(super) fn grow<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) -> Result<()> {
    if buffer.len() < len {
        let bytes = len as u128 * size_of::<T>() as u128;
        buffer.try_reserve_exact(len - buffer.len()).map_err(|_| Error::OutOfMemory { bytes })?;
        buffer.resize(len, T::default());
    }
    Ok(())
}

/// A fresh buffer.
pub(super) fn filled<T: Clone>(len: usize, value: T) -> Result<Vec<T>> {
    let mut buffer = Vec::new();
    let bytes = len as u128 * size_of::<T>() as u128;
    buffer.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes })?;
    buffer.resize(len, value);
    Ok(buffer)
}

impl Workspace {
    /// Bytes that [`Workspace::reserve`] brings a fresh workspace to, on the current thread pool.
    pub(super) fn bytes(problem: &Problem, config: &LossConfig, gradients: bool) -> u128 {
        Sizes::of(problem, config, gradients).bytes()
    }

    /// Makes room for a problem; does nothing when there is room already.
    pub(super) fn reserve(&mut self, problem: &Problem, config: &LossConfig, gradients: bool) -> Result<()> {
        let sizes = Sizes::of(problem, config, gradients);
        if sizes.bytes() > isize::MAX as u128 {
            return Err(Error::OutOfMemory { bytes: sizes.bytes() });
        }
        let Sizes { rows, columns, dim, items, row_lanes, .. } = sizes;
        let Self { prepared, cells, forward, backward } = self;
        if let Some(sizes) = &sizes.cells {
            cells.reserve(sizes)?;
        }
        grow(&mut forward.rows, rows)?;
        grow(&mut forward.row_losses, rows)?;
        grow(&mut forward.log_sum_exp, rows)?;
        grow(&mut forward.z_positive, rows)?;
        grow(&mut forward.stats, items * sizes.words * row_lanes)?;
        if sizes.counts {
            grow(&mut forward.ranks, rows)?;
            grow(&mut forward.negatives, rows)?;
            grow(&mut forward.excluded, rows)?;
        }
        if gradients {
            grow(&mut forward.outputs, if sizes.symmetric { 0 } else { items * row_lanes * dim })?;
            grow(&mut backward.terms, if sizes.symmetric { rows } else { 0 })?;
            grow(&mut backward.rows, rows)?;
            grow(&mut backward.max, rows)?;
            grow(&mut backward.weight, rows)?;
        }
        if sizes.norms {
            grow(&mut prepared.user_norms, rows)?;
            grow(&mut prepared.column_norms, columns)?;
        }
        if sizes.same_item {
            prepared.same_item.reserve(rows, columns)?;
        }
        if sizes.same_user {
            prepared.same_user.reserve(rows, columns)?;
        }
        prepared.reserve_scratch(sizes.threads, sizes.scratch_lanes, dim)
    }
}

impl Workspace {
    /// Bytes that [`Workspace::reserve_labels`] adds.
    pub(super) fn label_bytes(problem: &Problem, labels: usize) -> u128 {
        let cursors = labels as u128 * scratch_lanes(problem) as u128;
        cursors * size_of::<u32>() as u128 * rayon::current_num_threads() as u128
    }

    /// Makes room for the walks of so many labels a row, after [`Workspace::reserve`] for the same problem.
    pub(super) fn reserve_labels(&mut self, problem: &Problem, labels: usize) -> Result<()> {
        for scratch in &mut self.prepared.scratch {
            let scratch = scratch.get_mut().unwrap_or_else(PoisonError::into_inner);
            grow(&mut scratch.cursors, (2 + labels) * scratch_lanes(problem))?;
        }
        Ok(())
    }
}

/// Lanes of the widest tile of either sweep.
fn scratch_lanes(problem: &Problem) -> usize {
    lanes(problem.rows).max(lanes(problem.gradient_columns()))
}

impl Prepared {
    fn reserve_scratch(&mut self, threads: usize, lanes: usize, dim: usize) -> Result<()> {
        if self.scratch.len() < threads {
            let bytes = threads as u128 * size_of::<Mutex<Scratch>>() as u128;
            let more = threads - self.scratch.len();
            self.scratch.try_reserve_exact(more).map_err(|_| Error::OutOfMemory { bytes })?;
            self.scratch.resize_with(threads, Default::default);
        }
        for scratch in &mut self.scratch {
            scratch.get_mut().unwrap_or_else(PoisonError::into_inner).reserve(lanes, dim)?;
        }
        Ok(())
    }

    /// This thread's buffers. Each thread of the pool has its own, so nobody ever waits here.
    pub(super) fn scratch(&self) -> MutexGuard<'_, Scratch> {
        let thread = rayon::current_thread_index().unwrap_or(0) % self.scratch.len();
        self.scratch[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scratch {
    fn reserve(&mut self, lanes: usize, dim: usize) -> Result<()> {
        grow(&mut self.scores, STREAMED * lanes)?;
        grow(&mut self.owned, lanes * dim)?;
        grow(&mut self.streamed, STREAMED * dim)?;
        grow(&mut self.accumulator, lanes * dim)?;
        grow(&mut self.bias, STREAMED.max(lanes))?;
        grow(&mut self.max, lanes)?;
        grow(&mut self.reference, lanes)?;
        grow(&mut self.mass, lanes)?;
        grow(&mut self.cursors, 2 * lanes)
    }
}
