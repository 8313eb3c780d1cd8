//! What must hold of negatives that belong to one row each, on every backend.

use super::case::{Case, RowNegatives, round_to};
use super::compare::check;
use super::subject::{LOG_Q_OF_ROW_NEGATIVES, Results, Subject};

fn ok<T>(result: inbatch::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("unexpected error: {error}"))
}

fn require(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// The case with a pool of which each row names some, some of them twice. Midway between items: two copies of an item
/// that dominate a row would ask for the same last bits on two ways.
fn with_pool(case: &Case) -> Case {
    let mut case = case.one_way();
    case.config = case.config.all_negatives();
    let (pool, per_row) = (case.batch_columns() as i32, 4);
    let indices = (0..(case.rows() * per_row) as i32).map(|cell| match cell % 5 {
        0 => -1,
        1 => cell % pool,
        _ => (cell / 4 * 3) % pool,
    });
    let mut items = case.items.clone();
    let next = case.items.embeddings.iter().cycle().skip(case.dim);
    let both = items.embeddings.iter_mut().zip(next);
    both.for_each(|(x, next)| *x = round_to(case.dtype, (*x + 0.75 * next) / 2.0));
    case.row_negatives = Some(RowNegatives { items, indices: Some(indices.collect()), per_row });
    case.wants_row_negatives_gradient = true;
    case
}

/// A pool that every row names whole is a set of extra negatives.
pub(crate) fn shared_by_all_rows(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut shared = with_pool(case);
    shared.extra = None;
    shared.wants_extra_gradient = false;
    let mut extra = shared.clone();
    let own = shared.row_negatives.as_mut().ok_or("no row negatives")?;
    let whole = || 0..(own.items.embeddings.len() / case.dim) as i32;
    own.per_row = whole().len();
    own.indices = Some((0..case.users.len() / case.dim).flat_map(|_| whole()).collect());
    extra.extra = extra.row_negatives.take().map(|own| own.items);
    (extra.wants_extra_gradient, extra.wants_row_negatives_gradient) = (true, false);
    let mut found = ok(subject.step(&shared))?;
    let gradients = found.gradients.as_mut().ok_or("no gradients")?;
    gradients.extra = gradients.row_negatives.take();
    gradients.log_q.swap(1, LOG_Q_OF_ROW_NEGATIVES);
    check(&extra, None, &found)
}

/// Embeddings of its own that each row has copied out of a pool: the same losses and users' gradients, bit for bit, and
/// what a row of the pool receives is the sum over its copies.
pub(crate) fn copies_of_a_pool(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let pooled = with_pool(case);
    let mut copied = pooled.clone();
    let own = copied.row_negatives.as_mut().ok_or("no row negatives")?;
    let indices = own.indices.take().ok_or("no indices")?;
    // Own embeddings have no padding: what is absent is named in both.
    let indices: Vec<usize> = indices.iter().map(|index| (*index).max(0) as usize).collect();
    let vectors = |i: &usize| own.items.embeddings[i * case.dim..(i + 1) * case.dim].to_vec();
    own.items.embeddings = indices.iter().flat_map(vectors).collect();
    let pick = |values: &Vec<f32>| indices.iter().map(|i| values[*i]).collect::<Vec<f32>>();
    own.items.log_q = own.items.log_q.as_ref().map(pick);
    own.items.item_ids = own.items.item_ids.as_ref().map(|ids| indices.iter().map(|i| ids[*i]).collect());
    let mut named = pooled;
    if let Some(own) = &mut named.row_negatives {
        own.indices = Some(indices.iter().map(|i| *i as i32).collect());
    }
    let (copies, pool) = (ok(subject.step(&copied))?, ok(subject.step(&named))?);
    let rest = |results: &Results| {
        let mut results = results.clone();
        if let Some(gradients) = &mut results.gradients {
            (gradients.row_negatives, gradients.log_q[LOG_Q_OF_ROW_NEGATIVES]) = (None, None);
        }
        results
    };
    require(rest(&copies).same_bits(&rest(&pool)), "copies of a pool's rows differ from the rows")?;
    check(&named, None, &pool)?;
    let of = |results: Results| results.gradients.and_then(|gradients| gradients.row_negatives);
    let (copies, pool) = (of(copies).ok_or("no gradients")?, of(pool).ok_or("no gradients")?);
    if case.config.normalizes() || case.gradient_dtype != inbatch::Dtype::F32 {
        // Each copy was rounded by itself.
        return Ok(());
    }
    let mut sums = vec![0.0; pool.len()];
    let mut sizes = vec![0.0; pool.len()];
    for (copy, i) in copies.chunks_exact(case.dim).zip(&indices) {
        for (d, x) in copy.iter().enumerate() {
            sums[i * case.dim + d] += x;
            sizes[i * case.dim + d] += x.abs();
        }
    }
    for ((found, sum), size) in pool.iter().zip(sums).zip(sizes) {
        let allowed = 1e-5 * size + 1e-37;
        require((found - sum).abs() <= allowed, &format!("a pool's gradient is {found}, its copies' {sum}"))?;
    }
    Ok(())
}

/// None of them, by length or by padding, changes nothing.
pub(crate) fn none_at_all(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let mut bare = case.one_way();
    bare.config = bare.config.all_negatives();
    (bare.row_negatives, bare.wants_row_negatives_gradient) = (None, false);
    let expected = ok(subject.step(&bare))?;
    let own = |items, indices, per_row| Some(RowNegatives { items, indices, per_row });
    let no_items = super::case::Items {
        embeddings: vec![],
        log_q: bare.items.log_q.as_ref().map(|_| vec![]),
        item_ids: bare.items.item_ids.as_ref().map(|_| vec![]),
    };
    for (row_negatives, what) in [
        (own(no_items.clone(), None, 0), "row negatives of length 0"),
        (own(no_items.clone(), Some(vec![]), 0), "an empty pool of which nothing is taken"),
        (own(no_items, Some(vec![-1; bare.rows()]), 1), "an empty pool"),
        (own(bare.items.clone(), Some(vec![-7; bare.rows() * 3]), 3), "padding"),
    ] {
        let mut changed = Case { row_negatives, ..bare.clone() };
        changed.wants_row_negatives_gradient = true;
        let mut found = ok(subject.step(&changed))?;
        let gradients = found.gradients.as_mut().ok_or("no gradients")?;
        let received = [gradients.row_negatives.take(), gradients.log_q[LOG_Q_OF_ROW_NEGATIVES].take()];
        let zero = received.iter().flatten().flatten().all(|x| *x == 0.0);
        require(zero, &format!("{what}: a gradient of nothing"))?;
        require(expected.same_bits(&found), what)?;
    }
    Ok(())
}

/// A NaN in a pool reaches the rows that name it, unless it is their positive item, and no other row.
pub(crate) fn nan_reaches_the_rows_that_name_it(
    subject: &mut impl Subject,
    case: &Case,
) -> Result<(), String> {
    let clean = with_pool(case);
    let mut dirty = clean.clone();
    let own = dirty.row_negatives.as_mut().ok_or("no row negatives")?;
    let victim = own.places(case.rows() / 2).next().unwrap_or(0);
    own.items.embeddings[victim * case.dim] = f32::NAN;
    let named_by = |i: usize| {
        let own = clean.row_negatives.as_ref();
        let hit = own.and_then(|own| own.items.item_ids.as_ref()).is_some_and(|ids| {
            let positive = clean.items.item_ids.as_ref().map(|ids| ids[i + clean.offset]);
            clean.config.excludes_same_item() && positive == Some(ids[victim])
        });
        !hit && own.is_some_and(|own| own.places(i).any(|place| place == victim))
    };
    let (before, after) = (ok(subject.step(&clean))?, ok(subject.step(&dirty))?);
    let users = |results: &Results, i: usize| -> Vec<u64> {
        let users = results.gradients.as_ref().map_or(&[][..], |gradients| &gradients.users);
        users[i * case.dim..(i + 1) * case.dim].iter().map(|x| x.to_bits()).collect()
    };
    for i in 0..case.rows() {
        if named_by(i) {
            let idle = clean.weights.as_ref().is_some_and(|weights| weights[i] == 0.0);
            require(idle || after.row_losses[i].is_nan(), &format!("row {i} hides a NaN"))?;
        } else {
            let same = before.row_losses[i].to_bits() == after.row_losses[i].to_bits()
                && users(&before, i) == users(&after, i);
            require(same, &format!("row {i} changed with a NaN that it does not name"))?;
        }
    }
    Ok(())
}

/// A row of the pool that nobody names changes nothing and has no gradient, whatever it holds.
pub(crate) fn what_nobody_names(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let clean = with_pool(case);
    let mut longer = clean.clone();
    let own = longer.row_negatives.as_mut().ok_or("no row negatives")?;
    own.items.embeddings.extend(vec![f32::NAN; case.dim]);
    own.items.log_q.iter_mut().for_each(|log_q| log_q.push(-1.0));
    own.items.item_ids.iter_mut().for_each(|ids| ids.push(5));
    let (expected, mut found) = (ok(subject.step(&clean))?, ok(subject.step(&longer))?);
    let gradients = found.gradients.as_mut().ok_or("no gradients")?;
    let own = gradients.row_negatives.as_mut().ok_or("no gradient of the pool")?;
    let received = own.split_off(own.len() - case.dim);
    let of_log_q = gradients.log_q[LOG_Q_OF_ROW_NEGATIVES].as_mut().and_then(Vec::pop);
    require(received.iter().chain(&of_log_q).all(|d| *d == 0.0), "a gradient of what nobody names")?;
    require(expected.same_bits(&found), "what nobody names changes something")
}
