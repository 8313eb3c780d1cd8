//! Negatives that each row has for itself, and the launchers of kernels/row_negatives.cu.
//!
//! Row negatives and mined negatives are one thing here: [`Gathered`] columns of each row with their logits. They make a
//! partial result of the first sweep like any split of it, and the second sweep looks for the rows that name a column.

use super::arguments;
use super::columns::{self, Targets};
use super::device::Device;
use super::inputs::Inputs;
use super::launch::{Grid, Span, int, launch, per_dtype};
use super::module::{File, dtype_index};
use super::plan::{Plan, Sweep};
use super::rows::link_kind;
use super::stream::grid;
use super::workspace::{COUNTS, Workspace};
use crate::{Element, LogQOrder, Result};

const LOGITS: [&str; 3] = per_dtype!("row_negative_logits");
const PARTIAL: [&str; 3] = per_dtype!("row_negative_partial");
/// By embedding type, then by gradient type.
const GRADIENTS: [[&str; 3]; 3] =
    per_dtype!("row_negative_gradients_f32", "row_negative_gradients_f16", "row_negative_gradients_bf16");

/// Rows in a tile of the backward.
const WARP: usize = 32;

/// Negatives of each row's own: `Workspace::gathered_logits` and `Workspace::gathered_places` say which.
#[derive(Debug)]
pub(super) struct Gathered<'a, T> {
    /// Whose users they are negatives of.
    inputs: &'a Inputs<T>,
    /// Of those rows.
    workspace: &'a Workspace,
    /// What places count.
    columns: arguments::Columns,
    /// Has the columns' biases, ids, norms, and the second sweep's sums.
    of_columns: &'a Workspace,
    per_row: usize,
    /// Which columns; `None` where each has one cell.
    places: Option<Span<i32>>,
    /// Whether they were chosen among the batch's own columns.
    mined: bool,
}

impl<'a, T: Element> Gathered<'a, T> {
    /// The row negatives of a batch; `pool` is the workspace of their embeddings, `places` are what names them there if
    /// anything does.
    fn row_negatives(
        inputs: &'a Inputs<T>,
        workspace: &'a Workspace,
        pool: &'a Workspace,
        places: Span<i32>,
    ) -> Result<Self> {
        Ok(Self {
            inputs,
            workspace,
            columns: inputs.of_row_negatives().columns(false)?,
            of_columns: pool,
            per_row: inputs.problem.row_negatives,
            places: inputs.problem.pool.map(|_| places),
            mined: false,
        })
    }

    /// What mining has kept of the batch's own columns; `with_bank` says whether the bank's may be read.
    pub(super) fn mined(inputs: &'a Inputs<T>, workspace: &'a Workspace, with_bank: bool) -> Result<Self> {
        Ok(Self {
            inputs,
            workspace,
            columns: inputs.columns(with_bank)?,
            of_columns: workspace,
            per_row: inputs.config.get_hard_negatives().unwrap_or(0),
            places: Some(Span::from(&workspace.gathered_places)),
            mined: true,
        })
    }

    fn cells(&self) -> usize {
        self.inputs.problem.rows.saturating_mul(self.per_row)
    }

    fn arguments(&self) -> Result<arguments::Gathered> {
        let Self { inputs, workspace, of_columns, .. } = self;
        let (rows, dim) = (inputs.problem.rows, inputs.problem.dim);
        let columns = self.count();
        Ok(arguments::Gathered {
            columns: self.columns,
            norms: inputs.column_norms(of_columns, columns)?,
            bias: Span::from(&of_columns.bias).holds(columns, "the column bias")?,
            places: self.places.map_or(Ok(0), |places| places.holds(self.cells(), "places"))?,
            logits: Span::from(&workspace.gathered_logits).holds(self.cells(), "logits")?,
            users: inputs.users.holds(rows * dim, "users")?,
            row_norms: inputs.row_norms(workspace)?,
            scalars: workspace.scalars(),
            rows: int(rows),
            per_row: int(self.per_row),
        })
    }

    /// The columns that places count.
    fn count(&self) -> usize {
        let arguments::Columns { batch_count, extra_count, bank_count, .. } = self.columns;
        [batch_count, extra_count, bank_count].iter().map(|&n| usize::try_from(n).unwrap_or(0)).sum()
    }

