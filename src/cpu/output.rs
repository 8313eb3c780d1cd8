//! What a call shows: losses, the gradients that are numbers, metrics.

use super::loss::InBatchLoss;
use crate::metrics::positive_probabilities;
use crate::{Error, Metrics, Result};

/// What a call left in the loss object's workspace.
#[derive(Debug)]
pub struct Output<'a> {
    pub(super) of: &'a InBatchLoss,
}

impl Output<'_> {
    fn rows<'a>(&'a self, buffer: &'a [f32]) -> &'a [f32] {
        &buffer[..self.of.problem.map_or(0, |problem| problem.rows)]
    }

    /// The reduced loss.
    ///
    /// # Errors
    /// [`Error::NoScalarLoss`] under [`Reduction::None`](crate::Reduction::None).
    pub fn loss(&self) -> Result<f32> {
        self.of.loss.ok_or(Error::NoScalarLoss)
    }

    /// `[B]` row losses, times the row weights.
    pub fn row_losses(&self) -> &[f32] {
        self.rows(&self.of.workspace.forward.row_losses)
    }

    /// `[B]` log-sum-exp over the negatives, -inf for a row without any; `sum_j softplus(z_ij)` under the sigmoid link.
    pub fn log_sum_exp(&self) -> &[f32] {
        self.rows(&self.of.workspace.forward.log_sum_exp)
    }

    /// `[B]` logits of the positives, corrected by log q if the configuration says so.
    pub fn z_positive(&self) -> &[f32] {
        self.rows(&self.of.workspace.forward.z_positive)
    }

    /// dloss / d(1/temperature).
    ///
    /// # Errors
    /// [`Error::NoTemperatureGradient`] unless the call was a step or a backward.
    pub fn d_inverse_temperature(&self) -> Result<f32> {
        self.of.d_inverse_temperature.ok_or(Error::NoTemperatureGradient)
    }

    /// dloss / dbias of [`Objective::Sigmoid`](crate::Objective::Sigmoid).
    ///
    /// # Errors
    /// [`Error::NoBiasGradient`] unless the call was a step or a backward under that objective.
    pub fn d_bias(&self) -> Result<f32> {
        self.of.d_bias.ok_or(Error::NoBiasGradient)
    }

    /// Ranks, counts and the probability of each row's positive.
    ///
    /// # Errors
    /// [`Error::NoMetrics`] unless the configuration asks for them.
    pub fn metrics(&self) -> Result<Metrics> {
        if !self.of.config.counts_metrics() {
            return Err(Error::NoMetrics);
        }
        let rows = self.of.problem.map_or(0, |problem| problem.rows);
        let forward = &self.of.workspace.forward;
        Ok(Metrics {
            ranks: forward.ranks[..rows].to_vec(),
            negatives: forward.negatives[..rows].to_vec(),
            excluded: forward.excluded[..rows].to_vec(),
            positive_probabilities: positive_probabilities(
                self.of.config.get_objective(),
                self.z_positive(),
                self.log_sum_exp(),
            ),
        })
    }
}
