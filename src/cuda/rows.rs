//! Launchers of kernels/rows.cu.

use super::arguments;
use super::device::Device;
use super::inputs::Inputs;
use super::launch::{Grid, Span, int, launch, per_dtype};
use super::module::{File, dtype_index};
use super::plan::Sweep;
use super::workspace::{COUNTS, Workspace};
use crate::config::Link;
use crate::{Element, LogQOrder, Objective, Problem, Reduction, Result};

const PREPARE: [&str; 3] = per_dtype!("prepare_rows");
/// By embedding type, then by gradient type.
const GRADIENTS: [[&str; 3]; 3] = per_dtype!("row_gradients_f32", "row_gradients_f16", "row_gradients_bf16");

/// A `LinkKind` of kernels/arguments.cuh.
pub(super) fn link_kind(link: Link) -> i32 {
    match link {
        Link::Softmax => 0,
        Link::Sigmoid => 1,
    }
}

/// An `ObjectiveKind` of kernels/objective.cuh, and its parameter.
fn objective_kind(objective: Objective) -> (i32, f32) {
    match objective {
        Objective::Softmax => (0, 0.0),
        Objective::AdditiveMargin { margin } => (1, margin),
        Objective::Decoupled => (2, 0.0),
        Objective::CorrectedLogQ => (3, 0.0),
        Objective::Debiased { positive_prior } => (4, positive_prior),
        // The bias lies with the columns.
        Objective::Sigmoid { .. } => (5, 0.0),
    }
}

/// Norm and z+ of every row. The columns must be prepared.
pub(super) fn prepare<T: Element>(device: &Device, inputs: &Inputs<T>, workspace: &Workspace) -> Result<()> {
    let Problem { rows, dim, batch_columns, offset, .. } = inputs.problem;
    let config = &inputs.config;
    let columns = offset + rows;
    let reference = Span::from(&workspace.reference).only_if(config.sweep_features().counts);
    let arguments = arguments::PrepareRows {
        users: inputs.users.holds(rows * dim, "users")?,
        items: inputs.items.holds(batch_columns * dim, "items")?,
        bias: Span::from(&workspace.bias).holds(columns, "the column bias")?,
        column_norms: inputs.column_norms(workspace, columns)?,
        scalars: workspace.scalars(),
        norms: inputs.row_norms(workspace)?,
        positive: Span::from(&workspace.positive).holds(rows, "z+")?,
        reference: reference.holds_or_null(rows, "z+ for ranks")?,
        rows: int(rows),
        dim: int(dim),
        offset: int(offset),
        corrected: i32::from(config.corrects_positive()),
    };
    let name = PREPARE[dtype_index(T::DTYPE)];
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::Rows, name, Grid::warps(rows), &arguments) }
}

/// LSE, and O if the sweep made it. The partials of the rows' own negatives follow the sweep's.
pub(super) fn merge<T>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    sweep: &Sweep,
    with_output: bool,
) -> Result<()> {
    let (problem, config) = (&inputs.problem, &inputs.config);
    let own = problem.row_negatives > 0;
    let swept = sweep.cut.partial_rows();
    let partials = if own { swept + problem.rows } else { swept };
    let output = Span::from(&workspace.output).only_if(with_output);
    let features = config.sweep_features();
    let moment = features.moment && with_output && inputs.corrects();
    let if_moment = |span: Span<f32>, len| span.only_if(moment).holds_or_null(len, "moments");
    let if_counting = |span: Span<u32>, len| span.only_if(features.counts).holds_or_null(len, "counts");
    let row_mass = Span::from(&workspace.row_mass).only_if(features.link == Link::Sigmoid);
    let arguments = arguments::Merge {
        maximum: Span::from(&workspace.maximum).holds(partials, "maximum")?,
        sum: Span::from(&workspace.sum).holds(partials, "sum")?,
        moment: if_moment(Span::from(&workspace.moment), partials)?,
        counts: if_counting(Span::from(&workspace.counts), COUNTS * partials)?,
        output: output.holds_or_null(partials * problem.dim, "O")?,
        lse: Span::from(&workspace.lse).holds(problem.rows, "the log-sum-exp")?,
        row_maximum: Span::from(&workspace.row_maximum).holds(problem.rows, "the row maxima")?,
        row_sum: Span::from(&workspace.row_sum).holds(problem.rows, "the row sums")?,
        row_mass: row_mass.holds_or_null(problem.rows, "the row masses")?,
        row_moment: if_moment(Span::from(&workspace.row_moment), problem.rows)?,
        row_counts: if_counting(Span::from(&workspace.row_counts), COUNTS * problem.rows)?,
        more: if own { i64::try_from(swept).unwrap_or(i64::MAX) } else { -1 },
        cut: sweep.cut,
        rows: int(problem.rows),
        dim: int(problem.dim),
        link: link_kind(features.link),
        padding: 0,
    };
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::Rows, "merge_partials", Grid::warps(problem.rows), &arguments) }
}

