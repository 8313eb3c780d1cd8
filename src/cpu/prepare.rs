//! What is computed from the inputs once per forward: norms and exclusion groups.

use super::columns::Columns;
use super::embeddings::inverse_norms;
use super::workspace::Prepared;
use crate::cpu::Batch;
use crate::{Element, LossConfig};

impl Prepared {
    /// Fills what the configuration needs; the buffers have been reserved.
    pub(super) fn prepare<T: Element>(
        &mut self,
        config: &LossConfig,
        batch: &Batch<'_, T>,
        columns: &Columns<'_, T>,
    ) {
        let count = columns.segments.iter().chain([&columns.own]).map(|segment| segment.count).sum();
        let rows = batch.users.0.len() / batch.dim;
        if config.normalizes() {
            inverse_norms(batch.users.0, batch.dim, &mut self.user_norms[..rows]);
            for segment in columns.segments.iter().chain([&columns.own]) {
                let target = &mut self.column_norms[segment.first..segment.first + segment.count];
                inverse_norms(segment.embeddings, batch.dim, target);
            }
        }
        if let (true, Some(ids)) = (config.excludes_same_item(), &batch.item_ids) {
            let positives = &ids.0[batch.offset..batch.offset + rows];
            // A row's own negatives are compared one by one.
            let segments = columns.segments.iter().map(|s| (s.first, s.item_ids.unwrap_or(&[])));
            self.same_item.build(positives, count, segments);
        }
        if let (true, Some(ids)) = (config.excludes_same_user(), &batch.user_ids) {
            // Only the columns that are some row's positive have a user.
            self.same_user.build(ids.0, count, std::iter::once((batch.offset, ids.0)));
        }
    }
}
