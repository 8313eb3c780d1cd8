//! The CPU backend as a [`Subject`].

use inbatch::{Element, Result, cpu};

use super::case::{Case, Items};
use super::subject::{GradientResults, Results, Subject, narrow, widen};
use crate::with_dtype;

/// One loss object for all cases of a property, as a trainer has: what an earlier call left in the workspace
/// must not matter.
#[derive(Debug, Default)]
pub(crate) struct Cpu {
    loss: Option<cpu::InBatchLoss>,
}

enum Call<'a> {
    Evaluate,
    Step,
    Halves(Option<&'a [f32]>),
}

/// A value that marks an element as not written.
pub(crate) fn poison<G: Element>() -> G {
    G::from_f32(f32::NAN)
}

fn borrow<'a, T: Element>(embeddings: &'a [T], items: &'a Items) -> cpu::Items<'a, T> {
    let mut borrowed = cpu::Items::new(embeddings);
    if let Some(log_q) = &items.log_q {
        borrowed = borrowed.log_q(log_q);
    }
    if let Some(item_ids) = &items.item_ids {
        borrowed = borrowed.item_ids(item_ids);
    }
    borrowed
}

/// The case's bank with everything pushed.
pub(crate) fn bank<T: Element>(case: &Case) -> Result<Option<cpu::MemoryBank<T>>> {
    let Some(bank_case) = &case.bank else { return Ok(None) };
    let mut bank = cpu::MemoryBank::new(bank_case.config)?;
    for push in &bank_case.pushes {
        bank.push(&borrow(&narrow::<T>(&push.embeddings), push))?;
    }
    Ok(Some(bank))
}

impl Cpu {
    fn loss(&mut self, case: &Case) -> Result<&mut cpu::InBatchLoss> {
        if self.loss.is_none() {
            self.loss = Some(cpu::InBatchLoss::new(case.config)?);
        }
        let loss = self.loss.as_mut().expect("just made");
        loss.set_config(case.config);
        Ok(loss)
    }

