//! The loss with a stored score matrix in the storage type's arithmetic: inputs rounded, scores, softmax
//! and accumulators in f32, softmax weights rounded to the storage type (the one rounding that tensor cores add, in
//! either product), gradients to theirs. Its distance
//! from the oracle is what a backend is allowed (twice) to be wrong by.

use inbatch::{Dtype, LogQOrder, LossConfig, Objective, PositiveCorrection, Reduction, oracle};

use super::case::{Case, round_to};

/// The same outputs as the oracle's, computed in low precision.
pub(crate) fn evaluate(case: &Case, upstream: Option<&[f32]>) -> oracle::Outputs {
    if !case.config.is_symmetric() {
        return case.with_inputs(upstream, |inputs| Dense::new(case, inputs).evaluate());
    }
    let one_way = Case { config: case.config.symmetric(false), ..case.clone() };
    let (forth, back) = (evaluate(&one_way, upstream), evaluate(&one_way.exchanged(), upstream));
    let mean = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a + b) / 2.0).collect::<Vec<f64>>();
    let half = |values: &[f64]| values.iter().map(|x| x / 2.0).collect::<Vec<f64>>();
    oracle::Outputs {
        d_log_q: half(&forth.d_log_q),
        d_user_log_q: half(&back.d_log_q),
        row_losses: mean(&forth.row_losses, &back.row_losses),
        d_users: mean(&forth.d_users, &back.d_items),
        d_items: mean(&forth.d_items, &back.d_users),
        d_inverse_temperature_rows: mean(&forth.d_inverse_temperature_rows, &back.d_inverse_temperature_rows),
        ..forth
    }
}

struct Rows {
    dim: usize,
    values: Vec<f32>,
    inverse_norms: Vec<f32>,
}

impl Rows {
    fn new(parts: &[&[f64]], dim: usize, normalize: bool) -> Self {
        let mut values: Vec<f32> = parts.concat().into_iter().map(|x| x as f32).collect();
        let inverse_norms = values
            .chunks_exact_mut(dim)
            .map(|row| {
                let square = row.iter().map(|x| x * x).sum::<f32>();
                let inverse = if square == 0.0 { 0.0 } else { 1.0 / square.sqrt() };
                if normalize {
                    row.iter_mut().for_each(|x| *x *= inverse);
                }
                inverse
            })
            .collect();
        Self { dim, values, inverse_norms }
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }

    fn store(&self, first: usize, gradient: &[f32], normalize: bool, dtype: Dtype) -> Vec<f64> {
        let mut stored = vec![];
        for (k, d) in gradient.chunks_exact(self.dim).enumerate() {
            let (unit, inverse) = (self.row(first + k), self.inverse_norms[first + k]);
            let along = dot(d, unit);
            for (d, x) in d.iter().zip(unit) {
                let raw = if normalize { (d - along * x) * inverse } else { *d };
                stored.push(f64::from(round_to(dtype, raw)));
            }
        }
        stored
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

/// Rounds the mantissa of a weight as the storage type does, at some scale. The type's range is not imitated: kernels
/// scale f16 weights.
fn round_weight(dtype: Dtype, x: f32, scale: f32) -> f32 {
    if dtype == Dtype::F32 { x } else { round_mantissa(dtype, x * scale) / scale }
}

fn round_mantissa(dtype: Dtype, x: f32) -> f32 {
    match dtype {
        Dtype::F16 if x != 0.0 && x.is_finite() => {
            let exponent = x.abs().log2().floor().clamp(-126.0, 127.0);
            let scale = exponent.exp2();
            round_to(dtype, x / scale) * scale
        }
        _ => round_to(dtype, x),
    }
}

struct Dense<'a> {
    case: &'a Case,
    inputs: &'a oracle::Inputs<'a>,
    users: Rows,
    /// Of batch, extra, bank and row negatives.
    columns: Rows,
    /// Columns before the row negatives' embeddings.
    shared: usize,
    /// The columns that the oracle keeps, if not all: what is imitated is arithmetic, not its choice.
    kept: Option<Vec<Vec<usize>>>,
}

impl<'a> Dense<'a> {
    fn new(case: &'a Case, inputs: &'a oracle::Inputs<'a>) -> Self {
        let normalize = case.config.normalizes();
        let users = Rows::new(&[inputs.users], inputs.dim, normalize);
        let own = inputs.row_negatives.map_or(&[][..], |negatives| negatives.embeddings);
        let parts = [inputs.items, inputs.extra, inputs.bank, own];
        let columns = Rows::new(&parts, inputs.dim, normalize);
        let shared = case.columns();
        let exact = |_| oracle::evaluate(&case.config, inputs).expect("a valid case").negative_columns;
        let kept = case.config.get_hard_negatives().map(exact);
        Self { case, inputs, users, columns, shared, kept }
    }