    /// Ids of the columns and of the positives, null unless they are compared.
    fn ids(&self) -> Result<[u64; 2]> {
        let excluding = self.inputs.config.excludes_same_item();
        let ids = Span::from(&self.of_columns.item_ids).only_if(excluding);
        // Rows look their positives up in the batch.
        Ok([ids.holds_or_null(self.count(), "item ids")?, self.inputs.column_ids(self.workspace, 0)?])
    }
}

/// The first sweep over row negatives: their embeddings are prepared, then their logits and a partial result for each
/// row, behind those of `sweep`, in the order of the caller's places; a backward needs them in their own.
pub(super) fn forward<T: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    pool: &Workspace,
    sweep: &Sweep,
    with_output: bool,
) -> Result<()> {
    let problem = &inputs.problem;
    if problem.row_negative_embeddings() > 0 {
        columns::prepare(device, &inputs.of_row_negatives(), pool)?;
    }
    if problem.row_negatives == 0 {
        return Ok(());
    }
    let gathered = Gathered::row_negatives(inputs, workspace, pool, inputs.row_negatives.indices)?;
    logits(device, &gathered)?;
    partial(device, &gathered, sweep.cut.partial_rows(), with_output)?;
    if problem.pool.is_some() && with_output { sort(device, &gathered) } else { Ok(()) }
}

/// Each row's places in ascending order with their logits, so that a column can be looked for.
fn sort<T: Element>(device: &Device, gathered: &Gathered<'_, T>) -> Result<()> {
    let (rows, cells) = (gathered.inputs.problem.rows, gathered.cells());
    let arguments = arguments::RowPlaces {
        indices: gathered.inputs.row_negatives.indices.holds(cells, "indices")?,
        places: Span::from(&gathered.workspace.gathered_places).holds(cells, "places")?,
        logits: Span::from(&gathered.workspace.gathered_logits).holds(cells, "logits")?,
        rows: int(rows),
        per_row: int(gathered.per_row),
    };
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::RowNegatives, "row_negative_places", Grid::warps(rows), &arguments) }
}

fn logits<T: Element>(device: &Device, gathered: &Gathered<'_, T>) -> Result<()> {
    let [ids, positive_ids] = gathered.ids()?;
    let arguments = arguments::RowLogits {
        gathered: gathered.arguments()?,
        ids,
        positive_ids,
        offset: int(gathered.inputs.problem.offset),
        padding: 0,
    };
    let name = LOGITS[dtype_index(T::DTYPE)];
    // SAFETY: every length is checked above; the kernel compares places with the number of columns.
    unsafe { launch(device, File::RowNegatives, name, Grid::warps(gathered.cells()), &arguments) }
}

/// A partial result for each row: `first` is the row of the partials' buffers where they start.
pub(super) fn partial<T: Element>(
    device: &Device,
    gathered: &Gathered<'_, T>,
    first: usize,
    with_output: bool,
) -> Result<()> {
    let Gathered { inputs, workspace, mined, .. } = *gathered;
    let (rows, dim, offset) = (inputs.problem.rows, inputs.problem.dim, inputs.problem.offset);
    let features = inputs.config.sweep_features();
    let moment = features.moment && with_output && inputs.corrects();
    let end = first + rows;
    let if_counting = |span: Span<u32>, len| span.only_if(features.counts).holds_or_null(len, "counts");
    // What mining has excluded it has counted, and its logits have the sweep's roundings.
    let reference = Span::from(if mined { &workspace.reference } else { &workspace.positive });
    let excluded = Span::from(&workspace.gathered_excluded).only_if(mined);
    let [ids, positive_ids] = gathered.ids()?;
    let arguments = arguments::RowPartial {
        gathered: gathered.arguments()?,
        ids,
        positive_ids,
        excluded: if_counting(excluded, rows)?,
        reference: reference.only_if(features.counts).holds_or_null(rows, "z+ for ranks")?,
        maximum: Span::from(&workspace.maximum).holds(end, "maximum")?,
        sum: Span::from(&workspace.sum).holds(end, "sum")?,
        moment: Span::from(&workspace.moment).only_if(moment).holds_or_null(end, "moments")?,
        counts: if_counting(Span::from(&workspace.counts), COUNTS * end)?,
        output: Span::from(&workspace.output).only_if(with_output).holds_or_null(end * dim, "O")?,
        first: i64::try_from(first).unwrap_or(i64::MAX),
        offset: int(offset),
        link: link_kind(features.link),
    };
    let name = PARTIAL[dtype_index(T::DTYPE)];
    // SAFETY: every length is checked above; the kernel compares places with the number of columns.
    unsafe { launch(device, File::RowNegatives, name, Grid::warps(rows), &arguments) }
}

