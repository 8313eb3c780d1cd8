//! The row stage: the objective of several positives, the gradient of the inputs, what the second sweep needs.

use rayon::prelude::*;

use crate::Element;
use crate::config::Link;
use crate::cpu::embeddings::dot;
use crate::cpu::forward::RowSweep;
use crate::cpu::rows::{column_weight, merge_splits};
use crate::cpu::tiles::tile_range;
use crate::cpu::workspace::{Backward, Forward, RowGradient};
use crate::table::{TableShape, several_positives, several_sigmoids};

/// What the stage reads beside the sweep's partials.
pub(super) struct RowStage<'a> {
    pub(super) sweep: &'a RowSweep<'a, f32>,
    pub(super) shape: &'a TableShape,
    /// `[B, dim]` and `[B, T, dim]`.
    pub(super) inputs: &'a [f32],
    pub(super) labels: &'a [f32],
    /// `[B, T]`, if log q is subtracted.
    pub(super) label_log_q: Option<&'a [f32]>,
    /// `[B]`
    pub(super) row_weights: Option<&'a [f32]>,
    /// What the reduction multiplies rows by.
    pub(super) reduction: f64,
}

/// Where the gradients of a tile's rows go.
struct Gradients<'a, G> {
    /// `[rows, T]` g_i b_k.
    pulls: &'a mut [f32],
    max: &'a mut [f32],
    weight: &'a mut [f32],
    negative: &'a mut [RowGradient],
    /// `[rows, D]`
    d_inputs: &'a mut [G],
}

impl RowStage<'_> {
    /// Loss only. `logits [B, T]` is scratch.
    pub(super) fn losses(&self, forward: &mut Forward, logits: &mut [f64], losses: &mut [f32]) {
        let lanes = self.sweep.partition.lanes;
        let per_tile = self.sweep.fields.words() * self.sweep.partition.splits * lanes;
        let chunks = (
            losses.par_chunks_mut(lanes),
            logits.par_chunks_mut(lanes * self.shape.num_true),
            forward.stats.par_chunks_exact_mut(per_tile),
        );
        chunks.into_par_iter().enumerate().for_each(|(tile, (losses, logits, stats))| {
            self.tile::<f32>(tile, stats, None, logits, losses, None);
        });
    }

    /// Loss and the gradient of the inputs, `pulls [B, T]` for that of the true classes. `logits [B, T]` is scratch.
    pub(super) fn gradients<G: Element>(
        &self,
        forward: &mut Forward,
        backward: &mut Backward,
        logits: &mut [f64],
        losses: &mut [f32],
        pulls: &mut [f32],
        d_inputs: &mut [G],
    ) {
        let (count, lanes) = (self.shape.rows, self.sweep.partition.lanes);
        let per_tile = self.sweep.partition.splits * lanes;
        let chunks = (
            losses.par_chunks_mut(lanes),
            logits.par_chunks_mut(lanes * self.shape.num_true),
            pulls.par_chunks_mut(lanes * self.shape.num_true),
            backward.max[..count].par_chunks_mut(lanes),
            backward.weight[..count].par_chunks_mut(lanes),
            backward.rows[..count].par_chunks_mut(lanes),
            d_inputs.par_chunks_mut(lanes * self.shape.dim),
            forward.stats.par_chunks_exact_mut(self.sweep.fields.words() * per_tile),
            forward.outputs.par_chunks_exact_mut(per_tile * self.sweep.problem.dim),
        );
        chunks.into_par_iter().enumerate().for_each(
            |(tile, (losses, logits, pulls, max, weight, negative, d_inputs, stats, outputs))| {
                let target = Gradients { pulls, max, weight, negative, d_inputs };
                self.tile(tile, stats, Some(outputs), logits, losses, Some(target));
            },
        );
    }

    fn tile<G: Element>(
        &self,
        tile: usize,
        stats: &mut [f32],
        outputs: Option<&mut [f32]>,
        logits: &mut [f64],
        losses: &mut [f32],
        mut target: Option<Gradients<'_, G>>,
    ) {
        let (lanes, dim, num_true) =
            (self.sweep.partition.lanes, self.sweep.problem.dim, self.shape.num_true);
        let rows = tile_range(tile, lanes, self.shape.rows);
        let mut merged = merge_splits(self.sweep.fields, stats, outputs, lanes, dim, rows.len());
        for ((lane, i), logits) in rows.enumerate().zip(logits.chunks_exact_mut(num_true)) {
            let labels = &self.labels[i * num_true * dim..(i + 1) * num_true * dim];
            self.true_logits(i, labels, logits);
            let (max, sum) = (merged.max[lane], merged.sum[lane]);
            let ((loss, mass), sum) = match self.sweep.fields.link {
                Link::Softmax => {
                    let lse = (f64::from(max) + f64::from(sum).log2()) * std::f64::consts::LN_2;
                    (several_positives(lse, logits), sum)
                }
                // Here the pair is (sum softplus, sum sigmoid), and O is weighted by sigmoid already.
                Link::Sigmoid => (several_sigmoids(f64::from(max), logits), 1.0),
            };
            let weight = self.row_weights.map_or(1.0, |weights| f64::from(weights[i]));
            // A row of weight 0 takes no part, whatever it holds.
            losses[lane] = if weight == 0.0 { 0.0 } else { (weight * loss) as f32 };
            let Some(target) = &mut target else { continue };
            let g = weight * self.reduction;
            let times = |x: f64| if g == 0.0 { 0.0 } else { (g * x) as f32 };
            let push = times(mass);
            target.max[lane] = max;
            target.weight[lane] = column_weight(push, sum);
            target.negative[lane].negative = push;
            let pulls = &mut target.pulls[lane * num_true..(lane + 1) * num_true];
            pulls.iter_mut().zip(&*logits).for_each(|(pull, b)| *pull = times(*b));
            let d_input = &mut target.d_inputs[lane * self.shape.dim..(lane + 1) * self.shape.dim];
            let output = merged.output_row(lane, dim).filter(|_| push != 0.0);
            input_gradient(d_input, output.as_deref(), push / sum, pulls, labels);
        }
    }

    /// z+ of row i, in f64.
    fn true_logits(&self, i: usize, labels: &[f32], logits: &mut [f64]) {
        let dim = self.sweep.problem.dim;
        let input = &self.inputs[i * dim..(i + 1) * dim];
        for (k, (logit, label)) in logits.iter_mut().zip(labels.chunks_exact(dim)).enumerate() {
            let log_q = self.label_log_q.map_or(0.0, |log_q| f64::from(log_q[i * self.shape.num_true + k]));
            *logit = dot(input, label) - log_q;
        }
    }
}

/// `dx_i = g a O_i - sum_k g b_k w_k`; `scale` is g a over the softmax's sum.
fn input_gradient<G: Element>(
    target: &mut [G],
    output: Option<&[f32]>,
    scale: f32,
    pulls: &[f32],
    labels: &[f32],
) {
    let dim = labels.len() / pulls.len();
    for (d, target) in target.iter_mut().enumerate() {
        let mut gradient = output.map_or(0.0, |output| scale * output[d]);
        for (pull, label) in pulls.iter().zip(labels.chunks_exact(dim)) {
            if *pull != 0.0 {
                gradient -= pull * label[d];
            }
        }
        *target = G::from_f32(gradient);
    }
}
