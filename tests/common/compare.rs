//! The tolerance: `||x - x64|| <= 2 r + 4 eps ||x64||` for each output, in the Euclidean norm over the whole
//! tensor, where x64 is the oracle's result, eps the spacing of the output's type and r the error of the
//! materialised computation (`materialised.rs`). An element smaller than f32's smallest normal number has no
//! such spacing: errors below it do not count.
//!
//! A tensor of few elements, or one that few rows dominate, may be right by luck, which would make r too
//! strict; so r is the largest error over the case and its [`SIBLINGS`] (same problem, inputs moved a
//! little). They are only computed as far as they are needed, since a larger r never makes a check fail. For a
//! sum over rows (the reduced loss, d(1/tau)) x64 and r are summed without signs: a sum whose terms cancel
//! cannot be more exact than its terms.

use inbatch::{Dtype, Reduction, oracle};

use super::case::{Case, epsilon, round_to};
use super::materialised;
use super::subject::{Results, positive_probabilities};

/// Cases like the one at hand over which r is taken.
const SIBLINGS: u64 = 32;

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// `||x - y||`, over the elements where both are finite.
fn distance(x: &[f64], y: &[f64]) -> f64 {
    norm(x.iter().zip(y).map(|(x, y)| x - y).filter(|d| d.is_finite()))
}

/// Errors of the materialised computation, absolute.
#[derive(Clone, Copy, Debug, Default)]
struct Errors {
    row_losses: f64,
    log_sum_exp: f64,
    loss: f64,
    users: f64,
    items: f64,
    extra: f64,
    row_negatives: f64,
    inverse_temperature: f64,
    log_q: [f64; 4],
    bias: f64,
    probabilities: f64,
}

fn sum_of_differences(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (x - y).abs()).filter(|d| d.is_finite()).sum()
}

impl Errors {
    fn between(case: &Case, low: &oracle::Outputs, exact: &oracle::Outputs) -> Self {
        let batch = case.batch_columns();
        let objective = case.config.get_objective();
        Self {
            log_q: [
                distance(&low.d_log_q[..batch], &exact.d_log_q[..batch]),
                distance(&low.d_log_q[batch..], &exact.d_log_q[batch..]),
                distance(&low.d_user_log_q, &exact.d_user_log_q),
                distance(&low.d_row_negatives_log_q, &exact.d_row_negatives_log_q),
            ],
            bias: sum_of_differences(&low.d_bias_rows, &exact.d_bias_rows),
            probabilities: distance(
                &positive_probabilities(objective, low),
                &positive_probabilities(objective, exact),
            ),
            row_losses: distance(&low.row_losses, &exact.row_losses),
            log_sum_exp: distance(&low.log_sum_exp, &exact.log_sum_exp),
            loss: sum_of_differences(&low.row_losses, &exact.row_losses),
            users: distance(&low.d_users, &exact.d_users),
            items: distance(&low.d_items, &exact.d_items),
            extra: distance(&low.d_extra, &exact.d_extra),
            row_negatives: distance(&low.d_row_negatives, &exact.d_row_negatives),
            inverse_temperature: sum_of_differences(
                &low.d_inverse_temperature_rows,
                &exact.d_inverse_temperature_rows,
            ),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            row_losses: self.row_losses.max(other.row_losses),
            log_sum_exp: self.log_sum_exp.max(other.log_sum_exp),
            loss: self.loss.max(other.loss),
            users: self.users.max(other.users),
            items: self.items.max(other.items),
            extra: self.extra.max(other.extra),
            row_negatives: self.row_negatives.max(other.row_negatives),
            inverse_temperature: self.inverse_temperature.max(other.inverse_temperature),
            log_q: std::array::from_fn(|k| self.log_q[k].max(other.log_q[k])),
            bias: self.bias.max(other.bias),
            probabilities: self.probabilities.max(other.probabilities),
        }
    }

