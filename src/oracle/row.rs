//! One row of the oracle: every objective as it is published, and its derivatives.

use crate::Objective;

/// A row's logits and constants.
pub(super) struct RowInputs<'a> {
    pub(super) objective: Objective,
    /// z of the negatives.
    pub(super) negatives: &'a [f64],
    pub(super) z_positive: f64,
    pub(super) inverse_temperature: f64,
    /// `lambda log(1 - q_+)`.
    pub(super) log_rest: f64,
}

pub(super) struct RowOutputs {
    pub(super) loss: f64,
    /// Over the negatives; `sum_j softplus(z_ij)` under the sigmoid link.
    pub(super) log_sum_exp: f64,
    /// The loss's constant factor.
    pub(super) stopped: f64,
    pub(super) derivatives: Derivatives,
}

/// Derivatives of a row's loss.
#[derive(Default)]
pub(super) struct Derivatives {
    /// With respect to each negative's logit.
    pub(super) negatives: Vec<f64>,
    pub(super) positive: f64,
    /// With respect to `1/tau`, beside what goes through the logits.
    pub(super) inverse_temperature: f64,
    /// With respect to `log_rest`.
    pub(super) log_rest: f64,
}

pub(super) fn evaluate(row: &RowInputs<'_>) -> RowOutputs {
    if matches!(row.objective, Objective::Sigmoid { .. }) {
        return sigmoid_link(row);
    }
    let lse = log_sum_exp(row.negatives.iter().copied());
    if lse == f64::NEG_INFINITY {
        let derivatives = Derivatives { negatives: vec![0.0; row.negatives.len()], ..Derivatives::default() };
        return RowOutputs { loss: 0.0, log_sum_exp: lse, stopped: 1.0, derivatives };
    }
    let count = row.negatives.iter().filter(|z| **z != f64::NEG_INFINITY).count() as f64;
    let softmax = |z: &f64| if lse == f64::INFINITY { f64::NAN } else { (z - lse).exp() };
    let through_lse = |mass: f64| row.negatives.iter().map(|z| mass * softmax(z)).collect::<Vec<f64>>();
    let of = |loss: f64, mass: f64, positive: f64| RowOutputs {
        loss,
        log_sum_exp: lse,
        stopped: 1.0,
        derivatives: Derivatives { negatives: through_lse(mass), positive, ..Derivatives::default() },
    };
    let z = row.z_positive;
    match row.objective {
        // log(1 + e^x), in the form that keeps small values exact.
        Objective::AdditiveMargin { margin } => {
            let x = lse - (z - f64::from(margin));
            of(softplus(x), sigmoid(x), -sigmoid(x))
        }
        Objective::Decoupled => of(lse - z, 1.0, -1.0),
        Objective::CorrectedLogQ => {
            let x = lse + row.log_rest - z;
            // 1 - P+ with P+ = e^s+ / (e^s+ + mean of the corrected negatives).
            let weight = sigmoid(x - count.ln());
            let outputs = of(weight * x, weight, -weight);
            let derivatives = Derivatives { log_rest: weight, ..outputs.derivatives };
            RowOutputs { stopped: weight, derivatives, ..outputs }
        }
        Objective::Debiased { positive_prior } => {
            let (t, n) = (f64::from(positive_prior), count);
            // G / e^z+, and its bound.
            let estimate = ((lse - z).exp() - n * t) / (1.0 - t);
            let bound = n * (-row.inverse_temperature - z).exp();
            let ratio = estimate.max(bound);
            let (loss, mass) =
                (ratio.ln_1p(), if ratio == f64::INFINITY { 1.0 } else { ratio / (1.0 + ratio) });
            if estimate > bound {
                // d log G / d LSE = -d log(G e^-z+) / d z+.
                let share =
                    if ratio == f64::INFINITY { 1.0 } else { (lse - z).exp() / (estimate * (1.0 - t)) };
                let loss = if ratio == f64::INFINITY { lse - z - (1.0 - t).ln() } else { loss };
                of(loss, mass * share, -mass * share)
            } else {
                let outputs = of(loss, 0.0, -mass);
                let derivatives = Derivatives { inverse_temperature: -mass, ..outputs.derivatives };
                RowOutputs { derivatives, ..outputs }
            }
        }
        _ => of(softplus(lse - z), sigmoid(lse - z), -sigmoid(lse - z)),
    }
}

/// One binary cross entropy for each pair: label 1 for the positive, 0 for the others.
fn sigmoid_link(row: &RowInputs<'_>) -> RowOutputs {
    let sum = row.negatives.iter().map(|z| softplus(*z)).sum::<f64>();
    RowOutputs {
        loss: softplus(-row.z_positive) + sum,
        log_sum_exp: sum,
        stopped: 1.0,
        derivatives: Derivatives {
            negatives: row.negatives.iter().map(|z| sigmoid(*z)).collect(),
            positive: -sigmoid(-row.z_positive),
            ..Derivatives::default()
        },
    }
}

fn softplus(x: f64) -> f64 {
    if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() }
}

fn sigmoid(x: f64) -> f64 {
    if x > 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// log sum exp with +-inf by their limits and NaN passed on; -inf for an empty sum.
pub(super) fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let max = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if values.clone().any(f64::is_nan) {
        return f64::NAN;
    }
    if max.is_infinite() {
        return max;
    }
    max + values.map(|z| (z - max).exp()).sum::<f64>().ln()
}
