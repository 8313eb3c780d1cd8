//! What the schemes of the family become at their limits, on every backend.

use inbatch::{LogQOrder, Objective, Reduction};

use super::case::{Case, RowNegatives};
use super::subject::{Results, Subject};

fn ok<T>(result: inbatch::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("unexpected error: {error}"))
}

fn require(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The case with the plain softmax, unweighted row losses.
fn plain(case: &Case) -> Case {
    let mut case = case.one_way();
    case.config = case
        .config
        .objective(Objective::Softmax)
        .expect("valid")
        .logq_order(LogQOrder::OutsideTemperature)
        .reduction(Reduction::None);
    case.weights = None;
    case
}

fn with(case: &Case, objective: Objective) -> Case {
    Case { config: case.config.objective(objective).expect("valid"), ..case.clone() }
}

/// Same results but for the temperature's gradient.
fn same_but_temperature(a: Results, b: Results) -> bool {
    let forget = |mut results: Results| {
        if let Some(gradients) = &mut results.gradients {
            gradients.inverse_temperature = 0.0;
        }
        results
    };
    forget(a).same_bits(&forget(b))
}

/// Limits that are the same arithmetic, bit for bit.
pub(crate) fn exact_limits(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let case = plain(case);
    let softmax = ok(subject.step(&case))?;
    let margin = ok(subject.step(&with(&case, Objective::AdditiveMargin { margin: 0.0 })))?;
    require(softmax.same_bits(&margin), "a margin of 0 is not the softmax")?;

    // In 16 bits the tensor cores may take the one and plain arithmetic the other of what follows.
    let one_kernel = case.dtype == inbatch::Dtype::F32;
    let mut counted = case.clone();
    counted.config = case.config.metrics(!case.config.counts_metrics());
    let without = |results: Results| Results { metrics: None, ..results };
    let counted = ok(subject.step(&counted))?;
    let same = without(softmax.clone()).same_bits(&without(counted));
    require(same || !one_kernel, "counting changes the loss")?;

    let mut unit = case.clone();
    unit.config = case.config.with_temperature(1.0).expect("valid");
    let mut inside = unit.clone();
    inside.config = unit.config.logq_order(LogQOrder::InsideTemperature);
    let (outside, inside) = (ok(subject.step(&unit))?, ok(subject.step(&inside))?);
    let same = same_but_temperature(outside, inside);
    require(same || !one_kernel, "the order of log q matters at temperature 1")?;

    let mut ignored = case.clone();
    ignored.config = case.config.logq_scale(0.0).expect("valid");
    let mut inside = ignored.clone();
    inside.config = ignored.config.logq_order(LogQOrder::InsideTemperature);
    let (outside, inside) = (ok(subject.step(&ignored))?, ok(subject.step(&inside))?);
    require(outside.same_bits(&inside), "the order of log q matters at lambda 0")?;

    if case.bank.is_none() {
        let mut negative_sampling = with(&case, Objective::Sigmoid { bias: -1.0 });
        negative_sampling.items.log_q = None;
        negative_sampling.extra.iter_mut().for_each(|extra| extra.log_q = None);
        negative_sampling.row_negatives.iter_mut().for_each(|own| own.items.log_q = None);
        negative_sampling.wants_log_q_gradient = false;
        let mut contrastive = negative_sampling.clone();
        contrastive.items.log_q = Some(vec![0.0; case.batch_columns()]);
        let extra_columns = case.extra_columns();
        contrastive.extra.iter_mut().for_each(|extra| extra.log_q = Some(vec![0.0; extra_columns]));
        let zeros =
            |own: &mut RowNegatives| own.items.log_q = Some(vec![0.0; own.items.embeddings.len() / case.dim]);
        contrastive.row_negatives.iter_mut().for_each(zeros);
        let (sampling, contrastive) =
            (ok(subject.step(&negative_sampling))?, ok(subject.step(&contrastive))?);
        require(sampling.same_bits(&contrastive), "NCE with expected counts of 1 is not NEG")?;
    }
    Ok(())
}

/// Exchanging users and items, and their log q, exchanges their gradients; and a loss of one pair is none.
pub(crate) fn symmetry(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut case = plain(case).without_other_columns();
    case.config = case.config.all_negatives();
    case.wants_log_q_gradient = true;
    let rows = case.rows();
    let first = case.offset * case.dim;
    case.items.embeddings = case.items.embeddings[first..first + case.users.len()].to_vec();
    let owned = case.offset..case.offset + rows;
    case.items.item_ids = case.items.item_ids.map(|ids| ids[owned.clone()].to_vec());
    case.items.log_q = case.items.log_q.map(|log_q| log_q[owned].to_vec());
    case.offset = 0;
    case.config = case.config.symmetric(true).metrics(false);
    case.user_log_q = Some((0..rows).map(|i| -1.0 - (i % 5) as f32).collect());
    let mut exchanged = case.exchanged();
    exchanged.user_log_q = case.items.log_q.clone();
    let (forth, back) = (ok(subject.step(&case))?, ok(subject.step(&exchanged))?);
    require(forth.row_losses == back.row_losses, "the loss changes with its sides")?;
    let (Some(forth), Some(back)) = (forth.gradients, back.gradients) else {
        return Err("no gradients".into());
    };
    let same = forth.users == back.items && forth.items == back.users;
    require(same, "gradients change with their sides")?;
    let same = forth.log_q[0] == back.log_q[2] && forth.log_q[2] == back.log_q[0];
    require(same && forth.log_q[2].is_some(), "gradients of log q change with their sides")?;
    case.users.truncate(case.dim);
    case.items.embeddings.truncate(case.dim);
    case.items.item_ids.iter_mut().for_each(|ids| ids.truncate(1));
    for values in [&mut case.items.log_q, &mut case.user_log_q] {
        values.iter_mut().for_each(|values| values.truncate(1));
    }
    case.user_ids.iter_mut().for_each(|ids| ids.truncate(1));
    let alone = ok(subject.step(&case))?;
    require(alone.row_losses == [0.0], "a single pair has a loss")
}

/// Limits that are the same number.
pub(crate) fn limits(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut case = plain(case);
    case.config = case.config.metrics(true).logq_scale(0.0).expect("valid");
    let softmax = ok(subject.evaluate(&case))?;
    let decoupled = ok(subject.evaluate(&with(&case, Objective::Decoupled)))?;
    let debiased = ok(subject.evaluate(&with(&case, Objective::Debiased { positive_prior: 0.0 })))?;
    let negatives = &softmax.metrics.as_ref().ok_or("no metrics")?.negatives;
    for (i, &n) in negatives.iter().enumerate() {
        let (x, loss) = (decoupled.row_losses[i], softmax.row_losses[i]);
        if n == 0 {
            require(x == 0.0 && loss == 0.0 && debiased.row_losses[i] == 0.0, "a loss without negatives")?;
            continue;
        }
        let expected = softplus(x);
        // x is an f32 whose last bit counts.
        let slack = 4e-7 * (x.abs() * (1.0 - (-expected).exp()) + expected) + 1e-37;
        require(
            (loss - expected).abs() <= slack,
            &format!("row {i}: softmax {loss}, softplus(decoupled) {expected}"),
        )?;
        let bound = f64::from(n).ln() - 1.0 / f64::from(case.config.temperature());
        let (lse, found) = (softmax.log_sum_exp[i], debiased.row_losses[i]);
        if lse > bound + 1e-4 * (1.0 + lse.abs()) {
            let slack = 1e-6 * expected + 4e-7 * x.abs() * (1.0 - (-expected).exp()) + 1e-37;
            let what = format!("row {i}: a prior of 0 gives {found}, the softmax {loss}");
            require((found - loss).abs() <= slack, &what)?;
        } else {
            require(found >= loss * (1.0 - 1e-3), &format!("row {i}: the bound lowers {loss} to {found}"))?;
        }
    }
    Ok(())
}

/// Columns that equal the positive tie with it: they do not count against it, wherever they lie.
pub(crate) fn ties_are_the_positives(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut case = plain(case);
    case.config = case.config.metrics(true).exclude_same_item(false).exclude_same_user(false);
    case.bank = None;
    let row = case.items.embeddings[..case.dim].to_vec();
    let mut alike = |items: &mut super::case::Items| {
        items.embeddings.chunks_exact_mut(row.len()).for_each(|item| item.copy_from_slice(&row));
        items.log_q.iter_mut().flatten().for_each(|log_q| *log_q = -1.25);
    };
    alike(&mut case.items);
    case.extra.iter_mut().for_each(&mut alike);
    case.row_negatives.iter_mut().for_each(|own| alike(&mut own.items));
    let uncorrected = case.items.log_q.is_some()
        && case.config.get_logq_scale() != 0.0
        && case.config.get_positive_correction() == inbatch::PositiveCorrection::Uncorrected;
    if uncorrected {
        return Ok(());
    }
    let metrics = ok(subject.evaluate(&case))?.metrics.ok_or("no metrics")?;
    for (i, found) in metrics.negatives.iter().enumerate() {
        let own = case.row_negatives.as_ref().map_or(0, |own| own.places(i).count());
        let all = case.columns() - 1 + own;
        let expected = case.config.get_hard_negatives().map_or(all, |kept| kept.min(all));
        require(*found as usize == expected, "not every column is a negative")?;
    }
    require(metrics.excluded.iter().all(|n| *n == 0), "something was excluded")?;
    require(metrics.ranks.iter().all(|rank| *rank == 0), &format!("ties count: {:?}", metrics.ranks))
}
