//! Checked shapes: everything a backend must know before it touches a buffer.

use crate::batch::{Backend, BankColumns, Batch, Gradients, Items, Length, RowNegatives};
use crate::{Dtype, Element, Error, LogQOrder, LossConfig, Objective, Reduction, Result, Segment};

/// The largest embedding dimension.
pub(crate) const MAX_DIM: usize = 1024;

/// Rows and columns are counted in 32 bits on the device.
const MAX_COUNT: usize = i32::MAX as usize;

/// The shape of one call: `B` rows against `N = C + E + M` columns of dimension `D`.
///
/// Two calls with equal problems need the same workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// `B`: users.
    pub rows: usize,
    /// `D`: embedding dimension.
    pub dim: usize,
    /// `C`: items of the batch, at least `rows + offset`.
    pub batch_columns: usize,
    /// `E`: extra negatives.
    pub extra_columns: usize,
    /// `M`: slots of the memory bank that may be read.
    pub bank_columns: usize,
    /// Row i's positive is batch column `i + offset`.
    pub offset: usize,
    /// `K`: negatives of each row's own ([`Batch::row_negatives`]), 0 without.
    pub row_negatives: usize,
    /// `P`: embeddings that they are taken from by index; `None` where they have embeddings of their own, `B K` of them.
    pub pool: Option<usize>,
    /// Storage of the embeddings.
    pub dtype: Dtype,
}

impl Problem {
    /// Checks a batch against a configuration: every length, every field that is required.
    ///
    /// # Errors
    /// The variant of [`Error`] that names what does not fit.
    pub fn new<B: Backend, T: Element>(batch: &Batch<'_, B, T>, config: &LossConfig) -> Result<Self> {
        let dim = batch.dim;
        if dim == 0 || dim > MAX_DIM {
            return Err(Error::Dimension { dim, max: MAX_DIM });
        }
        let rows = row_count("users", batch.users.length(), dim)?;
        let batch_columns = row_count("items", batch.items.length(), dim)?;
        let extra_columns = match &batch.extra {
            Some(extra) => row_count("extra embeddings", extra.embeddings.length(), dim)?,
            None => 0,
        };
        let bank_columns = match batch.bank {
            Some(bank) if bank.dim() != dim => {
                return Err(Error::BankDimension { bank: bank.dim(), batch: dim });
            }
            Some(bank) => bank.columns(),
            None => 0,
        };
        if rows == 0 {
            return Err(Error::NoRows);
        }
        let (row_negatives, pool) = match &batch.row_negatives {
            Some(negatives) => {
                let embeddings = row_count("row negatives", negatives.items.embeddings.length(), dim)?;
                (negatives.per_row, negatives.indices.is_some().then_some(embeddings))
            }
            None => (0, None),
        };
        let problem = Self {
            rows,
            dim,
            batch_columns,
            extra_columns,
            bank_columns,
            offset: batch.offset,
            row_negatives,
            pool,
            dtype: T::DTYPE,
        };
        problem.check_counts()?;
        problem.check_fields(batch, config)?;
        Ok(problem)
    }

    /// `N`: all columns.
    pub fn columns(&self) -> usize {
        self.gradient_columns().saturating_add(self.bank_columns)
    }

    /// `C + E`: the columns that receive a gradient.
    pub fn gradient_columns(&self) -> usize {
        self.batch_columns.saturating_add(self.extra_columns)
    }

    /// Embeddings that the row negatives are taken from: `P`, or `B K`.
    pub fn row_negative_embeddings(&self) -> usize {
        self.pool.unwrap_or(self.rows.saturating_mul(self.row_negatives))
    }

    /// Whether two problems differ in nothing but the bank, which a backward does not read.
    pub(crate) fn same_but_bank(&self, other: &Self) -> bool {
        Self { bank_columns: 0, ..*self } == Self { bank_columns: 0, ..*other }
    }

    fn check_counts(&self) -> Result<()> {
        let last = self.rows.checked_add(self.offset);
        if last.is_none_or(|last| last > self.batch_columns) {
            return Err(Error::PositivesOutside {
                columns: self.batch_columns,
                rows: self.rows,
                offset: self.offset,
            });
        }
        let columns =
            [self.batch_columns, self.extra_columns, self.bank_columns].iter().map(|&n| n as u128).sum();
        let row_negatives = self.rows as u128 * self.row_negatives as u128;
        for (what, size) in [
            ("the number of rows", self.rows as u128),
            ("the number of columns", columns),
            ("the number of row negatives", row_negatives),
            ("the pool of row negatives", self.row_negative_embeddings() as u128),
        ] {
            if size > MAX_COUNT as u128 {
                return Err(Error::TooLarge { what, size, max: MAX_COUNT as u128 });
            }
        }
        Ok(())
    }