/// The objective of every row: loss, a, b. The loss is averaged with `other`, unless that is null.
pub(super) fn objective<T>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    other: Span<f32>,
) -> Result<()> {
    let Problem { rows, offset, batch_columns, .. } = inputs.problem;
    let config = &inputs.config;
    let (kind, parameter) = objective_kind(config.get_objective());
    // The first of the three counts.
    let negatives = Span::from(&workspace.row_counts).only_if(config.sweep_features().counts);
    let corrected_log_q = config.get_objective() == Objective::CorrectedLogQ;
    let bounded = matches!(config.get_objective(), Objective::Debiased { .. });
    let arguments = arguments::Objective {
        lse: Span::from(&workspace.lse).holds(rows, "the log-sum-exp")?,
        maximum: Span::from(&workspace.row_maximum).holds(rows, "the row maxima")?,
        sum: Span::from(&workspace.row_sum).holds(rows, "the row sums")?,
        positive: Span::from(&workspace.positive).holds(rows, "z+")?,
        weights: inputs.weights.holds_or_null(rows, "weights")?,
        negatives: negatives.holds_or_null(rows, "counts")?,
        log_q: inputs.log_q[0].only_if(corrected_log_q).holds_or_null(batch_columns, "log_q")?,
        scalars: workspace.scalars(),
        other: other.holds_or_null(rows, "the other direction's losses")?,
        loss: Span::from(&workspace.loss).holds(rows, "the row losses")?,
        a: Span::from(&workspace.a).holds(rows, "a")?,
        b: Span::from(&workspace.b).holds(rows, "b")?,
        direct: Span::from(&workspace.direct).only_if(bounded).holds_or_null(rows, "terms of 1/tau")?,
        rows: int(rows),
        offset: int(offset),
        objective: kind,
        parameter,
        logq_scale: config.get_logq_scale(),
        padding: 0,
    };
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::Rows, "objective_rows", Grid::threads(rows), &arguments) }
}

/// The scalar loss and what the reduction multiplies rows by.
pub(super) fn reduce_losses<T>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    reduction: Reduction,
) -> Result<()> {
    let rows = inputs.problem.rows;
    let arguments = arguments::ReduceLosses {
        loss: Span::from(&workspace.loss).holds(rows, "the row losses")?,
        weights: inputs.weights.holds_or_null(rows, "weights")?,
        scalars: workspace.scalars(),
        rows: int(rows),
        reduction: match reduction {
            Reduction::Mean => 0,
            Reduction::WeightedMean => 1,
            Reduction::Sum => 2,
            Reduction::None => 3,
        },
    };
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::Rows, "reduce_losses", Grid::one_block(), &arguments) }
}

/// du, and each row's coefficients for the second sweep. `forward` is the sweep that left O.
pub(super) fn gradients<T: Element, G: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    forward: &Sweep,
    upstream: Span<f32>,
    with_log_q: bool,
    d_users: Span<G>,
) -> Result<()> {
    let Problem { rows, dim, batch_columns, offset, .. } = inputs.problem;
    let config = &inputs.config;
    let per_row = config.get_reduction() == Reduction::None;
    let columns = offset + rows;
    let features = config.sweep_features();
    let sigmoid = features.link == Link::Sigmoid;
    let bounded = matches!(config.get_objective(), Objective::Debiased { .. });
    let corrected_log_q = config.get_objective() == Objective::CorrectedLogQ && inputs.corrects();
    let optional = |buffer, wanted, what| Span::<f32>::from(buffer).only_if(wanted).holds_or_null(rows, what);
    let arguments = arguments::RowGradients {
        users: inputs.users.holds(rows * dim, "users")?,
        items: inputs.items.holds(batch_columns * dim, "items")?,
        row_norms: inputs.row_norms(workspace)?,
        column_norms: inputs.column_norms(workspace, columns)?,
        weights: inputs.weights.holds_or_null(rows, "weights")?,
        upstream: upstream.holds_or_null(if per_row { rows } else { 1 }, "upstream")?,
        scalars: workspace.scalars(),
        a: Span::from(&workspace.a).holds(rows, "a")?,
        b: Span::from(&workspace.b).holds(rows, "b")?,
        sum: Span::from(&workspace.row_sum).holds(rows, "the row sums")?,
        output: Span::from(&workspace.output).holds(forward.cut.floats(dim), "O")?,
        direct: optional(&workspace.direct, bounded, "terms of 1/tau")?,
        moment: optional(&workspace.row_moment, features.moment && inputs.corrects(), "moments")?,
        mass: optional(&workspace.row_mass, sigmoid, "the row masses")?,
        bias: Span::from(&workspace.bias).holds(columns, "the column bias")?,
        log_q: inputs.log_q[0].only_if(corrected_log_q).holds_or_null(batch_columns, "log_q")?,
        coefficient: Span::from(&workspace.coefficient).holds(rows, "coefficients")?,
        positive_coefficient: Span::from(&workspace.positive_coefficient).holds(rows, "coefficients")?,
        temperature_term: Span::from(&workspace.temperature_term).holds(rows, "temperature terms")?,
        bias_term: optional(&workspace.bias_term, sigmoid, "bias terms")?,
        log_q_term: optional(&workspace.log_q_term, with_log_q, "terms of log_q")?,
        d_users: d_users.holds(rows * dim, "the gradient of users")?,
        cut: forward.cut,
        rows: int(rows),
        dim: int(dim),
        offset: int(offset),
        upstream_per_row: i32::from(per_row),
        corrected: i32::from(config.corrects_positive()),
        corrected_log_q: i32::from(corrected_log_q),
        inside: i32::from(config.get_logq_order() == LogQOrder::InsideTemperature),
        logq_scale: config.get_logq_scale(),
    };
    let name = GRADIENTS[dtype_index(T::DTYPE)][dtype_index(G::DTYPE)];
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::Rows, name, Grid::warps(rows), &arguments) }
}

