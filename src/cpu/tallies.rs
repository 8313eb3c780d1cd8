//! What is counted and summed over a score tile beside the softmax: ranks, biases, column masses. Layout as in `simd`.

use pulp::{Arch, Simd, WithSimd};

use super::partial::Counts;
use super::simd::{UNROLL, exp2, logit};

/// Forward: counts the logits above -inf, and those of them above `reference[o]`. A NaN on either side counts as above.
pub(super) struct Ranks<'a, 'c> {
    pub(super) scores: &'a [f32],
    pub(super) lanes: usize,
    /// One for each lane: the positive's logit.
    pub(super) reference: &'a [f32],
    pub(super) counts: &'a mut Counts<'c>,
}

impl Ranks<'_, '_> {
    pub(super) fn run(self, arch: Arch) {
        arch.dispatch(self);
    }
}

impl WithSimd for Ranks<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (scores, _) = S::as_simd_f32s(self.scores);
        let (reference, _) = S::as_simd_f32s(self.reference);
        let (negatives, _) = S::as_mut_simd_u32s(self.counts.negatives);
        let (above, _) = S::as_mut_simd_u32s(self.counts.above);
        let width = self.lanes / S::F32_LANES;
        let (absent, zero, one) =
            (simd.splat_f32s(f32::NEG_INFINITY), simd.splat_u32s(0), simd.splat_u32s(1));
        for row in scores.chunks_exact(width) {
            for (k, score) in row.iter().enumerate() {
                let counted = simd.select_u32s(simd.equal_f32s(*score, absent), zero, one);
                let not_above = simd.less_than_or_equal_f32s(*score, reference[k]);
                negatives[k] = simd.add_u32s(negatives[k], counted);
                above[k] = simd.add_u32s(above[k], simd.select_u32s(not_above, zero, counted));
            }
        }
    }
}

/// Forward: adds `sum_s weights[s, o] bias[s]` to `moment[o]`.
pub(super) struct Moments<'a> {
    pub(super) scores: &'a [f32],
    pub(super) lanes: usize,
    /// One for each streamed row.
    pub(super) bias: &'a [f32],
    pub(super) moment: &'a mut [f32],
}

impl Moments<'_> {
    pub(super) fn run(self, arch: Arch) {
        arch.dispatch(self);
    }
}

impl WithSimd for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (scores, _) = S::as_simd_f32s(self.scores);
        let (moment, _) = S::as_mut_simd_f32s(self.moment);
        let width = self.lanes / S::F32_LANES;
        for (block, moment) in moment.chunks_exact_mut(UNROLL).enumerate() {
            for (row, &bias) in scores.chunks_exact(width).zip(self.bias) {
                // An absent column has weight 0, and 0 times infinity is no number.
                if bias == f32::NEG_INFINITY {
                    continue;
                }
                let bias = simd.splat_f32s(bias);
                for (moment, weight) in moment.iter_mut().zip(&row[block * UNROLL..]) {
                    *moment = simd.mul_add_e_f32s(*weight, bias, *moment);
                }
            }
        }
    }
}

/// Backward of a loss of rows and columns: scores become
/// `coefficient[s] 2^(x - max[s]) + own_coefficient[o] 2^(y - own_max[o])` with `x = score * scale + own_bias[o]` and
/// `y = score * scale + bias[s]`. The first terms, which log q of the owned side enters, are added to `mass[o]`.
pub(super) struct SymmetricWeights<'a> {
    pub(super) scores: &'a mut [f32],
    pub(super) lanes: usize,
    pub(super) scale: f32,
    /// One for each streamed row.
    pub(super) streamed: Side<'a>,
    /// One for each lane.
    pub(super) owned: Side<'a>,
    pub(super) mass: &'a mut [f32],
}

/// One side of a loss of rows and columns.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    /// As columns of the other side's loss.
    pub(super) bias: &'a [f32],
    /// Of its own loss, in base 2.
    pub(super) max: &'a [f32],
    /// Of its own loss.
    pub(super) coefficient: &'a [f32],
}

impl SymmetricWeights<'_> {
    pub(super) fn run(self, arch: Arch) {
        arch.dispatch(self);
    }
}

/// `coefficient 2^(x - max)`; a coefficient of 0 gives 0, whatever the weight is. (A function, because a closure would
/// not be inlined, and out of line it has none of the vector instructions.)
#[inline(always)]
fn weight<S: Simd>(simd: S, coefficient: S::f32s, x: S::f32s, max: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    let product = simd.mul_f32s(coefficient, exp2(simd, simd.sub_f32s(x, max)));
    simd.select_f32s(simd.equal_f32s(coefficient, zero), zero, product)
}

impl WithSimd for SymmetricWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let scale = simd.splat_f32s(self.scale);
        let (own_bias, _) = S::as_simd_f32s(self.owned.bias);
        let (own_max, _) = S::as_simd_f32s(self.owned.max);
        let (own_coefficient, _) = S::as_simd_f32s(self.owned.coefficient);
        let (scores, _) = S::as_mut_simd_f32s(self.scores);
        let (mass, _) = S::as_mut_simd_f32s(self.mass);
        let width = self.lanes / S::F32_LANES;
        for (s, row) in scores.chunks_exact_mut(width).enumerate() {
            let bias = simd.splat_f32s(self.streamed.bias[s]);
            let max = simd.splat_f32s(self.streamed.max[s]);
            let coefficient = simd.splat_f32s(self.streamed.coefficient[s]);
            for (k, score) in row.iter_mut().enumerate() {
                let x = logit(simd, *score, scale, own_bias[k]);
                let y = logit(simd, *score, scale, bias);
                let own = weight(simd, own_coefficient[k], y, own_max[k]);
                let streamed = weight(simd, coefficient, x, max);
                mass[k] = simd.add_f32s(mass[k], streamed);
                *score = simd.add_f32s(streamed, own);
            }
        }
    }
}

/// Weights near one another, as under a saturated sigmoid, round alike when added one by one: short sums first.
const ROWS_AT_ONCE: usize = 16;

/// Backward: adds `sum_s weights[s, o]` to `mass[o]`.
pub(super) struct Masses<'a> {
    pub(super) scores: &'a [f32],
    pub(super) lanes: usize,
    pub(super) mass: &'a mut [f32],
}

impl Masses<'_> {
    pub(super) fn run(self, arch: Arch) {
        arch.dispatch(self);
    }
}

impl WithSimd for Masses<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (scores, _) = S::as_simd_f32s(self.scores);
        let (mass, _) = S::as_mut_simd_f32s(self.mass);
        let width = self.lanes / S::F32_LANES;
        for (block, mass) in mass.chunks_exact_mut(UNROLL).enumerate() {
            for rows in scores.chunks(width * ROWS_AT_ONCE) {
                let mut running = [simd.splat_f32s(0.0); UNROLL];
                for row in rows.chunks_exact(width) {
                    for (running, weight) in running.iter_mut().zip(&row[block * UNROLL..]) {
                        *running = simd.add_f32s(*running, *weight);
                    }
                }
                for (mass, running) in mass.iter_mut().zip(running) {
                    *mass = simd.add_f32s(*mass, running);
                }
            }
        }
    }
}
