//! One call's inputs as the launchers take them: pointers with lengths, bound to the stream.

use super::bank::MemoryBank;
use super::device::Device;
use super::launch::{Span, int};
use super::view::{Bound, View, ViewMut};
use super::workspace::Workspace;
use super::{Batch, arguments};
use crate::{Element, Length, LossConfig, Problem, Result};

/// Device pointers of a batch. Absent parts are null.
#[derive(Debug)]
pub(super) struct Inputs<T> {
    pub(super) problem: Problem,
    pub(super) config: LossConfig,
    pub(super) users: Span<T>,
    pub(super) items: Span<T>,
    pub(super) extra: Span<T>,
    /// By segment: batch, extra, bank.
    pub(super) log_q: [Span<f32>; 3],
    /// Of a symmetric loss.
    pub(super) user_log_q: Span<f32>,
    /// By segment: batch, extra, bank.
    pub(super) item_ids: [Span<i64>; 3],
    pub(super) labels: Labels,
    pub(super) user_ids: Span<i64>,
    pub(super) weights: Span<f32>,
    pub(super) bank: Bank<T>,
    pub(super) row_negatives: RowNegatives<T>,
}

/// Device pointers of row negatives.
#[derive(Debug)]
pub(super) struct RowNegatives<T> {
    pub(super) embeddings: Span<T>,
    pub(super) log_q: Span<f32>,
    pub(super) item_ids: Span<i64>,
    /// Into the pool, if there is one.
    pub(super) indices: Span<i32>,
}

impl<T> RowNegatives<T> {
    const NONE: Self =
        Self { embeddings: Span::NULL, log_q: Span::NULL, item_ids: Span::NULL, indices: Span::NULL };
}

/// Device pointers of a memory bank.
#[derive(Debug)]
pub(super) struct Bank<T> {
    pub(super) embeddings: Span<T>,
    pub(super) entered: Span<u64>,
    pub(super) state: Span<u64>,
    pub(super) warm_up: u64,
    pub(super) max_age: u64,
}

impl<T> Bank<T> {
    const NONE: Self =
        Self { embeddings: Span::NULL, entered: Span::NULL, state: Span::NULL, warm_up: 0, max_age: 0 };
}

/// Several ids of each row, any of which excludes a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labels {
    /// `[B, num_true]`, null if a row has no more than its item id.
    pub(super) ids: Span<i64>,
    pub(super) num_true: usize,
}

impl Labels {
    pub(super) const NONE: Self = Self { ids: Span::NULL, num_true: 1 };
}

/// Holds the uses of the caller's buffers until the launches are enqueued, then records them.
pub(super) type Guards<'s> = Vec<Bound<'s>>;

impl<T> Inputs<T> {
    /// Users and items exchanged, as the other direction of a symmetric loss sees them. Ids and weights belong to the
    /// pair, and stay.
    pub(super) fn exchanged(&self) -> Self {
        Self {
            problem: self.problem,
            config: self.config,
            users: self.items,
            items: self.users,
            extra: Span::NULL,
            log_q: [self.user_log_q, Span::NULL, Span::NULL],
            user_log_q: Span::NULL,
            item_ids: [self.item_ids[0], Span::NULL, Span::NULL],
            labels: self.labels,
            user_ids: self.user_ids,
            weights: self.weights,
            bank: Bank::NONE,
            row_negatives: RowNegatives::NONE,
        }
    }

    /// The embeddings that row negatives are taken from, as columns that are nobody's positive: extra negatives of a
    /// problem without rows.
    pub(super) fn of_row_negatives(&self) -> Self {
        let RowNegatives { embeddings, log_q, item_ids, .. } = self.row_negatives;
        let problem = Problem {
            rows: 0,
            offset: 0,
            batch_columns: 0,
            extra_columns: self.problem.row_negative_embeddings(),
            bank_columns: 0,
            row_negatives: 0,
            pool: None,
            ..self.problem
        };
        Self {
            problem,
            config: self.config,
            users: Span::NULL,
            items: Span::NULL,
            extra: embeddings,
            log_q: [Span::NULL, log_q, Span::NULL],
            user_log_q: Span::NULL,
            item_ids: [Span::NULL, item_ids, Span::NULL],
            user_ids: Span::NULL,
            weights: Span::NULL,
            labels: Labels::NONE,
            bank: Bank::NONE,
            row_negatives: RowNegatives::NONE,
        }
    }

