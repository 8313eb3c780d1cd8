//! What a call left on the device, and the reads that wait for it.

use super::arguments::scalars;
use super::buffer::Buffer;
use super::view::{View, view_of};
use super::workspace::{COUNTS, Workspace};
use crate::metrics::positive_probabilities;
use crate::{Error, LossConfig, Metrics, Objective, Reduction, Result};

/// A call's results, in the loss object's workspace until its next call.
///
/// The methods without `device_` wait for the stream and copy to the host; each says so. The views are for the
/// caller's own work on the same stream and wait for nothing.
#[derive(Debug)]
pub struct Output<'a> {
    workspace: &'a Workspace,
    config: LossConfig,
    rows: usize,
    has_gradient: bool,
}

impl<'a> Output<'a> {
    pub(super) fn new(workspace: &'a Workspace, config: LossConfig, rows: usize, has_gradient: bool) -> Self {
        Self { workspace, config, rows, has_gradient }
    }

    /// Waits, then returns the reduced loss.
    ///
    /// # Errors
    /// [`Error::NoScalarLoss`] under [`Reduction::None`]; [`Error::WeightSum`] for a weighted mean whose weights sum
    /// to 0 or not to a finite number (the gradients are then 0).
    pub fn loss(&self) -> Result<f32> {
        self.check_scalar()?;
        read_loss(self.workspace, self.config.get_reduction())
    }