    fn of(case: &Case, upstream: Option<&[f32]>, exact: &oracle::Outputs) -> Self {
        Self::between(case, &materialised::evaluate(case, upstream), exact)
    }
}

/// NaN where NaN is expected, the same infinities, and the rest within the tolerance.
fn tensor(name: &str, found: &[f64], expected: &[f64], r: f64, eps: f64, terms: usize) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("{name}: {} elements, expected {}", found.len(), expected.len()));
    }
    for (k, (x, y)) in found.iter().zip(expected).enumerate() {
        let alike = (x.is_nan() && y.is_nan()) || (x.is_infinite() && x == y);
        if (!x.is_finite() || !y.is_finite()) && !alike {
            return Err(format!("{name}[{k}] is {x}, expected {y}"));
        }
    }
    let error = distance(found, expected);
    let size = norm(expected.iter().copied().filter(|x| x.is_finite()));
    // Below the normal range a term may be lost, whole; each element is a sum of so many.
    let tiny = f64::from(f32::MIN_POSITIVE) * terms as f64 * (found.len() as f64).sqrt();
    let allowed = 2.0 * r + 4.0 * eps * size + tiny;
    if error > allowed {
        let detail = format!("materialised error {r:.3e}, norm {size:.3e}");
        return Err(format!("{name}: error {error:.3e} exceeds {allowed:.3e} ({detail})"));
    }
    Ok(())
}

/// A sum over rows; `size` is the sum of its terms' magnitudes.
fn scalar(name: &str, found: f64, expected: f64, r: f64, size: f64) -> Result<(), String> {
    if !expected.is_finite() {
        return tensor(name, &[found], &[expected], 0.0, 0.0, 1);
    }
    let allowed = 2.0 * r + 4.0 * epsilon(Dtype::F32) * size + f64::from(f32::MIN_POSITIVE);
    match (found - expected).abs() <= allowed {
        true => Ok(()),
        false => Err(format!("{name} is {found:.9e}, expected {expected:.9e} within {allowed:.3e}")),
    }
}

/// Compares a backend's results with the oracle's.
pub(crate) fn check(case: &Case, upstream: Option<&[f32]>, found: &Results) -> Result<(), String> {
    let exact = case.expected(upstream);
    if case.at_a_jump(&exact) {
        return Ok(());
    }
    let mut r = Errors::of(case, upstream, &exact);
    let mut verdict = within(case, &exact, r, found);
    for k in 1..=SIBLINGS {
        if verdict.is_ok() {
            break;
        }
        let sibling = case.sibling(k);
        r = r.max(Errors::of(&sibling, upstream, &sibling.expected(upstream)));
        verdict = within(case, &exact, r, found);
    }
    verdict
}