/// The second sweep over gathered negatives: the sums of the users that name each column, and of the weights if
/// `with_masses`, for [`columns::gradients`].
pub(super) fn backward<T: Element>(
    device: &Device,
    gathered: &Gathered<'_, T>,
    sweep: &Sweep,
    with_masses: bool,
) -> Result<()> {
    let Gathered { inputs, workspace, of_columns, .. } = *gathered;
    let (rows, dim) = (inputs.problem.rows, inputs.problem.dim);
    let masses = Span::from(&of_columns.masses).only_if(with_masses);
    let arguments = arguments::RowBackward {
        gathered: gathered.arguments()?,
        reference: Span::from(&workspace.row_maximum).holds(rows, "the row maxima")?,
        coefficient: Span::from(&workspace.coefficient).holds(rows, "the row coefficients")?,
        output: Span::from(&of_columns.partials).holds(sweep.cut.floats(dim), "partials")?,
        masses: masses.holds_or_null(sweep.cut.partial_rows(), "column masses")?,
        cut: sweep.cut,
        link: link_kind(inputs.config.sweep_features().link),
        rows_per_split: int(sweep.tiles_per_split.saturating_mul(WARP)),
    };
    // SAFETY: every length is checked above, and `sweep` is a cut of these columns and rows.
    unsafe { launch(device, sweep.file, sweep.kernel, grid(sweep), &arguments) }
}

/// The gradients of row negatives: `targets.extra` and `targets.extra_log_q`.
pub(super) fn gradients<T: Element, G: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    pool: &Workspace,
    plan: &Plan,
    targets: Targets<G>,
) -> Result<()> {
    let embeddings = inputs.problem.row_negative_embeddings();
    if embeddings == 0 || (targets.extra.is_null() && targets.extra_log_q.is_null()) {
        return Ok(());
    }
    let sorted = Span::from(&workspace.gathered_places);
    let gathered = Gathered::row_negatives(inputs, workspace, pool, sorted)?;
    if gathered.places.is_none() {
        return own_gradients(device, &gathered, targets);
    }
    let sweep = plan.gathered_backward(embeddings);
    backward(device, &gathered, &sweep, targets.want_masses())?;
    columns::gradients(device, &inputs.of_row_negatives(), pool, &sweep, targets)
}

/// The same where each has an embedding of its own, without partial sums.
fn own_gradients<T: Element, G: Element>(
    device: &Device,
    gathered: &Gathered<'_, T>,
    targets: Targets<G>,
) -> Result<()> {
    let Gathered { inputs, workspace, .. } = *gathered;
    let (rows, dim, config) = (inputs.problem.rows, inputs.problem.dim, &inputs.config);
    let cells = gathered.cells();
    let arguments = arguments::RowNegativeGradients {
        gathered: gathered.arguments()?,
        reference: Span::from(&workspace.row_maximum).holds(rows, "the row maxima")?,
        coefficient: Span::from(&workspace.coefficient).holds(rows, "the row coefficients")?,
        d_embeddings: targets.extra.holds_or_null(cells * dim, "the gradient of row negatives")?,
        d_log_q: targets.extra_log_q.holds_or_null(cells, "the gradient of row negatives' log_q")?,
        link: link_kind(config.sweep_features().link),
        inside: i32::from(config.get_logq_order() == LogQOrder::InsideTemperature),
        logq_scale: config.get_logq_scale(),
        padding: 0,
    };
    let name = GRADIENTS[dtype_index(T::DTYPE)][dtype_index(G::DTYPE)];
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::RowNegatives, name, Grid::warps(cells), &arguments) }
}