    fn check_fields<B: Backend, T: Element>(
        &self,
        batch: &Batch<'_, B, T>,
        config: &LossConfig,
    ) -> Result<()> {
        let per_column = "one for each item of the batch";
        let per_extra = "one for each extra negative";
        let per_row = "one for each user";
        check_length("log_q", batch.log_q.as_ref(), self.batch_columns, per_column)?;
        check_length("item_ids", batch.item_ids.as_ref(), self.batch_columns, per_column)?;
        check_length("user_ids", batch.user_ids.as_ref(), self.rows, per_row)?;
        check_length("weights", batch.weights.as_ref(), self.rows, per_row)?;
        check_length("user_log_q", batch.user_log_q.as_ref(), self.rows, per_row)?;
        if let Some(extra) = &batch.extra {
            check_length("extra log_q", extra.log_q.as_ref(), self.extra_columns, per_extra)?;
            check_length("extra item_ids", extra.item_ids.as_ref(), self.extra_columns, per_extra)?;
        }
        if let Some(negatives) = &batch.row_negatives {
            self.check_row_negatives(negatives)?;
        }
        let segments = [
            (Segment::Batch, Some((batch.log_q.is_some(), batch.item_ids.is_some()))),
            (Segment::Extra, batch.extra.as_ref().map(|e| (e.log_q.is_some(), e.item_ids.is_some()))),
            (Segment::Bank, batch.bank.map(|b| (b.has_log_q(), b.has_item_ids()))),
            (
                Segment::RowNegatives,
                batch.row_negatives.as_ref().map(|n| (n.items.log_q.is_some(), n.items.item_ids.is_some())),
            ),
        ];
        let any_log_q = segments
            .iter()
            .any(|(segment, has)| *segment != Segment::Bank && has.is_some_and(|(log_q, _)| log_q));
        for (segment, has) in segments {
            let Some((log_q, item_ids)) = has else { continue };
            if any_log_q && !log_q {
                return Err(Error::MissingLogQ(segment));
            }
            if config.excludes_same_item() && !item_ids {
                return Err(Error::MissingItemIds(segment));
            }
        }
        if config.excludes_same_user() && batch.user_ids.is_none() {
            return Err(Error::MissingUserIds);
        }
        if config.get_reduction() == Reduction::WeightedMean && batch.weights.is_none() {
            return Err(Error::MissingWeights);
        }
        self.check_symmetric(batch, config)?;
        self.check_hard_negatives(batch, config)?;
        check_objective(config, any_log_q)
    }

    fn check_row_negatives<B: Backend, T: Element>(&self, negatives: &RowNegatives<'_, B, T>) -> Result<()> {
        let each = "row_negatives for each user";
        let per_embedding = "one for each row negative, or each row of their pool";
        let count = self.row_negative_embeddings();
        let Items { embeddings, log_q, item_ids } = &negatives.items;
        check_length("row negatives", Some(embeddings), count.saturating_mul(self.dim), each)?;
        check_length(
            "row negatives' indices",
            negatives.indices.as_ref(),
            self.rows * self.row_negatives,
            each,
        )?;
        check_length("row negatives' log_q", log_q.as_ref(), count, per_embedding)?;
        check_length("row negatives' item_ids", item_ids.as_ref(), count, per_embedding)
    }

    /// Whether there is anything to choose the hardest from.
    fn check_hard_negatives<B: Backend, T: Element>(
        &self,
        batch: &Batch<'_, B, T>,
        config: &LossConfig,
    ) -> Result<()> {
        let Some(hard_negatives) = config.get_hard_negatives() else { return Ok(()) };
        if hard_negatives >= self.columns() {
            let (asked, columns) = (hard_negatives, self.columns());
            return Err(Error::HardNegatives { asked, columns });
        }
        if batch.row_negatives.is_some() {
            return Err(Error::Incompatible {
                first: "LossConfig::hard_negatives",
                second: "row negatives",
                remedy: "choose one; extra negatives take part in the choice of the hardest",
            });
        }
        Ok(())
    }

    /// What a loss of rows and columns does without.
    fn check_symmetric<B: Backend, T: Element>(
        &self,
        batch: &Batch<'_, B, T>,
        config: &LossConfig,
    ) -> Result<()> {
        if !config.is_symmetric() {
            let incompatible = Error::Incompatible {
                first: "user_log_q",
                second: "a loss of users alone",
                remedy: "set LossConfig::symmetric(true), or drop it",
            };
            return if batch.user_log_q.is_some() { Err(incompatible) } else { Ok(()) };
        }
        let objective = matches!(
            config.get_objective(),
            Objective::Softmax | Objective::AdditiveMargin { .. } | Objective::Decoupled
        );
        for (present, second) in [
            (self.batch_columns != self.rows, "more items than users"),
            (batch.extra.is_some(), "extra negatives"),
            (batch.bank.is_some(), "a memory bank"),
            (batch.row_negatives.is_some(), "row negatives"),
            (config.get_hard_negatives().is_some(), "hard_negatives"),
            (!objective, "an objective other than Softmax, AdditiveMargin and Decoupled"),
        ] {
            if present {
                let remedy = "it ranks the batch's items and users among each other, nothing else";
                return Err(Error::Incompatible { first: "LossConfig::symmetric", second, remedy });
            }
        }
        Ok(())
    }

