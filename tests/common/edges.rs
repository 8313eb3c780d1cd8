//! What must hold at the edges, on every backend: NaN, infinities, rows and segments that take no part.

use inbatch::{LossConfig, Objective, Reduction};

use super::case::{Case, Items};
use super::compare::check;
use super::subject::{Results, Subject};

fn ok<T>(result: inbatch::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("unexpected error: {error}"))
}

fn require(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn row(values: &[f64], i: usize, dim: usize) -> &[f64] {
    &values[i * dim..(i + 1) * dim]
}

/// The gradient of users in `results`.
fn d_users(results: &Results) -> &[f64] {
    results.gradients.as_ref().map_or(&[], |gradients| &gradients.users)
}

/// A NaN in one user leaves the loss and the gradient of every other row bit-identical.
pub(crate) fn nan_stays_in_its_row(
    subject: &mut impl Subject,
    case: &Case,
    victim: usize,
) -> Result<(), String> {
    // In a symmetric loss a user is a negative of the items.
    let case = &case.one_way();
    let clean = ok(subject.step(case))?;
    let mut dirty = case.clone();
    dirty.users[victim * case.dim + victim % case.dim] = f32::NAN;
    let found = ok(subject.step(&dirty))?;
    for i in (0..case.rows()).filter(|i| *i != victim) {
        let same_loss = found.row_losses[i].to_bits() == clean.row_losses[i].to_bits();
        let pairs = row(d_users(&found), i, case.dim).iter().zip(row(d_users(&clean), i, case.dim));
        let same_gradient = pairs.into_iter().all(|(x, y)| x.to_bits() == y.to_bits());
        require(same_loss && same_gradient, &format!("row {i} changed with a NaN in row {victim}"))?;
    }
    require(
        found.loss.is_none_or(f64::is_nan) || weightless(case, victim) || !has_negatives(&clean, victim),
        "the reduced loss hides a NaN",
    )
}

fn weightless(case: &Case, i: usize) -> bool {
    case.weights.as_ref().is_some_and(|weights| weights[i] == 0.0)
}

/// A row without negatives has loss 0 whatever it holds.
fn has_negatives(results: &Results, i: usize) -> bool {
    results.log_sum_exp[i] != f64::NEG_INFINITY
}

/// Rows of weight 0 contribute exactly nothing, even if they hold NaN: all else is as if their embeddings
/// were anything else.
pub(crate) fn rows_without_weight_take_no_part(
    subject: &mut impl Subject,
    case: &Case,
) -> Result<(), String> {
    let mut clean = case.one_way();
    let weights = clean.weights.get_or_insert_with(|| vec![1.0; case.rows()]);
    let idle: Vec<usize> = (0..weights.len()).filter(|i| i % 3 == 1).collect();
    idle.iter().for_each(|i| weights[*i] = 0.0);
    let mut dirty = clean.clone();
    for i in &idle {
        dirty.users[i * case.dim..(i + 1) * case.dim].fill(f32::NAN);
    }
    let (clean_results, found) = (ok(subject.step(&clean))?, ok(subject.step(&dirty))?);
    for i in &idle {
        require(found.row_losses[*i] == 0.0, "a row of weight 0 has a loss")?;
        let zero = row(d_users(&found), *i, case.dim).iter().all(|x| *x == 0.0);
        require(zero, "a row of weight 0 has a gradient")?;
    }
    // The log-sum-exp and the counts of an idle row are its own affair.
    let strip = |mut results: Results| {
        for i in &idle {
            results.log_sum_exp[*i] = 0.0;
            if let Some(metrics) = &mut results.metrics {
                metrics.ranks[*i] = 0;
                metrics.negatives[*i] = 0;
                metrics.positive_probabilities[*i] = 0.0;
            }
        }
        results
    };
    require(strip(clean_results).same_bits(&strip(found)), "an idle row's NaN reached something else")
}

/// The same for rows whose upstream gradient is 0, under [`Reduction::None`].
pub(crate) fn rows_without_upstream_take_no_part(
    subject: &mut impl Subject,
    case: &Case,
) -> Result<(), String> {
    let mut clean = case.one_way();
    clean.config = clean.config.reduction(Reduction::None);
    let upstream: Vec<f32> = (0..case.rows()).map(|i| if i % 2 == 1 { 0.0 } else { 0.5 }).collect();
    let expected = ok(subject.forward_backward(&clean, Some(&upstream)))?;
    check(&clean, Some(&upstream), &expected)?;
    let mut dirty = clean.clone();
    for i in (1..case.rows()).step_by(2) {
        dirty.users[i * case.dim] = f32::NAN;
    }
    let found = ok(subject.forward_backward(&dirty, Some(&upstream)))?;
    let gradients_alone =
        |results: Results| Results { row_losses: vec![], log_sum_exp: vec![], metrics: None, ..results };
    let same = gradients_alone(expected).same_bits(&gradients_alone(found));
    require(same, "the NaN of a row without upstream gradient reached a gradient")
}

/// A negative at +inf: loss +inf, NaN gradients in every row that sweeps it.
pub(crate) fn infinite_negative(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut case = case.one_way().without_other_columns();
    let last = case.batch_columns() - 1;
    case.config = LossConfig::new(case.config.temperature()).and_then(|c| c.logq_scale(1.0)).expect("valid");
    let mut log_q = vec![-1.0; case.batch_columns()];
    log_q[last] = f32::NEG_INFINITY;
    case.items.log_q = Some(log_q);
    let found = ok(subject.step(&case))?;
    let owner = last.checked_sub(case.offset).filter(|i| *i < case.rows());
    for i in (0..case.rows()).filter(|i| Some(*i) != owner) {
        let loss =
            if case.weights.as_ref().is_some_and(|w| w[i] == 0.0) { continue } else { found.row_losses[i] };
        require(loss.is_infinite(), &format!("row {i} has loss {loss}, expected an infinity"))?;
        require(found.log_sum_exp[i] == f64::INFINITY, "log_sum_exp is not +inf")?;
        let nan = row(d_users(&found), i, case.dim).iter().all(|x| x.is_nan());
        require(nan, &format!("the gradient of user {i} is defined although its loss is infinite"))?;
    }
    Ok(())
}

/// A negative at -inf is as good as absent.
pub(crate) fn vanishing_negative(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut case = case.one_way().without_other_columns();
    case.config = LossConfig::new(case.config.temperature()).expect("valid");
    let mut log_q = vec![-1.0; case.batch_columns()];
    // A column that is nobody's positive, if there is one.
    if case.batch_columns() > case.rows() + case.offset {
        log_q[case.batch_columns() - 1] = f32::INFINITY;
    }
    case.items.log_q = Some(log_q);
    check(&case, None, &ok(subject.step(&case))?)
}

/// All items alike and excluded: no negatives, loss 0, zero gradients, also with NaN in an item nobody uses.
pub(crate) fn no_negatives(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut case = case.clone();
    case.config = case.config.exclude_same_item(true);
    (case.extra, case.bank, case.wants_extra_gradient) = (None, None, false);
    case.items.item_ids = Some(vec![i64::MIN; case.batch_columns()]);
    if let Some(own) = &mut case.row_negatives {
        own.items.item_ids = Some(vec![i64::MIN; own.items.embeddings.len() / case.dim]);
    }
    let found = ok(subject.step(&case))?;
    if matches!(case.config.get_objective(), Objective::Sigmoid { .. }) {
        // The positive's question stays.
        return check(&case, None, &found);
    }
    require(found.row_losses.iter().all(|x| *x == 0.0), "a loss without negatives")?;
    require(found.log_sum_exp.iter().all(|x| *x == f64::NEG_INFINITY), "log_sum_exp is not -inf")?;
    let gradients = found.gradients.as_ref().ok_or("no gradients")?;
    let own = gradients.row_negatives.iter().flatten();
    let zero = gradients.users.iter().chain(&gradients.items).chain(own).all(|x| *x == 0.0);
    require(zero && gradients.inverse_temperature == 0.0, "a gradient without negatives")
}

/// Zero rows under normalisation count as zero vectors and get zero gradients.
pub(crate) fn zero_rows_normalised(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut case = case.clone();
    case.config = case.config.normalize(true);
    case.users[..case.dim].fill(0.0);
    let last = case.items.embeddings.len() - case.dim;
    case.items.embeddings[last..].fill(-0.0);
    let found = ok(subject.step(&case))?;
    let gradients = found.gradients.as_ref().ok_or("no gradients")?;
    require(gradients.users[..case.dim].iter().all(|x| *x == 0.0), "a zero user has a gradient")?;
    require(gradients.items[last..].iter().all(|x| *x == 0.0), "a zero item has a gradient")?;
    check(&case, None, &found)
}

/// Norms whose squares or reciprocals do not fit f32.
pub(crate) fn extreme_norms_normalised(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut case = case.clone();
    case.config = case.config.normalize(true).reduction(Reduction::Sum);
    if case.dtype != inbatch::Dtype::F32 {
        return Ok(());
    }
    let mut scaled = case.clone();
    scaled.users.iter_mut().for_each(|x| *x *= 2f32.powi(80));
    let same = |results: Results| (results.loss.map(f64::to_bits), results.log_sum_exp);
    let (plain, large) = (ok(subject.evaluate(&case))?, ok(subject.evaluate(&scaled))?);
    require(same(plain) == same(large), "the scale of a normalised user changed the loss")?;
    scaled.users.iter_mut().for_each(|x| *x = *x * 2f32.powi(-100) * 2f32.powi(-60));
    check(&case, None, &ok(subject.evaluate(&scaled))?)
}

/// What takes no part changes nothing: an empty bank, extra negatives of length 0, lambda 0, weights of 1.
pub(crate) fn neutral_options(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut bare = case.one_way().without_other_columns();
    bare.wants_log_q_gradient = false;
    let expected = ok(subject.step(&bare))?;
    let mut changed = bare.clone();
    let fields = Items {
        embeddings: vec![],
        log_q: bare.items.log_q.as_ref().map(|_| vec![]),
        item_ids: bare.items.item_ids.as_ref().map(|_| vec![]),
    };
    changed.extra = Some(fields);
    require(expected.same_bits(&ok(subject.step(&changed))?), "extra negatives of length 0")?;
    if let Some(bank) = &case.bank {
        changed = bare.clone();
        changed.bank = Some(super::case::BankCase { pushes: vec![], ..bank.clone() });
        require(expected.same_bits(&ok(subject.step(&changed))?), "an empty bank")?;
    }
    if bare.weights.is_none() {
        changed = bare.clone();
        changed.weights = Some(vec![1.0; bare.rows()]);
        require(expected.same_bits(&ok(subject.step(&changed))?), "weights of 1")?;
    }
    bare.config = bare.config.logq_scale(0.0).expect("valid");
    bare.items.log_q = None;
    let expected = ok(subject.step(&bare))?;
    bare.items.log_q = Some(vec![f32::INFINITY; bare.batch_columns()]);
    require(expected.same_bits(&ok(subject.step(&bare))?), "log_q under lambda 0")
}
