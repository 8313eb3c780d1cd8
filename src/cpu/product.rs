//! Tile products by the `gemm` crate's f32 kernels, behind checked slices.
//!
//! A score tile is stored stream-major: `scores[s * lanes + o]` for the streamed row `s` and the owned
//! row `o`. Neighbours in memory then belong to different owned rows, so the softmax passes run one
//! owned row per SIMD lane and never reduce across lanes.

use gemm_common::Parallelism;

/// A row-major matrix `[rows, dim]`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    values: &'a [f32],
    rows: usize,
    dim: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn new(values: &'a [f32], dim: usize) -> Self {
        Self { values, rows: values.len() / dim, dim }
    }

    /// The first `rows` rows.
    pub(super) fn first(&self, rows: usize) -> Self {
        Self::new(&self.values[..rows * self.dim], self.dim)
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn row(&self, i: usize) -> &'a [f32] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }
}

/// The fewest streamed rows of a score tile; ragged tiles are padded with zero rows. Below, and with other
/// than all lanes owned, `gemm` would choose other kernels, which add up in another order.
pub(super) const FEWEST_STREAMED: usize = 8;

/// Products of longer rows are added up piece by piece, as `gemm` would, but always in the same pieces.
const DEPTH: usize = 512;

/// `scores[s, o] = <streamed_s, owned_o>` for every row of both.
///
/// A score has the same bits in both sweeps, whichever of its two rows is owned: every score is one chain of
/// fused multiply-adds in the order of the dimensions. The backward can then subtract the forward's maximum
/// without an error that grows with the logits.
pub(super) fn scores(owned: Rows<'_>, streamed: Rows<'_>, scores: &mut [f32]) {
    let (m, n, dim) = (owned.rows, streamed.rows, owned.dim);
    assert!(m * n <= scores.len() && streamed.dim == dim);
    debug_assert!(m % super::simd::LANE_STEP == 0 && n >= FEWEST_STREAMED);
    let gemm = gemm_f32::gemm::f32::get_gemm_fn();
    for first in (0..dim).step_by(DEPTH) {
        let depth = DEPTH.min(dim - first);
        // The destination is [m, n] with column stride m: owned (row-major) times streamed transposed.
        // SAFETY: `owned` holds m rows and `streamed` n rows of dim elements (Rows::new divides the slice's
        // length by dim), of which columns first..first + depth <= dim are read; the destination's m * n
        // elements lie inside `scores` by the assertion; nothing aliases the exclusive borrow;
        // `get_gemm_fn` picks kernels that this CPU has.
        unsafe {
            gemm(
                m,
                n,
                depth,
                scores.as_mut_ptr(),
                m as isize,
                1,
                first > 0,
                owned.values.as_ptr().add(first),
                1,
                dim as isize,
                streamed.values.as_ptr().add(first),
                dim as isize,
                1,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

/// `target[o] (+)= sum_s weights[s, o] streamed_s`: added to what is there if `accumulate`.
pub(super) fn accumulate(
    weights: &[f32],
    lanes: usize,
    streamed: Rows<'_>,
    target: &mut [f32],
    accumulate: bool,
) {
    let (n, k) = (streamed.dim, streamed.rows);
    let m = target.len() / n;
    assert!(m <= lanes && k * lanes <= weights.len());
    let gemm = gemm_f32::gemm::f32::get_gemm_fn();
    // The destination is the transposed target [n, m]: streamed transposed times weights.
    // SAFETY: `target` holds m rows of n elements; `streamed` k rows of n; the last weight read is
    // (k - 1) * lanes + m - 1, inside `weights` by the assertion; the destination is borrowed exclusively.
    unsafe {
        gemm(
            n,
            m,
            k,
            target.as_mut_ptr(),
            n as isize,
            1,
            accumulate,
            streamed.values.as_ptr(),
            n as isize,
            1,
            weights.as_ptr(),
            1,
            lanes as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