    /// Whether any logit is corrected by log q.
    pub(super) fn corrects(&self) -> bool {
        !self.log_q[0].is_null()
    }

    /// Whether columns with a loss of their own have a share of d(1/tau) through log q.
    pub(super) fn log_q_share(&self) -> bool {
        self.config.is_symmetric() && self.config.sweep_features().moment && self.corrects()
    }
}

impl<T> Inputs<T> {
    /// Rows against columns that are nobody's positive; `ids` of the columns and then of the rows, null: no exclusion.
    /// `labels` of rows that have several, the first one of which is the row's id.
    pub(super) fn negatives(
        problem: Problem,
        config: LossConfig,
        users: Span<T>,
        columns: Span<T>,
        ids: Span<i64>,
        labels: Labels,
        weights: Span<f32>,
    ) -> Self {
        Self {
            problem,
            config,
            users,
            items: columns,
            extra: Span::NULL,
            log_q: [Span::NULL; 3],
            item_ids: [ids, Span::NULL, Span::NULL],
            labels,
            user_ids: Span::NULL,
            user_log_q: Span::NULL,
            weights,
            bank: Bank::NONE,
            row_negatives: RowNegatives::NONE,
        }
    }
}

impl<T: Element> Inputs<T> {
    /// Binds a batch that [`Problem::new`] has checked.
    pub(super) fn bind<'s>(
        device: &'s Device,
        batch: &'s Batch<'_, T>,
        problem: Problem,
        config: &LossConfig,
    ) -> Result<(Self, Guards<'s>)> {
        let mut guards = Guards::new();
        let users = bind(device, &batch.users, "users", &mut guards)?;
        let items = bind(device, &batch.items, "items", &mut guards)?;
        let extra = batch.extra.as_ref();
        let embeddings = optional(device, extra.map(|e| &e.embeddings), "extra embeddings", &mut guards)?;
        let mut log_q = [
            optional(device, batch.log_q.as_ref(), "log_q", &mut guards)?,
            optional(device, extra.and_then(|e| e.log_q.as_ref()), "extra log_q", &mut guards)?,
            Span::NULL,
        ];
        let mut item_ids = [
            optional(device, batch.item_ids.as_ref(), "item_ids", &mut guards)?,
            optional(device, extra.and_then(|e| e.item_ids.as_ref()), "extra item_ids", &mut guards)?,
            Span::NULL,
        ];
        let mut bank = Bank::NONE;
        if let Some(memory) = batch.bank {
            device.check_same(memory.device(), "the memory bank")?;
            bank = memory.spans();
            // A bank keeps log q for whoever wants it: alone, it makes no correction.
            log_q[2] = memory.log_q().only_if(batch.log_q.is_some() || !log_q[1].is_null());
            item_ids[2] = memory.item_ids();
        }
        let negatives = batch.row_negatives.as_ref();
        let of_rows = negatives.map(|n| &n.items);
        let row_log_q = of_rows.and_then(|i| i.log_q.as_ref());
        let row_ids = of_rows.and_then(|i| i.item_ids.as_ref());
        let indices = negatives.and_then(|n| n.indices.as_ref());
        let row_negatives = RowNegatives {
            embeddings: optional(device, of_rows.map(|i| &i.embeddings), "row negatives", &mut guards)?,
            log_q: optional(device, row_log_q, "row negatives' log_q", &mut guards)?
                .only_if(config.get_logq_scale() != 0.0),
            item_ids: optional(device, row_ids, "row negatives' item_ids", &mut guards)?
                .only_if(config.excludes_same_item()),
            indices: optional(device, indices, "row negatives' indices", &mut guards)?,
        };
        let log_q = log_q.map(|span| span.only_if(config.get_logq_scale() != 0.0));
        let item_ids = item_ids.map(|span| span.only_if(config.excludes_same_item()));
        let user_log_q = optional(device, batch.user_log_q.as_ref(), "user_log_q", &mut guards)?;
        let user_ids = optional(device, batch.user_ids.as_ref(), "user_ids", &mut guards)?;
        let inputs = Self {
            problem,
            config: *config,
            users,
            items,
            extra: embeddings,
            log_q,
            user_log_q: user_log_q.only_if(config.get_logq_scale() != 0.0),
            item_ids,
            labels: Labels::NONE,
            user_ids: user_ids.only_if(config.excludes_same_user()),
            weights: optional(device, batch.weights.as_ref(), "weights", &mut guards)?,
            bank,
            row_negatives,
        };
        Ok((inputs, guards))
    }

    /// The columns' storage, once every length is certain. `with_bank` says whether the bank is read.
    pub(super) fn columns(&self, with_bank: bool) -> Result<arguments::Columns> {
        let Problem { dim, batch_columns, extra_columns, bank_columns, .. } = self.problem;
        let bank_columns = if with_bank { bank_columns } else { 0 };
        Ok(arguments::Columns {
            batch: self.items.holds(batch_columns * dim, "items")?,
            extra: self.extra.holds(extra_columns * dim, "extra embeddings")?,
            bank: self.bank.embeddings.holds(bank_columns * dim, "the bank's embeddings")?,
            batch_count: int(batch_columns),
            extra_count: int(extra_columns),
            bank_count: int(bank_columns),
            dim: int(dim),
        })
    }

    /// The users' norms, null unless normalising: the workspace may hold those of an earlier call.
    pub(super) fn row_norms(&self, workspace: &Workspace) -> Result<u64> {
        let norms = Span::from(&workspace.row_norms).only_if(self.config.normalizes());
        norms.holds_or_null(2 * self.problem.rows, "row norms")
    }

    /// The first columns' norms, null unless normalising.
    pub(super) fn column_norms(&self, workspace: &Workspace, columns: usize) -> Result<u64> {
        let norms = Span::from(&workspace.column_norms).only_if(self.config.normalizes());
        norms.holds_or_null(2 * columns, "column norms")
    }

    /// The first columns' item ids, null unless items are excluded by id.
    pub(super) fn column_ids(&self, workspace: &Workspace, columns: usize) -> Result<u64> {
        let excluding = !self.item_ids[0].is_null();
        // Rows look their positives up there.
        let positives = self.problem.offset.saturating_add(self.problem.rows);
        Span::from(&workspace.item_ids).only_if(excluding).holds_or_null(columns.max(positives), "item ids")
    }

    /// Whether every embedding that a sweep reads starts at a multiple of 16 bytes.
    pub(super) fn aligned(&self, with_bank: bool) -> bool {
        let bank = if with_bank { self.bank.embeddings.pointer } else { 0 };
        let row = (self.problem.dim * size_of::<T>()) as u64;
        [self.users.pointer, self.items.pointer, self.extra.pointer, bank, row].iter().all(|p| p % 16 == 0)
    }
}

