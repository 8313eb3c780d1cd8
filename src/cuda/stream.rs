//! Launchers of the row-owner stream: kernels/stream_simt.cuh here, kernels/stream_mma.cuh in `stream_mma`.

use super::arguments;
use super::buffer::Buffer;
use super::device::Device;
use super::inputs::Inputs;
use super::launch::{Grid, Span, int, launch};
use super::plan::{Kernels, Sweep};
use super::rows::link_kind;
use super::workspace::{COUNTS, Workspace};
use super::{hard_negatives, stream_mma};
use crate::{Element, Result};

/// The first sweep: partials (m, l), and O if `with_output`; counts and moments if the configuration asks for them.
pub(super) fn forward<T: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    sweep: &Sweep,
    with_output: bool,
) -> Result<()> {
    if inputs.config.get_hard_negatives().is_some() {
        return hard_negatives::forward(device, inputs, workspace, sweep, with_output);
    }
    if sweep.kernels == Kernels::Mma {
        return stream_mma::forward(device, inputs, workspace, sweep, with_output);
    }
    let output = Span::from(&workspace.output).only_if(with_output);
    let features = inputs.config.sweep_features();
    let moment = Span::from(&workspace.moment).only_if(features.moment && with_output && inputs.corrects());
    let counts = Span::from(&workspace.counts).only_if(features.counts);
    let reference = Span::from(&workspace.reference).only_if(features.counts);
    let arguments = arguments::Stream {
        reference: reference.holds_or_null(inputs.problem.rows, "z+ for ranks")?,
        moment: moment.holds_or_null(sweep.cut.partial_rows(), "moments")?,
        counts: counts.holds_or_null(COUNTS * sweep.cut.partial_rows(), "counts")?,
        maximum: Span::from(&workspace.maximum).holds(sweep.cut.partial_rows(), "maximum")?,
        sum: Span::from(&workspace.sum).holds(sweep.cut.partial_rows(), "sum")?,
        output: output.holds(if with_output { sweep.cut.floats(inputs.problem.dim) } else { 0 }, "O")?,
        ..common(inputs, workspace, sweep, true)?
    };
    // SAFETY: `common` and the lines above have checked every length that the kernel reads or writes.
    unsafe { launch(device, sweep.file, sweep.kernel, grid(sweep), &arguments) }
}

/// The second sweep: partial sums of the gradient columns' dv, from the saved maxima and coefficients, and of the
/// weights themselves if `with_masses`. `own` is the columns' own loss, if they have one: the workspace with users and
/// items exchanged.
pub(super) fn backward<T: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    sweep: &Sweep,
    with_masses: bool,
    own: Option<&Workspace>,
) -> Result<()> {
    if inputs.config.get_hard_negatives().is_some() {
        return hard_negatives::backward(device, inputs, workspace, sweep, with_masses);
    }
    if sweep.kernels == Kernels::Mma {
        return stream_mma::backward(device, inputs, workspace, sweep);
    }
    let rows = inputs.problem.rows;
    let of_own = |buffer: fn(&Workspace) -> &Buffer<f32>, what| {
        own.map_or(Ok(0), |own| Span::from(buffer(own)).holds(rows, what))
    };
    let masses = Span::from(&workspace.masses).only_if(with_masses);
    let arguments = arguments::Stream {
        reference: Span::from(&workspace.row_maximum).holds(rows, "the row maxima")?,
        coefficient: Span::from(&workspace.coefficient).holds(rows, "the row coefficients")?,
        row_bias: of_own(|own| &own.bias, "the bias of rows")?,
        column_reference: of_own(|own| &own.row_maximum, "the column maxima")?,
        column_coefficient: of_own(|own| &own.coefficient, "the column coefficients")?,
        sum: masses.holds_or_null(sweep.cut.partial_rows(), "column masses")?,
        output: Span::from(&workspace.partials).holds(sweep.cut.floats(inputs.problem.dim), "partials")?,
        ..common(inputs, workspace, sweep, false)?
    };
    // SAFETY: `common` and the lines above have checked every length that the kernel reads or writes.
    unsafe { launch(device, sweep.file, sweep.kernel, grid(sweep), &arguments) }
}

/// What all sweeps read; the bank not in the second.
pub(super) fn common<T: Element>(
    inputs: &Inputs<T>,
    workspace: &Workspace,
    sweep: &Sweep,
    with_bank: bool,
) -> Result<arguments::Stream> {
    let problem = &inputs.problem;
    let columns = if with_bank { problem.columns() } else { problem.gradient_columns() };
    Ok(arguments::Stream {
        columns: inputs.columns(with_bank)?,
        users: inputs.users.holds(problem.rows * problem.dim, "users")?,
        row_norms: inputs.row_norms(workspace)?,
        column_norms: inputs.column_norms(workspace, columns)?,
        bias: Span::from(&workspace.bias).holds(columns, "the column bias")?,
        item_ids: inputs.column_ids(workspace, columns)?,
        user_ids: inputs.user_ids.holds_or_null(problem.rows, "user ids")?,
        labels: inputs.labels.ids.holds_or_null(problem.rows * inputs.labels.num_true, "labels")?,
        inverse_temperature: workspace.inverse_temperature(),
        reference: 0,
        coefficient: 0,
        row_bias: 0,
        column_reference: 0,
        column_coefficient: 0,
        maximum: 0,
        sum: 0,
        moment: 0,
        counts: 0,
        output: 0,
        rows: int(problem.rows),
        offset: int(problem.offset),
        owned: sweep.cut.owners,
        tiles_per_split: int(sweep.tiles_per_split),
        aligned: i32::from(inputs.aligned(with_bank)),
        link: link_kind(inputs.config.sweep_features().link),
        num_true: int(inputs.labels.num_true),
        padding: 0,
    })
}

pub(super) fn grid(sweep: &Sweep) -> Grid {
    Grid { blocks: sweep.blocks, threads: sweep.threads, shared: sweep.shared_bytes }
}
