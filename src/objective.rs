//! Objectives: functions of one row's `(LSE, z+)` that give its loss and its two coefficients.
//!
//! With `W_ij` the softmax over row i's negatives, `dloss/dz_ij = a_i W_ij` for each negative and
//! `dloss/dz_i+ = -b_i`. `kernels/objective.cuh` holds the same functions for the device; a test
//! compares the two on a grid.

/// What an objective says of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowTerm {
    /// The row's loss.
    pub loss: f32,
    /// `a_i`: the mass that the gradient puts on the negatives.
    pub negative: f32,
    /// `b_i`: minus the derivative with respect to the positive's logit.
    pub positive: f32,
}

/// Sampled softmax: `loss = softplus(LSE - z+)`, `a = b = sigmoid(LSE - z+)`.
///
/// `lse` is the log-sum-exp over the negatives alone, -inf when there are none (loss 0, a = b = 0).
#[inline(always)]
pub fn sampled_softmax(lse: f32, z_positive: f32) -> RowTerm {
    if lse == f32::NEG_INFINITY {
        return RowTerm { loss: 0.0, negative: 0.0, positive: 0.0 };
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
    RowTerm { loss: if x.is_nan() { x } else { loss }, negative: sigmoid, positive: sigmoid }
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
}
