//! The reference: f64, dense, formula by formula; it shares no code with the backends.
//!
//! It stores the whole score matrix, loops over every entry, and is meant for tests. With
//! `u^`, `v^` the embeddings (unit vectors under [`LossConfig::normalize`], the zero vector for a
//! row of norm 0) and `N` the columns of batch, extra and bank in that order:
//!
//! ```text
//! z_ij   = <u^_i, v^_j> / tau - lambda log_q_j          lambda = 0 ignores log_q
//!          (<u^_i, v^_j> - lambda log_q_j) / tau        LogQOrder::InsideTemperature
//! z_i+   = z_ij at j = i + offset, or without the correction (PositiveCorrection::Uncorrected)
//! LSE_i  = log sum_j exp(z_ij)                          j over the negatives that are not excluded
//! loss_i = log(exp(z_i+) + exp(LSE_i)) - z_i+           Objective::Softmax; `oracle/row.rs` has the others
//! P_ij   = exp(z_ij) / (exp(z_i+) + exp(LSE_i))
//! dz_ij  = g_i P_ij,   dz_i+ = -g_i sum_j P_ij          g_i: upstream, weight and reduction
//! ```
//!
//! and from `dz` every gradient by the chain rule. A row with `g_i = 0` contributes exactly 0, NaN or
//! not. A row without negatives has loss 0 and no gradient. A row with a negative at +inf has loss +inf and NaN
//! gradients.

mod row;
pub mod table;

use crate::problem::check_length;
use crate::{Error, Length, LogQOrder, LossConfig, Objective, PositiveCorrection, Reduction, Result};
use row::{Derivatives, RowInputs};

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
    /// `[B]`, for [`LossConfig::symmetric`].
    pub user_log_q: Option<&'a [f64]>,
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// The reduced loss; `None` under [`Reduction::None`].
    pub loss: Option<f64>,
    /// `[B]`, times the row weights.
    pub row_losses: Vec<f64>,
    /// `[B]`, over the negatives alone; `sum_j softplus(z_ij)` under [`Objective::Sigmoid`].
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
    /// `[C + E]`: dloss / dlog_q, 0 without log q.
    pub d_log_q: Vec<f64>,
    /// `[B]`: the same of the users' log q, for [`LossConfig::symmetric`]; empty otherwise.
    pub d_user_log_q: Vec<f64>,
    /// `[B]`: each row's share of dloss / dbias, the derivative with respect to a constant added to all logits. It
    /// vanishes for all objectives but [`Objective::Sigmoid`].
    pub d_bias_rows: Vec<f64>,
    /// `[B]`: a factor of the row's loss through which no gradient flows; 1 but under [`Objective::CorrectedLogQ`].
    pub stopped: Vec<f64>,
    /// `[B]`, then the row's negatives: `z_ij - z_i+`.
    pub margins: Vec<Vec<f64>>,
    /// `[B]`: negatives with `z_ij > z_i+`.
    pub ranks: Vec<u32>,
    /// `[B]`: negatives with `z_ij > -inf`.
    pub negatives: Vec<u32>,
    /// `[B]`: columns excluded by item id or user id.
    pub excluded: Vec<u32>,
}

/// Parameters that are learnt beside the embeddings, in f64: for finite differences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// `1/tau`.
    pub inverse_temperature: f64,
    /// The bias of [`Objective::Sigmoid`], 0 for the others.
    pub bias: f64,
}

impl Parameters {
    /// Those of a configuration.
    pub fn of(config: &LossConfig) -> Self {
        Self {
            inverse_temperature: 1.0 / f64::from(config.temperature()),
            bias: match config.get_objective() {
                Objective::Sigmoid { bias } => f64::from(bias),
                _ => 0.0,
            },
        }
    }
}

/// The loss and all its gradients.
///
/// # Errors
/// [`Error::Dimension`], [`Error::NotRows`], [`Error::NoRows`], [`Error::PositivesOutside`],
/// [`Error::Length`], and [`Error::MissingItemIds`], [`Error::MissingUserIds`] or
/// [`Error::MissingWeights`] for a field that the configuration needs.
pub fn evaluate(config: &LossConfig, inputs: &Inputs<'_>) -> Result<Outputs> {
    evaluate_at(config, inputs, Parameters::of(config))
}

