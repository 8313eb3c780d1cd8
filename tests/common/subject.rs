//! What a backend must offer to be tested, and what it hands back.

use inbatch::{Metrics, Objective, Result, oracle};

use super::case::Case;

/// Results of one call, gradients widened to f64.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Results {
    pub loss: Option<f64>,
    pub row_losses: Vec<f64>,
    pub log_sum_exp: Vec<f64>,
    /// `None` when not asked for.
    pub metrics: Option<Metrics>,
    /// `None` when only the loss was asked for.
    pub gradients: Option<GradientResults>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GradientResults {
    pub users: Vec<f64>,
    pub items: Vec<f64>,
    /// `None` when not asked for.
    pub extra: Option<Vec<f64>>,
    pub row_negatives: Option<Vec<f64>>,
    pub inverse_temperature: f64,
    /// Of the batch, of the extra negatives, of the users and of the row negatives; `None` when not asked for.
    pub log_q: [Option<Vec<f64>>; 4],
    /// `None` but for the sigmoid link.
    pub bias: Option<f64>,
}

/// Where [`GradientResults::log_q`] has the row negatives'.
pub(crate) const LOG_Q_OF_ROW_NEGATIVES: usize = 3;

/// The probability of each row's positive.
pub(crate) fn positive_probabilities(objective: Objective, outputs: &oracle::Outputs) -> Vec<f64> {
    let sigmoid = |x: f64| if x > 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) };
    let each = outputs.z_positive.iter().zip(&outputs.log_sum_exp);
    let sigmoid_link = matches!(objective, Objective::Sigmoid { .. });
    each.map(|(z, lse)| sigmoid(if sigmoid_link { *z } else { z - lse })).collect()
}

impl Results {
    /// Bit for bit, NaN payloads aside.
    pub(crate) fn same_bits(&self, other: &Self) -> bool {
        fn same(a: &[f64], b: &[f64]) -> bool {
            let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            a.len() == b.len() && a.iter().zip(b).all(same)
        }
        let scalar = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => same(&[a], &[b]),
            (a, b) => a.is_none() && b.is_none(),
        };
        let gradients = match (&self.gradients, &other.gradients) {
            (Some(a), Some(b)) => {
                same(&a.users, &b.users)
                    && same(&a.items, &b.items)
                    && same(&[a.inverse_temperature], &[b.inverse_temperature])
                    && same(a.extra.as_deref().unwrap_or(&[]), b.extra.as_deref().unwrap_or(&[]))
                    && same(
                        a.row_negatives.as_deref().unwrap_or(&[]),
                        b.row_negatives.as_deref().unwrap_or(&[]),
                    )
                    && a.log_q
                        .iter()
                        .zip(&b.log_q)
                        .all(|(a, b)| same(a.as_deref().unwrap_or(&[]), b.as_deref().unwrap_or(&[])))
                    && scalar(a.bias, b.bias)
            }
            (a, b) => a.is_none() && b.is_none(),
        };
        let metrics = match (&self.metrics, &other.metrics) {
            (Some(a), Some(b)) => {
                let wide = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
                (&a.ranks, &a.negatives, &a.excluded) == (&b.ranks, &b.negatives, &b.excluded)
                    && same(&wide(&a.positive_probabilities), &wide(&b.positive_probabilities))
            }
            (a, b) => a.is_none() && b.is_none(),
        };
        metrics
            && scalar(self.loss, other.loss)
            && same(&self.row_losses, &other.row_losses)
            && same(&self.log_sum_exp, &other.log_sum_exp)
            && gradients
    }
}

/// A backend under test. Implementations fill every output buffer with NaN patterns before the call.
pub(crate) trait Subject {
    /// The loss alone.
    fn evaluate(&mut self, case: &Case) -> Result<Results>;

    /// Loss and gradients in one call.
    fn step(&mut self, case: &Case) -> Result<Results>;

    /// Forward, a push into the bank if there is one (the backward must not notice), then backward.
    fn forward_backward(&mut self, case: &Case, upstream: Option<&[f32]>) -> Result<Results>;
}

/// Runs `$body` with `$t` standing for the storage type `$dtype`.
#[macro_export]
macro_rules! with_dtype {
    ($dtype:expr, $t:ident, $body:expr) => {
        match $dtype {
            inbatch::Dtype::F16 => {
                type $t = half::f16;
                $body
            }
            inbatch::Dtype::Bf16 => {
                type $t = half::bf16;
                $body
            }
            _ => {
                type $t = f32;
                $body
            }
        }
    };
}

/// Values of a storage type.
pub(crate) fn narrow<T: inbatch::Element>(values: &[f32]) -> Vec<T> {
    values.iter().map(|x| T::from_f32(*x)).collect()
}

/// Widened values.
pub(crate) fn widen<T: inbatch::Element>(values: &[T]) -> Vec<f64> {
    values.iter().map(|x| f64::from(x.to_f32())).collect()
}
