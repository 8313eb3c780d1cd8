//! The softmax passes over one score tile, in base 2, one owned row per SIMD lane.
//!
//! A tile is stream-major (see `product`): lane `o` of streamed row `s` is `scores[s * lanes + o]`.
//! -inf marks an absent cell (the row's positive, an excluded pair). Absent cells stay absent whatever
//! the column's bias is.

use pulp::{Arch, Simd, WithSimd};

/// Vectors handled together, so that running maxima and sums stay in registers.
pub(super) const UNROLL: usize = 4;

/// Owned rows of a tile: a multiple of every SIMD width times [`UNROLL`].
pub(super) const LANE_STEP: usize = 64;

/// Polynomial coefficients of `2^f` on [-1/2, 1/2], lowest first: a minimax fit in f64, relative error
/// 2e-9 before rounding, so that f32 arithmetic decides the accuracy (see the test).
const EXP2: [f32; 7] = [
    1.0,
    std::f32::consts::LN_2,
    0.240_226_48,
    0.055_503_324,
    0.009_618_437,
    0.001_339_887_5,
    0.000_153_533_62,
];

/// `2^x`, within 2 ulp; 0 below -126 (no subnormal results), +inf from 128 on, NaN for NaN.
#[inline(always)]
pub(super) fn exp2<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low mantissa bits.
    let magic = simd.splat_f32s(12_582_912.0);
    let shifted = simd.add_f32s(x, magic);
    let fraction = simd.sub_f32s(x, simd.sub_f32s(shifted, magic));
    let mut polynomial = simd.splat_f32s(EXP2[6]);
    for k in (0..6).rev() {
        polynomial = simd.mul_add_e_f32s(polynomial, fraction, simd.splat_f32s(EXP2[k]));
    }
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let scaled = simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(polynomial), exponent));
    let zero = simd.splat_f32s(0.0);
    let infinity = simd.splat_f32s(f32::INFINITY);
    let result = simd.select_f32s(simd.less_than_f32s(x, simd.splat_f32s(-126.0)), zero, scaled);
    let result =
        simd.select_f32s(simd.greater_than_or_equal_f32s(x, simd.splat_f32s(128.0)), infinity, result);
    simd.select_f32s(simd.equal_f32s(x, x), result, x)
}

/// `x = score * scale + bias`, -inf where the cell is absent.
#[inline(always)]
pub(super) fn logit<S: Simd>(simd: S, score: S::f32s, scale: S::f32s, bias: S::f32s) -> S::f32s {
    let absent = simd.splat_f32s(f32::NEG_INFINITY);
    let x = simd.mul_add_e_f32s(score, scale, bias);
    simd.select_f32s(simd.equal_f32s(score, absent), absent, x)
}

/// Forward, first pass: scores become logits `x = score * scale + bias[s]`, `max[o]` their running
/// maximum. NaN does not enter the maximum.
pub(super) struct Logits<'a> {
    pub(super) scores: &'a mut [f32],
    pub(super) lanes: usize,
    pub(super) scale: f32,
    /// One for each streamed row.
    pub(super) bias: &'a [f32],
    /// One for each lane, already holding the maximum so far.
    pub(super) max: &'a mut [f32],
}

impl Logits<'_> {
    pub(super) fn run(self, arch: Arch) {
        arch.dispatch(self);
    }
}

impl WithSimd for Logits<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let scale = simd.splat_f32s(self.scale);
        let (max, _) = S::as_mut_simd_f32s(self.max);
        let (scores, _) = S::as_mut_simd_f32s(self.scores);
        let width = self.lanes / S::F32_LANES;
        for (block, max) in max.chunks_exact_mut(UNROLL).enumerate() {
            let mut running: [S::f32s; UNROLL] = std::array::from_fn(|k| max[k]);
            for (row, &bias) in scores.chunks_exact_mut(width).zip(self.bias) {
                let bias = simd.splat_f32s(bias);
                for (running, score) in running.iter_mut().zip(&mut row[block * UNROLL..]) {
                    let x = logit(simd, *score, scale, bias);
                    *score = x;
                    // A NaN compares as not greater: the maximum stays a number.
                    *running = simd.select_f32s(simd.greater_than_f32s(x, *running), x, *running);
                }
            }
            max.copy_from_slice(&running);
        }
    }
}

/// Forward, second pass: logits become `p = 2^(x - max[o])`, added up into `sum[o]`.
pub(super) struct Exponentials<'a> {
    pub(super) scores: &'a mut [f32],
    pub(super) lanes: usize,
    pub(super) max: &'a [f32],
    pub(super) sum: &'a mut [f32],
}

