//! The loss object: its workspace and its entry points.

use super::arguments::scalars;
use super::columns::Targets;
use super::device::Device;
use super::inputs::Inputs;
use super::launch::Span;
use super::module::File;
use super::output::Output;
use super::plan::Sweep;
use super::view::View;
use super::view::{Bound, ViewMut};
use super::workspace::{Purpose, Sizes, Workspace};
use super::{Batch, Gradients, columns, rows, stream};
use crate::problem::check_length;
use crate::{Dtype, Element, Error, Length, LossConfig, Problem, Reduction, Result};

/// In-batch sampled softmax on a CUDA device. Calls only enqueue work; [`Output`] says what waits.
///
/// The workspace grows when a call asks for more than any before it; [`InBatchLoss::reserve`] does so beforehand.
/// One object serves one stream: calls overwrite what earlier ones left in the workspace.
#[derive(Debug)]
pub struct InBatchLoss {
    device: Device,
    config: LossConfig,
    workspace: Workspace,
    forward: State,
    /// Whether a backward has left gradients of the parameters.
    has_gradient: bool,
}

/// What a backward would find in the workspace.
#[derive(Clone, Copy, Debug)]
enum State {
    Forward(Problem),
    Nothing(&'static str),
}

impl InBatchLoss {
    /// A loss object on a device's stream. Allocates a few bytes.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`], [`Error::Driver`].
    pub fn new(device: &Device, config: LossConfig) -> Result<Self> {
        let workspace = Workspace::new(device)?;
        let forward = State::Nothing("there was none");
        let mut loss = Self { device: device.clone(), config, workspace, forward, has_gradient: false };
        loss.write_parameters()?;
        Ok(loss)
    }

