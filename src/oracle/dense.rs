//! Every score, logit and derivative of one call, entry by entry.

use std::cmp::Ordering;

use super::embeddings::{Embeddings, dot};
use super::row::{self, Derivatives, RowInputs};
use super::shape::Shape;
use super::{Inputs, Outputs, Parameters};
use crate::{LogQOrder, LossConfig, Objective, PositiveCorrection, Reduction, Result};

/// The matrix of a call: users against batch, extra, bank and the row negatives' embeddings, in that order.
pub(super) struct Dense<'a> {
    config: &'a LossConfig,
    inputs: &'a Inputs<'a>,
    shape: Shape,
    parameters: Parameters,
    users: Embeddings,
    columns: Embeddings,
}

impl<'a> Dense<'a> {
    pub(super) fn new(
        config: &'a LossConfig,
        inputs: &'a Inputs<'a>,
        parameters: Parameters,
    ) -> Result<Self> {
        let shape = Shape::of(config, inputs)?;
        let normalize = config.normalizes();
        let own = inputs.row_negatives.map_or(&[][..], |negatives| negatives.embeddings);
        let parts = [inputs.items, inputs.extra, inputs.bank, own];
        let users = Embeddings::new(&[inputs.users], inputs.dim, normalize);
        let columns = Embeddings::new(&parts, inputs.dim, normalize);
        Ok(Self { config, inputs, shape, parameters, users, columns })
    }

    pub(super) fn evaluate(self) -> Outputs {
        let Shape { rows, columns, batch, extra } = self.shape;
        let dim = self.inputs.dim;
        let inverse_temperature = self.parameters.inverse_temperature;
        let coefficients = self.row_coefficients();
        let mut d_users = vec![0.0; rows * dim];
        let mut d_columns = vec![0.0; self.columns.rows() * dim];
        let mut outputs = Outputs { d_log_q: vec![0.0; self.columns.rows()], ..Outputs::default() };
        for i in 0..rows {
            let positive = i + self.inputs.offset;
            let score = |j: usize| dot(self.users.row(i), self.columns.row(j));
            let corrected = self.corrects_positive();
            let correction = if corrected { self.correction(positive) } else { 0.0 };
            let z_positive = self.logit(score(positive), correction);
            let z = |j: usize| self.logit(score(j), self.correction(j));
            let of_row = self.row_negatives(i).filter(|&j| !self.is_same_item(i, j));
            let all = (0..columns).filter(|&j| self.is_negative(i, j)).chain(of_row);
            let negatives = self.hardest(all.map(|j| (j, z(j))).collect());
            let logits: Vec<f64> = negatives.iter().map(|(_, z)| *z).collect();
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
            let of_row = self.row_negatives(i).filter(|&j| self.is_same_item(i, j)).count();
            let excluded = (0..columns).filter(|&j| self.is_excluded(i, j)).count() + of_row;
            outputs.excluded.push(excluded as u32);

            let g = coefficients[i];
            let (mut d_inverse_temperature, mut d_bias) = (0.0, 0.0);
            if g != 0.0 {
                let Derivatives { negatives: d_negatives, positive: d_positive, .. } = &row.derivatives;
                d_inverse_temperature = g * row.derivatives.inverse_temperature;
                outputs.d_log_q[positive] += g * row.derivatives.log_rest * self.d_log_rest(positive);
                let dz = negatives.iter().zip(d_negatives).map(|((j, _), dz)| (*j, g * dz, true));
                for (j, dz, corrected) in dz.chain([(positive, g * d_positive, corrected)]) {
                    let scale = self.log_q_scale();
                    d_bias += dz;
                    d_inverse_temperature += dz * score(j);
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
            outputs.negative_columns.push(negatives.into_iter().map(|(j, _)| j).collect());
        }
        let normalize = self.config.normalizes();
        outputs.d_row_negatives_log_q = outputs.d_log_q.split_off(columns);
        outputs.d_log_q.truncate(batch + extra);
        let d_row_negatives = d_columns.split_off(columns * dim);
        d_columns.truncate((batch + extra) * dim);
        let d_extra = d_columns.split_off(batch * dim);
        outputs.loss = self.reduce(&outputs.row_losses);
        outputs.d_users = self.users.through_norm(0, d_users, normalize);
        outputs.d_items = self.columns.through_norm(0, d_columns, normalize);
        outputs.d_extra = self.columns.through_norm(batch, d_extra, normalize);
        outputs.d_row_negatives = self.columns.through_norm(columns, d_row_negatives, normalize);
        outputs.d_inverse_temperature = outputs.d_inverse_temperature_rows.iter().sum();
        outputs
    }

    /// The row negatives of row `i` that are not padding, as columns behind the bank.
    fn row_negatives(&self, i: usize) -> impl Iterator<Item = usize> {
        let (first, negatives) = (self.shape.columns, self.inputs.row_negatives.unwrap_or_default());
        let places = i * negatives.per_row..(i + 1) * negatives.per_row;
        places.filter_map(move |place| match negatives.indices {
            Some(indices) => usize::try_from(indices[place]).ok().map(|index| first + index),
            None => Some(first + place),
        })
    }

    /// The negatives that [`LossConfig::hard_negatives`] keeps, in the order of columns: those of highest logit, of
    /// equal ones the first. NaN counts as the highest.
    fn hardest(&self, mut negatives: Vec<(usize, f64)>) -> Vec<(usize, f64)> {
        if let Some(kept) = self.config.get_hard_negatives() {
            negatives.sort_by(|(_, a), (_, b)| {
                let nan_first = b.is_nan().cmp(&a.is_nan());
                nan_first.then(b.partial_cmp(a).unwrap_or(Ordering::Equal))
            });
            negatives.truncate(kept);
            negatives.sort_by_key(|(j, _)| *j);
        }
        negatives
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

    fn log_q(&self, j: usize) -> Option<f64> {
        match j.checked_sub(self.shape.columns) {
            None => self.inputs.log_q.map(|log_q| log_q[j]),
            Some(place) => self.inputs.row_negatives.and_then(|n| n.log_q).map(|log_q| log_q[place]),
        }
    }

    /// What log q takes from the logit of column `j`.
    fn correction(&self, j: usize) -> f64 {
        let scale = self.log_q_scale();
        self.log_q(j).map_or(0.0, |log_q| if scale == 0.0 { 0.0 } else { scale * log_q })
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
        let owner = j.checked_sub(self.inputs.offset).filter(|&k| k < self.shape.rows);
        let same_user = self.config.excludes_same_user()
            && owner.is_some_and(|k| self.inputs.user_ids.is_some_and(|ids| ids[k] == ids[i]));
        j != positive && self.is_present(j) && (self.is_same_item(i, j) || same_user)
    }

    /// Whether the configuration excludes column `j` because it is row i's positive item once more.
    fn is_same_item(&self, i: usize, j: usize) -> bool {
        let Some(ids) = self.inputs.item_ids.filter(|_| self.config.excludes_same_item()) else {
            return false;
        };
        let id = match j.checked_sub(self.shape.columns) {
            None => Some(ids[j]),
            Some(place) => self.inputs.row_negatives.and_then(|n| n.item_ids).map(|ids| ids[place]),
        };
        id == Some(ids[i + self.inputs.offset])
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
