//! A temperature that is learnt: by its logarithm, within bounds.

use crate::{Error, Result};

/// A learnt temperature, `tau = exp(-t)` with the parameter `t = log(1/tau)` (CLIP's `logit_scale`, Radford et al. 2021),
/// clamped to a range after every change.
///
/// The logarithm makes a step of the optimiser a factor on tau, whatever its size. What comes out of a loss is
/// `dloss / d(1/tau)`; [`LearnedTemperature::gradient`] turns it into `dloss / dt`.
///
/// ```
/// use inbatch::LearnedTemperature;
/// let mut temperature = LearnedTemperature::new(0.07)?.within(0.01, 1.0)?;
/// let d_inverse_temperature = 0.02; // output.d_inverse_temperature()?
/// temperature.descend(0.1, d_inverse_temperature)?; // or your own optimiser on parameter() and gradient()
/// assert!(temperature.temperature() > 0.07);
/// # Ok::<(), inbatch::Error>(())
/// ```
///
/// On the CPU the next configuration is `config.with_temperature(temperature.temperature())?`. On CUDA
/// `InBatchLoss::descend_temperature` and `InBatchLoss::set_temperature_from` do the same on the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearnedTemperature {
    parameter: f32,
    /// The parameter before it was clamped: later bounds may have room for it.
    wanted: f32,
    /// Of the parameter.
    low: f32,
    high: f32,
}

impl LearnedTemperature {
    /// Starts at `temperature`, clamped to 0.01 and 100 (CLIP stops at 1/tau = 100).
    ///
    /// # Errors
    /// [`Error::Temperature`] unless finite and above 0.
    pub fn new(temperature: f32) -> Result<Self> {
        let (low, high) = (-100f32.ln(), 100f32.ln());
        Self { parameter: 0.0, wanted: 0.0, low, high }.set_parameter(-checked(temperature)?.ln())
    }

    /// Keeps the temperature between `lowest` and `highest`.
    ///
    /// # Errors
    /// [`Error::TemperatureRange`] unless `0 < lowest <= highest`, both finite.
    pub fn within(self, lowest: f32, highest: f32) -> Result<Self> {
        let range = Error::TemperatureRange { lowest, highest };
        let (Ok(low), Ok(high)) = (checked(highest), checked(lowest)) else { return Err(range) };
        if high > low {
            return Err(range);
        }
        Self { low: -low.ln(), high: -high.ln(), ..self }.set_parameter(self.wanted)
    }

    /// tau.
    pub fn temperature(&self) -> f32 {
        (-self.parameter).exp()
    }

    /// `t = log(1/tau)`.
    pub fn parameter(&self) -> f32 {
        self.parameter
    }

    /// The bounds of the parameter: `log(1/highest)` and `log(1/lowest)`.
    pub fn bounds(&self) -> (f32, f32) {
        (self.low, self.high)
    }

    /// `dloss / dt` out of `dloss / d(1/tau)`: the product with 1/tau. At a bound it is not cut off: only the parameter is.
    pub fn gradient(&self, d_inverse_temperature: f32) -> f32 {
        d_inverse_temperature / self.temperature()
    }

    /// Another parameter, clamped.
    ///
    /// # Errors
    /// [`Error::Temperature`] for NaN.
    pub fn set_parameter(mut self, parameter: f32) -> Result<Self> {
        if parameter.is_nan() {
            return Err(Error::Temperature(parameter));
        }
        self.wanted = parameter;
        self.parameter = parameter.max(self.low).min(self.high);
        Ok(self)
    }

    /// One step of gradient descent, `t <- t - rate dloss/dt`, clamped.
    ///
    /// # Errors
    /// [`Error::Temperature`] if the step is NaN; the temperature is then unchanged.
    pub fn descend(&mut self, rate: f32, d_inverse_temperature: f32) -> Result<()> {
        *self = self.set_parameter(self.parameter - rate * self.gradient(d_inverse_temperature))?;
        Ok(())
    }
}

fn checked(temperature: f32) -> Result<f32> {
    let valid = temperature > 0.0 && temperature.is_finite();
    if valid { Ok(temperature) } else { Err(Error::Temperature(temperature)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_factors_and_bounds_hold() {
        let start = LearnedTemperature::new(0.25).unwrap();
        assert_eq!((start.temperature(), start.parameter()), (0.25, 4f32.ln()));
        // f(1/tau) = (1/tau)^2 / 2: df/dt = (1/tau)^2.
        assert_eq!(start.gradient(4.0), 16.0);
        let mut moved = start;
        moved.descend(0.01, 4.0).unwrap();
        assert!((moved.temperature() - 0.25 * 0.16f32.exp()).abs() < 1e-6);
        let mut bounded = start.within(0.2, 0.3).unwrap();
        bounded.descend(1.0, 1e6).unwrap();
        assert!((bounded.temperature() - 0.3).abs() < 1e-6);
        bounded.descend(1.0, -1e6).unwrap();
        assert!((bounded.temperature() - 0.2).abs() < 1e-6);
        // CLIP's bound.
        assert!((LearnedTemperature::new(1e-4).unwrap().temperature() - 0.01).abs() < 1e-7);
        // Bounds that are given later have room for the start.
        let below = LearnedTemperature::new(0.005).unwrap().within(0.001, 1.0).unwrap();
        assert!((below.temperature() - 0.005).abs() < 1e-8);
    }

    #[test]
    fn bad_input() {
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(matches!(LearnedTemperature::new(bad), Err(Error::Temperature(_))), "{bad}");
            let start = LearnedTemperature::new(0.25).unwrap();
            assert!(matches!(start.within(bad, 1.0), Err(Error::TemperatureRange { .. })), "{bad}");
        }
        let mut start = LearnedTemperature::new(0.25).unwrap();
        assert!(matches!(start.within(1.0, 0.5), Err(Error::TemperatureRange { .. })));
        assert!(start.descend(1.0, f32::NAN).is_err());
        assert_eq!(start.temperature(), 0.25);
    }
}