/// [`evaluate`] at parameters that need not be f32: for finite differences.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_at(config: &LossConfig, inputs: &Inputs<'_>, parameters: Parameters) -> Result<Outputs> {
    if config.is_symmetric() {
        return symmetric(config, inputs, parameters);
    }
    let shape = Shape::of(config, inputs)?;
    let users = Embeddings::new(&[inputs.users], inputs.dim, config.normalizes());
    let columns =
        Embeddings::new(&[inputs.items, inputs.extra, inputs.bank], inputs.dim, config.normalizes());
    let dense = Dense { config, inputs, shape, parameters, users, columns };
    Ok(dense.evaluate())
}

/// The mean of both directions: the same loss with users and items exchanged. Counts and log-sum-exp are the users'.
fn symmetric(config: &LossConfig, inputs: &Inputs<'_>, parameters: Parameters) -> Result<Outputs> {
    let one_way = config.symmetric(false);
    let forth = evaluate_at(&one_way, &Inputs { user_log_q: None, ..*inputs }, parameters)?;
    let exchanged = Inputs {
        users: inputs.items,
        items: inputs.users,
        log_q: inputs.user_log_q,
        user_log_q: None,
        ..*inputs
    };
    let back = evaluate_at(&one_way, &exchanged, parameters)?;
    let mean = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a + b) / 2.0).collect::<Vec<f64>>();
    Ok(Outputs {
        loss: forth.loss.zip(back.loss).map(|(a, b)| (a + b) / 2.0),
        row_losses: mean(&forth.row_losses, &back.row_losses),
        d_users: mean(&forth.d_users, &back.d_items),
        d_items: mean(&forth.d_items, &back.d_users),
        d_inverse_temperature: (forth.d_inverse_temperature + back.d_inverse_temperature) / 2.0,
        d_inverse_temperature_rows: mean(&forth.d_inverse_temperature_rows, &back.d_inverse_temperature_rows),
        d_log_q: forth.d_log_q.iter().map(|d| d / 2.0).collect(),
        d_user_log_q: back.d_log_q.iter().map(|d| d / 2.0).collect(),
        ..forth
    })
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

struct Dense<'a> {
    config: &'a LossConfig,
    inputs: &'a Inputs<'a>,
    shape: Shape,
    parameters: Parameters,
    users: Embeddings,
    columns: Embeddings,
}

