//! The reference: f64, dense, formula by formula; it shares no code with the backends.
//!
//! It stores the whole score matrix, loops over every entry, and is meant for tests. With
//! `u^`, `v^` the embeddings (unit vectors under [`LossConfig::normalize`], the zero vector for a
//! row of norm 0) and `N` the columns of batch, extra and bank in that order:
//!
//! ```text
//! z_ij   = <u^_i, v^_j> / tau - lambda log_q_j          lambda = 0 ignores log_q
//! z_i+   = z_ij at j = i + offset, or without the correction (PositiveCorrection::Uncorrected)
//! LSE_i  = log sum_j exp(z_ij)                          j over the negatives that are not excluded
//! loss_i = log(exp(z_i+) + exp(LSE_i)) - z_i+
//! P_ij   = exp(z_ij) / (exp(z_i+) + exp(LSE_i))
//! dz_ij  = g_i P_ij,   dz_i+ = -g_i sum_j P_ij          g_i: upstream, weight and reduction
//! ```
//!
//! and from `dz` every gradient by the chain rule. A row with `g_i = 0` contributes exactly 0, NaN or
//! not. A row without negatives has loss 0 and no gradient. A row with a negative at +inf has loss +inf and NaN
//! gradients.

pub mod table;

use crate::problem::check_length;
use crate::{Error, Length, LossConfig, PositiveCorrection, Reduction, Result};

/// One call's inputs, widened to f64. Column arrays run over batch, extra and bank in that order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// Embedding dimension `D`.
    pub dim: usize,
    /// `[B, D]`.
    pub users: &'a [f64],
    /// `[C, D]`; row i's positive is item `i + offset`.
    pub items: &'a [f64],
    /// `[E, D]`, may be empty.
    pub extra: &'a [f64],
    /// `[M, D]`, may be empty.
    pub bank: &'a [f64],
    /// `[M]`: slots that take no part (empty, over age, warm-up). `None`: every slot is present.
    pub bank_absent: Option<&'a [bool]>,
    /// Offset of the positives.
    pub offset: usize,
    /// `[N]`.
    pub log_q: Option<&'a [f64]>,
    /// `[N]`.
    pub item_ids: Option<&'a [i64]>,
    /// `[B]`.
    pub user_ids: Option<&'a [i64]>,
    /// `[B]`.
    pub weights: Option<&'a [f64]>,
    /// Gradient of the loss: `[1]`, or `[B]` under [`Reduction::None`]; `None` means ones.
    pub upstream: Option<&'a [f64]>,
}

/// Everything a backend may be asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// The reduced loss; `None` under [`Reduction::None`].
    pub loss: Option<f64>,
    /// `[B]`, times the row weights.
    pub row_losses: Vec<f64>,
    /// `[B]`, over the negatives alone.
    pub log_sum_exp: Vec<f64>,
    /// `[B]`.
    pub z_positive: Vec<f64>,
    /// `[B, D]`.
    pub d_users: Vec<f64>,
    /// `[C, D]`.
    pub d_items: Vec<f64>,
    /// `[E, D]`.
    pub d_extra: Vec<f64>,
    /// dloss / d(1/tau).
    pub d_inverse_temperature: f64,
    /// `[B]`: each row's share of [`Outputs::d_inverse_temperature`].
    pub d_inverse_temperature_rows: Vec<f64>,
}

/// The loss and all its gradients.
///
/// # Errors
/// [`Error::Dimension`], [`Error::NotRows`], [`Error::NoRows`], [`Error::PositivesOutside`],
/// [`Error::Length`], and [`Error::MissingItemIds`], [`Error::MissingUserIds`] or
/// [`Error::MissingWeights`] for a field that the configuration needs.
pub fn evaluate(config: &LossConfig, inputs: &Inputs<'_>) -> Result<Outputs> {
    evaluate_at(config, inputs, 1.0 / f64::from(config.temperature()))
}

/// [`evaluate`] at an inverse temperature that need not be an f32: for finite differences.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_at(config: &LossConfig, inputs: &Inputs<'_>, inverse_temperature: f64) -> Result<Outputs> {
    let shape = Shape::of(config, inputs)?;
    let users = Embeddings::new(&[inputs.users], inputs.dim, config.normalizes());
    let columns =
        Embeddings::new(&[inputs.items, inputs.extra, inputs.bank], inputs.dim, config.normalizes());
    let dense = Dense { config, inputs, shape, inverse_temperature, users, columns };
    Ok(dense.evaluate())
}

