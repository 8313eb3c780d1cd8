//! Losses over a class table on the device, and the launchers of kernels/table.cu.

use super::arguments::{self, Cut, scalars, table_state};
use super::buffer::Buffer;
use super::device::Device;
use super::inputs::{Guards, Inputs, Labels, bind, bind_mut};
use super::launch::{Grid, Span, int, launch, per_dtype};
use super::module::{File, dtype_index};
use super::output::read_loss;
use super::plan::Plan;
use super::view::{View, ViewMut, view_of};
use super::workspace::{Purpose, Sizes, Workspace};
use super::{TableBatch, TableGradients, rows, stream};
use crate::table::{TableConfig, TableShape};
use crate::{Dtype, Element, Error, LossConfig, Reduction, Result};

const GATHER: [&str; 3] = per_dtype!("table_gather");
const ROW_GRADIENTS: [&str; 3] = per_dtype!("table_row_gradients");
const CLASS_GRADIENTS: [&str; 3] = per_dtype!("table_class_gradients");

const WHAT: &str = "the table loss's workspace";

/// Sampled softmax, NCE or negative sampling over a class table; see [`crate::table`]. Calls only enqueue work.
///
/// What the CPU refuses and the device cannot before anybody waits: a class outside the table becomes a row of NaN, which
/// the loss shows, and [`TableLoss::unknown_ids`] counts it; an expected count of 0 makes the loss infinite or NaN; a class
/// that is twice among a row's labels counts twice. Each further true class of a row costs one comparison of ids for each
/// sampled class and sweep where accidental hits are removed.
#[derive(Debug)]
pub struct TableLoss {
    device: Device,
    config: TableConfig,
    sweeps: Workspace,
    rows: Buffer<f32>,
    label_rows: Buffer<f32>,
    sampled_rows: Buffer<f32>,
    ids: Buffer<i64>,
    pulls: Buffer<f32>,
    places: Buffer<u32>,
    state: Buffer<u64>,
}

/// A call's results, in the loss object's workspace until its next call.
#[derive(Debug)]
pub struct TableOutput<'a> {
    of: &'a TableLoss,
    rows: usize,
    has_gradient: bool,
}

impl TableOutput<'_> {
    /// Waits, then returns the reduced loss.
    ///
    /// # Errors
    /// [`Error::NoScalarLoss`] under [`Reduction::None`], [`Error::WeightSum`] for a weighted mean whose weights have no
    /// usable sum (the gradients are then 0).
    pub fn loss(&self) -> Result<f32> {
        if self.of.config.reduction == Reduction::None {
            return Err(Error::NoScalarLoss);
        }
        read_loss(&self.of.sweeps, self.of.config.reduction)
    }

    /// Waits, then returns the `[rows]` losses, times the row weights.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn row_losses(&self) -> Result<Vec<f32>> {
        self.of.sweeps.loss.read(self.rows)
    }

    /// `[rows]` losses on the device.
    pub fn device_row_losses(&self) -> View<'_, f32> {
        view_of(self.of.sweeps.loss.pointer(), self.rows)
    }

    /// Waits, then returns how many rows of the sparse gradient a step has written; 0 after an evaluation.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn unique(&self) -> Result<usize> {
        if !self.has_gradient {
            return Ok(0);
        }
        Ok(usize::try_from(self.of.word(table_state::UNIQUE)?).unwrap_or(usize::MAX))
    }
}

/// The sweeps read rows of a multiple of so many f32.
const ROW_FLOATS: usize = 4;

/// Elements of the buffers that stand around the sweeps.
struct Lengths {
    rows: usize,
    label_rows: usize,
    sampled_rows: usize,
    labels: usize,
    named: usize,
}

impl Lengths {
    fn of(shape: &TableShape) -> Self {
        let width = shape.problem(ROW_FLOATS).dim;
        let labels = shape.rows.saturating_mul(shape.num_true);
        Self {
            rows: shape.rows.saturating_mul(width),
            label_rows: labels.saturating_mul(width),
            sampled_rows: shape.sampled.saturating_mul(width),
            labels,
            named: shape.named(),
        }
    }

    fn bytes(&self) -> usize {
        let floats = [self.rows, self.label_rows, self.sampled_rows, self.labels];
        let floats = floats.into_iter().fold(0usize, usize::saturating_add);
        let of_names = self.named.saturating_mul(size_of::<i64>() + size_of::<u32>());
        floats
            .saturating_mul(size_of::<f32>())
            .saturating_add(of_names)
            .saturating_add(table_state::WORDS * size_of::<u64>())
    }
}

