//! The row stage: what stands between the two sweeps, one row at a time.

use rayon::prelude::*;

use super::columns::LOG2_E;
use super::embeddings::{dot, load, store_gradient};
use super::forward::RowSweep;
use super::partial::{Fields, Partial};
use super::tiles::{optional_chunks, tile_range};
use super::workspace::{Backward, Forward, RowGradient, RowState};
use crate::config::Link;
use crate::objective::{self, RowTerm};
use crate::{Element, LossConfig, Objective};

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
        let words = self.fields.words();
        let outputs = gradients.then_some(&mut target.outputs[..]);
        let tiles = (
            target.rows[..count].par_chunks_mut(lanes),
            target.row_losses[..count].par_chunks_mut(lanes),
            target.log_sum_exp[..count].par_chunks_mut(lanes),
            target.z_positive[..count].par_chunks_mut(lanes),
            target.stats.par_chunks_exact_mut(words * per_tile),
            optional_chunks(outputs, per_tile * self.problem.dim, self.partition.row_tiles),
        );
        tiles.into_par_iter().enumerate().for_each(
            |(tile, (rows, losses, log_sum_exp, z_positive, stats, output))| {
                let target = RowOutputs { rows, losses, log_sum_exp, z_positive };
                self.finish_tile(tile, config, weights, stats, output, target);
            },
        );
        self.keep_counts(target);
    }

    /// Copies the merged counts to where [`Output`](crate::cpu::Output) shows them.
    fn keep_counts(&self, target: &mut Forward) {
        let (count, lanes) = (self.problem.rows, self.partition.lanes);
        let words = self.fields.words() * lanes;
        let tiles = target.stats.chunks_exact_mut(words * self.partition.splits).enumerate();
        for (tile, stats) in tiles.take(self.partition.row_tiles) {
            let Some(counts) = Partial::new(self.fields, &mut stats[..words], None).counts else { return };
            let rows = tile_range(tile, lanes, count);
            target.ranks[rows.clone()].copy_from_slice(&counts.above[..rows.len()]);
            target.negatives[rows.clone()].copy_from_slice(&counts.negatives[..rows.len()]);
            target.excluded[rows.clone()].copy_from_slice(&counts.excluded[..rows.len()]);
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
        let mut merged = merge_splits(self.fields, stats, outputs, lanes, dim, rows.len());
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
            let log_q = batch.log_q.map(|log_q| log_q[positives.start + k]);
            let of_log_q = log_q.filter(|_| self.corrects_positive).map_or(0.0, |q| self.correction.of(q));
            let score = dot(users.row(k), items.row(k)) * inverse_temperature;
            let z_positive = score + self.correction.bias + of_log_q;
            let (lse, softmax_sum) = match self.fields.link {
                Link::Softmax => {
                    let sum = merged.sum[k];
                    ((f64::from(merged.max[k]) + f64::from(sum).log2()) / LOG2_E, sum)
                }
                Link::Sigmoid => (f64::from(merged.max[k]), 1.0),
            };
            if let Some(output) = merged.output_row(k, dim).filter(|_| softmax_sum != 0.0) {
                output.iter_mut().for_each(|o| *o /= softmax_sum);
            }
            let negatives = merged.counts.as_ref().map_or(0, |counts| counts.negatives[k]);
            let term = match self.fields.link {
                Link::Softmax if softmax_sum == 0.0 => RowTerm::NOTHING,
                link => {
                    let x = if link == Link::Softmax { lse - z_positive } else { lse };
                    let row = objective::Row {
                        x: x as f32,
                        z_positive: z_positive as f32,
                        negatives: negatives as f32,
                        inverse_temperature: inverse_temperature as f32,
                        log_rest: log_q.map_or(0.0, |log_q| self.correction.log_rest(log_q)) as f32,
                    };
                    objective::evaluate(config.get_objective(), row)
                }
            };
            let mass = if self.fields.link == Link::Softmax { 1.0 } else { merged.sum[k] };
            let moment = merged.moment.as_ref().filter(|_| self.correction.scale != 0.0);
            let moment = moment.map_or(0.0, |moment| {
                let whole = f64::from(moment[k]) / (LOG2_E * f64::from(softmax_sum));
                if softmax_sum == 0.0 { 0.0 } else { whole - self.correction.bias * f64::from(mass) }
            });
            target.rows[k] = RowState {
                max: if self.fields.link == Link::Softmax { merged.max[k] } else { 0.0 },
                sum: softmax_sum,
                negative: term.negative,
                positive: term.positive,
                inverse_temperature: term.inverse_temperature,
                mass,
                moment: moment as f32,
                positive_moment: if merged.moment.is_some() { of_log_q as f32 } else { 0.0 },
                log_q: self.d_log_q(config, log_q, &term),
            };
            let weight = weights.map_or(1.0, |weights| weights[i]);
            // A row of weight 0 takes no part, whatever its loss.
            target.losses[k] = if weight == 0.0 { 0.0 } else { weight * term.loss };
            target.log_sum_exp[k] = lse as f32;
            target.z_positive[k] = z_positive as f32;
        }
    }

    /// dloss / dlog_q_+ of a row as it concerns its positive alone.
    fn d_log_q(&self, config: &LossConfig, log_q: Option<f32>, term: &RowTerm) -> f32 {
        match log_q {
            Some(log_q) if config.get_objective() == Objective::CorrectedLogQ => {
                // lambda log(1 - q), w of it.
                (f64::from(term.negative) * self.correction.scale / (1.0 - (-f64::from(log_q)).exp())) as f32
            }
            Some(_) if self.corrects_positive => (f64::from(term.positive) * self.correction.scale) as f32,
            _ => 0.0,
        }
    }
}

