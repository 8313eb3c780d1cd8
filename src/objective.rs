//! Objectives: functions of one row's `(LSE, z+)` that give its loss and its two coefficients.
//!
//! With `W_ij` the softmax over row i's negatives (under the sigmoid link `sigmoid(z_ij)`), `dloss/dz_ij = a_i W_ij` for
//! each negative and `dloss/dz_i+ = -b_i`. `kernels/objective.cuh` holds the same functions for the device; a test
//! compares the two on a grid.

use crate::Objective;

/// What the sweep and the positive say of one row that has negatives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// `LSE - z+`; under the sigmoid link `sum_j softplus(z_ij)`.
    pub x: f32,
    /// `z+`.
    pub z_positive: f32,
    /// `n`, the number of negatives, where the objective needs it.
    pub negatives: f32,
    /// `1/tau`, for the debiased loss's bound.
    pub inverse_temperature: f32,
    /// `lambda log(1 - q_+)`, for the corrected log q.
    pub log_rest: f32,
}

/// What an objective says of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowTerm {
    /// The row's loss.
    pub loss: f32,
    /// `a_i`: the mass that the gradient puts on the negatives.
    pub negative: f32,
    /// `b_i`: minus the derivative with respect to the positive's logit.
    pub positive: f32,
    /// The derivative with respect to `1/tau` that does not go through logits.
    pub inverse_temperature: f32,
}

impl RowTerm {
    /// What a row without negatives gives under the softmax link.
    pub const NOTHING: Self = Self { loss: 0.0, negative: 0.0, positive: 0.0, inverse_temperature: 0.0 };
}

/// The objective's value at a row with negatives. (Without any, the softmax link gives [`RowTerm::NOTHING`] and the
/// sigmoid link keeps its positive term, at `x = 0`.)
#[inline(always)]
pub fn evaluate(objective: Objective, row: Row) -> RowTerm {
    match objective {
        Objective::Softmax => sampled_softmax_at(row.x),
        Objective::AdditiveMargin { margin } => sampled_softmax_at(row.x + margin),
        Objective::Decoupled => {
            RowTerm { loss: row.x, negative: 1.0, positive: 1.0, inverse_temperature: 0.0 }
        }
        Objective::CorrectedLogQ => corrected_log_q(row),
        Objective::Debiased { positive_prior } => debiased(row, positive_prior),
        Objective::Sigmoid { .. } => {
            let positive = sampled_softmax_at(-row.z_positive);
            RowTerm { loss: row.x + positive.loss, negative: 1.0, ..positive }
        }
    }
}

/// `w (LSE' - s+)` with `w = sigmoid(LSE' - log n - s+)` held constant.
#[inline(always)]
fn corrected_log_q(row: Row) -> RowTerm {
    let x = row.x + row.log_rest;
    let weight = sampled_softmax_at(x - row.negatives.ln()).negative;
    RowTerm { loss: weight * x, negative: weight, positive: weight, inverse_temperature: 0.0 }
}

/// `log(1 + G / e^{z+})`. Where the estimate of G is above its bound, `a = b = 1 / (1 + e^-x (1 - t - n t))`; at the
/// bound negatives have no gradient, and 1/tau has one of its own.
#[inline(always)]
fn debiased(row: Row, prior: f32) -> RowTerm {
    let (x, n) = (row.x, row.negatives);
    if x.is_nan() {
        return RowTerm { loss: x, negative: x, positive: x, inverse_temperature: x };
    }
    // log(G / e^{z+}) for either G; the estimate's in a form that never overflows.
    let bound = n.ln() - row.inverse_temperature - row.z_positive;
    let e = (-x.abs()).exp();
    let shrunk = if x >= 0.0 { 1.0 - n * prior * e } else { e - n * prior };
    let estimate = if shrunk > 0.0 { x.max(0.0) + shrunk.ln() - (-prior).ln_1p() } else { f32::NEG_INFINITY };
    if estimate <= bound {
        let term = sampled_softmax_at(bound);
        return RowTerm { negative: 0.0, inverse_temperature: -term.positive, ..term };
    }
    let rest = 1.0 - prior - n * prior;
    let (loss, mass) = if x >= 0.0 {
        (x + (rest * e).ln_1p() - (-prior).ln_1p(), 1.0 / (1.0 + e * rest))
    } else {
        ((shrunk / (1.0 - prior)).ln_1p(), e / (e + rest))
    };
    RowTerm { loss, negative: mass, positive: mass, inverse_temperature: 0.0 }
}

