//! Negatives of each row's own: which they are, and their logits.

use std::ops::Range;

use super::cells::{NONE, RowCells};
use super::embeddings::load;
use super::forward::RowSweep;
use super::partial::Partial;
use super::workspace::Scratch;
use crate::cpu::Batch;
use crate::{Element, Error, Problem, Result};

/// Every index lies in its pool, or below 0.
pub(super) fn check_indices<T: Element>(problem: &Problem, batch: &Batch<'_, T>) -> Result<()> {
    let (Some(negatives), Some(pool)) = (&batch.row_negatives, problem.pool) else { return Ok(()) };
    let indices = negatives.indices.as_ref().map_or(&[][..], |indices| indices.0);
    let outside = |index: &i32| usize::try_from(*index).is_ok_and(|index| index >= pool);
    match indices.iter().position(outside) {
        Some(cell) => {
            let (row, slot) = (cell / negatives.per_row, cell % negatives.per_row);
            Err(Error::RowNegativeIndex { row, slot, index: indices[cell], pool })
        }
        None => Ok(()),
    }
}

impl<T: Element> RowSweep<'_, T> {
    /// Columns and logits of a row tile's own negatives, and the positives' logits where counts are wanted.
    pub(super) fn own_cells(
        &self,
        rows: Range<usize>,
        indices: Option<&[i32]>,
        cells: RowCells<'_>,
        scratch: &mut Scratch,
        partial: &mut Partial<'_>,
    ) {
        let per_row = cells.logits.len() / rows.len();
        let Scratch { owned, streamed, reference, .. } = scratch;
        let users = load(self.users, rows.clone(), self.problem.dim, self.user_norms, 0, owned);
        let cells = cells.logits.chunks_exact_mut(per_row).zip(cells.columns.chunks_exact_mut(per_row));
        for ((lane, i), (logits, columns)) in rows.enumerate().zip(cells) {
            let user = users.row(lane);
            let mut excluded = 0;
            for (slot, (x, column)) in logits.iter_mut().zip(columns).enumerate() {
                let cell = i * per_row + slot;
                let place = indices.map_or(Some(cell), |indices| usize::try_from(indices[cell]).ok());
                let hit = place.is_some_and(|place| self.is_own_hit(i, place));
                excluded += u32::from(hit);
                (*x, *column) = match place.filter(|_| !hit) {
                    Some(place) => {
                        let own = &self.columns.own;
                        (self.pair(user, own, place, true, streamed), (own.first + place) as u32)
                    }
                    None => (f32::NEG_INFINITY, NONE),
                };
            }
            if let Some(counts) = &mut partial.counts {
                counts.excluded[lane] += excluded;
                let (batch, positive) = (&self.columns.segments[0], i + self.problem.offset);
                reference[lane] = self.pair(user, batch, positive, self.corrects_positive, streamed);
            }
        }
    }

    /// Whether an embedding of the row negatives is row i's positive item once more.
    fn is_own_hit(&self, i: usize, place: usize) -> bool {
        let ids = self.columns.segments[0].item_ids.zip(self.columns.own.item_ids);
        let ids = ids.filter(|_| self.exclusions[0].is_some());
        ids.is_some_and(|(batch, own)| batch[i + self.problem.offset] == own[place])
    }
}
