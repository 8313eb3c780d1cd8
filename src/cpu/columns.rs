//! The columns of one call: batch, extra and bank, read in place tile by tile.

use std::ops::Range;

use super::bank::Slots;
use super::tiles::{STREAMED, tile_range};
use crate::cpu::{Batch, Items};
use crate::{Element, LogQOrder, LossConfig};

/// log2(e): logits are kept in base 2.
pub(super) const LOG2_E: f64 = std::f64::consts::LOG2_E;

/// Neighbouring columns of one buffer.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a, T> {
    pub(super) embeddings: &'a [T],
    pub(super) log_q: Option<&'a [f32]>,
    pub(super) item_ids: Option<&'a [i64]>,
    /// Its first column among all columns.
    pub(super) first: usize,
    pub(super) count: usize,
}

/// All columns; a bank takes up to two segments.
pub(super) struct Columns<'a, T> {
    pub(super) segments: [Segment<'a, T>; 4],
    /// What the rows' own negatives are taken from. Nobody sweeps it; its columns are counted between the extra
    /// negatives' and the bank's, which may change before the backward.
    pub(super) own: Segment<'a, T>,
}

/// A tile of at most [`STREAMED`] columns, all of one segment.
pub(super) struct ColumnTile<'a, T> {
    pub(super) segment: Segment<'a, T>,
    /// Columns, counted inside the segment.
    pub(super) inside: Range<usize>,
}

impl<T> ColumnTile<'_, T> {
    /// Columns, counted among all columns.
    pub(super) fn columns(&self) -> Range<usize> {
        self.segment.first + self.inside.start..self.segment.first + self.inside.end
    }
}

impl<'a, T: Element> Columns<'a, T> {
    pub(super) fn new(batch: &Batch<'a, T>) -> Self {
        let empty = || Slots { embeddings: &[][..], log_q: None, item_ids: None };
        let of_items = |items: &Items<'a, T>| Slots {
            embeddings: items.embeddings.0,
            log_q: items.log_q.as_ref().map(|v| v.0),
            item_ids: items.item_ids.as_ref().map(|v| v.0),
        };
        let items = Slots {
            embeddings: batch.items.0,
            log_q: batch.log_q.as_ref().map(|v| v.0),
            item_ids: batch.item_ids.as_ref().map(|v| v.0),
        };
        let extra = batch.extra.as_ref().map_or_else(empty, of_items);
        let own = batch.row_negatives.as_ref().map_or_else(empty, |negatives| of_items(&negatives.items));
        let [bank, wrapped] = batch.bank.map_or_else(|| [empty(), empty()], |bank| bank.readable());
        let mut first = 0;
        let [items, extra, own, bank, wrapped] = [items, extra, own, bank, wrapped].map(|part| {
            let count = part.embeddings.len() / batch.dim;
            let segment = Segment {
                embeddings: part.embeddings,
                log_q: part.log_q,
                item_ids: part.item_ids,
                first,
                count,
            };
            first += count;
            segment
        });
        Self { segments: [items, extra, bank, wrapped], own }
    }

    /// The segment of a column, and its place there.
    pub(super) fn at(&self, column: usize) -> (&Segment<'a, T>, usize) {
        let all = self.segments.iter().chain([&self.own]);
        let mut found =
            all.filter(|segment| (segment.first..segment.first + segment.count).contains(&column));
        let segment = found.next().unwrap_or(&self.segments[0]);
        (segment, column - segment.first)
    }

    pub(super) fn tiles(&self) -> usize {
        self.segments.iter().map(|s| s.count.div_ceil(STREAMED)).sum()
    }

    /// Tile `tile` out of [`Columns::tiles`].
    pub(super) fn tile(&self, mut tile: usize) -> ColumnTile<'a, T> {
        let mut segment = self.segments[0];
        for candidate in self.segments {
            segment = candidate;
            let tiles = segment.count.div_ceil(STREAMED);
            if tile < tiles {
                break;
            }
            tile -= tiles;
        }
        ColumnTile { segment, inside: tile_range(tile, STREAMED, segment.count) }
    }
}

/// What is added to a column's scores: the bias of the sigmoid link and `-lambda log_q_j` (over the temperature, if
/// log q stands inside), in base 2 for the sweeps.
#[derive(Clone, Copy)]
pub(super) struct Correction {
    /// What multiplies log q, without sign.
    pub(super) scale: f64,
    /// Added to every column.
    pub(super) bias: f64,
}

impl Correction {
    /// No correction when lambda is 0, however large log q may be.
    pub(super) fn new(config: &LossConfig, applies: bool) -> Self {
        let lambda = if applies { f64::from(config.get_logq_scale()) } else { 0.0 };
        let scale = match config.get_logq_order() {
            LogQOrder::OutsideTemperature => lambda,
            LogQOrder::InsideTemperature => lambda / f64::from(config.temperature()),
        };
        Self { scale, bias: f64::from(config.bias()) }
    }

    /// The part of log q alone, in natural units.
    pub(super) fn of(&self, log_q: f32) -> f64 {
        if self.scale == 0.0 { 0.0 } else { -self.scale * f64::from(log_q) }
    }

    /// `lambda log(1 - q)`, in natural units.
    pub(super) fn log_rest(&self, log_q: f32) -> f64 {
        if self.scale == 0.0 { 0.0 } else { self.scale * (-f64::from(log_q).exp()).ln_1p() }
    }

    /// Base-2 biases of some columns of a segment.
    pub(super) fn biases<T>(&self, segment: &Segment<'_, T>, inside: Range<usize>, bias: &mut [f32]) {
        match segment.log_q {
            Some(log_q) if self.scale != 0.0 => {
                let (factor, constant) = (-self.scale * LOG2_E, self.bias * LOG2_E);
                for (bias, log_q) in bias.iter_mut().zip(&log_q[inside]) {
                    *bias = (f64::from(*log_q) * factor + constant) as f32;
                }
            }
            _ => self.constant(&mut bias[..inside.len()]),
        }
    }

    /// The base-2 biases of columns without log q.
    pub(super) fn constant(&self, bias: &mut [f32]) {
        bias.fill((self.bias * LOG2_E) as f32);
    }
}