#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    columns: usize,
    batch: usize,
    extra: usize,
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

impl Length for &[bool] {
    fn length(&self) -> usize {
        self.len()
    }
}

impl Shape {
    fn of(config: &LossConfig, inputs: &Inputs<'_>) -> Result<Self> {
        let dim = inputs.dim;
        if dim == 0 {
            return Err(Error::Dimension { dim, max: usize::MAX });
        }
        let count = |what, slice: &[f64]| match slice.len() % dim {
            0 => Ok(slice.len() / dim),
            _ => Err(Error::NotRows { what, len: slice.len(), dim }),
        };
        let rows = count("users", inputs.users)?;
        let batch = count("items", inputs.items)?;
        let extra = count("extra embeddings", inputs.extra)?;
        let bank = count("bank embeddings", inputs.bank)?;
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
            return Err(Error::MissingItemIds(crate::Segment::Batch));
        }
        if config.excludes_same_user() && inputs.user_ids.is_none() {
            return Err(Error::MissingUserIds);
        }
        if config.get_reduction() == Reduction::WeightedMean && inputs.weights.is_none() {
            return Err(Error::MissingWeights);
        }
        Ok(Self { rows, columns, batch, extra })
    }
}

/// Embeddings as they enter the product, with the norms that they had.
struct Embeddings {
    dim: usize,
    values: Vec<f64>,
    /// 1 where nothing was normalised, 0 for a row of norm 0.
    norms: Vec<f64>,
}

impl Embeddings {
    fn new(parts: &[&[f64]], dim: usize, normalize: bool) -> Self {
        let mut values = parts.concat();
        let norms = values
            .chunks_exact_mut(dim)
            .map(|row| {
                if !normalize {
                    return 1.0;
                }
                let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                row.iter_mut().for_each(|x| *x = if norm == 0.0 { 0.0 } else { *x / norm });
                norm
            })
            .collect();
        Self { dim, values, norms }
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }

    /// The gradient of rows `first..` before normalisation, from the gradient after it:
    /// `(d - <d, x^> x^) / norm`. No gradient stays none, whatever the row holds.
    fn through_norm(&self, first: usize, mut gradient: Vec<f64>, normalize: bool) -> Vec<f64> {
        if normalize {
            for (k, d) in gradient.chunks_exact_mut(self.dim).enumerate() {
                if d.iter().all(|d| *d == 0.0) {
                    continue;
                }
                let (unit, norm) = (self.row(first + k), self.norms[first + k]);
                let along = dot(d, unit);
                d.iter_mut()
                    .zip(unit)
                    .for_each(|(d, x)| *d = if norm == 0.0 { 0.0 } else { (*d - along * x) / norm });
            }
        }
        gradient
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// log sum exp with +-inf by their limits and NaN passed on; -inf for an empty sum.
fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let max = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if values.clone().any(f64::is_nan) {
        return f64::NAN;
    }
    if max.is_infinite() {
        return max;
    }
    max + values.map(|z| (z - max).exp()).sum::<f64>().ln()
}

struct Dense<'a> {
    config: &'a LossConfig,
    inputs: &'a Inputs<'a>,
    shape: Shape,
    inverse_temperature: f64,
    users: Embeddings,
    columns: Embeddings,
}

