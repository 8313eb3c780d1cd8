//! The loss object: its workspace and its entry points.

use super::arguments::scalars;
use super::columns::Targets;
use super::device::Device;
use super::inputs::{Inputs, bind_mut};
use super::launch::Span;
use super::module::File;
use super::output::Output;
use super::plan::{Hardware, Plan, Sweep};
use super::view::View;
use super::view::{Bound, ViewMut};
use super::workspace::{Purpose, Sizes, Workspace};
use super::{Batch, Gradients, columns, row_negatives, rows, stream, stream_mma};
use crate::problem::check_length;
use crate::{Element, Error, Length, LossConfig, Problem, Reduction, Result};

/// In-batch sampled softmax on a CUDA device. Calls only enqueue work; [`Output`] says what waits.
///
/// The workspace grows when a call asks for more than any before it; [`InBatchLoss::reserve`] does so beforehand.
/// One object serves one stream: calls overwrite what earlier ones left in the workspace.
#[derive(Debug)]
pub struct InBatchLoss {
    device: Device,
    hardware: Hardware,
    config: LossConfig,
    workspace: Workspace,
    /// The same with users and items exchanged, for a symmetric loss.
    exchanged: Workspace,
    /// That of the embeddings that row negatives are taken from.
    pool: Workspace,
    forward: State,
    /// Whether a backward has left gradients of the parameters.
    has_gradient: bool,
}

/// What a backward would find in the workspace.
#[derive(Clone, Copy, Debug)]
enum State {
    /// And the sweep that left O.
    Forward(Problem, Sweep),
    Nothing(&'static str),
}

impl InBatchLoss {
    /// A loss object on a device's stream. Allocates a few bytes.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`], [`Error::Driver`].
    pub fn new(device: &Device, config: LossConfig) -> Result<Self> {
        let workspace = Workspace::new(device)?;
        let mut loss = Self {
            device: device.clone(),
            hardware: device.hardware(),
            config,
            exchanged: Workspace::beside(device, &workspace),
            pool: Workspace::beside(device, &workspace),
            workspace,
            forward: State::Nothing("there was none"),
            has_gradient: false,
        };
        loss.write_parameters()?;
        Ok(loss)
    }

    /// Whether 16-bit embeddings may go through tensor cores, as they do from the start where the device has them.
    /// Without them products of the same embeddings are summed by plain f32 arithmetic and the softmax weights keep f32:
    /// slower by far, and what the tensor cores' results can be compared with. A pending forward is dropped.
    pub fn tensor_cores(&mut self, allowed: bool) {
        self.hardware.tensor_cores = allowed;
        self.forward = State::Nothing("the kernels were chosen anew in between");
    }