    fn config(&self) -> &LossConfig {
        &self.case.config
    }

    /// What log q is multiplied by, 0 if it does not count.
    fn log_q_scale(&self) -> f32 {
        let lambda = if self.inputs.log_q.is_some() { self.config().get_logq_scale() } else { 0.0 };
        match self.config().get_logq_order() {
            LogQOrder::OutsideTemperature => lambda,
            LogQOrder::InsideTemperature => lambda * (1.0 / self.config().temperature()),
        }
    }

    fn log_q(&self, j: usize) -> f32 {
        let log_q = match j.checked_sub(self.shared) {
            None => self.inputs.log_q.map(|log_q| log_q[j]),
            Some(place) => self.inputs.row_negatives.and_then(|own| own.log_q).map(|log_q| log_q[place]),
        };
        log_q.filter(|_| self.log_q_scale() != 0.0).map_or(0.0, |log_q| log_q as f32)
    }

    fn correction(&self, j: usize) -> f32 {
        self.log_q_scale() * self.log_q(j)
    }

    fn is_negative(&self, i: usize, j: usize) -> bool {
        let (inputs, positive) = (self.inputs, i + self.inputs.offset);
        let first_bank = self.case.batch_columns() + self.case.extra_columns();
        let absent = j >= first_bank && inputs.bank_absent.is_some_and(|absent| absent[j - first_bank]);
        let item = inputs.item_ids.filter(|_| self.config().excludes_same_item());
        let user = inputs.user_ids.filter(|_| self.config().excludes_same_user());
        let owner = j.checked_sub(inputs.offset).filter(|owner| *owner < self.case.rows());
        j != positive
            && !absent
            && item.is_none_or(|ids| ids[j] != ids[positive])
            && user.zip(owner).is_none_or(|(ids, owner)| ids[owner] != ids[i])
    }

    /// The columns of row `i`'s negatives, those of its own behind all others.
    fn negatives(&self, i: usize) -> Vec<usize> {
        if let Some(kept) = &self.kept {
            return kept[i].clone();
        }
        let positive = i + self.inputs.offset;
        let ids = self.inputs.item_ids.filter(|_| self.config().excludes_same_item());
        let own = self.inputs.row_negatives.unwrap_or_default();
        let places = self.case.row_negatives.iter().flat_map(|negatives| negatives.places(i));
        let places = places
            .filter(|place| ids.zip(own.item_ids).is_none_or(|(ids, own)| own[*place] != ids[positive]));
        let shared = (0..self.shared).filter(|j| self.is_negative(i, *j));
        shared.chain(places.map(|place| self.shared + place)).collect()
    }

    fn coefficient(&self, i: usize) -> f32 {
        let weights = self.inputs.weights;
        let scale = match self.config().get_reduction() {
            Reduction::Mean => 1.0 / self.case.rows() as f32,
            Reduction::WeightedMean => 1.0 / weights.into_iter().flatten().map(|w| *w as f32).sum::<f32>(),
            _ => 1.0,
        };
        let upstream = self.inputs.upstream.map_or(1.0, |u| u[i.min(u.len() - 1)] as f32);
        upstream * weights.map_or(1.0, |w| w[i] as f32) * scale
    }

