//! What must hold where only the hardest negatives of each row count, on every backend.

use inbatch::{Dtype, LossConfig, Objective, Reduction};

use super::case::Case;
use super::compare::check;
use super::subject::Subject;

fn ok<T>(result: inbatch::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("unexpected error: {error}"))
}

fn require(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// The case with what hard negatives go with.
fn plain(case: &Case) -> Case {
    let mut case = case.one_way();
    (case.row_negatives, case.wants_row_negatives_gradient) = (None, false);
    case.config = case.config.all_negatives();
    case
}

fn hardest(case: &Case, kept: usize) -> Result<Case, String> {
    Ok(Case { config: ok(case.config.hard_negatives(kept))?, ..case.clone() })
}

/// As many as there are: all of them.
pub(crate) fn all_of_them(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut case = plain(case);
    case.bank = None;
    let all = case.columns() - 1;
    if all == 0 || all > LossConfig::MAX_HARD_NEGATIVES {
        return Ok(());
    }
    check(&case, None, &ok(subject.step(&hardest(&case, all)?))?)
}

/// The few hardest are the oracle's, and no more than were asked for.
pub(crate) fn few_of_them(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut case = plain(case);
    case.config = case.config.metrics(true);
    let most = (case.batch_columns() - 1).min(LossConfig::MAX_HARD_NEGATIVES);
    for kept in [1, 2, most].into_iter().filter(|kept| (1..=most).contains(kept)) {
        let hard = hardest(&case, kept)?;
        let found = ok(subject.step(&hard))?;
        check(&hard, None, &found)?;
        let metrics = found.metrics.ok_or("no metrics")?;
        let counts = metrics.negatives.iter().zip(&metrics.ranks);
        let few = counts.into_iter().all(|(n, rank)| *n as usize <= kept && rank <= n);
        require(few, &format!("more than {kept} negatives: {metrics:?}"))?;
    }
    Ok(())
}

/// Of items that are one vector, some of them twice as long, the first of either length stay: what no row keeps has no
/// gradient, but as a positive.
pub(crate) fn of_equals_the_first(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut case = plain(case).without_other_columns();
    let config = case.config.exclude_same_item(false).exclude_same_user(false).reduction(Reduction::Sum);
    case.config = ok(config.objective(Objective::Softmax))?;
    case.weights = None;
    let item = case.items.embeddings[..case.dim].to_vec();
    let length = |j: usize| if j % 3 == 2 && !case.config.normalizes() { 2.0 } else { 1.0 };
    for (j, other) in case.items.embeddings.chunks_exact_mut(item.len()).enumerate() {
        other.iter_mut().zip(&item).for_each(|(x, y)| *x = length(j) * y);
    }
    case.items.log_q.iter_mut().flatten().for_each(|log_q| *log_q = -1.25);
    let columns = case.batch_columns();
    let most = (columns - 1).min(LossConfig::MAX_HARD_NEGATIVES);
    if most == 0 {
        return Ok(());
    }
    let kept = (columns / 2).clamp(1, most);
    let (mut takes_part, mut steepest) = (vec![false; columns], 0.0f32);
    for (i, user) in case.users.chunks_exact(case.dim).enumerate() {
        let terms = || user.iter().zip(&item).map(|(u, v)| u * v);
        let (score, size) = (terms().sum::<f32>(), terms().map(f32::abs).sum::<f32>());
        if score.abs() <= 1e-4 * size {
            // Rounding decides which length is the harder.
            return Ok(());
        }
        steepest = steepest.max(score.abs() / case.config.temperature());
        let mut others: Vec<usize> = (0..columns).filter(|j| *j != i + case.offset).collect();
        others.sort_by(|a, b| (length(*b) * score).total_cmp(&(length(*a) * score)));
        others[..kept].iter().for_each(|j| takes_part[*j] = true);
    }
    let found = ok(subject.step(&hardest(&case, kept)?))?;
    let gradients = found.gradients.ok_or("no gradients")?;
    let positives = case.offset..case.offset + case.rows();
    // Where weights vanish, or normalised items have no direction to go, a column that takes part may have no gradient.
    let visible = steepest < 5.0 && case.gradient_dtype == Dtype::F32 && !case.config.normalizes();
    for (j, d) in gradients.items.chunks_exact(case.dim).enumerate().filter(|(j, _)| !positives.contains(j)) {
        let zero = d.iter().all(|d| *d == 0.0);
        require(zero || takes_part[j], &format!("column {j} takes part, {kept} are kept"))?;
        require(!(zero && takes_part[j] && visible), &format!("column {j} takes no part"))?;
    }
    Ok(())
}

/// A NaN is the hardest negative: no row but the item's own hides it.
pub(crate) fn nan_is_the_hardest(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut case = plain(case);
    case.config = case.config.exclude_same_item(false).exclude_same_user(false);
    if case.batch_columns() == 1 {
        return Ok(());
    }
    let victim = case.batch_columns() - 1;
    case.items.embeddings[victim * case.dim] = f32::NAN;
    let found = ok(subject.step(&hardest(&case, 1)?))?;
    for (i, loss) in found.row_losses.iter().enumerate() {
        let idle = case.weights.as_ref().is_some_and(|weights| weights[i] == 0.0);
        require(idle || loss.is_nan(), &format!("row {i} has loss {loss} beside a NaN"))?;
    }
    Ok(())
}