    /// The configuration.
    pub fn config(&self) -> &LossConfig {
        &self.config
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Another configuration from the next call on; the workspace is kept. A pending forward is dropped.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn set_config(&mut self, config: LossConfig) -> Result<()> {
        self.config = config;
        self.forward = State::Nothing("the configuration was changed in between");
        self.has_gradient = false;
        self.write_parameters()
    }

    /// Enqueues a change of the temperature, which lives in device memory: steps captured in a graph see it at
    /// their next replay. A pending forward is dropped.
    ///
    /// # Errors
    /// [`Error::Temperature`], [`Error::Driver`].
    pub fn set_temperature(&mut self, temperature: f32) -> Result<()> {
        self.set_config(self.config.with_temperature(temperature)?)
    }

    /// Device bytes that calls on a problem need beside inputs and outputs, known before anything is allocated.
    ///
    /// `O((B + N) D)`: 8 to 32 bytes a column, some 60 a row, `4 D` bytes for each row and gradient column, as
    /// many again per split when the batch is too small to fill the device.
    pub fn workspace_bytes(&self, problem: &Problem) -> usize {
        Sizes::all(problem, &self.config, self.device.multiprocessors()).bytes()
    }

    /// Allocates the workspace and loads the kernels for problems up to this one, so that no later call does.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`], [`Error::Ptx`], [`Error::Capturing`].
    pub fn reserve(&mut self, problem: &Problem) -> Result<()> {
        self.forward = State::Nothing("the workspace was reserved in between");
        let sizes = Sizes::all(problem, &self.config, self.device.multiprocessors());
        self.workspace.ensure(&sizes)?;
        self.load_kernels(problem.dtype)
    }

    /// Loss only: no gradients, no workspace for them.
    ///
    /// # Errors
    /// What [`Problem::new`] finds, and what the device says.
    pub fn evaluate<T: Element>(&mut self, batch: &Batch<'_, T>) -> Result<Output<'_>> {
        let problem = Problem::new(batch, &self.config)?;
        self.forward = State::Nothing("an evaluation came in between");
        self.enqueue_loss(batch, problem, Purpose::Loss)?;
        Ok(self.output(&problem, false))
    }

    /// Loss and all gradients. Gradient buffers are overwritten.
    ///
    /// # Errors
    /// As [`InBatchLoss::evaluate`], and what [`Problem::check_gradients`] finds.
    pub fn step<T: Element, G: Element>(
        &mut self,
        batch: &Batch<'_, T>,
        gradients: &mut Gradients<'_, G>,
    ) -> Result<Output<'_>> {
        let problem = Problem::new(batch, &self.config)?;
        problem.check_gradients(batch, gradients)?;
        self.forward = State::Nothing("a step came in between");
        self.enqueue_loss(batch, problem, Purpose::Backward)?;
        self.enqueue_gradients(batch, problem, None, gradients)?;
        self.has_gradient = true;
        Ok(self.output(&problem, true))
    }

    /// The forward half: keeps LSE, z+ and O for [`InBatchLoss::backward`].
    ///
    /// # Errors
    /// As [`InBatchLoss::evaluate`].
    pub fn forward<T: Element>(&mut self, batch: &Batch<'_, T>) -> Result<Output<'_>> {
        let problem = Problem::new(batch, &self.config)?;
        self.forward = State::Nothing("the last forward failed");
        self.enqueue_loss(batch, problem, Purpose::Forward)?;
        self.forward = State::Forward(problem);
        Ok(self.output(&problem, false))
    }

    /// The backward half, as often as wanted after one forward. `batch` is the forward's; its bank is not read
    /// again, so pushing in between is legal. `upstream` is the gradient of the loss: `[1]`, or `[B]` under
    /// [`Reduction::None`]; `None` means ones.
    ///
    /// # Errors
    /// [`Error::NoForward`] unless a forward of the same shape is pending; as [`InBatchLoss::step`].
    pub fn backward<T: Element, G: Element>(
        &mut self,
        batch: &Batch<'_, T>,
        upstream: Option<View<'_, f32>>,
        gradients: &mut Gradients<'_, G>,
    ) -> Result<Output<'_>> {
        let problem = Problem::new(batch, &self.config)?;
        problem.check_gradients(batch, gradients)?;
        match self.forward {
            State::Forward(forward) if forward.same_but_bank(&problem) => {}
            State::Forward(_) => return Err(Error::NoForward("its shape was another")),
            State::Nothing(why) => return Err(Error::NoForward(why)),
        }
        let (expected, why) = match self.config.get_reduction() {
            Reduction::None => (problem.rows, "one for each row: the reduction is None"),
            _ => (1, "the gradient of the scalar loss"),
        };
        check_length("upstream", upstream.as_ref(), expected, why)?;
        self.workspace.ensure(&self.sizes(&problem, Purpose::Backward))?;
        self.enqueue_gradients(batch, problem, upstream.as_ref(), gradients)?;
        self.has_gradient = true;
        Ok(self.output(&problem, true))
    }

    /// Fills the workspace with NaN patterns, to show in tests that no call reads what an earlier one left. A
    /// pending forward is dropped.
    #[doc(hidden)]
    pub fn poison_workspace(&mut self) -> Result<()> {
        self.forward = State::Nothing("the workspace was poisoned");
        self.has_gradient = false;
        self.workspace.poison()?;
        self.write_parameters()
    }

    /// From the inputs to the reduced loss.
    fn enqueue_loss<T: Element>(
        &mut self,
        batch: &Batch<'_, T>,
        problem: Problem,
        purpose: Purpose,
    ) -> Result<()> {
        self.workspace.ensure(&self.sizes(&problem, purpose))?;
        let (device, workspace, config) = (&self.device, &self.workspace, &self.config);
        let with_output = purpose != Purpose::Loss;
        let sweep = Sweep::forward(&problem, with_output, device.multiprocessors());
        let (inputs, _guards) = Inputs::bind(device, batch, problem, config)?;
        columns::prepare(device, &inputs, workspace, config)?;
        rows::prepare(device, &inputs, workspace, config)?;
        stream::forward(device, &inputs, workspace, config, &sweep, with_output)?;
        rows::merge(device, &inputs, workspace, config, &sweep, with_output)?;
        rows::objective(device, &inputs, workspace, config)?;
        rows::reduce_losses(device, &inputs, workspace, config.get_reduction())
    }

    /// From what [`Self::enqueue_loss`] left to the gradients.
    fn enqueue_gradients<T: Element, G: Element>(
        &self,
        batch: &Batch<'_, T>,
        problem: Problem,
        upstream: Option<&View<'_, f32>>,
        gradients: &mut Gradients<'_, G>,
    ) -> Result<()> {
        let (device, workspace, config) = (&self.device, &self.workspace, &self.config);
        let (inputs, _guards) = Inputs::bind(device, batch, problem, config)?;
        let upstream = upstream.map(|view| view.bind(device, "upstream").map(|bound| (bound, view.length())));
        let upstream = upstream.transpose()?;
        let upstream_span =
            upstream.as_ref().map_or(Span::NULL, |(bound, len)| Span::new(bound.pointer, *len));
        let d_users = bind_target(device, Some(&mut gradients.users), "the gradient of users")?;
        let d_items = bind_target(device, Some(&mut gradients.items), "the gradient of items")?;
        let d_extra = bind_target(device, gradients.extra.as_mut(), "the gradient of extra")?;
        let d_log_q = bind_target(device, gradients.log_q.as_mut(), "the gradient of log_q")?;
        let d_extra_log_q =
            bind_target(device, gradients.extra_log_q.as_mut(), "the gradient of extra log_q")?;
        let targets =
            Targets { items: d_items.0, extra: d_extra.0, log_q: d_log_q.0, extra_log_q: d_extra_log_q.0 };
        let with_masses = targets.want_masses();

        rows::gradients(device, &inputs, workspace, config, upstream_span, with_masses, d_users.0)?;
        rows::reduce_terms(device, problem.rows, workspace, config)?;
        let sweep = Sweep::backward(&problem, targets.owned(&problem), device.multiprocessors());
        stream::backward(device, &inputs, workspace, config, &sweep, with_masses)?;
        columns::gradients(device, &inputs, workspace, config, &sweep, targets)
    }

    pub(super) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    pub(super) fn has_gradient(&self) -> bool {
        self.has_gradient
    }

    pub(super) fn drop_forward(&mut self, why: &'static str) {
        self.forward = State::Nothing(why);
    }

    fn sizes(&self, problem: &Problem, purpose: Purpose) -> Sizes {
        Sizes::of(problem, &self.config, purpose, self.device.multiprocessors())
    }

    fn output(&self, problem: &Problem, has_gradient: bool) -> Output<'_> {
        Output::new(&self.workspace, self.config, problem.rows, has_gradient)
    }

    fn write_parameters(&mut self) -> Result<()> {
        let inverse = self.config.temperature().recip();
        self.workspace.scalars.write_word(scalars::INVERSE_TEMPERATURE, inverse.to_bits())?;
        self.workspace.scalars.write_word(scalars::BIAS, self.config.bias().to_bits())
    }

    fn load_kernels(&self, dtype: Dtype) -> Result<()> {
        let mut modules = self.device.modules();
        for file in [File::Rows, File::Columns, File::stream(dtype)] {
            if !modules.is_loaded(file) {
                self.device.check_not_capturing("loading kernels")?;
                modules.load(file)?;
            }
        }
        Ok(())
    }
}

/// A gradient buffer's span, null if there is none, with what records its use.
fn bind_target<'s, G>(
    device: &'s Device,
    target: Option<&'s mut ViewMut<'_, G>>,
    what: &'static str,
) -> Result<(Span<G>, Option<Bound<'s>>)> {
    let Some(target) = target else { return Ok((Span::NULL, None)) };
    let len = target.length();
    let bound = target.bind(device, what)?;
    Ok((Span::new(bound.pointer, len), Some(bound)))
}
