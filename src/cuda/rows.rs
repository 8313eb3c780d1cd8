//! Launchers of kernels/rows.cu.

use super::arguments;
use super::device::Device;
use super::inputs::Inputs;
use super::launch::{Grid, Span, int, launch, per_dtype};
use super::module::{File, dtype_index};
use super::plan::Sweep;
use super::workspace::Workspace;
use crate::{Element, LossConfig, PositiveCorrection, Problem, Reduction, Result};

const PREPARE: [&str; 3] = per_dtype!("prepare_rows");
/// By embedding type, then by gradient type.
const GRADIENTS: [[&str; 3]; 3] =
    [per_dtype!("row_gradients_f32"), per_dtype!("row_gradients_f16"), per_dtype!("row_gradients_bf16")];

/// Norm and z+ of every row. The columns must be prepared.
pub(super) fn prepare<T: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    config: &LossConfig,
) -> Result<()> {
    let Problem { rows, dim, batch_columns, offset, .. } = inputs.problem;
    let columns = offset + rows;
    let arguments = arguments::PrepareRows {
        users: inputs.users.holds(rows * dim, "users")?,
        items: inputs.items.holds(batch_columns * dim, "items")?,
        bias: Span::from(&workspace.bias).holds(columns, "the column bias")?,
        column_norms: inputs.column_norms(workspace, columns)?,
        inverse_temperature: workspace.inverse_temperature(),
        norms: inputs.row_norms(workspace)?,
        positive: Span::from(&workspace.positive).holds(rows, "z+")?,
        rows: int(rows),
        dim: int(dim),
        offset: int(offset),
        corrected: i32::from(config.get_positive_correction() == PositiveCorrection::Corrected),
    };
    let name = PREPARE[dtype_index(T::DTYPE)];
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::Rows, name, Grid::warps(rows), &arguments) }
}

/// LSE, and O if the sweep made it.
pub(super) fn merge(
    device: &Device,
    problem: &Problem,
    workspace: &Workspace,
    sweep: &Sweep,
    with_output: bool,
) -> Result<()> {
    let partials = sweep.cut.partial_rows();
    let output = Span::from(&workspace.output).only_if(with_output);
    let arguments = arguments::Merge {
        maximum: Span::from(&workspace.maximum).holds(partials, "maximum")?,
        sum: Span::from(&workspace.sum).holds(partials, "sum")?,
        output: output.holds_or_null(sweep.cut.floats(problem.dim), "O")?,
        lse: Span::from(&workspace.lse).holds(problem.rows, "the log-sum-exp")?,
        row_maximum: Span::from(&workspace.row_maximum).holds(problem.rows, "the row maxima")?,
        row_sum: Span::from(&workspace.row_sum).holds(problem.rows, "the row sums")?,
        cut: sweep.cut,
        rows: int(problem.rows),
        dim: int(problem.dim),
    };
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::Rows, "merge_partials", Grid::warps(problem.rows), &arguments) }
}

/// The objective of every row: loss, a, b.
pub(super) fn objective<T>(device: &Device, inputs: &Inputs<T>, workspace: &Workspace) -> Result<()> {
    let rows = inputs.problem.rows;
    let arguments = arguments::Objective {
        lse: Span::from(&workspace.lse).holds(rows, "the log-sum-exp")?,
        maximum: Span::from(&workspace.row_maximum).holds(rows, "the row maxima")?,
        sum: Span::from(&workspace.row_sum).holds(rows, "the row sums")?,
        positive: Span::from(&workspace.positive).holds(rows, "z+")?,
        weights: inputs.weights.holds_or_null(rows, "weights")?,
        loss: Span::from(&workspace.loss).holds(rows, "the row losses")?,
        a: Span::from(&workspace.a).holds(rows, "a")?,
        b: Span::from(&workspace.b).holds(rows, "b")?,
        rows: int(rows),
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
    reduction: Reduction,
    d_users: Span<G>,
) -> Result<()> {
    let Problem { rows, dim, batch_columns, offset, .. } = inputs.problem;
    let per_row = reduction == Reduction::None;
    let columns = offset + rows;
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
        coefficient: Span::from(&workspace.coefficient).holds(rows, "coefficients")?,
        positive_coefficient: Span::from(&workspace.positive_coefficient).holds(rows, "coefficients")?,
        temperature_term: Span::from(&workspace.temperature_term).holds(rows, "temperature terms")?,
        d_users: d_users.holds(rows * dim, "the gradient of users")?,
        cut: forward.cut,
        rows: int(rows),
        dim: int(dim),
        offset: int(offset),
        upstream_per_row: i32::from(per_row),
    };
    let name = GRADIENTS[dtype_index(T::DTYPE)][dtype_index(G::DTYPE)];
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::Rows, name, Grid::warps(rows), &arguments) }
}

/// d(1/tau) from the rows' terms.
pub(super) fn reduce_terms(device: &Device, rows: usize, workspace: &Workspace) -> Result<()> {
    let arguments = arguments::ReduceTerms {
        terms: Span::from(&workspace.temperature_term).holds(rows, "temperature terms")?,
        scalars: workspace.scalars(),
        rows: int(rows),
        padding: 0,
    };
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::Rows, "reduce_terms", Grid::one_block(), &arguments) }
}