pub(super) fn bind<'s, E>(
    device: &'s Device,
    view: &'s View<'_, E>,
    what: &'static str,
    guards: &mut Guards<'s>,
) -> Result<Span<E>> {
    let bound = view.bind(device, what)?;
    let span = Span::new(bound.pointer, view.length());
    guards.push(bound);
    Ok(span)
}

/// A gradient buffer's span, with what records its use.
pub(super) fn bind_mut<'s, E>(
    device: &'s Device,
    view: &'s mut ViewMut<'_, E>,
    what: &'static str,
) -> Result<(Span<E>, Bound<'s>)> {
    let len = view.length();
    let bound = view.bind(device, what)?;
    Ok((Span::new(bound.pointer, len), bound))
}

fn optional<'s, E>(
    device: &'s Device,
    view: Option<&'s View<'_, E>>,
    what: &'static str,
    guards: &mut Guards<'s>,
) -> Result<Span<E>> {
    view.map_or(Ok(Span::NULL), |view| bind(device, view, what, guards))
}

impl<T: Element> MemoryBank<T> {
    fn spans(&self) -> Bank<T> {
        let config = self.config();
        Bank {
            embeddings: self.embeddings(),
            entered: self.entered(),
            state: self.state(),
            warm_up: config.warm_up,
            max_age: config.max_age.unwrap_or(u64::MAX),
        }
    }
}
