//! The shape of one call of the oracle, checked.

use super::{Inputs, RowNegatives};
use crate::problem::check_length;
use crate::{Error, Length, LossConfig, Reduction, Result, Segment};

#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) rows: usize,
    /// Of batch, extra and bank; the row negatives' embeddings come after them.
    pub(super) columns: usize,
    pub(super) batch: usize,
    pub(super) extra: usize,
}

impl Length for &[f64] {
    fn length(&self) -> usize {
        self.len()
    }
}

impl Length for &[i64] {
    fn length(&self) -> usize {
        self.len()
    }
}

impl Length for &[i32] {
    fn length(&self) -> usize {
        self.len()
    }
}

impl Length for &[bool] {
    fn length(&self) -> usize {
        self.len()
    }
}

fn count(what: &'static str, slice: &[f64], dim: usize) -> Result<usize> {
    match slice.len() % dim {
        0 => Ok(slice.len() / dim),
        _ => Err(Error::NotRows { what, len: slice.len(), dim }),
    }
}

impl Shape {
    pub(super) fn of(config: &LossConfig, inputs: &Inputs<'_>) -> Result<Self> {
        let dim = inputs.dim;
        if dim == 0 {
            return Err(Error::Dimension { dim, max: usize::MAX });
        }
        let rows = count("users", inputs.users, dim)?;
        let batch = count("items", inputs.items, dim)?;
        let extra = count("extra embeddings", inputs.extra, dim)?;
        let bank = count("bank embeddings", inputs.bank, dim)?;
        if rows == 0 {
            return Err(Error::NoRows);
        }
        if rows.checked_add(inputs.offset).is_none_or(|last| last > batch) {
            return Err(Error::PositivesOutside { columns: batch, rows, offset: inputs.offset });
        }
        let columns = batch + extra + bank;
        check_length("bank_absent", inputs.bank_absent.as_ref(), bank, "one for each bank slot")?;
        check_length("log_q", inputs.log_q.as_ref(), columns, "one for each column")?;
        check_length("item_ids", inputs.item_ids.as_ref(), columns, "one for each column")?;
        check_length("user_ids", inputs.user_ids.as_ref(), rows, "one for each user")?;
        check_length("weights", inputs.weights.as_ref(), rows, "one for each user")?;
        let (grads, why) = match config.get_reduction() {
            Reduction::None => (rows, "one for each row loss"),
            _ => (1, "one for the reduced loss"),
        };
        check_length("upstream", inputs.upstream.as_ref(), grads, why)?;
        if config.excludes_same_item() && inputs.item_ids.is_none() {
            return Err(Error::MissingItemIds(Segment::Batch));
        }
        if config.excludes_same_user() && inputs.user_ids.is_none() {
            return Err(Error::MissingUserIds);
        }
        if config.get_reduction() == Reduction::WeightedMean && inputs.weights.is_none() {
            return Err(Error::MissingWeights);
        }
        if let Some(negatives) = &inputs.row_negatives {
            check_row_negatives(config, inputs, negatives, rows)?;
        }
        Ok(Self { rows, columns, batch, extra })
    }
}

fn check_row_negatives(
    config: &LossConfig,
    inputs: &Inputs<'_>,
    negatives: &RowNegatives<'_>,
    rows: usize,
) -> Result<()> {
    let embeddings = count("row negatives", negatives.embeddings, inputs.dim)?;
    let cells = rows * negatives.per_row;
    let (each, per_embedding) = ("per_row for each user", "one for each embedding");
    match &negatives.indices {
        Some(indices) => check_length("row negatives' indices", Some(indices), cells, each)?,
        None => {
            let expected = cells * inputs.dim;
            check_length("row negatives", Some(&negatives.embeddings), expected, each)?;
        }
    }
    check_length("row negatives' log_q", negatives.log_q.as_ref(), embeddings, per_embedding)?;
    check_length("row negatives' item_ids", negatives.item_ids.as_ref(), embeddings, per_embedding)?;
    for (cell, &index) in negatives.indices.unwrap_or(&[]).iter().enumerate() {
        if usize::try_from(index).is_ok_and(|index| index >= embeddings) {
            let (row, slot) = (cell / negatives.per_row, cell % negatives.per_row);
            return Err(Error::RowNegativeIndex { row, slot, index, pool: embeddings });
        }
    }
    if inputs.log_q.is_some() != negatives.log_q.is_some() {
        let segment = if inputs.log_q.is_some() { Segment::RowNegatives } else { Segment::Batch };
        return Err(Error::MissingLogQ(segment));
    }
    if config.excludes_same_item() && negatives.item_ids.is_none() {
        return Err(Error::MissingItemIds(Segment::RowNegatives));
    }
    Ok(())
}
