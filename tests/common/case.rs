//! One test case: every input of a call, as f32 values that the storage type holds exactly.

use half::{bf16, f16};
use inbatch::bank::BankConfig;
use inbatch::{Dtype, LossConfig, Objective, oracle};

/// Item embeddings with their fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Items {
    pub embeddings: Vec<f32>,
    pub log_q: Option<Vec<f32>>,
    pub item_ids: Option<Vec<i64>>,
}

/// Negatives of one row each.
#[derive(Clone, Debug)]
pub(crate) struct RowNegatives {
    /// `[B, K]` of them, or a pool.
    pub items: Items,
    /// `[B, K]` places in the pool.
    pub indices: Option<Vec<i32>>,
    pub per_row: usize,
}

impl RowNegatives {
    /// Row `i`'s embeddings, one for each negative that is not padding.
    pub(crate) fn places(&self, i: usize) -> impl Iterator<Item = usize> {
        let cells = i * self.per_row..(i + 1) * self.per_row;
        cells.filter_map(|cell| match &self.indices {
            Some(indices) => usize::try_from(indices[cell]).ok(),
            None => Some(cell),
        })
    }
}

/// A bank and what has been pushed into it before the call.
#[derive(Clone, Debug)]
pub(crate) struct BankCase {
    pub config: BankConfig,
    pub capacity: usize,
    pub warm_up: u64,
    pub max_age: Option<u64>,
    pub pushes: Vec<Items>,
}

/// Everything one call is given.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub config: LossConfig,
    pub dtype: Dtype,
    pub gradient_dtype: Dtype,
    pub dim: usize,
    pub offset: usize,
    pub users: Vec<f32>,
    pub items: Items,
    pub extra: Option<Items>,
    pub wants_extra_gradient: bool,
    pub row_negatives: Option<RowNegatives>,
    pub wants_row_negatives_gradient: bool,
    /// Of batch, extra, users and row negatives, where they have log q.
    pub wants_log_q_gradient: bool,
    pub bank: Option<BankCase>,
    /// Only of a symmetric loss.
    pub user_log_q: Option<Vec<f32>>,
    pub user_ids: Option<Vec<i64>>,
    pub weights: Option<Vec<f32>>,
    /// `[1]` or `[B]`; only a backward takes it.
    pub upstream: Option<Vec<f32>>,
    /// What the materialised computation multiplies weights by while they are rounded: 1 for the case itself, something
    /// else for each sibling. Kernels round at scales of their own (relative to a row's largest weight, say), and where
    /// few weights dominate, the error is the luck of rounding these few numbers.
    pub weight_scale: f32,
}

/// Rounds to a storage type and back.
pub(crate) fn round_to(dtype: Dtype, x: f32) -> f32 {
    match dtype {
        Dtype::F16 => f16::from_f32(x).to_f32(),
        Dtype::Bf16 => bf16::from_f32(x).to_f32(),
        _ => x,
    }
}

/// The spacing of a storage type relative to 1.
pub(crate) fn epsilon(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => 2f64.powi(-10),
        Dtype::Bf16 => 2f64.powi(-7),
        _ => 2f64.powi(-23),
    }
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

/// The bank's slots as the oracle sees them: a plain queue, oldest first.
#[derive(Default)]
struct Queue {
    embeddings: Vec<f64>,
    log_q: Vec<f64>,
    item_ids: Vec<i64>,
    absent: Vec<bool>,
}

impl BankCase {
    fn queue(&self, dim: usize) -> Queue {
        let mut queue = Queue::default();
        let pushes = self.pushes.len() as u64;
        for (k, push) in self.pushes.iter().enumerate() {
            let age = pushes - k as u64;
            let absent = pushes < self.warm_up || self.max_age.is_some_and(|max| age > max);
            let rows = push.embeddings.len() / dim;
            queue.embeddings.extend(widen(&push.embeddings));
            queue.log_q.extend(push.log_q.as_deref().map_or(vec![0.0; rows], widen));
            queue.item_ids.extend(push.item_ids.clone().unwrap_or(vec![0; rows]));
            queue.absent.extend(vec![absent; rows]);
        }
        let dropped = queue.absent.len().saturating_sub(self.capacity);
        queue.embeddings.drain(..dropped * dim);
        queue.log_q.drain(..dropped);
        queue.item_ids.drain(..dropped);
        queue.absent.drain(..dropped);
        queue
    }
}

impl Case {
    pub(crate) fn rows(&self) -> usize {
        self.users.len() / self.dim
    }