impl Exponentials<'_> {
    pub(super) fn run(self, arch: Arch) {
        arch.dispatch(self);
    }
}

impl WithSimd for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (max, _) = S::as_simd_f32s(self.max);
        let (sum, _) = S::as_mut_simd_f32s(self.sum);
        let (scores, _) = S::as_mut_simd_f32s(self.scores);
        let width = self.lanes / S::F32_LANES;
        for (block, (sum, max)) in sum.chunks_exact_mut(UNROLL).zip(max.chunks_exact(UNROLL)).enumerate() {
            let mut running = [simd.splat_f32s(0.0); UNROLL];
            for row in scores.chunks_exact_mut(width) {
                let cells = &mut row[block * UNROLL..];
                for ((running, score), max) in running.iter_mut().zip(cells).zip(max) {
                    let p = exp2(simd, simd.sub_f32s(*score, *max));
                    *score = p;
                    *running = simd.add_f32s(*running, p);
                }
            }
            for (sum, running) in sum.iter_mut().zip(running) {
                *sum = simd.add_f32s(*sum, running);
            }
        }
    }
}

/// Backward: scores become gradient weights `coefficient[s] * 2^(x - max[s])`, `x = score * scale + bias[o]`,
/// exactly 0 where the coefficient is 0.
pub(super) struct Weights<'a> {
    pub(super) scores: &'a mut [f32],
    pub(super) lanes: usize,
    pub(super) scale: f32,
    /// One for each lane.
    pub(super) bias: &'a [f32],
    /// One for each streamed row: its maximum, in base 2.
    pub(super) max: &'a [f32],
    /// One for each streamed row: its gradient coefficient over its sum.
    pub(super) coefficient: &'a [f32],
}

impl Weights<'_> {
    pub(super) fn run(self, arch: Arch) {
        arch.dispatch(self);
    }
}

impl WithSimd for Weights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let scale = simd.splat_f32s(self.scale);
        let (bias, _) = S::as_simd_f32s(self.bias);
        let (scores, _) = S::as_mut_simd_f32s(self.scores);
        let width = self.lanes / S::F32_LANES;
        let rows = scores.chunks_exact_mut(width).zip(self.max).zip(self.coefficient);
        for ((row, &max), &coefficient) in rows {
            if coefficient == 0.0 {
                row.fill(simd.splat_f32s(0.0));
                continue;
            }
            let (max, coefficient) = (simd.splat_f32s(max), simd.splat_f32s(coefficient));
            for (score, bias) in row.iter_mut().zip(bias) {
                // The forward's rounding of the logit, bit for bit, then the difference.
                let x = logit(simd, *score, scale, *bias);
                *score = simd.mul_f32s(coefficient, exp2(simd, simd.sub_f32s(x, max)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp2<'a>(&'a mut [f32]);

    impl WithSimd for Exp2<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, tail) = S::as_mut_simd_f32s(self.0);
            assert!(tail.is_empty());
            vectors.iter_mut().for_each(|x| *x = exp2(simd, *x));
        }
    }

    fn run(mut x: Vec<f32>) -> Vec<f32> {
        x.resize(x.len().next_multiple_of(64), 0.0);
        Arch::new().dispatch(Exp2(&mut x));
        x
    }

    #[test]
    fn exp2_is_within_two_ulp() {
        let inputs: Vec<f32> =
            (-126 * 512 * 16..128 * 512 * 16).map(|k| k as f32 / 8192.0 + 1.3e-5).collect();
        let mut worst = 0.0f64;
        for (x, found) in inputs.iter().zip(run(inputs.clone())) {
            if *x >= 128.0 {
                continue;
            }
            let exact = f64::from(*x).exp2();
            let ulp = exact.log2().floor().exp2() * f64::from(f32::EPSILON);
            worst = worst.max((f64::from(found) - exact).abs() / ulp);
        }
        assert!(worst <= 2.0, "{worst} ulp");
        assert!(worst > 0.1, "nothing was compared");
    }

    #[test]
    fn exp2_at_the_ends() {
        let inputs = vec![
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            -f32::MAX,
            0.0,
            -0.0,
            1.0,
            -126.0,
            -126.001,
            127.0,
            128.0,
        ];
        let found = run(inputs);
        assert!(found[0].is_nan());
        let expected = [f32::INFINITY, 0.0, f32::INFINITY, 0.0, 1.0, 1.0, 2.0, f32::MIN_POSITIVE, 0.0];
        assert_eq!(found[1..10], expected);
        assert_eq!(found[10..12], [2f32.powi(127), f32::INFINITY]);
    }
}