impl Dense<'_> {
    fn evaluate(self) -> Outputs {
        let Shape { rows, columns, batch, extra } = self.shape;
        let dim = self.inputs.dim;
        let inverse_temperature = self.parameters.inverse_temperature;
        let coefficients = self.row_coefficients();
        let mut d_users = vec![0.0; rows * dim];
        let mut d_columns = vec![0.0; columns * dim];
        let mut outputs = Outputs { d_log_q: vec![0.0; columns], ..Outputs::default() };
        for i in 0..rows {
            let positive = i + self.inputs.offset;
            let scores: Vec<f64> =
                (0..columns).map(|j| dot(self.users.row(i), self.columns.row(j))).collect();
            let z: Vec<f64> = (0..columns).map(|j| self.logit(scores[j], self.correction(j))).collect();
            let corrected = self.corrects_positive();
            let z_positive = if corrected { z[positive] } else { self.logit(scores[positive], 0.0) };
            let negatives: Vec<usize> = (0..columns).filter(|&j| self.is_negative(i, j)).collect();
            let logits: Vec<f64> = negatives.iter().map(|&j| z[j]).collect();
            let row = row::evaluate(&RowInputs {
                objective: self.config.get_objective(),
                negatives: &logits,
                z_positive,
                inverse_temperature,
                log_rest: self.log_rest(positive),
            });
            let weight = self.inputs.weights.map_or(1.0, |w| w[i]);
            outputs.row_losses.push(if weight == 0.0 { 0.0 } else { weight * row.loss });
            outputs.log_sum_exp.push(row.log_sum_exp);
            outputs.stopped.push(row.stopped);
            outputs.z_positive.push(z_positive);
            outputs.margins.push(logits.iter().map(|z| z - z_positive).collect());
            outputs.ranks.push(logits.iter().filter(|z| **z > z_positive).count() as u32);
            outputs.negatives.push(logits.iter().filter(|z| **z != f64::NEG_INFINITY).count() as u32);
            outputs.excluded.push((0..columns).filter(|&j| self.is_excluded(i, j)).count() as u32);

            let g = coefficients[i];
            let (mut d_inverse_temperature, mut d_bias) = (0.0, 0.0);
            if g != 0.0 {
                let Derivatives { negatives: d_negatives, positive: d_positive, .. } = &row.derivatives;
                d_inverse_temperature = g * row.derivatives.inverse_temperature;
                outputs.d_log_q[positive] += g * row.derivatives.log_rest * self.d_log_rest(positive);
                let dz = negatives.iter().zip(d_negatives).map(|(&j, dz)| (j, g * dz, true));
                for (j, dz, corrected) in dz.chain([(positive, g * d_positive, corrected)]) {
                    let scale = self.log_q_scale();
                    d_bias += dz;
                    d_inverse_temperature += dz * scores[j];
                    if corrected && scale != 0.0 {
                        outputs.d_log_q[j] -= dz * scale;
                        if self.config.get_logq_order() == LogQOrder::InsideTemperature {
                            d_inverse_temperature -= dz * self.correction(j) / inverse_temperature;
                        }
                    }
                    for d in 0..dim {
                        let scale = dz * inverse_temperature;
                        d_users[i * dim + d] += scale * self.columns.row(j)[d];
                        d_columns[j * dim + d] += scale * self.users.row(i)[d];
                    }
                }
            }
            outputs.d_inverse_temperature_rows.push(d_inverse_temperature);
            outputs.d_bias_rows.push(d_bias);
        }
        let normalize = self.config.normalizes();
        d_columns.truncate((batch + extra) * dim);
        outputs.d_log_q.truncate(batch + extra);
        let d_extra = d_columns.split_off(batch * dim);
        outputs.loss = self.reduce(&outputs.row_losses);
        outputs.d_users = self.users.through_norm(0, d_users, normalize);
        outputs.d_items = self.columns.through_norm(0, d_columns, normalize);
        outputs.d_extra = self.columns.through_norm(batch, d_extra, normalize);
        outputs.d_inverse_temperature = outputs.d_inverse_temperature_rows.iter().sum();
        outputs
    }

    fn logit(&self, score: f64, correction: f64) -> f64 {
        score * self.parameters.inverse_temperature + self.parameters.bias - correction
    }

    fn corrects_positive(&self) -> bool {
        self.config.get_positive_correction() == PositiveCorrection::Corrected
            && self.config.get_objective() != Objective::CorrectedLogQ
    }

    /// Minus the derivative of a corrected logit with respect to its log q.
    fn log_q_scale(&self) -> f64 {
        let lambda = if self.inputs.log_q.is_some() { f64::from(self.config.get_logq_scale()) } else { 0.0 };
        match self.config.get_logq_order() {
            LogQOrder::OutsideTemperature => lambda,
            LogQOrder::InsideTemperature => lambda * self.parameters.inverse_temperature,
        }
    }

    /// What log q takes from the logit of column `j`.
    fn correction(&self, j: usize) -> f64 {
        let scale = self.log_q_scale();
        self.inputs.log_q.map_or(0.0, |log_q| if scale == 0.0 { 0.0 } else { scale * log_q[j] })
    }

    /// `lambda log(1 - q_j)`.
    fn log_rest(&self, j: usize) -> f64 {
        let scale = self.log_q_scale();
        self.inputs
            .log_q
            .map_or(0.0, |log_q| if scale == 0.0 { 0.0 } else { scale * (-log_q[j].exp()).ln_1p() })
    }

    /// Its derivative with respect to `log_q_j`: `-lambda q / (1 - q)`.
    fn d_log_rest(&self, j: usize) -> f64 {
        self.inputs.log_q.map_or(0.0, |log_q| self.log_q_scale() / (1.0 - (-log_q[j]).exp()))
    }

    fn is_negative(&self, i: usize, j: usize) -> bool {
        j != i + self.inputs.offset && self.is_present(j) && !self.is_excluded(i, j)
    }

    fn is_present(&self, j: usize) -> bool {
        let bank_slot = j.checked_sub(self.shape.batch + self.shape.extra);
        !bank_slot.is_some_and(|slot| self.inputs.bank_absent.is_some_and(|absent| absent[slot]))
    }

    /// Whether a present column that is not the positive is left out by its ids.
    fn is_excluded(&self, i: usize, j: usize) -> bool {
        let positive = i + self.inputs.offset;
        let same_item = self.config.excludes_same_item()
            && self.inputs.item_ids.is_some_and(|ids| ids[j] == ids[positive]);
        let owner = j.checked_sub(self.inputs.offset).filter(|&k| k < self.shape.rows);
        let same_user = self.config.excludes_same_user()
            && owner.is_some_and(|k| self.inputs.user_ids.is_some_and(|ids| ids[k] == ids[i]));
        j != positive && self.is_present(j) && (same_item || same_user)
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
