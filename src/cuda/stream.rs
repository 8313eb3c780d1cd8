//! Launchers of the row-owner stream, kernels/stream_simt.cuh.

use super::arguments;
use super::buffer::Buffer;
use super::device::Device;
use super::inputs::Inputs;
use super::launch::{BLOCK, Grid, Span, int, launch, per_dtype};
use super::module::{File, dtype_index};
use super::plan::Sweep;
use super::rows::link_kind;
use super::workspace::{COUNTS, Workspace};
use crate::{Element, LossConfig, Result};

const LOSS: [&str; 3] = per_dtype!("stream_loss");
const FORWARD: [[&str; 3]; 3] =
    [per_dtype!("stream_forward_64"), per_dtype!("stream_forward_128"), per_dtype!("stream_forward_256")];
const BACKWARD: [[&str; 3]; 3] =
    [per_dtype!("stream_backward_64"), per_dtype!("stream_backward_128"), per_dtype!("stream_backward_256")];

fn chunk_index(sweep: &Sweep) -> usize {
    match sweep.chunk {
        64 => 0,
        128 => 1,
        _ => 2,
    }
}

/// The first sweep: partials (m, l), and O if `with_output`; counts and moments if the configuration asks for them.
pub(super) fn forward<T: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    config: &LossConfig,
    sweep: &Sweep,
    with_output: bool,
) -> Result<()> {
    let output = Span::from(&workspace.output).only_if(with_output);
    let features = config.sweep_features();
    let moment = Span::from(&workspace.moment).only_if(features.moment && with_output && inputs.corrects());
    let counts = Span::from(&workspace.counts).only_if(features.counts);
    let reference = Span::from(&workspace.reference).only_if(features.counts);
    let arguments = arguments::Stream {
        reference: reference.holds_or_null(inputs.problem.rows, "z+ for ranks")?,
        moment: moment.holds_or_null(sweep.partials(), "moments")?,
        counts: counts.holds_or_null(COUNTS * sweep.partials(), "counts")?,
        maximum: Span::from(&workspace.maximum).holds(sweep.partials(), "maximum")?,
        sum: Span::from(&workspace.sum).holds(sweep.partials(), "sum")?,
        output: output.holds(if with_output { sweep.partials() * inputs.problem.dim } else { 0 }, "O")?,
        ..common(inputs, workspace, config, sweep, true)?
    };
    let dtype = dtype_index(T::DTYPE);
    let name = if with_output { FORWARD[chunk_index(sweep)][dtype] } else { LOSS[dtype] };
    // SAFETY: `common` and the lines above have checked every length that the kernel reads or writes.
    unsafe { launch(device, File::stream(T::DTYPE), name, grid(sweep), &arguments) }
}

/// The second sweep: partial sums of the gradient columns' dv, from the saved maxima and coefficients, and of the
/// weights themselves if `with_masses`. `own` is the columns' own loss, if they have one: the workspace with users and
/// items exchanged.
pub(super) fn backward<T: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    config: &LossConfig,
    sweep: &Sweep,
    with_masses: bool,
    own: Option<&Workspace>,
) -> Result<()> {
    let rows = inputs.problem.rows;
    let of_own = |buffer: fn(&Workspace) -> &Buffer<f32>, what| {
        own.map_or(Ok(0), |own| Span::from(buffer(own)).holds(rows.max(sweep.owned), what))
    };
    let masses = Span::from(&workspace.masses).only_if(with_masses);
    let arguments = arguments::Stream {
        reference: Span::from(&workspace.row_maximum).holds(rows, "the row maxima")?,
        coefficient: Span::from(&workspace.coefficient).holds(rows, "the row coefficients")?,
        row_bias: of_own(|own| &own.bias, "the bias of rows")?,
        column_reference: of_own(|own| &own.row_maximum, "the column maxima")?,
        column_coefficient: of_own(|own| &own.coefficient, "the column coefficients")?,
        sum: masses.holds_or_null(sweep.partials(), "column masses")?,
        output: Span::from(&workspace.partials).holds(sweep.partials() * inputs.problem.dim, "partials")?,
        ..common(inputs, workspace, config, sweep, false)?
    };
    let name = BACKWARD[chunk_index(sweep)][dtype_index(T::DTYPE)];
    // SAFETY: `common` and the lines above have checked every length that the kernel reads or writes.
    unsafe { launch(device, File::stream(T::DTYPE), name, grid(sweep), &arguments) }
}

/// What both sweeps read; the bank only in the first.
fn common<T: Element>(
    inputs: &Inputs<T>,
    workspace: &Workspace,
    config: &LossConfig,
    sweep: &Sweep,
    with_bank: bool,
) -> Result<arguments::Stream> {
    let problem = &inputs.problem;
    let columns = if with_bank { problem.columns() } else { problem.gradient_columns() };
    let excluding = !inputs.item_ids[0].is_null();
    Ok(arguments::Stream {
        columns: inputs.columns(with_bank)?,
        users: inputs.users.holds(problem.rows * problem.dim, "users")?,
        row_norms: inputs.row_norms(workspace)?,
        column_norms: inputs.column_norms(workspace, columns)?,
        bias: Span::from(&workspace.bias).holds(columns, "the column bias")?,
        item_ids: Span::from(&workspace.item_ids).only_if(excluding).holds_or_null(columns, "item ids")?,
        user_ids: inputs.user_ids.holds_or_null(problem.rows, "user ids")?,
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
        owned: int(sweep.owned),
        tiles_per_split: int(sweep.tiles_per_split),
        aligned: i32::from(inputs.aligned(with_bank)),
        link: link_kind(config.sweep_features().link),
    })
}

fn grid(sweep: &Sweep) -> Grid {
    Grid { blocks: [sweep.tiles, sweep.splits, sweep.chunks], threads: BLOCK }
}