    fn evaluate(&self) -> oracle::Outputs {
        let (rows, dim) = (self.case.rows(), self.inputs.dim);
        let count = self.columns.values.len() / dim;
        let inverse_temperature = 1.0 / self.config().temperature();
        let (mut d_users, mut d_columns) = (vec![0.0f32; rows * dim], vec![0.0f32; count * dim]);
        let mut d_log_q = vec![0.0f32; count];
        let mut outputs = oracle::Outputs::default();
        let bias = match self.config().get_objective() {
            Objective::Sigmoid { bias } => bias,
            _ => 0.0,
        };
        let corrected = self.config().get_positive_correction() == PositiveCorrection::Corrected
            && self.config().get_objective() != Objective::CorrectedLogQ;
        let mut loss = 0.0f32;
        for i in 0..rows {
            let user = self.users.row(i);
            let positive = i + self.inputs.offset;
            let z = |j: usize, correction: f32| {
                dot(user, self.columns.row(j)) * inverse_temperature + (bias - correction)
            };
            let z_positive = z(positive, if corrected { self.correction(positive) } else { 0.0 });
            let negatives = self.negatives(i);
            let logits: Vec<f32> = negatives.iter().map(|j| z(*j, self.correction(*j))).collect();
            let row = self.row(&logits, z_positive, positive);
            let weight = self.inputs.weights.map_or(1.0, |w| w[i] as f32);
            loss += weight * row.loss;
            outputs.row_losses.push(f64::from(weight * row.loss));
            outputs.log_sum_exp.push(f64::from(row.log_sum_exp));
            outputs.z_positive.push(f64::from(z_positive));
            let g = self.coefficient(i);
            let scale = g * inverse_temperature;
            let mut o = vec![0.0f32; dim];
            let (mut mass, mut through_log_q) = (0.0f32, 0.0f32);
            let log_q_scale = self.log_q_scale();
            let inside = self.config().get_logq_order() == LogQOrder::InsideTemperature;
            for (j, w) in negatives.iter().zip(&row.weights) {
                let weight = round_weight(self.case.dtype, *w, self.case.weight_scale);
                let column_weight =
                    round_weight(self.case.dtype, scale * row.negative * w, self.case.weight_scale);
                for k in 0..dim {
                    o[k] += weight * self.columns.row(*j)[k];
                    d_columns[j * dim + k] += column_weight * user[k];
                }
                mass += weight;
                d_log_q[*j] -= log_q_scale * (g * row.negative * w);
                through_log_q += row.negative * weight * self.correction(*j);
            }
            let du = &mut d_users[i * dim..(i + 1) * dim];
            for k in 0..dim {
                du[k] = scale * row.negative * o[k] - scale * row.positive * self.columns.row(positive)[k];
                d_columns[positive * dim + k] -= scale * row.positive * user[k];
            }
            if corrected {
                d_log_q[positive] += log_q_scale * (g * row.positive);
                through_log_q -= row.positive * self.correction(positive);
            }
            let d_log_rest = self.log_q_scale() / (1.0 - (-self.log_q(positive)).exp());
            if row.log_rest != 0.0 && log_q_scale != 0.0 {
                d_log_q[positive] += g * row.log_rest * d_log_rest;
            }
            let mut share = dot(user, du) / inverse_temperature + g * row.inverse_temperature;
            if inside {
                share -= g * through_log_q / inverse_temperature;
            }
            outputs.d_inverse_temperature_rows.push(f64::from(share));
            outputs.d_bias_rows.push(f64::from(g * (row.negative * mass - row.positive)));
        }
        let (batch, extra) = (self.case.batch_columns(), self.case.extra_columns());
        let (normalize, dtype) = (self.config().normalizes(), self.case.gradient_dtype);
        outputs.d_users = self.users.store(0, &d_users, normalize, dtype);
        outputs.d_items = self.columns.store(0, &d_columns[..batch * dim], normalize, dtype);
        outputs.d_extra =
            self.columns.store(batch, &d_columns[batch * dim..(batch + extra) * dim], normalize, dtype);
        let own = &d_columns[self.shared * dim..];
        outputs.d_row_negatives = self.columns.store(self.shared, own, normalize, dtype);
        outputs.d_row_negatives_log_q = d_log_q[self.shared..].iter().map(|x| f64::from(*x)).collect();
        outputs.d_log_q = d_log_q[..batch + extra].iter().map(|x| f64::from(*x)).collect();
        outputs.d_inverse_temperature = outputs.d_inverse_temperature_rows.iter().sum();
        let mean = match self.config().get_reduction() {
            Reduction::None => None,
            Reduction::Sum => Some(1.0),
            Reduction::Mean => Some(1.0 / rows as f32),
            Reduction::WeightedMean => {
                Some(1.0 / self.inputs.weights.into_iter().flatten().map(|w| *w as f32).sum::<f32>())
            }
        };
        outputs.loss = mean.map(|mean| f64::from(mean * loss));
        outputs
    }

