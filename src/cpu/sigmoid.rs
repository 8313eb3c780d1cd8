//! The sigmoid link's passes over one score tile, laid out as in `simd`.

use pulp::{Arch, Simd, WithSimd};

use super::simd::{UNROLL, exp2, logit};

/// `log(1 + t)` for t in [0, 1]: `2 atanh(w)` at `w = t / (2 + t) <= 1/3`, whose series in `w^2 <= 1/9` is cut where its
/// rest is 2e-8 of the whole.
#[inline(always)]
fn ln_1p<S: Simd>(simd: S, t: S::f32s) -> S::f32s {
    let w = simd.div_f32s(t, simd.add_f32s(t, simd.splat_f32s(2.0)));
    let square = simd.mul_f32s(w, w);
    let mut series = simd.splat_f32s(1.0 / 13.0);
    for k in (0..6u8).rev() {
        series = simd.mul_add_e_f32s(series, square, simd.splat_f32s(1.0 / (2.0 * f32::from(k) + 1.0)));
    }
    simd.mul_f32s(simd.add_f32s(w, w), series)
}

/// `(sigmoid(z), softplus(z))` at the base-2 logit `x = z log2(e)`; `(0, 0)` at -inf.
#[inline(always)]
fn sigmoid_and_softplus<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
    let t = exp2(simd, simd.neg_f32s(simd.abs_f32s(x)));
    let above = simd.greater_than_f32s(x, zero);
    let sigmoid = simd.div_f32s(simd.select_f32s(above, one, t), simd.add_f32s(one, t));
    let linear = simd.mul_f32s(simd.select_f32s(above, x, zero), simd.splat_f32s(std::f32::consts::LN_2));
    // A NaN is not above 0, but t is NaN.
    (sigmoid, simd.add_f32s(linear, ln_1p(simd, t)))
}

/// Forward: base-2 logits become `sigmoid(z)`, added up into `sum[o]`, and `softplus(z)` into `losses[o]`.
pub(super) struct Sigmoids<'a> {
    pub(super) scores: &'a mut [f32],
    pub(super) lanes: usize,
    pub(super) losses: &'a mut [f32],
    pub(super) sum: &'a mut [f32],
}

impl Sigmoids<'_> {
    pub(super) fn run(self, arch: Arch) {
        arch.dispatch(self);
    }
}

impl WithSimd for Sigmoids<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (losses, _) = S::as_mut_simd_f32s(self.losses);
        let (sum, _) = S::as_mut_simd_f32s(self.sum);
        let (scores, _) = S::as_mut_simd_f32s(self.scores);
        let width = self.lanes / S::F32_LANES;
        let blocks = sum.chunks_exact_mut(UNROLL).zip(losses.chunks_exact_mut(UNROLL));
        for (block, (sum, losses)) in blocks.enumerate() {
            // A tile's own sums first, so that many small terms do not meet one large one.
            let mut running = [[simd.splat_f32s(0.0); UNROLL]; 2];
            for row in scores.chunks_exact_mut(width) {
                for (k, score) in row[block * UNROLL..].iter_mut().take(UNROLL).enumerate() {
                    let (sigmoid, softplus) = sigmoid_and_softplus(simd, *score);
                    *score = sigmoid;
                    running[0][k] = simd.add_f32s(running[0][k], sigmoid);
                    running[1][k] = simd.add_f32s(running[1][k], softplus);
                }
            }
            for k in 0..UNROLL {
                sum[k] = simd.add_f32s(sum[k], running[0][k]);
                losses[k] = simd.add_f32s(losses[k], running[1][k]);
            }
        }
    }
}

/// Backward: scores become gradient weights `coefficient[s] sigmoid(z)`, exactly 0 where the coefficient is 0.
pub(super) struct SigmoidWeights<'a> {
    pub(super) scores: &'a mut [f32],
    pub(super) lanes: usize,
    pub(super) scale: f32,
    /// One for each lane.
    pub(super) bias: &'a [f32],
    /// One for each streamed row.
    pub(super) coefficient: &'a [f32],
}

impl SigmoidWeights<'_> {
    pub(super) fn run(self, arch: Arch) {
        arch.dispatch(self);
    }
}

impl WithSimd for SigmoidWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let scale = simd.splat_f32s(self.scale);
        let (bias, _) = S::as_simd_f32s(self.bias);
        let (scores, _) = S::as_mut_simd_f32s(self.scores);
        let width = self.lanes / S::F32_LANES;
        for (row, &coefficient) in scores.chunks_exact_mut(width).zip(self.coefficient) {
            if coefficient == 0.0 {
                row.fill(simd.splat_f32s(0.0));
                continue;
            }
            let coefficient = simd.splat_f32s(coefficient);
            for (score, bias) in row.iter_mut().zip(bias) {
                let (sigmoid, _) = sigmoid_and_softplus(simd, logit(simd, *score, scale, *bias));
                *score = simd.mul_f32s(coefficient, sigmoid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::LANE_STEP;

    #[test]
    fn sigmoid_and_softplus_keep_their_digits() {
        let z: Vec<f32> = (-9000..=9000).map(|k| k as f32 / 100.0).collect();
        for chunk in z.chunks(LANE_STEP) {
            let mut scores: Vec<f32> = chunk.iter().map(|z| z * std::f32::consts::LOG2_E).collect();
            scores.resize(LANE_STEP, f32::NEG_INFINITY);
            let (mut losses, mut sum) = ([0.0; LANE_STEP], [0.0; LANE_STEP]);
            let x = scores.clone();
            let pass = Sigmoids { scores: &mut scores, lanes: LANE_STEP, losses: &mut losses, sum: &mut sum };
            pass.run(Arch::new());
            for k in 0..LANE_STEP {
                let z = f64::from(x[k]) / std::f64::consts::LOG2_E;
                let e = (-z.abs()).exp();
                let softplus = z.max(0.0) + e.ln_1p();
                let sigmoid = if z >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
                for (found, expected) in [(losses[k], softplus), (sum[k], sigmoid), (scores[k], sigmoid)] {
                    // Below 2^-126 the exponential is 0; exp2 rounds by 2 ulp of z / ln 2.
                    let bound = 4e-7 * expected + 2e-38;
                    assert!((f64::from(found) - expected).abs() <= bound, "z {z}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn sigmoid_and_softplus_at_the_ends() {
        let mut scores = vec![0.0; LANE_STEP];
        scores[..3].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        let (mut losses, mut sum) = ([0.0; LANE_STEP], [0.0; LANE_STEP]);
        Sigmoids { scores: &mut scores, lanes: LANE_STEP, losses: &mut losses, sum: &mut sum }
            .run(Arch::new());
        assert!(scores[0].is_nan() && losses[0].is_nan() && sum[0].is_nan());
        assert_eq!((scores[1], losses[1]), (1.0, f32::INFINITY));
        assert_eq!((scores[2], losses[2]), (0.0, 0.0));
    }
}