    fn run<T: Element, G: Element>(&mut self, case: &Case, call: Call<'_>) -> Result<Results> {
        let users: Vec<T> = narrow(&case.users);
        let items: Vec<T> = narrow(&case.items.embeddings);
        let extra: Option<Vec<T>> = case.extra.as_ref().map(|extra| narrow(&extra.embeddings));
        let own: Option<Vec<T>> =
            case.row_negatives.as_ref().map(|negatives| narrow(&negatives.items.embeddings));
        let mut bank = bank::<T>(case)?;
        let mut d_users: Vec<G> = vec![poison(); users.len()];
        let mut d_items: Vec<G> = vec![poison(); items.len()];
        let mut d_extra: Vec<G> = vec![poison(); extra.as_ref().map_or(0, Vec::len)];
        let mut d_own: Vec<G> = vec![poison(); own.as_ref().map_or(0, Vec::len)];
        let mut d_own_log_q = vec![f32::NAN; d_own.len() / case.dim];
        let mut d_log_q = vec![f32::NAN; case.batch_columns()];
        let mut d_extra_log_q = vec![f32::NAN; case.extra_columns()];
        let mut d_user_log_q = vec![f32::NAN; case.rows()];
        // Borrows the bank afresh each time: a push may stand between two of them.
        macro_rules! batch {
            () => {{
                let mut batch = cpu::Batch::new(&users, &items, case.dim).offset(case.offset);
                if let Some(log_q) = &case.items.log_q {
                    batch = batch.log_q(log_q);
                }
                if let Some(item_ids) = &case.items.item_ids {
                    batch = batch.item_ids(item_ids);
                }
                if let Some(user_log_q) = &case.user_log_q {
                    batch = batch.user_log_q(user_log_q);
                }
                if let Some(user_ids) = &case.user_ids {
                    batch = batch.user_ids(user_ids);
                }
                if let Some(weights) = &case.weights {
                    batch = batch.weights(weights);
                }
                if let (Some(embeddings), Some(fields)) = (&extra, &case.extra) {
                    batch = batch.extra(borrow(embeddings, fields));
                }
                if let (Some(embeddings), Some(negatives)) = (&own, &case.row_negatives) {
                    let items = borrow(embeddings, &negatives.items);
                    batch = batch.row_negatives(match &negatives.indices {
                        Some(indices) => cpu::RowNegatives::of_pool(items, indices, negatives.per_row),
                        None => cpu::RowNegatives::new(items, negatives.per_row),
                    });
                }
                if let Some(bank) = &bank {
                    batch = batch.bank(bank);
                }
                batch
            }};
        }
        let loss = self.loss(case)?;
        let mut results =
            Results { loss: None, row_losses: vec![], log_sum_exp: vec![], metrics: None, gradients: None };
        let mut gradients = cpu::Gradients::new(&mut d_users, &mut d_items);
        if case.wants_extra_gradient {
            gradients = gradients.extra(&mut d_extra);
        }
        if case.wants_log_q() {
            gradients = gradients.log_q(&mut d_log_q);
        }
        if case.wants_extra_log_q() {
            gradients = gradients.extra_log_q(&mut d_extra_log_q);
        }
        if case.wants_user_log_q() {
            gradients = gradients.user_log_q(&mut d_user_log_q);
        }
        if case.wants_row_negatives_gradient {
            gradients = gradients.row_negatives(&mut d_own);
        }
        if case.wants_row_negatives_log_q() {
            gradients = gradients.row_negatives_log_q(&mut d_own_log_q);
        }
        let output = match call {
            Call::Evaluate => loss.evaluate(&batch!())?,
            Call::Step => loss.step(&batch!(), &mut gradients)?,
            Call::Halves(upstream) => {
                loss.forward(&batch!())?;
                if let (Some(bank), Some(bank_case)) = (&mut bank, &case.bank) {
                    for push in &bank_case.pushes {
                        bank.push(&borrow(&narrow::<T>(&push.embeddings), push))?;
                    }
                }
                loss.backward(&batch!(), upstream.map(Into::into), &mut gradients)?
            }
        };
        results.loss = output.loss().ok().map(f64::from);
        results.row_losses = output.row_losses().iter().copied().map(f64::from).collect();
        results.log_sum_exp = output.log_sum_exp().iter().copied().map(f64::from).collect();
        results.metrics = output.metrics().ok();
        if !matches!(call, Call::Evaluate) {
            results.gradients = Some(GradientResults {
                inverse_temperature: f64::from(output.d_inverse_temperature()?),
                users: widen(&d_users),
                items: widen(&d_items),
                extra: case.wants_extra_gradient.then(|| widen(&d_extra)),
                row_negatives: case.wants_row_negatives_gradient.then(|| widen(&d_own)),
                log_q: [
                    case.wants_log_q().then(|| widen(&d_log_q)),
                    case.wants_extra_log_q().then(|| widen(&d_extra_log_q)),
                    case.wants_user_log_q().then(|| widen(&d_user_log_q)),
                    case.wants_row_negatives_log_q().then(|| widen(&d_own_log_q)),
                ],
                bias: output.d_bias().ok().map(f64::from),
            });
        }
        Ok(results)
    }

    fn dispatch(&mut self, case: &Case, call: Call<'_>) -> Result<Results> {
        with_dtype!(case.dtype, T, with_dtype!(case.gradient_dtype, G, self.run::<T, G>(case, call)))
    }
}

impl Subject for Cpu {
    fn evaluate(&mut self, case: &Case) -> Result<Results> {
        self.dispatch(case, Call::Evaluate)
    }

    fn step(&mut self, case: &Case) -> Result<Results> {
        self.dispatch(case, Call::Step)
    }

    fn forward_backward(&mut self, case: &Case, upstream: Option<&[f32]>) -> Result<Results> {
        self.dispatch(case, Call::Halves(upstream))
    }
}
