//! Launchers of the row-owner stream on tensor cores, kernels/stream_mma.cuh, and of the copies it reads when
//! normalising, kernels/scale.cu.

use super::arguments;
use super::device::Device;
use super::inputs::Inputs;
use super::launch::{Grid, Span, int, launch};
use super::module::{File, dtype_index};
use super::plan::Sweep;
use super::stream::grid;
use super::workspace::Workspace;
use crate::{Element, Problem, Result};

/// By the order of `dtype_index`; f32 has no copies.
const SCALE: [&str; 3] = ["", "scale_embeddings_f16", "scale_embeddings_bf16"];

/// Copies of users and columns, scaled by the first factors of their norms. Both must be prepared.
pub(super) fn scale<T: Element>(device: &Device, inputs: &Inputs<T>, workspace: &Workspace) -> Result<()> {
    let Problem { rows, dim, .. } = inputs.problem;
    let count = inputs.problem.columns();
    let columns = arguments::Scale {
        columns: inputs.columns(true)?,
        norms: inputs.column_norms(workspace, count)?,
        bias: Span::from(&workspace.bias).holds(count, "the column bias")?,
        to: Span::from(&workspace.scaled_columns).holds(count * dim, "scaled columns")?,
    };
    let users = arguments::Scale {
        columns: arguments::Columns {
            batch: inputs.users.holds(rows * dim, "users")?,
            extra: 0,
            bank: 0,
            batch_count: int(rows),
            extra_count: 0,
            bank_count: 0,
            dim: int(dim),
        },
        norms: inputs.row_norms(workspace)?,
        bias: 0,
        to: Span::from(&workspace.scaled_users).holds(rows * dim, "scaled users")?,
    };
    let name = SCALE[dtype_index(T::DTYPE)];
    for (arguments, count) in [(users, rows), (columns, count)] {
        // SAFETY: every length that the kernel reads or writes is checked above.
        unsafe { launch(device, File::Scale, name, Grid::warps(count), &arguments) }?;
    }
    Ok(())
}

/// The first sweep: partials (m, l), and O if `with_output`.
pub(super) fn forward<T: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    sweep: &Sweep,
    with_output: bool,
) -> Result<()> {
    let output = Span::from(&workspace.output).only_if(with_output);
    let arguments = arguments::Mma {
        maximum: Span::from(&workspace.maximum).holds(sweep.cut.partial_rows(), "maximum")?,
        sum: Span::from(&workspace.sum).holds(sweep.cut.partial_rows(), "sum")?,
        output: output.holds(if with_output { sweep.cut.floats(inputs.problem.dim) } else { 0 }, "O")?,
        ..common(inputs, workspace, sweep, true)?
    };
    // SAFETY: `common` and the lines above have checked every length that the kernel reads or writes.
    unsafe { launch(device, sweep.file, sweep.kernel, grid(sweep), &arguments) }
}

/// The second sweep: partial sums of the gradient columns' dv, from the saved maxima and coefficients.
pub(super) fn backward<T: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    sweep: &Sweep,
) -> Result<()> {
    let rows = inputs.problem.rows;
    let arguments = arguments::Mma {
        reference: Span::from(&workspace.row_maximum).holds(rows, "the row maxima")?,
        coefficient: Span::from(&workspace.coefficient).holds(rows, "the row coefficients")?,
        output: Span::from(&workspace.partials).holds(sweep.cut.floats(inputs.problem.dim), "partials")?,
        ..common(inputs, workspace, sweep, false)?
    };
    // SAFETY: `common` and the lines above have checked every length that the kernel reads or writes.
    unsafe { launch(device, sweep.file, sweep.kernel, grid(sweep), &arguments) }
}

/// What both sweeps read; the bank only in the first. When normalising, embeddings are read from their scaled copies.
fn common<T: Element>(
    inputs: &Inputs<T>,
    workspace: &Workspace,
    sweep: &Sweep,
    with_bank: bool,
) -> Result<arguments::Mma> {
    let problem = &inputs.problem;
    let Problem { rows, dim, batch_columns, extra_columns, .. } = *problem;
    let count = if with_bank { problem.columns() } else { problem.gradient_columns() };
    let mut columns = inputs.columns(with_bank)?;
    let mut users = inputs.users.holds(rows * dim, "users")?;
    if inputs.config.normalizes() {
        let row = (dim * size_of::<T>()) as u64;
        users = Span::from(&workspace.scaled_users).holds(rows * dim, "scaled users")?;
        columns.batch = Span::from(&workspace.scaled_columns).holds(count * dim, "scaled columns")?;
        columns.extra = columns.batch + batch_columns as u64 * row;
        columns.bank = columns.extra + extra_columns as u64 * row;
    }
    Ok(arguments::Mma {
        columns,
        users,
        row_norms: inputs.row_norms(workspace)?,
        column_norms: inputs.column_norms(workspace, count)?,
        bias: Span::from(&workspace.bias).holds(count, "the column bias")?,
        item_ids: inputs.column_ids(workspace, count)?,
        user_ids: inputs.user_ids.holds_or_null(rows, "user ids")?,
        scalars: workspace.scalars(),
        reference: 0,
        coefficient: 0,
        maximum: 0,
        sum: 0,
        output: 0,
        cut: sweep.cut,
        rows: int(rows),
        offset: int(problem.offset),
    })
}
