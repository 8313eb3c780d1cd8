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
/// Written on the difference, so that converged rows keep full relative accuracy where
/// `LSE_all - z+` and `P+ - 1` would cancel.
#[inline(always)]
pub fn sampled_softmax(lse: f32, z_positive: f32) -> RowTerm {
    if lse == f32::NEG_INFINITY {
        return RowTerm { loss: 0.0, negative: 0.0, positive: 0.0 };
    }
    let x = lse - z_positive;
    let e = (-x.abs()).exp();
    let loss = x.max(0.0) + e.ln_1p();
    let sigmoid = if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
    // `max` drops a NaN; the loss must not.
    RowTerm { loss: if x.is_nan() { x } else { loss }, negative: sigmoid, positive: sigmoid }
}
