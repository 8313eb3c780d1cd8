//! The loss with a stored score matrix in the storage type's arithmetic: inputs rounded, scores, softmax
//! and accumulators in f32, softmax weights rounded to the storage type (the one rounding that tensor cores add, in
//! either product), gradients to theirs. Its distance
//! from the oracle is what a backend is allowed (twice) to be wrong by.

use inbatch::{Dtype, LossConfig, PositiveCorrection, Reduction, oracle};

use super::case::{Case, round_to};

/// The same outputs as the oracle's, computed in low precision.
pub(crate) fn evaluate(case: &Case, upstream: Option<&[f32]>) -> oracle::Outputs {
    case.with_inputs(upstream, |inputs| Dense::new(case, inputs).evaluate())
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
    columns: Rows,
}

impl<'a> Dense<'a> {
    fn new(case: &'a Case, inputs: &'a oracle::Inputs<'a>) -> Self {
        let normalize = case.config.normalizes();
        let users = Rows::new(&[inputs.users], inputs.dim, normalize);
        let columns = Rows::new(&[inputs.items, inputs.extra, inputs.bank], inputs.dim, normalize);
        Self { case, inputs, users, columns }
    }

    fn config(&self) -> &LossConfig {
        &self.case.config
    }

    fn correction(&self, j: usize) -> f32 {
        let lambda = self.config().get_logq_scale();
        self.inputs.log_q.filter(|_| lambda != 0.0).map_or(0.0, |log_q| lambda * log_q[j] as f32)
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
        let mut outputs = oracle::Outputs {
            loss: None,
            row_losses: vec![],
            log_sum_exp: vec![],
            z_positive: vec![],
            d_users: vec![],
            d_items: vec![],
            d_extra: vec![],
            d_inverse_temperature: 0.0,
            d_inverse_temperature_rows: vec![],
        };
        let mut loss = 0.0f32;
        for i in 0..rows {
            let user = self.users.row(i);
            let positive = i + self.inputs.offset;
            let z: Vec<f32> = (0..count)
                .map(|j| dot(user, self.columns.row(j)) * inverse_temperature - self.correction(j))
                .collect();
            let z_positive = match self.config().get_positive_correction() {
                PositiveCorrection::Corrected => z[positive],
                PositiveCorrection::Uncorrected => {
                    dot(user, self.columns.row(positive)) * inverse_temperature
                }
            };
            let negatives: Vec<usize> = (0..count).filter(|j| self.is_negative(i, *j)).collect();
            let max = negatives.iter().fold(f32::NEG_INFINITY, |max, j| max.max(z[*j]));
            let exps: Vec<f32> = negatives.iter().map(|j| (z[*j] - max).exp()).collect();
            let sum: f32 = exps.iter().sum();
            let lse = if negatives.is_empty() { f32::NEG_INFINITY } else { max + sum.ln() };
            let x = lse - z_positive;
            let e = (-x.abs()).exp();
            let (row_loss, mass) = match negatives.is_empty() {
                true => (0.0, 0.0),
                false => (x.max(0.0) + e.ln_1p(), if x > 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }),
            };
            let weight = self.inputs.weights.map_or(1.0, |w| w[i] as f32);
            loss += weight * row_loss;
            outputs.row_losses.push(f64::from(weight * row_loss));
            outputs.log_sum_exp.push(f64::from(lse));
            outputs.z_positive.push(f64::from(z_positive));
            let g = self.coefficient(i);
            let scale = g * mass * inverse_temperature;
            let mut o = vec![0.0f32; dim];
            for (j, e) in negatives.iter().zip(&exps) {
                let weight = round_weight(self.case.dtype, e / sum, self.case.weight_scale);
                let column_weight = round_weight(self.case.dtype, scale * (e / sum), self.case.weight_scale);
                for k in 0..dim {
                    o[k] += weight * self.columns.row(*j)[k];
                    d_columns[j * dim + k] += column_weight * user[k];
                }
            }
            let du = &mut d_users[i * dim..(i + 1) * dim];
            for k in 0..dim {
                du[k] = scale * o[k] - scale * self.columns.row(positive)[k];
                d_columns[positive * dim + k] -= scale * user[k];
            }
            let share = dot(user, du) / inverse_temperature;
            outputs.d_inverse_temperature_rows.push(f64::from(share));
        }
        let (batch, extra) = (self.case.batch_columns(), self.case.extra_columns());
        let (normalize, dtype) = (self.config().normalizes(), self.case.gradient_dtype);
        outputs.d_users = self.users.store(0, &d_users, normalize, dtype);
        outputs.d_items = self.columns.store(0, &d_columns[..batch * dim], normalize, dtype);
        outputs.d_extra =
            self.columns.store(batch, &d_columns[batch * dim..(batch + extra) * dim], normalize, dtype);
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
}
