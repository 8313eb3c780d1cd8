//! The row stage: what stands between the two sweeps, one row at a time.

use rayon::prelude::*;

use super::columns::LOG2_E;
use super::embeddings::{dot, load, store_gradient};
use super::forward::RowSweep;
use super::partial::Partial;
use super::tiles::tile_range;
use super::workspace::{Backward, Forward, RowGradient, RowState};
use crate::{Element, LossConfig, PositiveCorrection, objective};

/// Where the forward row stage writes, one for each row of a tile.
struct RowOutputs<'a> {
    rows: &'a mut [RowState],
    losses: &'a mut [f32],
    log_sum_exp: &'a mut [f32],
    z_positive: &'a mut [f32],
}

impl<T: Element> RowSweep<'_, T> {
    /// Merges the splits, then LSE, z+ and the objective of each row; O, if `gradients`, is divided by its
    /// sum in place.
    pub(super) fn finish(
        &self,
        config: &LossConfig,
        weights: Option<&[f32]>,
        target: &mut Forward,
        gradients: bool,
    ) {
        let (count, lanes) = (self.problem.rows, self.partition.lanes);
        let per_tile = self.partition.splits * lanes;
        let tiles = (
            target.rows[..count].par_chunks_mut(lanes),
            target.row_losses[..count].par_chunks_mut(lanes),
            target.log_sum_exp[..count].par_chunks_mut(lanes),
            target.z_positive[..count].par_chunks_mut(lanes),
            target.stats.par_chunks_exact_mut(2 * per_tile),
        );
        let tiles = tiles.into_par_iter().enumerate();
        let finish = |tile, stats, output, rows, losses, log_sum_exp, z_positive| {
            let target = RowOutputs { rows, losses, log_sum_exp, z_positive };
            self.finish_tile(tile, config, weights, stats, output, target);
        };
        if gradients {
            let outputs = target.outputs.par_chunks_exact_mut(per_tile * self.problem.dim);
            tiles.zip(outputs).for_each(|((tile, (rows, losses, lse, z, stats)), output)| {
                finish(tile, stats, Some(output), rows, losses, lse, z);
            });
        } else {
            tiles.for_each(|(tile, (rows, losses, lse, z, stats))| {
                finish(tile, stats, None, rows, losses, lse, z);
            });
        }
    }

    fn finish_tile(
        &self,
        tile: usize,
        config: &LossConfig,
        weights: Option<&[f32]>,
        stats: &mut [f32],
        outputs: Option<&mut [f32]>,
        target: RowOutputs<'_>,
    ) {
        let (lanes, dim) = (self.partition.lanes, self.problem.dim);
        let rows = tile_range(tile, lanes, self.problem.rows);
        let mut merged = merge_splits(stats, outputs, lanes, dim, rows.len());
        let mut scratch = self.prepared.scratch();
        let scratch = &mut *scratch;
        let users = load(self.users, rows.clone(), dim, self.user_norms, 0, &mut scratch.owned);
        let positives = rows.start + self.problem.offset..rows.end + self.problem.offset;
        let batch = &self.columns.segments[0];
        let items =
            load(batch.embeddings, positives.clone(), dim, self.column_norms, 0, &mut scratch.streamed);
        // The sweep's own rounding of 1/tau: an error common to all logits cancels in LSE - z+.
        let inverse_temperature = f64::from(self.scale) / LOG2_E;
        for (k, i) in rows.enumerate() {
            let (max, sum) = (merged.max[k], merged.sum[k]);
            if let Some(output) = merged.output_row(k, dim).filter(|_| sum != 0.0) {
                output.iter_mut().for_each(|o| *o /= sum);
            }
            let lse = (f64::from(max) + f64::from(sum).log2()) / LOG2_E;
            let correction = match (config.get_positive_correction(), batch.log_q) {
                (PositiveCorrection::Corrected, Some(log_q)) => {
                    self.correction.of(log_q[positives.start + k])
                }
                _ => 0.0,
            };
            let z_positive = dot(users.row(k), items.row(k)) * inverse_temperature + correction;
            let term = match sum {
                0.0 => objective::sampled_softmax(f32::NEG_INFINITY, 0.0),
                _ => objective::sampled_softmax_at((lse - z_positive) as f32),
            };
            let weight = weights.map_or(1.0, |weights| weights[i]);
            target.rows[k] = RowState { max, sum, negative: term.negative, positive: term.positive };
            // A row of weight 0 takes no part, whatever its loss.
            target.losses[k] = if weight == 0.0 { 0.0 } else { weight * term.loss };
            target.log_sum_exp[k] = lse as f32;
            target.z_positive[k] = z_positive as f32;
        }
    }
}