    /// The objective of one row in f32.
    fn row(&self, logits: &[f32], z_positive: f32, positive: usize) -> Row {
        let objective = self.config().get_objective();
        if matches!(objective, Objective::Sigmoid { .. }) {
            let sum = logits.iter().map(|z| softplus(*z)).sum();
            return Row {
                loss: sum + softplus(-z_positive),
                log_sum_exp: sum,
                weights: logits.iter().map(|z| sigmoid(*z)).collect(),
                negative: 1.0,
                positive: sigmoid(-z_positive),
                ..Row::default()
            };
        }
        let max = logits.iter().fold(f32::NEG_INFINITY, |max, z| max.max(*z));
        let exps: Vec<f32> = logits.iter().map(|z| (z - max).exp()).collect();
        let sum: f32 = exps.iter().sum();
        if logits.is_empty() {
            return Row { log_sum_exp: f32::NEG_INFINITY, ..Row::default() };
        }
        let lse = max + sum.ln();
        let (x, n) = (lse - z_positive, logits.len() as f32);
        let softmax =
            |x: f32| Row { loss: softplus(x), negative: sigmoid(x), positive: sigmoid(x), ..Row::default() };
        let row = match objective {
            Objective::AdditiveMargin { margin } => softmax(x + margin),
            Objective::Decoupled => Row { loss: x, negative: 1.0, positive: 1.0, ..Row::default() },
            Objective::CorrectedLogQ => {
                let q = self.log_q(positive).exp();
                let rest = if self.log_q_scale() == 0.0 { 0.0 } else { self.log_q_scale() * (-q).ln_1p() };
                let w = sigmoid(x + rest - n.ln());
                Row { loss: w * (x + rest), negative: w, positive: w, log_rest: w, ..Row::default() }
            }
            Objective::Debiased { positive_prior: t } => {
                let bound = n.ln() - 1.0 / self.config().temperature() - z_positive;
                let taken = x.exp() - n * t;
                let estimate = if x > 80.0 { x - (1.0 - t).ln() } else { (taken / (1.0 - t)).ln() };
                match estimate > bound {
                    true => {
                        let share = if x > 80.0 { 1.0 } else { x.exp() / taken };
                        let mass = sigmoid(estimate) * share;
                        Row { loss: softplus(estimate), negative: mass, positive: mass, ..Row::default() }
                    }
                    false => Row { negative: 0.0, inverse_temperature: -sigmoid(bound), ..softmax(bound) },
                }
            }
            _ => softmax(x),
        };
        Row { log_sum_exp: lse, weights: exps.iter().map(|e| e / sum).collect(), ..row }
    }
}

/// One row: its loss, the softmax or sigmoid weights, and what they and the rest are multiplied by.
#[derive(Default)]
struct Row {
    loss: f32,
    log_sum_exp: f32,
    weights: Vec<f32>,
    negative: f32,
    positive: f32,
    inverse_temperature: f32,
    log_rest: f32,
}

fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f32) -> f32 {
    let e = (-x.abs()).exp();
    if x > 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}