/// What one call launches with: arguments, and the inputs as the sweeps take them.
struct Call {
    arguments: arguments::Table,
    inputs: Inputs<f32>,
    plan: Plan,
}

impl TableLoss {
    /// A loss object on a device's stream; its workspace grows at the first call.
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`], [`Error::Driver`].
    pub fn new(device: &Device, config: TableConfig) -> Result<Self> {
        let mut sweeps = Workspace::new(device)?;
        sweeps.scalars.write_word(scalars::INVERSE_TEMPERATURE, 1f32.to_bits())?;
        sweeps.scalars.write_word(scalars::BIAS, 0)?;
        let mut state = Buffer::new(device, table_state::WORDS, WHAT)?;
        state.fill(0)?;
        Ok(Self {
            device: device.clone(),
            config,
            sweeps,
            rows: Buffer::empty(device),
            label_rows: Buffer::empty(device),
            sampled_rows: Buffer::empty(device),
            ids: Buffer::empty(device),
            pulls: Buffer::empty(device),
            places: Buffer::empty(device),
            state,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &TableConfig {
        &self.config
    }

    /// Device bytes that calls of this shape need beside inputs and outputs, known before anything is allocated.
    pub fn workspace_bytes(&self, shape: &TableShape) -> usize {
        let sweeps = self.with_hit_ids(shape, Sizes::all(&self.plan(shape)));
        sweeps.bytes().saturating_add(Lengths::of(shape).bytes())
    }

    /// Allocates the workspace and loads the kernels for shapes up to this one, so that no later call does. (The kernels that
    /// gather and write other types than f32 are in the same file.)
    ///
    /// # Errors
    /// [`Error::OutOfDeviceMemory`], [`Error::Ptx`], [`Error::Capturing`].
    pub fn reserve(&mut self, shape: &TableShape) -> Result<()> {
        let sizes = Sizes::all(&self.plan(shape));
        self.ensure(shape, sizes)?;
        self.device.load_kernels(&[File::Table, File::Rows, File::stream_simt(Dtype::F32)])
    }

    /// Loss only.
    ///
    /// # Errors
    /// What does not fit, as [`crate::cpu::TableLoss::evaluate`]; what the device says.
    pub fn evaluate<T: Element>(&mut self, batch: &TableBatch<'_, T>) -> Result<TableOutput<'_>> {
        let shape = TableShape::new(batch, &self.config)?;
        let plan = self.plan(&shape);
        self.ensure(&shape, Sizes::of(&plan, Purpose::Loss))?;
        self.enqueue_loss(batch, &shape, plan, Purpose::Loss, &mut Guards::new())?;
        Ok(TableOutput { of: self, rows: shape.rows, has_gradient: false })
    }

    /// Loss and gradients. Rows of the table's gradient beyond [`TableOutput::unique`] are not written.
    ///
    /// # Errors
    /// As [`TableLoss::evaluate`], and [`Error::Length`] or [`Error::UnexpectedBiasGradient`] for the gradient buffers.
    pub fn step<T: Element, G: Element>(
        &mut self,
        batch: &TableBatch<'_, T>,
        gradients: &mut TableGradients<'_, G>,
    ) -> Result<TableOutput<'_>> {
        let shape = TableShape::new(batch, &self.config)?;
        shape.check_gradients(gradients)?;
        let plan = self.plan(&shape);
        self.ensure(&shape, Sizes::of(&plan, Purpose::Backward))?;
        let mut guards = Guards::new();
        let call = self.enqueue_loss(batch, &shape, plan, Purpose::Backward, &mut guards)?;
        self.enqueue_gradients(call, &shape, gradients)?;
        Ok(TableOutput { of: self, rows: shape.rows, has_gradient: true })
    }

    /// Waits, then returns how many ids outside the table calls have met so far.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn unknown_ids(&self) -> Result<u64> {
        self.word(table_state::UNKNOWN)
    }

    fn word(&self, index: usize) -> Result<u64> {
        Ok(self.state.read(table_state::WORDS)?.get(index).copied().unwrap_or(0))
    }

    fn plan(&self, shape: &TableShape) -> Plan {
        let config = LossConfig::of_link(self.config.link);
        Plan::new(&self.device.hardware(), &shape.problem(ROW_FLOATS), &config)
    }

    /// Room for the sweeps, and for what stands around them.
    fn ensure(&mut self, shape: &TableShape, sweeps: Sizes) -> Result<()> {
        self.sweeps.ensure(&self.with_hit_ids(shape, sweeps))?;
        let lengths = Lengths::of(shape);
        self.rows.ensure(lengths.rows, WHAT)?;
        self.label_rows.ensure(lengths.label_rows, WHAT)?;
        self.sampled_rows.ensure(lengths.sampled_rows, WHAT)?;
        self.ids.ensure(lengths.named, WHAT)?;
        self.places.ensure(lengths.named, WHAT)?;
        self.pulls.ensure(lengths.labels, WHAT)
    }

    /// The sampled classes, then each row's first label.
    fn with_hit_ids(&self, shape: &TableShape, sweeps: Sizes) -> Sizes {
        let wanted = self.config.remove_accidental_hits;
        sweeps.with_item_ids(if wanted { shape.sampled.saturating_add(shape.rows) } else { 0 })
    }

    /// Gathers, sweeps, and makes the row losses and their reduction.
    fn enqueue_loss<'s, T: Element>(
        &'s self,
        batch: &'s TableBatch<'_, T>,
        shape: &TableShape,
        plan: Plan,
        purpose: Purpose,
        guards: &mut Guards<'s>,
    ) -> Result<Call> {
        let (problem, config) = (*plan.problem(), *plan.config());
        let arguments = self.arguments(batch, shape, problem.dim, guards)?;
        let hit_ids = Span::from(&self.sweeps.item_ids).only_if(self.config.remove_accidental_hits);
        let labels = Labels {
            ids: Span::new(arguments.labels, shape.rows * shape.num_true),
            num_true: shape.num_true,
        };
        let row_weights = Span::new(arguments.row_weights, shape.rows);
        let inputs = Inputs::negatives(
            problem,
            config,
            Span::from(&self.rows),
            Span::from(&self.sampled_rows),
            hit_ids,
            if shape.num_true > 1 { labels } else { Labels::NONE },
            row_weights.only_if(arguments.row_weights != 0),
        );
        let call = Call { arguments, inputs, plan };
        let (device, workspace) = (&self.device, &self.sweeps);
        let all = shape.rows + shape.named();
        // SAFETY: `arguments` has checked every length; ids are compared with the table before they are used.
        unsafe { launch(device, File::Table, GATHER[dtype_index(T::DTYPE)], Grid::warps(all), &arguments)? };
        let with_output = purpose != Purpose::Loss;
        let sweep = if with_output { plan.forward() } else { plan.loss() };
        stream::forward(device, &call.inputs, workspace, &sweep, with_output)?;
        rows::merge(device, &call.inputs, workspace, &sweep, with_output)?;
        // SAFETY: `arguments` has checked every length.
        unsafe { launch(device, File::Table, "table_objective", Grid::warps(shape.rows), &arguments)? };
        rows::reduce_losses(device, &call.inputs, workspace, self.config.reduction)?;
        Ok(call)
    }

    /// The gradients of the inputs, of the sampled classes' columns, and of each class that was named.
    fn enqueue_gradients<G: Element>(
        &self,
        mut call: Call,
        shape: &TableShape,
        gradients: &mut TableGradients<'_, G>,
    ) -> Result<()> {
        let device = &self.device;
        let (named, rows) = (shape.named(), shape.rows);
        let d_inputs = target(device, &mut gradients.inputs, rows * shape.dim, "the gradient of inputs")?;
        let d_ids = target(device, &mut gradients.ids, named, "the gradient's ids")?;
        let d_weights = target(device, &mut gradients.weights, named * shape.dim, "the gradient of weights")?;
        let biases = gradients.biases.as_mut();
        let d_biases = biases.map(|b| target(device, b, named, "the gradient of biases")).transpose()?;
        let sweep = call.plan.backward();
        let partials = sweep.cut.floats(call.inputs.problem.dim);
        call.arguments.d_inputs = d_inputs.0;
        call.arguments.d_ids = d_ids.0;
        call.arguments.d_weights = d_weights.0;
        call.arguments.d_biases = d_biases.as_ref().map_or(0, |target| target.0);
        call.arguments.coefficient = Span::from(&self.sweeps.coefficient).holds(rows, "coefficients")?;
        call.arguments.output = Span::from(&self.sweeps.output).holds(rows * call.inputs.problem.dim, "O")?;
        call.arguments.partials = Span::from(&self.sweeps.partials).holds(partials, "partials")?;
        call.arguments.cut = sweep.cut;

        let arguments = &call.arguments;
        let dtype = dtype_index(G::DTYPE);
        // SAFETY: every length that the kernels read or write is checked above and in `arguments`.
        unsafe { launch(device, File::Table, ROW_GRADIENTS[dtype], Grid::warps(rows), arguments)? };
        stream::backward(device, &call.inputs, &self.sweeps, &sweep, false, None)?;
        // SAFETY: as above; places are below the number of names.
        unsafe {
            launch(device, File::Table, "table_first", Grid::warps(named), arguments)?;
            launch(device, File::Table, "table_places", Grid::one_block(), arguments)?;
            launch(device, File::Table, CLASS_GRADIENTS[dtype], Grid::warps(named), arguments)
        }
    }

    /// Everything that is known before the gradients.
    fn arguments<'s, T: Element>(
        &'s self,
        batch: &'s TableBatch<'_, T>,
        shape: &TableShape,
        width: usize,
        guards: &mut Guards<'s>,
    ) -> Result<arguments::Table> {
        let device = &self.device;
        let labels = shape.rows * shape.num_true;
        let subtract = self.config.subtract_log_q;
        let workspace = &self.sweeps;
        let hit_ids = Span::from(&workspace.item_ids).only_if(self.config.remove_accidental_hits);
        Ok(arguments::Table {
            inputs: source(device, Some(&batch.inputs), shape.rows * shape.dim, "inputs", guards)?,
            weights: source(device, Some(&batch.weights), shape.classes * shape.dim, "weights", guards)?,
            biases: source(device, batch.biases.as_ref(), shape.classes, "biases", guards)?,
            labels: source(device, Some(&batch.labels), labels, "labels", guards)?,
            sampled: source(device, Some(&batch.sampled), shape.sampled, "sampled", guards)?,
            label_log_q: source(
                device,
                batch.label_log_q.as_ref().filter(|_| subtract),
                labels,
                "the labels' log_q",
                guards,
            )?,
            sampled_log_q: source(
                device,
                batch.sampled_log_q.as_ref().filter(|_| subtract),
                shape.sampled,
                "the sampled classes' log_q",
                guards,
            )?,
            row_weights: source(device, batch.row_weights.as_ref(), shape.rows, "row_weights", guards)?,
            state: Span::from(&self.state).holds(table_state::WORDS, "the state")?,
            rows: Span::from(&self.rows).holds(shape.rows * width, "the rows of the inputs")?,
            label_rows: Span::from(&self.label_rows).holds(labels * width, "the rows of the labels")?,
            sampled_rows: Span::from(&self.sampled_rows).holds(shape.sampled * width, "the sampled rows")?,
            ids: Span::from(&self.ids).holds(shape.named(), "ids")?,
            hit_ids: hit_ids.holds_or_null(shape.sampled + shape.rows, "ids of hits")?,
            bias: Span::from(&workspace.bias).holds(shape.sampled, "the column bias")?,
            lse: Span::from(&workspace.lse).holds(shape.rows, "the log-sum-exp")?,
            maximum: Span::from(&workspace.row_maximum).holds(shape.rows, "the row maxima")?,
            sum: Span::from(&workspace.row_sum).holds(shape.rows, "the row sums")?,
            output: 0,
            loss: Span::from(&workspace.loss).holds(shape.rows, "the row losses")?,
            a: Span::from(&workspace.a).holds(shape.rows, "a")?,
            pulls: Span::from(&self.pulls).holds(labels, "b")?,
            coefficient: 0,
            partials: 0,
            scalars: workspace.scalars(),
            places: Span::from(&self.places).holds(shape.named(), "places")?,
            d_inputs: 0,
            d_ids: 0,
            d_weights: 0,
            d_biases: 0,
            classes: shape.classes as u64,
            batch: int(shape.rows),
            num_true: int(shape.num_true),
            sampled_count: int(shape.sampled),
            dim: int(shape.dim),
            width: int(width),
            link: rows::link_kind(self.config.link),
            cut: Cut::splits(0, 1, 0),
        })
    }
}

/// A bound input's address, null if there is none.
fn source<'s, E>(
    device: &'s Device,
    view: Option<&'s View<'_, E>>,
    len: usize,
    what: &'static str,
    guards: &mut Guards<'s>,
) -> Result<u64> {
    view.map_or(Ok(0), |view| bind(device, view, what, guards)?.holds(len, what))
}

/// A bound output's address, with what records its use.
fn target<'s, E>(
    device: &'s Device,
    view: &'s mut ViewMut<'_, E>,
    len: usize,
    what: &'static str,
) -> Result<(u64, super::view::Bound<'s>)> {
    let (span, bound) = bind_mut(device, view, what)?;
    Ok((span.holds(len, what)?, bound))
}
