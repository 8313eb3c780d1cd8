//! Launchers of kernels/columns.cu.

use super::arguments;
use super::device::Device;
use super::inputs::Inputs;
use super::launch::int;
use super::launch::{Grid, Span, launch, per_dtype};
use super::module::{File, dtype_index};
use super::plan::Sweep;
use super::workspace::Workspace;
use crate::{Element, LogQOrder, Problem, Result};

const PREPARE: [&str; 3] = per_dtype!("prepare_columns");
/// By embedding type, then by gradient type.
const GRADIENTS: [[&str; 3]; 3] =
    per_dtype!("column_gradients_f32", "column_gradients_f16", "column_gradients_bf16");

/// Bias, id and norm of every column.
pub(super) fn prepare<T: Element>(device: &Device, inputs: &Inputs<T>, workspace: &Workspace) -> Result<()> {
    let (problem, config) = (&inputs.problem, &inputs.config);
    let Problem { batch_columns, extra_columns, bank_columns, .. } = *problem;
    let count = problem.columns();
    let counts = [batch_columns, extra_columns, bank_columns];
    let mut log_q = [0; 3];
    let mut item_ids = [0; 3];
    for segment in 0..3 {
        log_q[segment] = inputs.log_q[segment].holds_or_null(counts[segment], "log_q")?;
        item_ids[segment] = inputs.item_ids[segment].holds_or_null(counts[segment], "item_ids")?;
    }
    let words = if bank_columns > 0 { arguments::bank_state::WORDS } else { 0 };
    let ids = Span::from(&workspace.item_ids).only_if(config.excludes_same_item());
    let arguments = arguments::PrepareColumns {
        columns: inputs.columns(true)?,
        log_q,
        item_ids,
        state: inputs.bank.state.holds(words, "the bank's state")?,
        entered: inputs.bank.entered.holds(bank_columns, "the bank's steps of entry")?,
        bias: Span::from(&workspace.bias).holds(count, "the column bias")?,
        ids: ids.holds_or_null(count, "item ids")?,
        norms: inputs.column_norms(workspace, count)?,
        scalars: workspace.scalars(),
        warm_up: inputs.bank.warm_up,
        max_age: inputs.bank.max_age,
        logq_scale: config.get_logq_scale(),
        inside: i32::from(config.get_logq_order() == LogQOrder::InsideTemperature),
    };
    let name = PREPARE[dtype_index(T::DTYPE)];
    // SAFETY: every length that the kernel reads or writes is checked above; `ids` is null unless every segment has
    // ids, which `Problem::new` demands when items are excluded.
    unsafe { launch(device, File::Columns, name, Grid::warps(count), &arguments) }
}

/// Where the columns' gradients go; null: not wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Targets<G> {
    pub(super) items: Span<G>,
    pub(super) extra: Span<G>,
    pub(super) log_q: Span<f32>,
    pub(super) extra_log_q: Span<f32>,
    /// Each column's share of d(1/tau), where columns have a loss of their own.
    pub(super) temperature_term: Span<f32>,
    /// Whether the share of log q is part of it.
    pub(super) log_q_share: bool,
    /// Whether the other direction has written its share, with all that goes through scores.
    pub(super) second: bool,
}

impl<G> Targets<G> {
    /// The gradient of embeddings alone.
    pub(super) fn embeddings(items: Span<G>) -> Self {
        let none = Span::NULL;
        Self {
            items,
            extra: Span::NULL,
            log_q: none,
            extra_log_q: none,
            temperature_term: none,
            log_q_share: false,
            second: false,
        }
    }

    /// Whether the second sweep sums its weights by column.
    pub(super) fn want_masses(&self) -> bool {
        !self.log_q.is_null() || !self.extra_log_q.is_null() || self.log_q_share
    }

    /// The columns that the second sweep owns.
    pub(super) fn owned(&self, problem: &Problem) -> usize {
        let extra = !self.extra.is_null() || !self.extra_log_q.is_null();
        if extra { problem.gradient_columns() } else { problem.batch_columns }
    }
}

/// dv and dlog_q from the second sweep's partial sums.
pub(super) fn gradients<T: Element, G: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    sweep: &Sweep,
    targets: Targets<G>,
) -> Result<()> {
    let (problem, config) = (&inputs.problem, &inputs.config);
    let Problem { rows, dim, batch_columns, .. } = *problem;
    let owned = usize::try_from(sweep.cut.owners).unwrap_or(0);
    let extra = owned - batch_columns;
    let masses = Span::from(&workspace.masses).only_if(targets.want_masses());
    let log_q_term = Span::from(&workspace.log_q_term).only_if(targets.want_masses());
    let arguments = arguments::ColumnGradients {
        columns: inputs.columns(false)?,
        users: inputs.users.holds(rows * dim, "users")?,
        row_norms: inputs.row_norms(workspace)?,
        column_norms: inputs.column_norms(workspace, problem.gradient_columns())?,
        partials: Span::from(&workspace.partials).holds(sweep.cut.floats(dim), "partials")?,
        positive_coefficient: Span::from(&workspace.positive_coefficient).holds(rows, "coefficients")?,
        masses: masses.holds_or_null(sweep.cut.partial_rows(), "column masses")?,
        log_q_term: log_q_term.holds_or_null(rows, "terms of log_q")?,
        log_q: inputs.log_q[0].only_if(targets.log_q_share).holds_or_null(batch_columns, "log_q")?,
        scalars: workspace.scalars(),
        d_items: targets.items.holds(batch_columns * dim, "the gradient of items")?,
        d_extra: targets.extra.holds_or_null(extra * dim, "the gradient of extra")?,
        d_log_q: targets.log_q.holds_or_null(batch_columns, "the gradient of log_q")?,
        d_extra_log_q: targets.extra_log_q.holds_or_null(extra, "the gradient of extra log_q")?,
        temperature_term: targets.temperature_term.holds_or_null(owned, "temperature terms")?,
        cut: sweep.cut,
        rows: int(rows),
        offset: int(problem.offset),
        logq_scale: config.get_logq_scale(),
        inside: i32::from(config.get_logq_order() == LogQOrder::InsideTemperature),
        second: i32::from(targets.second),
        padding: 0,
    };
    let name = GRADIENTS[dtype_index(T::DTYPE)][dtype_index(G::DTYPE)];
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, File::Columns, name, Grid::warps(owned), &arguments) }
}