    /// Waits, then returns the `[B]` weighted row losses.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn row_losses(&self) -> Result<Vec<f32>> {
        self.workspace.loss.read(self.rows)
    }

    /// Waits, then returns the `[B]` log-sum-exp over the negatives, -inf for a row without any; under the sigmoid link
    /// `sum_j softplus(z_ij)`.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn log_sum_exp(&self) -> Result<Vec<f32>> {
        self.workspace.lse.read(self.rows)
    }

    /// Waits, then returns dloss / d(1/temperature).
    ///
    /// # Errors
    /// [`Error::NoTemperatureGradient`] unless the call was a step or a backward.
    pub fn d_inverse_temperature(&self) -> Result<f32> {
        self.check_gradient()?;
        let words = self.workspace.scalars.read(scalars::WORDS)?;
        Ok(word(&words, scalars::D_INVERSE_TEMPERATURE))
    }

    /// Waits, then returns dloss / dbias of [`Objective::Sigmoid`].
    ///
    /// # Errors
    /// [`Error::NoBiasGradient`] unless the call was a step or a backward under that objective.
    pub fn d_bias(&self) -> Result<f32> {
        self.check_bias()?;
        Ok(word(&self.workspace.scalars.read(scalars::WORDS)?, scalars::D_BIAS))
    }

    /// Waits, then returns ranks, counts and the probability of each row's positive.
    ///
    /// # Errors
    /// [`Error::NoMetrics`] unless the configuration asks for them.
    pub fn metrics(&self) -> Result<Metrics> {
        self.check_metrics()?;
        let counts = self.workspace.row_counts.read(COUNTS * self.rows)?;
        let column = |k: usize| counts[k * self.rows..(k + 1) * self.rows].to_vec();
        let (z, lse) = (self.workspace.positive.read(self.rows)?, self.log_sum_exp()?);
        Ok(Metrics {
            ranks: column(2),
            negatives: column(0),
            excluded: column(1),
            positive_probabilities: positive_probabilities(self.config.get_objective(), &z, &lse),
        })
    }

    /// `[B]` ranks of the positives on the device, see [`Metrics::ranks`].
    ///
    /// # Errors
    /// [`Error::NoMetrics`].
    pub fn device_ranks(&self) -> Result<View<'a, u32>> {
        self.counts(2)
    }

    /// `[B]` negatives of each row on the device.
    ///
    /// # Errors
    /// [`Error::NoMetrics`].
    pub fn device_negatives(&self) -> Result<View<'a, u32>> {
        self.counts(0)
    }

    /// `[B]` excluded columns of each row on the device.
    ///
    /// # Errors
    /// [`Error::NoMetrics`].
    pub fn device_excluded(&self) -> Result<View<'a, u32>> {
        self.counts(1)
    }

    /// `[B]` logits of the positives on the device.
    pub fn device_z_positive(&self) -> View<'a, f32> {
        front(&self.workspace.positive, self.rows)
    }

    /// `[1]` the reduced loss on the device. NaN where [`Output::loss`] says [`Error::WeightSum`].
    ///
    /// # Errors
    /// [`Error::NoScalarLoss`].
    pub fn device_loss(&self) -> Result<View<'a, f32>> {
        self.check_scalar()?;
        Ok(self.scalar(scalars::LOSS))
    }

    /// `[B]` weighted row losses on the device.
    pub fn device_row_losses(&self) -> View<'a, f32> {
        front(&self.workspace.loss, self.rows)
    }

    /// `[B]` log-sum-exp on the device.
    pub fn device_log_sum_exp(&self) -> View<'a, f32> {
        front(&self.workspace.lse, self.rows)
    }

    /// `[1]` dloss / d(1/temperature) on the device.
    ///
    /// # Errors
    /// [`Error::NoTemperatureGradient`].
    pub fn device_d_inverse_temperature(&self) -> Result<View<'a, f32>> {
        self.check_gradient()?;
        Ok(self.scalar(scalars::D_INVERSE_TEMPERATURE))
    }

    /// `[1]` dloss / d log(1/temperature) on the device: the gradient of a temperature learnt by its logarithm.
    ///
    /// # Errors
    /// [`Error::NoTemperatureGradient`].
    pub fn device_d_log_inverse_temperature(&self) -> Result<View<'a, f32>> {
        self.check_gradient()?;
        Ok(self.scalar(scalars::D_LOG_INVERSE_TEMPERATURE))
    }

    /// `[1]` dloss / dbias on the device.
    ///
    /// # Errors
    /// [`Error::NoBiasGradient`].
    pub fn device_d_bias(&self) -> Result<View<'a, f32>> {
        self.check_bias()?;
        Ok(self.scalar(scalars::D_BIAS))
    }

    fn check_bias(&self) -> Result<()> {
        let sigmoid = matches!(self.config.get_objective(), Objective::Sigmoid { .. });
        if self.has_gradient && sigmoid { Ok(()) } else { Err(Error::NoBiasGradient) }
    }

    fn check_metrics(&self) -> Result<()> {
        if self.config.counts_metrics() { Ok(()) } else { Err(Error::NoMetrics) }
    }

    fn counts(&self, index: usize) -> Result<View<'a, u32>> {
        self.check_metrics()?;
        let first = (size_of::<u32>() * index * self.rows) as u64;
        Ok(view_of(self.workspace.row_counts.pointer() + first, self.rows))
    }

    fn check_scalar(&self) -> Result<()> {
        if self.config.get_reduction() == Reduction::None { Err(Error::NoScalarLoss) } else { Ok(()) }
    }

    fn check_gradient(&self) -> Result<()> {
        if self.has_gradient { Ok(()) } else { Err(Error::NoTemperatureGradient) }
    }

    fn scalar(&self, index: usize) -> View<'a, f32> {
        view_of(self.workspace.scalars() + (size_of::<f32>() * index) as u64, 1)
    }
}

fn front<'a>(buffer: &'a Buffer<f32>, len: usize) -> View<'a, f32> {
    view_of(buffer.pointer(), len)
}

/// Waits, then returns the reduced loss that a sweep left, unless it is a mean over weights without a usable sum.
pub(super) fn read_loss(workspace: &Workspace, reduction: Reduction) -> Result<f32> {
    let words = workspace.scalars.read(scalars::WORDS)?;
    let weight_sum = word(&words, scalars::WEIGHT_SUM);
    if reduction == Reduction::WeightedMean && (weight_sum == 0.0 || !weight_sum.is_finite()) {
        return Err(Error::WeightSum(weight_sum));
    }
    Ok(word(&words, scalars::LOSS))
}

fn word(words: &[f32], index: usize) -> f32 {
    words.get(index).copied().unwrap_or(f32::NAN)
}