    /// The kernels, grids and memory of calls on a problem.
    pub fn plan(&self, problem: &Problem) -> Plan {
        Plan::new(&self.hardware, problem, &self.config)
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
    /// many again per split when the batch is too small to fill the device; for 16-bit embeddings that are normalised,
    /// `2 D` bytes for each row and column. Row negatives take 8 to 24 bytes each and `4 D` bytes a row; a pool, `4 D`
    /// bytes and 8 to 24 for each of its embeddings; hard negatives 8 bytes each, and 8 per split. More than
    /// [`Plan::workspace_bytes`] where buffers at odd addresses would need more.
    pub fn workspace_bytes(&self, problem: &Problem) -> usize {
        self.plan(problem).bytes(&self.sizes_of_all(problem))
    }

    /// Allocates the workspace and loads the kernels for problems up to this one, so that no later call does.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`], [`Error::Ptx`], [`Error::Capturing`].
    pub fn reserve(&mut self, problem: &Problem) -> Result<()> {
        self.forward = State::Nothing("the workspace was reserved in between");
        let sizes = self.sizes_of_all(problem);
        ensure([&mut self.workspace, &mut self.exchanged], &self.config, &sizes)?;
        self.pool.ensure(&Sizes::of_row_negatives(&self.plan(problem), Purpose::Backward))?;
        self.load_kernels(problem)
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
        problem.check_gradients(batch, &self.config, gradients)?;
        self.forward = State::Nothing("a step came in between");
        let sweep = self.enqueue_loss(batch, problem, Purpose::Backward)?;
        self.enqueue_gradients(batch, problem, &sweep, None, gradients)?;
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
        let sweep = self.enqueue_loss(batch, problem, Purpose::Forward)?;
        self.forward = State::Forward(problem, sweep);
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
        problem.check_gradients(batch, &self.config, gradients)?;
        let sweep = match self.forward {
            State::Forward(forward, sweep) if forward.same_but_bank(&problem) => sweep,
            State::Forward(..) => return Err(Error::NoForward("its shape was another")),
            State::Nothing(why) => return Err(Error::NoForward(why)),
        };
        let (expected, why) = match self.config.get_reduction() {
            Reduction::None => (problem.rows, "one for each row: the reduction is None"),
            _ => (1, "the gradient of the scalar loss"),
        };
        check_length("upstream", upstream.as_ref(), expected, why)?;
        self.enqueue_gradients(batch, problem, &sweep, upstream.as_ref(), gradients)?;
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
        self.exchanged.poison()?;
        self.pool.poison()?;
        self.write_parameters()
    }

    /// From the inputs to the reduced loss; the sweep that was made.
    fn enqueue_loss<T: Element>(
        &mut self,
        batch: &Batch<'_, T>,
        problem: Problem,
        purpose: Purpose,
    ) -> Result<Sweep> {
        let (inputs, _guards) = Inputs::bind(&self.device, batch, problem, &self.config)?;
        let plan = self.plan_for(&problem, inputs.aligned(true));
        ensure([&mut self.workspace, &mut self.exchanged], &self.config, &Sizes::of(&plan, purpose))?;
        self.pool.ensure(&Sizes::of_row_negatives(&plan, purpose))?;
        let (device, workspace, config) = (&self.device, &self.workspace, &self.config);
        let sweep = if config.is_symmetric() {
            // No O: both gradients are sums of second sweeps.
            self.enqueue_rows(&inputs.exchanged(), &self.exchanged, &plan, Purpose::Loss, Span::NULL)?;
            let other = Span::from(&self.exchanged.loss);
            self.enqueue_rows(&inputs, workspace, &plan, Purpose::Loss, other)?
        } else {
            self.enqueue_rows(&inputs, workspace, &plan, purpose, Span::NULL)?
        };
        rows::reduce_losses(device, &inputs, workspace, config.get_reduction())?;
        Ok(sweep)
    }

    /// One direction, from its inputs to row losses, averaged with the `other` direction's unless that is null; the sweep
    /// that was made.
    fn enqueue_rows<T: Element>(
        &self,
        inputs: &Inputs<T>,
        workspace: &Workspace,
        plan: &Plan,
        purpose: Purpose,
        other: Span<f32>,
    ) -> Result<Sweep> {
        let device = &self.device;
        let with_output = purpose != Purpose::Loss;
        let sweep = if with_output { plan.forward() } else { plan.loss() };
        columns::prepare(device, inputs, workspace)?;
        rows::prepare(device, inputs, workspace)?;
        if plan.copies_embeddings() {
            stream_mma::scale(device, inputs, workspace)?;
        }
        stream::forward(device, inputs, workspace, &sweep, with_output)?;
        row_negatives::forward(device, inputs, workspace, &self.pool, &sweep, with_output)?;
        rows::merge(device, inputs, workspace, &sweep, with_output)?;
        rows::objective(device, inputs, workspace, other)?;
        Ok(sweep)
    }

    /// From what [`Self::enqueue_loss`] left to the gradients.
    fn enqueue_gradients<T: Element, G: Element>(
        &mut self,
        batch: &Batch<'_, T>,
        problem: Problem,
        forward: &Sweep,
        upstream: Option<&View<'_, f32>>,
        gradients: &mut Gradients<'_, G>,
    ) -> Result<()> {
        let (inputs, _guards) = Inputs::bind(&self.device, batch, problem, &self.config)?;
        let plan = self.plan_for(&problem, inputs.aligned(false));
        // The copies that tensor cores read when normalising are the forward's.
        ensure([&mut self.workspace, &mut self.exchanged], &self.config, &Sizes::of_gradients(&plan))?;
        self.pool.ensure(&Sizes::of_row_negatives_gradients(&plan))?;
        let (device, workspace, config) = (&self.device, &self.workspace, &self.config);
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
        let d_user_log_q = bind_target(device, gradients.user_log_q.as_mut(), "the gradient of user_log_q")?;
        let d_row_negatives =
            bind_target(device, gradients.row_negatives.as_mut(), "the gradient of row negatives")?;
        let d_row_negatives_log_q = bind_target(
            device,
            gradients.row_negatives_log_q.as_mut(),
            "the gradient of row negatives' log_q",
        )?;
        let targets = Targets {
            extra: d_extra.0,
            log_q: d_log_q.0,
            extra_log_q: d_extra_log_q.0,
            ..Targets::embeddings(d_items.0)
        };
        if config.is_symmetric() {
            let of_users = Targets { log_q: d_user_log_q.0, ..Targets::embeddings(d_users.0) };
            return self.enqueue_both(&inputs, &plan, upstream_span, targets, of_users);
        }
        let with_masses = targets.want_masses();

        rows::gradients(device, &inputs, workspace, forward, upstream_span, with_masses, d_users.0)?;
        rows::reduce_terms(device, &inputs, workspace)?;
        let sweep = plan.backward_of(targets.owned(&problem), with_masses);
        stream::backward(device, &inputs, workspace, &sweep, with_masses, None)?;
        columns::gradients(device, &inputs, workspace, &sweep, targets)?;
        let targets = Targets {
            extra: d_row_negatives.0,
            extra_log_q: d_row_negatives_log_q.0,
            ..Targets::embeddings(Span::NULL)
        };
        row_negatives::gradients(device, &inputs, workspace, &self.pool, &plan, targets)
    }

    /// The gradients of a symmetric loss: a second sweep for the items, and one for the users.
    fn enqueue_both<T: Element, G: Element>(
        &self,
        inputs: &Inputs<T>,
        plan: &Plan,
        upstream: Span<f32>,
        of_items: Targets<G>,
        of_users: Targets<G>,
    ) -> Result<()> {
        let Self { device, workspace, exchanged, .. } = self;
        rows::symmetric_coefficients(device, inputs, workspace, exchanged, upstream)?;
        let (sweep, back) = (plan.backward(), inputs.exchanged());
        let temperature_term = Span::from(&workspace.temperature_term);
        let of_items = Targets { temperature_term, log_q_share: inputs.log_q_share(), ..of_items };
        // What goes through scores is in the items' terms already.
        let log_q_share = back.log_q_share();
        let temperature_term = temperature_term.only_if(log_q_share);
        let of_users = Targets { temperature_term, log_q_share, second: true, ..of_users };
        for (inputs, own, other, targets) in
            [(inputs, workspace, exchanged, of_items), (&back, exchanged, workspace, of_users)]
        {
            stream::backward(device, inputs, own, &sweep, targets.want_masses(), Some(other))?;
            columns::gradients(device, inputs, own, &sweep, targets)?;
        }
        rows::reduce_terms(device, inputs, workspace)
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

    fn plan_for(&self, problem: &Problem, aligned: bool) -> Plan {
        Plan::with_alignment(&self.hardware, problem, &self.config, aligned)
    }

    /// Whatever the addresses of the batch.
    fn sizes_of_all(&self, problem: &Problem) -> Sizes {
        let [aligned, not] = [true, false].map(|aligned| Sizes::all(&self.plan_for(problem, aligned)));
        aligned.max(not)
    }

    fn output(&self, problem: &Problem, has_gradient: bool) -> Output<'_> {
        Output::new(&self.workspace, self.config, problem.rows, has_gradient)
    }

    fn write_parameters(&mut self) -> Result<()> {
        let inverse = self.config.temperature().recip();
        self.workspace.scalars.write_word(scalars::INVERSE_TEMPERATURE, inverse.to_bits())?;
        self.workspace.scalars.write_word(scalars::BIAS, self.config.bias().to_bits())
    }

    fn load_kernels(&self, problem: &Problem) -> Result<()> {
        let mut files = vec![File::Rows, File::Columns, File::stream_simt(problem.dtype)];
        let plan = self.plan(problem);
        files.extend([plan.loss(), plan.forward(), plan.backward()].map(|sweep| sweep.file));
        if plan.copies_embeddings() {
            files.push(File::Scale);
        }
        if plan.gathered().is_some() || problem.pool.is_some() {
            files.push(File::RowNegatives);
        }
        self.device.load_kernels(&files)
    }
}

/// Grows the workspaces of as many directions as the loss has.
fn ensure(workspaces: [&mut Workspace; 2], config: &LossConfig, sizes: &Sizes) -> Result<()> {
    let [workspace, exchanged] = workspaces;
    workspace.ensure(sizes)?;
    if config.is_symmetric() { exchanged.ensure(&sizes.without_scalars()) } else { Ok(()) }
}

/// A gradient buffer's span, null if there is none, with what records its use.
fn bind_target<'s, G>(
    device: &'s Device,
    target: Option<&'s mut ViewMut<'_, G>>,
    what: &'static str,
) -> Result<(Span<G>, Option<Bound<'s>>)> {
    let Some(target) = target else { return Ok((Span::NULL, None)) };
    let (span, bound) = bind_mut(device, target, what)?;
    Ok((span, Some(bound)))
}