impl Dense<'_> {
    fn evaluate(self) -> Outputs {
        let Shape { rows, columns, batch, extra } = self.shape;
        let dim = self.inputs.dim;
        let coefficients = self.row_coefficients();
        let mut d_users = vec![0.0; rows * dim];
        let mut d_columns = vec![0.0; columns * dim];
        let (mut row_losses, mut log_sum_exps, mut z_positives) = (vec![], vec![], vec![]);
        let mut d_inverse_temperature_rows = vec![];
        for i in 0..rows {
            let positive = i + self.inputs.offset;
            let scores: Vec<f64> =
                (0..columns).map(|j| dot(self.users.row(i), self.columns.row(j))).collect();
            let z: Vec<f64> =
                (0..columns).map(|j| scores[j] * self.inverse_temperature - self.correction(j)).collect();
            let z_positive = match self.config.get_positive_correction() {
                PositiveCorrection::Corrected => z[positive],
                PositiveCorrection::Uncorrected => scores[positive] * self.inverse_temperature,
            };
            let negatives: Vec<usize> = (0..columns).filter(|&j| self.is_negative(i, j)).collect();
            let lse = log_sum_exp(negatives.iter().map(|&j| z[j]));
            let (loss, mass) = row_loss(lse, z_positive);
            let weight = self.inputs.weights.map_or(1.0, |w| w[i]);
            row_losses.push(if weight == 0.0 { 0.0 } else { weight * loss });
            log_sum_exps.push(lse);
            z_positives.push(z_positive);

            let g = coefficients[i];
            let mut d_inverse_temperature = 0.0;
            if g != 0.0 && !negatives.is_empty() {
                let softmax = |j: usize| if lse == f64::INFINITY { f64::NAN } else { (z[j] - lse).exp() };
                let dz = negatives.iter().map(|&j| (j, g * mass * softmax(j)));
                for (j, dz) in dz.chain([(positive, -g * mass)]) {
                    d_inverse_temperature += dz * scores[j];
                    for d in 0..dim {
                        let scale = dz * self.inverse_temperature;
                        d_users[i * dim + d] += scale * self.columns.row(j)[d];
                        d_columns[j * dim + d] += scale * self.users.row(i)[d];
                    }
                }
            }
            d_inverse_temperature_rows.push(d_inverse_temperature);
        }
        let normalize = self.config.normalizes();
        d_columns.truncate((batch + extra) * dim);
        let d_extra = d_columns.split_off(batch * dim);
        Outputs {
            loss: self.reduce(&row_losses),
            row_losses,
            log_sum_exp: log_sum_exps,
            z_positive: z_positives,
            d_users: self.users.through_norm(0, d_users, normalize),
            d_items: self.columns.through_norm(0, d_columns, normalize),
            d_extra: self.columns.through_norm(batch, d_extra, normalize),
            d_inverse_temperature: d_inverse_temperature_rows.iter().sum(),
            d_inverse_temperature_rows,
        }
    }

    /// `lambda log_q_j`.
    fn correction(&self, j: usize) -> f64 {
        let lambda = f64::from(self.config.get_logq_scale());
        match self.inputs.log_q {
            Some(log_q) if lambda != 0.0 => lambda * log_q[j],
            _ => 0.0,
        }
    }

    fn is_negative(&self, i: usize, j: usize) -> bool {
        let positive = i + self.inputs.offset;
        let first_bank_column = self.shape.batch + self.shape.extra;
        let absent =
            j >= first_bank_column && self.inputs.bank_absent.is_some_and(|a| a[j - first_bank_column]);
        let same_item = self.config.excludes_same_item()
            && self.inputs.item_ids.is_some_and(|ids| ids[j] == ids[positive]);
        let owner = j.checked_sub(self.inputs.offset).filter(|&k| k < self.shape.rows);
        let same_user = self.config.excludes_same_user()
            && owner.is_some_and(|k| self.inputs.user_ids.is_some_and(|ids| ids[k] == ids[i]));
        j != positive && !absent && !same_item && !same_user
    }

    /// `g_i`: what the reduction and the upstream gradient multiply row i's loss by.
    fn row_coefficients(&self) -> Vec<f64> {
        let scale = self.reduction_scale();
        (0..self.shape.rows)
            .map(|i| {
                let weight = self.inputs.weights.map_or(1.0, |w| w[i]);
                let upstream = self.inputs.upstream.map_or(1.0, |u| u[i.min(u.len() - 1)]);
                upstream * weight * scale
            })
            .collect()
    }

    fn reduction_scale(&self) -> f64 {
        match self.config.get_reduction() {
            Reduction::Mean => 1.0 / self.shape.rows as f64,
            Reduction::WeightedMean => 1.0 / self.inputs.weights.into_iter().flatten().sum::<f64>(),
            Reduction::Sum | Reduction::None => 1.0,
        }
    }

    fn reduce(&self, row_losses: &[f64]) -> Option<f64> {
        match self.config.get_reduction() {
            Reduction::None => None,
            _ => Some(self.reduction_scale() * row_losses.iter().sum::<f64>()),
        }
    }
}

/// `(loss, sum_j P_ij)` of a row: `log(1 + e^x)` and `1 / (1 + e^-x)` at `x = LSE - z+`, in the form
/// that keeps small values exact.
fn row_loss(lse: f64, z_positive: f64) -> (f64, f64) {
    if lse == f64::NEG_INFINITY {
        return (0.0, 0.0);
    }
    let x = lse - z_positive;
    if x > 0.0 {
        (x + (-x).exp().ln_1p(), 1.0 / (1.0 + (-x).exp()))
    } else {
        (x.exp().ln_1p(), x.exp() / (1.0 + x.exp()))
    }
}
