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

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn row(&self, i: usize) -> &'a [f32] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }
}

/// `scores[s, o] = <streamed_s, owned_o>` for every row of both.
pub(super) fn scores(owned: Rows<'_>, streamed: Rows<'_>, scores: &mut [f32], lanes: usize) {
    let (m, n, k) = (owned.rows, streamed.rows, owned.dim);
    assert!(m <= lanes && n * lanes <= scores.len() && streamed.dim == k);
    let gemm = gemm_f32::gemm::f32::get_gemm_fn();
    // The destination is [m, n] with column stride `lanes`: owned (row-major) times streamed transposed.
    // SAFETY: `owned` holds m rows and `streamed` n rows of k elements (Rows::new divides the slice's
    // length by dim); the destination's last element (n - 1) * lanes + m - 1 lies inside `scores` by the
    // assertion; nothing aliases the exclusive borrow; `get_gemm_fn` picks kernels that this CPU has.
    unsafe {
        gemm(
            m,
            n,
            k,
            scores.as_mut_ptr(),
            lanes as isize,
            1,
            false,
            owned.values.as_ptr(),
            1,
            k as isize,
            streamed.values.as_ptr(),
            k as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
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
