//! The loss object: its workspace and its entry points.

use crate::cpu::{Batch, Gradients, View};
use crate::{Element, LossConfig, Problem, Result};

/// In-batch sampled softmax on the CPU.
#[derive(Debug)]
pub struct InBatchLoss {
    config: LossConfig,
}

/// What a call left in the loss object's workspace.
#[derive(Debug)]
pub struct Output<'a> {
    loss: &'a InBatchLoss,
}

impl InBatchLoss {
    /// A loss object; its workspace grows at the first call, or by [`InBatchLoss::reserve`].
    pub fn new(config: LossConfig) -> Result<Self> {
        Ok(Self { config })
    }

    /// The configuration.
    pub fn config(&self) -> &LossConfig {
        &self.config
    }

    /// Allocates the workspace for problems up to this one, so that no later call allocates.
    pub fn reserve(&mut self, _problem: &Problem) -> Result<()> {
        Ok(())
    }

    /// Loss only: no gradients, no workspace for them.
    pub fn evaluate<T: Element>(&mut self, batch: &Batch<'_, T>) -> Result<Output<'_>> {
        Problem::new(batch, &self.config)?;
        Ok(Output { loss: self })
    }

    /// Loss and all gradients.
    pub fn step<T: Element, G: Element>(
        &mut self,
        batch: &Batch<'_, T>,
        gradients: &mut Gradients<'_, G>,
    ) -> Result<Output<'_>> {
        Problem::new(batch, &self.config)?.check_gradients(gradients)?;
        Ok(Output { loss: self })
    }

    /// The forward half: keeps LSE, z+ and O for [`InBatchLoss::backward`].
    pub fn forward<T: Element>(&mut self, batch: &Batch<'_, T>) -> Result<Output<'_>> {
        Problem::new(batch, &self.config)?;
        Ok(Output { loss: self })
    }

    /// The backward half. `upstream` is the gradient of the loss: `[1]`, or `[B]` under
    /// [`crate::Reduction::None`]; `None` means ones.
    pub fn backward<T: Element, G: Element>(
        &mut self,
        batch: &Batch<'_, T>,
        upstream: Option<View<'_, f32>>,
        gradients: &mut Gradients<'_, G>,
    ) -> Result<Output<'_>> {
        let _ = upstream;
        Problem::new(batch, &self.config)?.check_gradients(gradients)?;
        Ok(Output { loss: self })
    }
}

impl Output<'_> {
    /// The reduced loss.
    ///
    /// # Errors
    /// [`crate::Error::NoScalarLoss`] under [`crate::Reduction::None`].
    pub fn loss(&self) -> Result<f32> {
        let _ = self.loss;
        Ok(0.0)
    }

    /// `[B]` weighted row losses.
    pub fn row_losses(&self) -> &[f32] {
        &[]
    }

    /// `[B]` log-sum-exp over the negatives, -inf for a row without any.
    pub fn log_sum_exp(&self) -> &[f32] {
        &[]
    }

    /// dloss / d(1/temperature), after a step or a backward.
    pub fn d_inverse_temperature(&self) -> f32 {
        0.0
    }
}