    pub(crate) fn batch_columns(&self) -> usize {
        self.items.embeddings.len() / self.dim
    }

    pub(crate) fn extra_columns(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.embeddings.len() / self.dim)
    }

    pub(crate) fn columns(&self) -> usize {
        let bank = self.bank.as_ref().map_or(0, |bank| bank.queue(self.dim).absent.len());
        self.batch_columns() + self.extra_columns() + bank
    }

    /// Calls `run` with this case as the oracle's inputs.
    pub(crate) fn with_inputs<R>(
        &self,
        upstream: Option<&[f32]>,
        run: impl FnOnce(&oracle::Inputs<'_>) -> R,
    ) -> R {
        let queue = self.bank.as_ref().map(|bank| bank.queue(self.dim)).unwrap_or_default();
        let none = Items::default();
        let extra = self.extra.as_ref().unwrap_or(&none);
        let log_q = self.items.log_q.as_ref().map(|own| {
            [widen(own), widen(extra.log_q.as_deref().unwrap_or(&[])), queue.log_q.clone()].concat()
        });
        let item_ids = self
            .items
            .item_ids
            .as_ref()
            .map(|own| [&own[..], extra.item_ids.as_deref().unwrap_or(&[]), &queue.item_ids].concat());
        let weights = self.weights.as_deref().map(widen);
        let user_log_q = self.user_log_q.as_deref().map(widen);
        let upstream = upstream.map(widen);
        let own = self.row_negatives.as_ref().map(|negatives| {
            (widen(&negatives.items.embeddings), negatives.items.log_q.as_deref().map(widen), negatives)
        });
        let row_negatives = own.as_ref().map(|(embeddings, log_q, negatives)| oracle::RowNegatives {
            embeddings,
            indices: negatives.indices.as_deref(),
            per_row: negatives.per_row,
            log_q: log_q.as_deref(),
            item_ids: negatives.items.item_ids.as_deref(),
        });
        let inputs = oracle::Inputs {
            dim: self.dim,
            users: &widen(&self.users),
            items: &widen(&self.items.embeddings),
            extra: &widen(&extra.embeddings),
            bank: &queue.embeddings,
            bank_absent: Some(&queue.absent),
            offset: self.offset,
            log_q: log_q.as_deref(),
            user_log_q: user_log_q.as_deref(),
            item_ids: item_ids.as_deref(),
            user_ids: self.user_ids.as_deref(),
            weights: weights.as_deref(),
            row_negatives,
            upstream: upstream.as_deref(),
        };
        run(&inputs)
    }

    /// What the call should give.
    pub(crate) fn expected(&self, upstream: Option<&[f32]>) -> oracle::Outputs {
        self.with_inputs(upstream, |inputs| oracle::evaluate(&self.config, inputs).expect("a valid case"))
    }

    /// The same with the batch's items as the only columns.
    pub(crate) fn without_other_columns(mut self) -> Self {
        (self.extra, self.bank, self.row_negatives) = (None, None, None);
        (self.wants_extra_gradient, self.wants_row_negatives_gradient) = (false, false);
        self
    }

    /// The same without the items' own loss.
    pub(crate) fn one_way(&self) -> Self {
        Self { config: self.config.symmetric(false), user_log_q: None, ..self.clone() }
    }

    /// Users and items exchanged, as one direction of a symmetric loss sees them.
    pub(crate) fn exchanged(&self) -> Self {
        let mut exchanged = self.clone();
        std::mem::swap(&mut exchanged.users, &mut exchanged.items.embeddings);
        exchanged.items.log_q = exchanged.user_log_q.take();
        exchanged
    }

    pub(crate) fn wants_log_q(&self) -> bool {
        self.wants_log_q_gradient && self.items.log_q.is_some()
    }

    pub(crate) fn wants_user_log_q(&self) -> bool {
        self.wants_log_q_gradient && self.user_log_q.is_some()
    }

    pub(crate) fn wants_extra_log_q(&self) -> bool {
        self.wants_log_q_gradient && self.extra.as_ref().is_some_and(|extra| extra.log_q.is_some())
    }

    pub(crate) fn wants_row_negatives_log_q(&self) -> bool {
        let own = self.row_negatives.as_ref();
        self.wants_log_q_gradient && own.is_some_and(|negatives| negatives.items.log_q.is_some())
    }

    /// Whether rounding decides what is compared: gradients jump there.
    pub(crate) fn at_a_jump(&self, exact: &oracle::Outputs) -> bool {
        self.near_the_bound(exact) || self.near_a_tie(2e-6)
    }

    /// Whether some row's hardest negatives are hardly harder than one that is left out: by `relative` of what their
    /// logits are made of. Copies may be as near as they like: of them the first stays, whatever is rounded.
    pub(crate) fn near_a_tie(&self, relative: f64) -> bool {
        let Some(kept) = self.config.get_hard_negatives() else { return false };
        let all = Self { config: self.config.all_negatives(), ..self.clone() }.expected(None);
        self.with_inputs(None, |inputs| {
            let embeddings = [inputs.items, inputs.extra, inputs.bank].concat();
            let vector =
                |j: usize| (&embeddings[j * self.dim..][..self.dim], inputs.log_q.map(|log_q| log_q[j]));
            (0..self.rows()).any(|i| {
                let columns = all.negative_columns[i].iter().copied();
                let mut by_height: Vec<(f64, usize)> = all.margins[i].iter().copied().zip(columns).collect();
                by_height.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                let (hardest, rest) = by_height.split_at(kept.min(by_height.len()));
                let z = |margin: f64| (margin + all.z_positive[i]).abs();
                let correction = |j: usize| inputs.log_q.map_or(0.0, |log_q| log_q[j].abs());
                let scale = f64::from(self.config.get_logq_scale().abs());
                let slack = |a: f64, j: usize| relative * (1.0 + z(a) + scale * correction(j));
                let near = |(a, j): &(f64, usize), (b, k): &(f64, usize)| {
                    (a - b).abs() <= slack(*a, *j).max(slack(*b, *k)) && vector(*j) != vector(*k)
                };
                hardest.iter().any(|a| rest.iter().any(|b| near(a, b)))
            })
        })
    }

    /// Whether some row of the debiased loss lies so near its bound that rounding decides on which side.
    fn near_the_bound(&self, exact: &oracle::Outputs) -> bool {
        let Objective::Debiased { positive_prior } = self.config.get_objective() else { return false };
        let (t, inverse) = (f64::from(positive_prior), 1.0 / f64::from(self.config.temperature()));
        (0..self.rows()).any(|i| {
            let (z, n) = (exact.z_positive[i], f64::from(exact.negatives[i]));
            let (sum, taken) = ((exact.log_sum_exp[i] - z).exp(), n * t);
            let bound = (1.0 - t) * n * (-inverse - z).exp();
            n > 0.0 && (sum - taken - bound).abs() < 2e-3 * (sum + taken + bound)
        })
    }

    /// Every embedding buffer, to change all of them alike.
    pub(crate) fn embeddings_mut(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        let bank = self.bank.iter_mut().flat_map(|bank| &mut bank.pushes);
        let own = self.row_negatives.as_mut().map(|negatives| &mut negatives.items);
        let items = std::iter::once(&mut self.items).chain(self.extra.as_mut()).chain(own).chain(bank);
        std::iter::once(&mut self.users).chain(items.map(|items| &mut items.embeddings))
    }

    /// The same problem with each embedding moved by up to a relative 1e-3, or one spacing of its type, and each log q by
    /// a relative 1e-4: the same conditioning, other roundings. Duplicates move alike, so that they stay duplicates.
    pub(crate) fn sibling(&self, seed: u64) -> Self {
        let mut sibling = self.clone();
        sibling.weight_scale = 1.0 + fastrand::Rng::with_seed(seed).f32();
        let dtype = self.dtype;
        let span = (2.0 * epsilon(dtype)).max(2e-3) as f32;
        let moved = |x: f32, span: f32| {
            let mut random =
                fastrand::Rng::with_seed(seed ^ u64::from(x.to_bits()).wrapping_mul(0x9e37_79b9));
            x * (1.0 + span * (random.f32() - 0.5))
        };
        for buffer in sibling.embeddings_mut() {
            buffer.iter_mut().for_each(|x| *x = round_to(dtype, moved(*x, span)));
        }
        let pushes = sibling.bank.iter_mut().flat_map(|bank| &mut bank.pushes);
        let own = sibling.row_negatives.as_mut().map(|negatives| &mut negatives.items);
        let items =
            std::iter::once(&mut sibling.items).chain(sibling.extra.as_mut()).chain(own).chain(pushes);
        let log_q = items.filter_map(|items| items.log_q.as_mut()).chain(sibling.user_log_q.as_mut());
        for log_q in log_q {
            log_q.iter_mut().for_each(|x| *x = moved(*x, 2e-4));
        }
        sibling
    }
}
