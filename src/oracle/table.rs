//! The losses over a class table as TensorFlow writes them: all logits of a row side by side, then a softmax or sigmoid
//! cross entropy against labels `1/T`. f64, dense.

use super::row::log_sum_exp;
use crate::config::Link;
use crate::table::TableConfig;

/// One call's inputs, widened to f64. Ids must be inside the table: this is for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// Dimension `D`.
    pub dim: usize,
    /// `[B, D]`.
    pub inputs: &'a [f64],
    /// `[C, D]`.
    pub weights: &'a [f64],
    /// `[C]`, zeros if there are none.
    pub biases: &'a [f64],
    /// `[B, T]`.
    pub labels: &'a [i64],
    /// `T`.
    pub num_true: usize,
    /// `[S]`.
    pub sampled: &'a [i64],
    /// `[B, T]` and `[S]` logs of expected counts.
    pub log_q: Option<(&'a [f64], &'a [f64])>,
    /// `[B]` what each row's loss is multiplied by: weight, reduction and upstream gradient.
    pub coefficients: &'a [f64],
}

/// Losses and dense gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// `[B]`, without the coefficients.
    pub losses: Vec<f64>,
    /// `[B, D]`.
    pub d_inputs: Vec<f64>,
    /// `[C, D]`.
    pub d_weights: Vec<f64>,
    /// `[C]`.
    pub d_biases: Vec<f64>,
}

/// Losses and gradients of `sum_i coefficient_i loss_i`.
pub fn evaluate(config: &TableConfig, inputs: &Inputs<'_>) -> Outputs {
    let (dim, num_true) = (inputs.dim, inputs.num_true);
    let rows = inputs.inputs.len() / dim;
    let mut outputs = Outputs {
        losses: vec![],
        d_inputs: vec![0.0; rows * dim],
        d_weights: vec![0.0; inputs.weights.len()],
        d_biases: vec![0.0; inputs.weights.len() / dim],
    };
    for i in 0..rows {
        let x = &inputs.inputs[i * dim..(i + 1) * dim];
        let labels = &inputs.labels[i * num_true..(i + 1) * num_true];
        let hit = |id: &i64| config.remove_accidental_hits && labels.contains(id);
        // Classes that take part, with their log q and their label.
        let of_labels = labels.iter().enumerate().map(|(k, id)| {
            (*id as usize, inputs.log_q.map_or(0.0, |(q, _)| q[i * num_true + k]), 1.0 / num_true as f64)
        });
        let kept = inputs.sampled.iter().enumerate().filter(|(_, id)| !hit(id));
        let of_sampled = kept.map(|(j, id)| (*id as usize, inputs.log_q.map_or(0.0, |(_, q)| q[j]), 0.0));
        let classes: Vec<(usize, f64, f64)> = of_labels.chain(of_sampled).collect();
        let logits: Vec<f64> = classes
            .iter()
            .map(|(class, log_q, _)| {
                let product: f64 = x.iter().zip(&inputs.weights[class * dim..]).map(|(x, w)| x * w).sum();
                product + inputs.biases[*class] - if config.subtract_log_q { *log_q } else { 0.0 }
            })
            .collect();
        let total = log_sum_exp(logits.iter().copied());
        let of_class = |z: f64, label: f64| match config.link {
            Link::Softmax => (label * (total - z), (z - total).exp() - label),
            Link::Sigmoid => {
                (z.max(0.0) + (-z.abs()).exp().ln_1p() - label * z, 1.0 / (1.0 + (-z).exp()) - label)
            }
        };
        outputs.losses.push(logits.iter().zip(&classes).map(|(z, class)| of_class(*z, class.2).0).sum());
        let g = inputs.coefficients[i];
        for (z, (class, _, label)) in logits.iter().zip(&classes) {
            let dz = g * of_class(*z, *label).1;
            outputs.d_biases[*class] += dz;
            for (d, x) in x.iter().enumerate() {
                outputs.d_inputs[i * dim + d] += dz * inputs.weights[class * dim + d];
                outputs.d_weights[class * dim + d] += dz * x;
            }
        }
    }
    outputs
}