/// Merges the splits of one row tile into the first, in order.
pub(super) fn merge_splits<'a>(
    stats: &'a mut [f32],
    outputs: Option<&'a mut [f32]>,
    lanes: usize,
    dim: usize,
    rows: usize,
) -> Partial<'a> {
    let (first, stats) = stats.split_at_mut(2 * lanes);
    let (output, outputs) = match outputs {
        None => (None, None),
        Some(outputs) => {
            let (output, outputs) = outputs.split_at_mut(lanes * dim);
            (Some(output), Some(outputs))
        }
    };
    let mut merged = Partial::new(first, output);
    let mut outputs = outputs.map(|outputs| outputs.chunks_exact_mut(lanes * dim));
    for stats in stats.chunks_exact_mut(2 * lanes) {
        let output = outputs.as_mut().and_then(Iterator::next);
        merged.merge(&Partial::new(stats, output), rows, dim);
    }
    merged
}

impl<T: Element> RowSweep<'_, T> {
    /// `du_i = g_i / tau (a_i O_i - b_i v+)`, `d(1/tau)_i = tau <u_i, du_i>`, and what the column sweep
    /// needs of each row.
    ///
    /// `coefficient(i)` is g_i. A row without any gradient gets exact zeros, whatever it holds.
    pub(super) fn user_gradients<G: Element>(
        &self,
        config: &LossConfig,
        forward: &Forward,
        coefficient: impl Fn(usize) -> f64 + Sync,
        backward: &mut Backward,
        target: &mut [G],
    ) {
        let (count, lanes, dim) = (self.problem.rows, self.partition.lanes, self.problem.dim);
        let inverse_temperature = 1.0 / f64::from(config.temperature());
        let chunks = (
            target.par_chunks_mut(lanes * dim),
            backward.rows[..count].par_chunks_mut(lanes),
            backward.max[..count].par_chunks_mut(lanes),
            backward.weight[..count].par_chunks_mut(lanes),
            forward.outputs.par_chunks_exact(self.partition.splits * lanes * dim),
        );
        chunks.into_par_iter().enumerate().for_each(|(tile, (target, gradients, max, weight, outputs))| {
            let rows = tile_range(tile, lanes, self.problem.rows);
            let mut scratch = self.prepared.scratch();
            let scratch = &mut *scratch;
            let users = load(self.users, rows.clone(), dim, self.user_norms, 0, &mut scratch.owned);
            let positives = rows.start + self.problem.offset..rows.end + self.problem.offset;
            let items = &self.columns.segments[0];
            let items = load(items.embeddings, positives, dim, self.column_norms, 0, &mut scratch.streamed);
            for (k, i) in rows.enumerate() {
                let row = &forward.rows[i];
                let gradient = row_gradient(row, coefficient(i) * inverse_temperature);
                max[k] = row.max;
                weight[k] = column_weight(gradient.negative, row.sum);
                gradients[k] = gradient;
                let target = &mut target[k * dim..(k + 1) * dim];
                if gradient.negative == 0.0 && gradient.positive == 0.0 {
                    target.fill(G::default());
                    continue;
                }
                let du = &mut scratch.accumulator[..dim];
                for ((du, o), v) in du.iter_mut().zip(&outputs[k * dim..]).zip(items.row(k)) {
                    *du = gradient.negative * o - gradient.positive * v;
                }
                gradients[k].d_inverse_temperature = dot(users.row(k), du) / inverse_temperature;
                store_gradient(du, users.row(k), self.user_norms.map(|norms| norms[i]), target);
            }
        });
    }
}

/// `scale` is g_i / tau.
fn row_gradient(row: &RowState, scale: f64) -> RowGradient {
    if scale == 0.0 {
        return RowGradient::default();
    }
    RowGradient {
        negative: (scale * f64::from(row.negative)) as f32,
        positive: (scale * f64::from(row.positive)) as f32,
        d_inverse_temperature: 0.0,
    }
}

/// What multiplies `2^(x - max)` in the column self. An infinite sum leaves no defined softmax: NaN.
pub(super) fn column_weight(negative: f32, sum: f32) -> f32 {
    match negative {
        0.0 => 0.0,
        _ if sum.is_infinite() => f32::NAN,
        _ => negative / sum,
    }
}