fn within(case: &Case, exact: &oracle::Outputs, r: Errors, found: &Results) -> Result<(), String> {
    let f32_eps = epsilon(Dtype::F32);
    tensor("row_losses", &found.row_losses, &exact.row_losses, r.row_losses, f32_eps, 1)?;
    tensor("log_sum_exp", &found.log_sum_exp, &exact.log_sum_exp, r.log_sum_exp, f32_eps, 1)?;
    match (found.loss, exact.loss) {
        (None, None) => {}
        (Some(found), Some(expected)) => {
            let scale = reduction_scale(case);
            let size = exact.row_losses.iter().map(|x| x.abs()).sum::<f64>();
            scalar("loss", found, expected, r.loss * scale, size * scale)?;
        }
        (found, expected) => return Err(format!("loss is {found:?}, expected {expected:?}")),
    }
    metrics(case, exact, r, found)?;
    let Some(gradients) = &found.gradients else { return Ok(()) };
    // Each element is a sum over rows, over columns, or over the cells that name one row of a pool.
    let per_row = case.row_negatives.as_ref().map_or(0, |negatives| negatives.per_row);
    let (eps, terms) = (epsilon(case.gradient_dtype), case.columns().max(case.rows() * (1 + per_row)));
    tensor("d_users", &gradients.users, &storable(case, &exact.d_users), r.users, eps, terms)?;
    tensor("d_items", &gradients.items, &storable(case, &exact.d_items), r.items, eps, terms)?;
    if let Some(extra) = &gradients.extra {
        tensor("d_extra", extra, &storable(case, &exact.d_extra), r.extra, eps, terms)?;
    }
    if let Some(own) = &gradients.row_negatives {
        tensor("d_row_negatives", own, &storable(case, &exact.d_row_negatives), r.row_negatives, eps, terms)?;
    }
    let (of_batch, of_extra) = exact.d_log_q.split_at(case.batch_columns());
    for (k, (name, expected)) in [
        ("d_log_q", of_batch),
        ("extra d_log_q", of_extra),
        ("d_user_log_q", &exact.d_user_log_q),
        ("row negatives' d_log_q", &exact.d_row_negatives_log_q),
    ]
    .into_iter()
    .enumerate()
    {
        if let Some(log_q) = &gradients.log_q[k] {
            tensor(name, log_q, expected, r.log_q[k], f32_eps, terms)?;
        }
    }
    if let Some(bias) = gradients.bias {
        let size = exact.d_bias_rows.iter().map(|x| x.abs()).sum::<f64>();
        scalar("d_bias", bias, exact.d_bias_rows.iter().sum(), r.bias, size)?;
    }
    let size = exact.d_inverse_temperature_rows.iter().map(|x| x.abs()).sum::<f64>();
    scalar(
        "d_inverse_temperature",
        gradients.inverse_temperature,
        exact.d_inverse_temperature,
        r.inverse_temperature,
        size,
    )
}

/// What the gradients' type cannot hold is an infinity there.
fn storable(case: &Case, gradient: &[f64]) -> Vec<f64> {
    let stored = |x: f64| f64::from(round_to(case.gradient_dtype, x as f32));
    gradient.iter().map(|x| if stored(*x).is_infinite() { stored(*x) } else { *x }).collect()
}

/// Counts are exact; a rank may differ by the negatives that rounding puts on the other side of the positive.
fn metrics(case: &Case, exact: &oracle::Outputs, r: Errors, found: &Results) -> Result<(), String> {
    let Some(metrics) = &found.metrics else { return Ok(()) };
    if (&metrics.negatives, &metrics.excluded) != (&exact.negatives, &exact.excluded) {
        return Err(format!("counts are {metrics:?}, expected {:?} {:?}", exact.negatives, exact.excluded));
    }
    for (i, margins) in exact.margins.iter().enumerate() {
        let largest = margins.iter().filter(|m| m.is_finite()).fold(0.0, |most: f64, m| most.max(m.abs()));
        let slack = 1e-5 * (1.0 + largest + exact.z_positive[i].abs());
        let above = |bound: f64| margins.iter().filter(|m| **m > bound).count();
        let rank = metrics.ranks[i] as usize;
        if rank < above(slack) || rank > above(-slack) {
            return Err(format!("rank of row {i} is {rank}, expected {}", exact.ranks[i]));
        }
    }
    let found: Vec<f64> = metrics.positive_probabilities.iter().map(|p| f64::from(*p)).collect();
    let expected = positive_probabilities(case.config.get_objective(), exact);
    tensor("positive probabilities", &found, &expected, r.probabilities, epsilon(Dtype::F32), 1)
}

/// What the reduction multiplies a sum of row losses by, without sign.
fn reduction_scale(case: &Case) -> f64 {
    let weights = case.weights.iter().flatten().map(|w| f64::from(*w));
    match case.config.get_reduction() {
        Reduction::Mean => 1.0 / case.rows() as f64,
        Reduction::WeightedMean => 1.0 / weights.sum::<f64>().abs(),
        _ => 1.0,
    }
}