/// Sampled softmax: `loss = softplus(LSE - z+)`, `a = b = sigmoid(LSE - z+)`.
///
/// `lse` is the log-sum-exp over the negatives alone, -inf when there are none (loss 0, a = b = 0).
#[inline(always)]
pub fn sampled_softmax(lse: f32, z_positive: f32) -> RowTerm {
    if lse == f32::NEG_INFINITY {
        return RowTerm::NOTHING;
    }
    sampled_softmax_at(lse - z_positive)
}

/// [`sampled_softmax`] of a row with negatives, at `x = LSE - z+`, for callers that know the difference more
/// exactly than its terms.
///
/// Written on the difference, so that converged rows keep full relative accuracy where
/// `LSE_all - z+` and `P+ - 1` would cancel.
#[inline(always)]
pub fn sampled_softmax_at(x: f32) -> RowTerm {
    let e = (-x.abs()).exp();
    let loss = x.max(0.0) + e.ln_1p();
    let sigmoid = if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
    // `max` drops a NaN; the loss must not.
    let loss = if x.is_nan() { x } else { loss };
    RowTerm { loss, negative: sigmoid, positive: sigmoid, inverse_temperature: 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(softplus, sigmoid)` in f64, from the series where e^x is small.
    fn exact(x: f64) -> (f64, f64) {
        (
            x.max(0.0) + (-x.abs()).exp().ln_1p(),
            if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) },
        )
    }

    #[test]
    fn softmax_is_exact_to_a_few_ulp_on_a_grid() {
        let mut checked = 0;
        for k in -8700..=8700 {
            let x = k as f32 / 100.0;
            let (loss, sigmoid) = exact(f64::from(x));
            for term in [sampled_softmax_at(x), sampled_softmax(x, 0.0), sampled_softmax(0.0, -x)] {
                for (found, expected) in
                    [(term.loss, loss), (term.negative, sigmoid), (term.positive, sigmoid)]
                {
                    let error = (f64::from(found) - expected).abs();
                    assert!(error <= 4.0 * f64::from(f32::EPSILON) * expected, "x = {x}: {found} {expected}");
                    checked += 1;
                }
            }
        }
        assert_eq!(checked, 17401 * 9);
    }

    #[test]
    fn softmax_at_the_ends() {
        let none = sampled_softmax(f32::NEG_INFINITY, f32::NAN);
        assert_eq!((none.loss, none.negative, none.positive), (0.0, 0.0, 0.0));
        let infinite = sampled_softmax(f32::INFINITY, 1.0);
        assert_eq!((infinite.loss, infinite.negative), (f32::INFINITY, 1.0));
        let certain = sampled_softmax(1.0, f32::INFINITY);
        assert_eq!((certain.loss, certain.negative), (0.0, 0.0));
        assert!(sampled_softmax(f32::NAN, 1.0).loss.is_nan());
        assert!(sampled_softmax(1.0, f32::NAN).negative.is_nan());
    }

    /// The published formulas in f64, with `L = e^LSE` and `p = e^z+`.
    fn published(objective: Objective, row: Row) -> f64 {
        let [x, z, n, inverse, rest] =
            [row.x, row.z_positive, row.negatives, row.inverse_temperature, row.log_rest].map(f64::from);
        let (sum, positive) = ((x + z).exp(), z.exp());
        match objective {
            Objective::Softmax => -(positive / (positive + sum)).ln(),
            Objective::AdditiveMargin { margin } => {
                let positive = positive * (-f64::from(margin)).exp();
                -(positive / (positive + sum)).ln()
            }
            Objective::Decoupled => sum.ln() - z,
            Objective::CorrectedLogQ => {
                let scaled = sum * rest.exp();
                (1.0 - positive / (positive + scaled / n)) * (scaled.ln() - z)
            }
            Objective::Debiased { positive_prior } => {
                let t = f64::from(positive_prior);
                let estimate = ((sum - n * t * positive) / (1.0 - t)).max(n * (-inverse).exp());
                -(positive / (positive + estimate)).ln()
            }
            Objective::Sigmoid { .. } => x - (1.0 / (1.0 + (-z).exp())).ln(),
        }
    }

    const OBJECTIVES: [Objective; 7] = [
        Objective::Softmax,
        Objective::AdditiveMargin { margin: 1.5 },
        Objective::Decoupled,
        Objective::CorrectedLogQ,
        Objective::Debiased { positive_prior: 0.1 },
        Objective::Debiased { positive_prior: 0.0 },
        Objective::Sigmoid { bias: -1.0 },
    ];

    fn grid() -> impl Iterator<Item = Row> {
        (-60..=60).flat_map(|k| {
            [-3.0f32, 0.25, 2.0].into_iter().flat_map(move |z_positive| {
                [1.0f32, 7.0, 300.0].into_iter().map(move |negatives| Row {
                    x: k as f32 / 5.0 + 0.017,
                    z_positive,
                    negatives,
                    inverse_temperature: 4.0,
                    log_rest: -0.125,
                })
            })
        })
    }

    #[test]
    fn objectives_are_the_published_formulas() {
        for objective in OBJECTIVES {
            for row in grid() {
                let (found, expected) = (f64::from(evaluate(objective, row).loss), published(objective, row));
                // The debiased estimate is a difference: as exact as its terms.
                let cancels = f64::from(row.x).exp() / (f64::from(row.x).exp() + 1.0);
                let bound = 2e-6 * (expected.abs() + cancels + 1e-3);
                assert!((found - expected).abs() <= bound, "{objective:?} {row:?}: {found} {expected}");
            }
        }
    }

    /// a, b and the direct part are derivatives of the loss, the corrected log q's at a fixed w.
    #[test]
    fn coefficients_are_derivatives() {
        for objective in OBJECTIVES {
            for row in grid() {
                let term = evaluate(objective, row);
                let (lse, z) = (f64::from(row.x) + f64::from(row.z_positive), f64::from(row.z_positive));
                let inverse = f64::from(row.inverse_temperature);
                let at = |lse: f64, z: f64, inverse: f64| {
                    let n = f64::from(row.negatives);
                    match objective {
                        Objective::CorrectedLogQ => f64::from(term.negative) * (lse - z),
                        Objective::Debiased { positive_prior } => {
                            let t = f64::from(positive_prior);
                            let estimate =
                                ((lse.exp() - n * t * z.exp()) / (1.0 - t)).max(n * (-inverse).exp());
                            (1.0 + estimate / z.exp()).ln()
                        }
                        Objective::Sigmoid { .. } => lse + (-z).exp().ln_1p(),
                        Objective::AdditiveMargin { margin } => (lse - z + f64::from(margin)).exp().ln_1p(),
                        Objective::Decoupled => lse - z,
                        Objective::Softmax => (lse - z).exp().ln_1p(),
                    }
                };
                let h = 1e-5;
                let slope = |plus: f64, minus: f64| (plus - minus) / (2.0 * h);
                let kinked = matches!(objective, Objective::Debiased { .. })
                    && (evaluate(objective, Row { x: row.x + 1e-3, ..row }).negative == 0.0)
                        != (evaluate(objective, Row { x: row.x - 1e-3, ..row }).negative == 0.0);
                if kinked {
                    continue;
                }
                for (name, found, expected) in [
                    ("a", term.negative, slope(at(lse + h, z, inverse), at(lse - h, z, inverse))),
                    ("b", term.positive, -slope(at(lse, z + h, inverse), at(lse, z - h, inverse))),
                    (
                        "d(1/tau)",
                        term.inverse_temperature,
                        slope(at(lse, z, inverse + h), at(lse, z, inverse - h)),
                    ),
                ] {
                    let close = (f64::from(found) - expected).abs() <= 1e-5 * (expected.abs() + 0.1);
                    assert!(close, "{objective:?} {row:?}: {name} is {found}, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn objectives_reduce_to_softmax_at_their_limits() {
        for row in grid() {
            let softmax = evaluate(Objective::Softmax, row);
            assert_eq!(evaluate(Objective::AdditiveMargin { margin: 0.0 }, row), softmax);
            // softplus(x) - x = softplus(-x) vanishes where the negatives dominate.
            let decoupled = evaluate(Objective::Decoupled, row).loss;
            assert!((softmax.loss - decoupled - sampled_softmax_at(-row.x).loss).abs() <= 4e-6);
            // Above the bound, a prior of 0 is the softmax.
            let debiased = evaluate(Objective::Debiased { positive_prior: 0.0 }, row);
            if debiased.negative != 0.0 {
                assert!((debiased.loss - softmax.loss).abs() <= 1e-6 * softmax.loss, "{row:?}");
                assert!((debiased.negative - softmax.negative).abs() <= 1e-6 * softmax.negative);
            }
        }
    }

    #[test]
    fn objectives_pass_a_nan_on() {
        for objective in OBJECTIVES {
            let row = Row {
                x: f32::NAN,
                z_positive: f32::NAN,
                negatives: 3.0,
                inverse_temperature: 1.0,
                log_rest: 0.0,
            };
            assert!(evaluate(objective, row).loss.is_nan(), "{objective:?}");
            assert!(evaluate(objective, row).positive.is_nan() || objective == Objective::Decoupled);
        }
    }
}
