//! What goes in and where gradients come out, the same builders on every backend.

use crate::Element;

/// Something with a number of elements.
pub trait Length {
    /// Elements held.
    fn length(&self) -> usize;
}

/// What a batch must know of a memory bank.
pub trait BankColumns {
    /// Embedding dimension.
    fn dim(&self) -> usize;
    /// Columns that the loss sweeps: a backend may count empty slots and mask them on the device.
    fn columns(&self) -> usize;
    /// Whether log_q is stored with each embedding.
    fn has_log_q(&self) -> bool;
    /// Whether item ids are stored with each embedding.
    fn has_item_ids(&self) -> bool;
}

/// A place where the loss can run: how it borrows buffers and what its memory bank is.
pub trait Backend: Sized {
    /// A borrowed buffer to read.
    type View<'a, T: bytemuck::Pod>: Length;
    /// A borrowed buffer to write.
    type ViewMut<'a, T: bytemuck::Pod>: Length;
    /// The memory bank.
    type Bank<T: Element>: BankColumns;
}

/// One call's inputs: `B` users against the items of the batch, extra negatives and a memory bank.
///
/// Row-major `[rows, dim]` embeddings. Row i's positive is item `i + offset`. Nothing is checked
/// before the batch reaches a loss, which checks everything before it touches a buffer.
pub struct Batch<'a, B: Backend, T: Element> {
    pub(crate) users: B::View<'a, T>,
    pub(crate) items: B::View<'a, T>,
    pub(crate) dim: usize,
    pub(crate) offset: usize,
    pub(crate) log_q: Option<B::View<'a, f32>>,
    pub(crate) user_log_q: Option<B::View<'a, f32>>,
    pub(crate) item_ids: Option<B::View<'a, i64>>,
    pub(crate) user_ids: Option<B::View<'a, i64>>,
    pub(crate) weights: Option<B::View<'a, f32>>,
    pub(crate) extra: Option<Items<'a, B, T>>,
    pub(crate) bank: Option<&'a B::Bank<T>>,
    pub(crate) row_negatives: Option<RowNegatives<'a, B, T>>,
}

impl<'a, B: Backend, T: Element> Batch<'a, B, T> {
    /// `users` is `[B, dim]`, `items` is `[C, dim]` with `C >= B + offset`.
    pub fn new(users: impl Into<B::View<'a, T>>, items: impl Into<B::View<'a, T>>, dim: usize) -> Self {
        Self {
            users: users.into(),
            items: items.into(),
            dim,
            offset: 0,
            log_q: None,
            user_log_q: None,
            item_ids: None,
            user_ids: None,
            weights: None,
            extra: None,
            bank: None,
            row_negatives: None,
        }
    }

    /// Row i's positive is item `i + offset`: the rank's first row when items are gathered from
    /// several devices.
    pub fn offset(mut self, offset: usize) -> Self {
        self.offset = offset;
        self
    }

    /// `[C]` natural logarithms of each item's sampling probability (or expected count).
    pub fn log_q(mut self, log_q: impl Into<B::View<'a, f32>>) -> Self {
        self.log_q = Some(log_q.into());
        self
    }

    /// `[B]` the same of each user, as a negative of items: for [`LossConfig::symmetric`](crate::LossConfig::symmetric).
    pub fn user_log_q(mut self, log_q: impl Into<B::View<'a, f32>>) -> Self {
        self.user_log_q = Some(log_q.into());
        self
    }

    /// `[C]` item ids, compared bit for bit.
    pub fn item_ids(mut self, item_ids: impl Into<B::View<'a, i64>>) -> Self {
        self.item_ids = Some(item_ids.into());
        self
    }

    /// `[B]` user ids, compared bit for bit.
    pub fn user_ids(mut self, user_ids: impl Into<B::View<'a, i64>>) -> Self {
        self.user_ids = Some(user_ids.into());
        self
    }

    /// `[B]` row weights, multiplied into the row losses. Any finite value, negative ones too.
    pub fn weights(mut self, weights: impl Into<B::View<'a, f32>>) -> Self {
        self.weights = Some(weights.into());
        self
    }

    /// Extra negatives shared by all rows: uniform, popular, hard, cold ... with gradient.
    pub fn extra(mut self, extra: Items<'a, B, T>) -> Self {
        self.extra = Some(extra);
        self
    }

    /// Embeddings of earlier batches as further negatives, without gradient.
    pub fn bank(mut self, bank: &'a B::Bank<T>) -> Self {
        self.bank = Some(bank);
        self
    }

    /// Negatives that belong to one row each, with gradient: a user's cold or hard ones.
    pub fn row_negatives(mut self, row_negatives: RowNegatives<'a, B, T>) -> Self {
        self.row_negatives = Some(row_negatives);
        self
    }
}

/// Item embeddings with their log q and item ids: extra negatives of a batch ([`Batch::extra`]), or
/// what is pushed into a memory bank.
pub struct Items<'a, B: Backend, T: Element> {
    pub(crate) embeddings: B::View<'a, T>,
    pub(crate) log_q: Option<B::View<'a, f32>>,
    pub(crate) item_ids: Option<B::View<'a, i64>>,
}