    /// Checks gradient buffers against the shape, the configuration, and the batch that they belong to.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::UnexpectedExtraGradient`], [`Error::UnexpectedRowNegativesGradient`],
    /// [`Error::UnexpectedLogQGradient`].
    pub fn check_gradients<B: Backend, T: Element, G: Element>(
        &self,
        batch: &Batch<'_, B, T>,
        config: &LossConfig,
        gradients: &Gradients<'_, B, G>,
    ) -> Result<()> {
        let shape = "the shape of the embeddings it belongs to";
        check_length("the gradient of users", Some(&gradients.users), self.rows * self.dim, shape)?;
        check_length("the gradient of items", Some(&gradients.items), self.batch_columns * self.dim, shape)?;
        if gradients.extra.is_some() && self.extra_columns == 0 {
            return Err(Error::UnexpectedExtraGradient);
        }
        check_length(
            "the gradient of extra",
            gradients.extra.as_ref(),
            self.extra_columns * self.dim,
            shape,
        )?;
        let shape = "the length of the log_q it belongs to";
        check_length("the gradient of log_q", gradients.log_q.as_ref(), self.batch_columns, shape)?;
        check_length(
            "the gradient of extra log_q",
            gradients.extra_log_q.as_ref(),
            self.extra_columns,
            shape,
        )?;
        check_length("the gradient of user_log_q", gradients.user_log_q.as_ref(), self.rows, shape)?;
        if gradients.row_negatives.is_some() && batch.row_negatives.is_none() {
            return Err(Error::UnexpectedRowNegativesGradient);
        }
        let count = self.row_negative_embeddings();
        check_length(
            "the gradient of row negatives",
            gradients.row_negatives.as_ref(),
            count.saturating_mul(self.dim),
            "the shape of the embeddings it belongs to",
        )?;
        check_length(
            "the gradient of row negatives' log_q",
            gradients.row_negatives_log_q.as_ref(),
            count,
            shape,
        )?;
        let extra_log_q = batch.extra.as_ref().is_some_and(|extra| extra.log_q.is_some());
        let row_log_q = batch.row_negatives.as_ref().is_some_and(|n| n.items.log_q.is_some());
        let user_log_q = config.is_symmetric() && batch.user_log_q.is_some();
        let unexpected = (gradients.log_q.is_some() && batch.log_q.is_none())
            || (gradients.extra_log_q.is_some() && !extra_log_q)
            || (gradients.user_log_q.is_some() && !user_log_q)
            || (gradients.row_negatives_log_q.is_some() && !row_log_q);
        if unexpected { Err(Error::UnexpectedLogQGradient) } else { Ok(()) }
    }
}

/// Whether the objective goes with the rest of the configuration.
fn check_objective(config: &LossConfig, has_log_q: bool) -> Result<()> {
    let corrects = config.get_logq_scale() != 0.0;
    match config.get_objective() {
        Objective::CorrectedLogQ if !has_log_q && corrects => Err(Error::ObjectiveNeedsLogQ),
        Objective::CorrectedLogQ if config.get_logq_order() == LogQOrder::InsideTemperature => {
            Err(Error::Incompatible {
                first: "Objective::CorrectedLogQ",
                second: "LogQOrder::InsideTemperature",
                remedy: "the paper's correction stands outside",
            })
        }
        Objective::Debiased { .. } if has_log_q && corrects => Err(Error::Incompatible {
            first: "Objective::Debiased",
            second: "log_q",
            remedy: "its estimate supposes negatives drawn as they come; drop log_q, or set logq_scale(0)",
        }),
        _ => Ok(()),
    }
}

pub(crate) fn row_count(what: &'static str, len: usize, dim: usize) -> Result<usize> {
    if !len.is_multiple_of(dim) {
        return Err(Error::NotRows { what, len, dim });
    }
    Ok(len / dim)
}

pub(crate) fn check_length<V: Length>(
    what: &'static str,
    buffer: Option<&V>,
    expected: usize,
    why: &'static str,
) -> Result<()> {
    match buffer.map(Length::length) {
        Some(got) if got != expected => Err(Error::Length { what, got, expected, why }),
        _ => Ok(()),
    }
}