/// Merges the splits of one row tile into the first, in order.
pub(super) fn merge_splits<'a>(
    fields: Fields,
    stats: &'a mut [f32],
    outputs: Option<&'a mut [f32]>,
    lanes: usize,
    dim: usize,
    rows: usize,
) -> Partial<'a> {
    let words = fields.words() * lanes;
    let (first, stats) = stats.split_at_mut(words);
    let (output, outputs) = match outputs {
        None => (None, None),
        Some(outputs) => {
            let (output, outputs) = outputs.split_at_mut(lanes * dim);
            (Some(output), Some(outputs))
        }
    };
    let mut merged = Partial::new(fields, first, output);
    let mut outputs = outputs.map(|outputs| outputs.chunks_exact_mut(lanes * dim));
    for stats in stats.chunks_exact_mut(words) {
        let output = outputs.as_mut().and_then(Iterator::next);
        merged.merge(&Partial::new(fields, stats, output), rows, dim);
    }
    merged
}

impl<T: Element> RowSweep<'_, T> {
    /// `du_i = g_i / tau (a_i O_i - b_i v+)`, `d(1/tau)_i = tau <u_i, du_i>` (and what does not go through scores), and
    /// what the column sweep needs of each row.
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
                let gradient = row_gradient(row, coefficient(i), inverse_temperature);
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
                gradients[k].d_inverse_temperature += dot(users.row(k), du) / inverse_temperature;
                store_gradient(du, users.row(k), self.user_norms.map(|norms| norms[i]), target);
            }
        });
    }
}

/// A loss of rows and columns: half of each row's coefficients, in either direction, and the whole of its positive's.
pub(super) fn symmetric_coefficients(
    config: &LossConfig,
    coefficient: impl Fn(usize) -> f64,
    directions: [(&Forward, &mut Backward); 2],
    rows: usize,
) {
    let inverse_temperature = 1.0 / f64::from(config.temperature());
    let [(users, of_users), (items, of_items)] = directions;
    for i in 0..rows {
        let g = coefficient(i) / 2.0;
        let mut gradients =
            [&users.rows[i], &items.rows[i]].map(|row| row_gradient(row, g, inverse_temperature));
        let positive = gradients[0].positive + gradients[1].positive;
        gradients.iter_mut().for_each(|gradient| gradient.positive = positive);
        for (row, gradient, target) in
            [(&users.rows[i], gradients[0], &mut *of_users), (&items.rows[i], gradients[1], &mut *of_items)]
        {
            target.max[i] = row.max;
            target.weight[i] = column_weight(gradient.negative, row.sum);
            target.rows[i] = gradient;
        }
    }
}

/// All of a row's gradient but what needs its embeddings. `g` is g_i.
fn row_gradient(row: &RowState, g: f64, inverse_temperature: f64) -> RowGradient {
    if g == 0.0 {
        return RowGradient::default();
    }
    let (negative, positive) = (f64::from(row.negative), f64::from(row.positive));
    let [mass, moment, positive_moment] = [row.mass, row.moment, row.positive_moment].map(f64::from);
    // Log q inside the temperature is a logit's share of 1/tau, too.
    let through_log_q = (negative * moment - positive * positive_moment) / inverse_temperature;
    RowGradient {
        negative: (g * inverse_temperature * negative) as f32,
        positive: (g * inverse_temperature * positive) as f32,
        log_q: (g * f64::from(row.log_q)) as f32,
        d_inverse_temperature: g * (f64::from(row.inverse_temperature) + through_log_q),
        d_bias: g * (negative * mass - positive),
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