impl<'a, B: Backend, T: Element> Items<'a, B, T> {
    /// `[n, dim]` embeddings.
    pub fn new(embeddings: impl Into<B::View<'a, T>>) -> Self {
        Self { embeddings: embeddings.into(), log_q: None, item_ids: None }
    }

    /// `[n]` log q, as in [`Batch::log_q`].
    pub fn log_q(mut self, log_q: impl Into<B::View<'a, f32>>) -> Self {
        self.log_q = Some(log_q.into());
        self
    }

    /// `[n]` item ids, as in [`Batch::item_ids`].
    pub fn item_ids(mut self, item_ids: impl Into<B::View<'a, i64>>) -> Self {
        self.item_ids = Some(item_ids.into());
        self
    }
}

/// `K` negatives for each row that no other row sees ([`Batch::row_negatives`]): either `[B, K, dim]` embeddings of their
/// own, or `[B, K]` places in a pool `[P, dim]` that rows may share.
///
/// They join the row's other negatives, `z_ik = <u_i, v_ik> / tau - lambda log_q_ik`, and an item id equal to the
/// positive's makes one an accidental hit like any other.
pub struct RowNegatives<'a, B: Backend, T: Element> {
    pub(crate) items: Items<'a, B, T>,
    pub(crate) indices: Option<B::View<'a, i32>>,
    pub(crate) per_row: usize,
}

impl<'a, B: Backend, T: Element> RowNegatives<'a, B, T> {
    /// `items` holds `[B, per_row, dim]` embeddings, and `[B, per_row]` log q and item ids if there are any.
    pub fn new(items: Items<'a, B, T>, per_row: usize) -> Self {
        Self { items, indices: None, per_row }
    }

    /// `pool` holds `[P, dim]` embeddings, and `[P]` log q and item ids if there are any; `indices` is `[B, per_row]`, each
    /// a row of the pool, or below 0 where a user has fewer negatives. A row of the pool named twice counts twice; with
    /// that and with padding `per_row` may exceed `P`.
    ///
    /// On the CPU an index of `P` or more is an error. On a device nobody can look without waiting: the row's loss and
    /// gradient are NaN there.
    pub fn of_pool(pool: Items<'a, B, T>, indices: impl Into<B::View<'a, i32>>, per_row: usize) -> Self {
        Self { items: pool, indices: Some(indices.into()), per_row }
    }
}

/// Where gradients are written. Overwritten, not accumulated. `G` may differ from the embeddings'
/// type: f32 gradients of bf16 embeddings are common.
pub struct Gradients<'a, B: Backend, G: Element> {
    pub(crate) users: B::ViewMut<'a, G>,
    pub(crate) items: B::ViewMut<'a, G>,
    pub(crate) extra: Option<B::ViewMut<'a, G>>,
    pub(crate) log_q: Option<B::ViewMut<'a, f32>>,
    pub(crate) extra_log_q: Option<B::ViewMut<'a, f32>>,
    pub(crate) row_negatives: Option<B::ViewMut<'a, G>>,
    pub(crate) row_negatives_log_q: Option<B::ViewMut<'a, f32>>,
    pub(crate) user_log_q: Option<B::ViewMut<'a, f32>>,
}

impl<'a, B: Backend, G: Element> Gradients<'a, B, G> {
    /// `[B, dim]` for users, `[C, dim]` for items.
    pub fn new(users: impl Into<B::ViewMut<'a, G>>, items: impl Into<B::ViewMut<'a, G>>) -> Self {
        Self {
            users: users.into(),
            items: items.into(),
            extra: None,
            log_q: None,
            extra_log_q: None,
            row_negatives: None,
            row_negatives_log_q: None,
            user_log_q: None,
        }
    }

    /// `[E, dim]` for the extra negatives; left out, they are treated as constants.
    pub fn extra(mut self, extra: impl Into<B::ViewMut<'a, G>>) -> Self {
        self.extra = Some(extra.into());
        self
    }

    /// `[C]` for [`Batch::log_q`]: for q that is itself learnt. The bank's log q are constants.
    pub fn log_q(mut self, log_q: impl Into<B::ViewMut<'a, f32>>) -> Self {
        self.log_q = Some(log_q.into());
        self
    }

    /// `[E]` for [`Items::log_q`] of the extra negatives.
    pub fn extra_log_q(mut self, log_q: impl Into<B::ViewMut<'a, f32>>) -> Self {
        self.extra_log_q = Some(log_q.into());
        self
    }

    /// `[B, K, dim]` for the row negatives, or `[P, dim]` for their pool; left out, they are treated as constants.
    pub fn row_negatives(mut self, row_negatives: impl Into<B::ViewMut<'a, G>>) -> Self {
        self.row_negatives = Some(row_negatives.into());
        self
    }

    /// `[B, K]`, or `[P]`, for the log q of the row negatives.
    pub fn row_negatives_log_q(mut self, log_q: impl Into<B::ViewMut<'a, f32>>) -> Self {
        self.row_negatives_log_q = Some(log_q.into());
        self
    }

    /// `[B]` for [`Batch::user_log_q`] of a symmetric loss.
    pub fn user_log_q(mut self, log_q: impl Into<B::ViewMut<'a, f32>>) -> Self {
        self.user_log_q = Some(log_q.into());
        self
    }
}
