//! Learnt parameters of a loss, kept and changed on the device.

use super::arguments::scalars;
use super::launch::Span;
use super::loss::InBatchLoss;
use super::rows::{self, Update};
use super::view::View;
use crate::{Error, LearnedTemperature, Length, Objective, Result};

impl InBatchLoss {
    /// Enqueues one step of gradient descent on `log(1/tau)` with the last step's or backward's gradient, within the
    /// bounds of `learned`, whose own value does not matter: the temperature lives in device memory. Nothing waits, and
    /// a captured graph may hold it. [`InBatchLoss::config`] keeps the temperature that the host last set. A pending
    /// forward is dropped.
    ///
    /// # Errors
    /// [`Error::NoTemperatureGradient`] before the first step or backward; [`Error::Launch`].
    pub fn descend_temperature(&mut self, learned: &LearnedTemperature, rate: f32) -> Result<()> {
        if !self.has_gradient() {
            return Err(Error::NoTemperatureGradient);
        }
        self.update(Update { temperature_rate: rate, bounds: learned.bounds(), ..NOTHING })
    }

    /// Enqueues one step of gradient descent on the bias of [`Objective::Sigmoid`], as
    /// [`InBatchLoss::descend_temperature`].
    ///
    /// # Errors
    /// [`Error::NoBiasGradient`] before the first step or backward, or under another objective; [`Error::Launch`].
    pub fn descend_bias(&mut self, rate: f32) -> Result<()> {
        if !self.has_gradient() || !self.has_bias() {
            return Err(Error::NoBiasGradient);
        }
        self.update(Update { bias_rate: rate, ..NOTHING })
    }

    /// Enqueues taking the temperature from the caller's own parameter `[1]` `log(1/tau)` in device memory, within the
    /// bounds of `learned`: for optimisers of the trainer's own, fed by
    /// [`Output::device_d_log_inverse_temperature`](super::Output::device_d_log_inverse_temperature). A pending forward is
    /// dropped.
    ///
    /// # Errors
    /// [`Error::Length`] unless `parameter` has one element; [`Error::Elsewhere`]; [`Error::Launch`].
    pub fn set_temperature_from(
        &mut self,
        parameter: &View<'_, f32>,
        learned: &LearnedTemperature,
    ) -> Result<()> {
        check_one(parameter)?;
        let device = self.device().clone();
        let bound = parameter.bind(&device, "log(1/tau)")?;
        self.update(Update { parameter: Span::new(bound.pointer, 1), bounds: learned.bounds(), ..NOTHING })
    }

    /// Enqueues taking the bias of [`Objective::Sigmoid`] from the caller's own `[1]` in device memory. A pending forward
    /// is dropped.
    ///
    /// # Errors
    /// [`Error::NoBiasGradient`] under another objective; [`Error::Length`], [`Error::Elsewhere`], [`Error::Launch`].
    pub fn set_bias_from(&mut self, bias: &View<'_, f32>) -> Result<()> {
        if !self.has_bias() {
            return Err(Error::NoBiasGradient);
        }
        check_one(bias)?;
        let device = self.device().clone();
        let bound = bias.bind(&device, "the bias")?;
        self.update(Update { bias: Span::new(bound.pointer, 1), ..NOTHING })
    }

    /// Waits, then returns the temperature in use.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn temperature(&self) -> Result<f32> {
        Ok(1.0 / self.scalar(scalars::INVERSE_TEMPERATURE)?)
    }

    /// Waits, then returns the bias in use, 0 unless the objective is [`Objective::Sigmoid`].
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn bias(&self) -> Result<f32> {
        self.scalar(scalars::BIAS)
    }

    fn has_bias(&self) -> bool {
        matches!(self.config().get_objective(), Objective::Sigmoid { .. })
    }

    fn update(&mut self, update: Update) -> Result<()> {
        self.drop_forward("the parameters were changed in between");
        rows::update_parameters(self.device(), self.workspace(), &update)
    }

    fn scalar(&self, index: usize) -> Result<f32> {
        Ok(self.workspace().scalars.read(scalars::WORDS)?.get(index).copied().unwrap_or(f32::NAN))
    }
}

/// Leaves everything as it is.
const NOTHING: Update = Update {
    parameter: Span::NULL,
    bias: Span::NULL,
    temperature_rate: 0.0,
    bias_rate: 0.0,
    bounds: (0.0, 0.0),
};

fn check_one(parameter: &View<'_, f32>) -> Result<()> {
    match parameter.length() {
        1 => Ok(()),
        got => Err(Error::Length { what: "a learnt parameter", got, expected: 1, why: "it is one number" }),
    }
}
