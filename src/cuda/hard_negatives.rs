//! Launchers of kernels/hard_negatives.cu: the negatives of highest logit of each row, which take the place of both sweeps.

use super::arguments::{self, scalars};
use super::device::Device;
use super::inputs::Inputs;
use super::launch::{Grid, Span, int, launch};
use super::plan::{Plan, Sweep};
use super::row_negatives::{self, Gathered};
use super::workspace::{Purpose, Sizes, Workspace};
use super::{Batch, columns, rows, stream};
use crate::{Element, LossConfig, Problem, Result};

/// The first sweep: the negatives that each row keeps, and the partial result that they make.
pub(super) fn forward<T: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    sweep: &Sweep,
    with_output: bool,
) -> Result<()> {
    mine(device, inputs, workspace, sweep)?;
    row_negatives::partial(device, &Gathered::mined(inputs, workspace, true)?, 0, with_output)
}

/// The second: each column's sums over the rows that have kept it. The bank has none, and is not read.
pub(super) fn backward<T: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    sweep: &Sweep,
    with_masses: bool,
) -> Result<()> {
    row_negatives::backward(device, &Gathered::mined(inputs, workspace, false)?, sweep, with_masses)
}

/// The negatives of highest logit of each row, from prepared rows and columns: `Workspace::gathered_logits`, as a sweep
/// rounds them, and `Workspace::gathered_places`, after as many -1 as a row has too few.
fn mine<T: Element>(device: &Device, inputs: &Inputs<T>, workspace: &Workspace, sweep: &Sweep) -> Result<()> {
    let (rows, config) = (inputs.problem.rows, &inputs.config);
    let kept = config.get_hard_negatives().unwrap_or(0);
    let cells = rows.saturating_mul(kept);
    let splits = sweep.blocks[1];
    let if_counting = |buffer, len| {
        let counts = Span::<u32>::from(buffer).only_if(config.sweep_features().counts);
        counts.holds_or_null(len, "counts of excluded pairs")
    };
    let lists =
        Span::from(&workspace.mined).holds(cells.saturating_mul(splits), "lists of hard negatives")?;
    let excluded = if_counting(&workspace.mined_excluded, rows.saturating_mul(splits))?;
    let arguments = arguments::HardNegatives {
        stream: stream::common(inputs, workspace, sweep, true)?,
        lists,
        excluded,
        kept: int(kept),
        padding: 0,
    };
    // SAFETY: `common` and the lines above have checked every length that the kernel reads or writes.
    unsafe { launch(device, sweep.file, sweep.kernel, stream::grid(sweep), &arguments) }?;
    let arguments = arguments::HardNegativesMerge {
        lists,
        excluded,
        logits: Span::from(&workspace.gathered_logits).holds(cells, "logits of hard negatives")?,
        places: Span::from(&workspace.gathered_places).holds(cells, "columns of hard negatives")?,
        row_excluded: if_counting(&workspace.gathered_excluded, rows)?,
        splits: int(splits),
        rows: int(rows),
        kept: int(kept),
        padding: 0,
    };
    // SAFETY: every length that the kernel reads or writes is checked above.
    unsafe { launch(device, sweep.file, "hard_negatives_merge", Grid::warps(rows), &arguments) }
}

/// What [`mined`] reads back.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Mined {
    /// `[B, k]` logits.
    pub logits: Vec<f32>,
    /// `[B, k]` columns.
    pub places: Vec<i32>,
    /// `[B]` excluded pairs.
    pub excluded: Vec<u32>,
}

/// The launchers by themselves, on memory that holds nothing but NaN patterns; for tests.
#[doc(hidden)]
pub fn mined<T: Element>(device: &Device, config: &LossConfig, batch: &Batch<'_, T>) -> Result<Mined> {
    let config = config.metrics(true);
    let problem = Problem::new(batch, &config)?;
    let (inputs, _guards) = Inputs::bind(device, batch, problem, &config)?;
    let plan = Plan::new(&device.hardware(), &problem, &config);
    let mut workspace = Workspace::new(device)?;
    workspace.ensure(&Sizes::of(&plan, Purpose::Loss))?;
    workspace.poison()?;
    workspace.scalars.write_word(scalars::INVERSE_TEMPERATURE, config.temperature().recip().to_bits())?;
    workspace.scalars.write_word(scalars::BIAS, config.bias().to_bits())?;
    columns::prepare(device, &inputs, &workspace)?;
    rows::prepare(device, &inputs, &workspace)?;
    mine(device, &inputs, &workspace, &plan.loss())?;
    let cells = problem.rows * config.get_hard_negatives().unwrap_or(0);
    Ok(Mined {
        logits: workspace.gathered_logits.read(cells)?,
        places: workspace.gathered_places.read(cells)?,
        excluded: workspace.gathered_excluded.read(problem.rows)?,
    })
}