/// What both second sweeps of a symmetric loss need of each pair. `items` is the workspace with users and items exchanged.
pub(super) fn symmetric_coefficients<T>(
    device: &Device,
    inputs: &Inputs<T>,
    users: &Workspace,
    items: &Workspace,
    upstream: Span<f32>,
) -> Result<()> {
    let (rows, config) = (inputs.problem.rows, &inputs.config);
    let per_row = config.get_reduction() == Reduction::None;
    let direction = |workspace: &Workspace| -> Result<arguments::Direction> {
        Ok(arguments::Direction {
            a: Span::from(&workspace.a).holds(rows, "a")?,
            b: Span::from(&workspace.b).holds(rows, "b")?,
            sum: Span::from(&workspace.row_sum).holds(rows, "the row sums")?,
            coefficient: Span::from(&workspace.coefficient).holds(rows, "coefficients")?,
            positive_coefficient: Span::from(&workspace.positive_coefficient).holds(rows, "coefficients")?,
            log_q_term: Span::from(&workspace.log_q_term).holds(rows, "terms of log_q")?,
        })
    };
    let arguments = arguments::Symmetric {
        users: direction(users)?,
        items: direction(items)?,
        weights: inputs.weights.holds_or_null(rows, "weights")?,
        upstream: upstream.holds_or_null(if per_row { rows } else { 1 }, "upstream")?,
        scalars: users.scalars(),
        rows: int(rows),
        upstream_per_row: i32::from(per_row),
        corrected: i32::from(config.corrects_positive()),
        inside: i32::from(config.get_logq_order() == LogQOrder::InsideTemperature),
        logq_scale: config.get_logq_scale(),
        padding: 0,
    };
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::Rows, "symmetric_coefficients", Grid::threads(rows), &arguments) }
}

/// d(1/tau) and d(bias) of the sigmoid link from the rows' terms.
pub(super) fn reduce_terms<T>(device: &Device, inputs: &Inputs<T>, workspace: &Workspace) -> Result<()> {
    let (rows, config) = (inputs.problem.rows, &inputs.config);
    let sigmoid = config.sweep_features().link == Link::Sigmoid;
    let bias_terms = Span::from(&workspace.bias_term).only_if(sigmoid);
    let arguments = arguments::ReduceTerms {
        terms: Span::from(&workspace.temperature_term).holds(rows, "temperature terms")?,
        bias_terms: bias_terms.holds_or_null(rows, "bias terms")?,
        scalars: workspace.scalars(),
        rows: int(rows),
        padding: 0,
    };
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::Rows, "reduce_terms", Grid::one_block(), &arguments) }
}

/// Where learnt parameters come from: the caller's own, null for a step of descent at these rates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update {
    pub(super) parameter: Span<f32>,
    pub(super) bias: Span<f32>,
    pub(super) temperature_rate: f32,
    pub(super) bias_rate: f32,
    /// Bounds of log(1/tau).
    pub(super) bounds: (f32, f32),
}

/// The next temperature and bias.
pub(super) fn update_parameters(device: &Device, workspace: &Workspace, update: &Update) -> Result<()> {
    let arguments = arguments::UpdateParameters {
        scalars: workspace.scalars(),
        parameter: update.parameter.holds_or_null(1, "log(1/tau)")?,
        bias: update.bias.holds_or_null(1, "the bias")?,
        temperature_rate: update.temperature_rate,
        bias_rate: update.bias_rate,
        low: update.bounds.0,
        high: update.bounds.1,
    };
    let grid = Grid { threads: 1, ..Grid::one_block() };
    // SAFETY: the scalars are there from the start; the other lengths are checked above.
    unsafe { launch(device, File::Rows, "update_parameters", grid, &arguments) }
}
