//! Launchers of kernels/hard_negatives.cu: the negatives of highest logit of each row.

use super::arguments::{self, scalars};
use super::buffer::Buffer;
use super::device::Device;
use super::inputs::Inputs;
use super::launch::{Grid, Span, int, launch, per_dtype};
use super::module::{File, dtype_index};
use super::plan::{Mode, Plan, Sweep};
use super::workspace::{Purpose, Sizes, Workspace};
use super::{Batch, columns, rows, stream};
use crate::{Element, LossConfig, Problem, Result};

const HARD_NEGATIVES: [&str; 3] = per_dtype!("hard_negatives");

/// The sweep over all columns that finds them: as many splits as the loss's own plain sweep has, so that few rows fill the
/// device too.
pub(super) fn sweep(plan: &Plan) -> Sweep {
    let problem = plan.problem();
    let kernel = HARD_NEGATIVES[dtype_index(problem.dtype)];
    Sweep { kernel, file: File::HardNegatives, ..plan.simt(Mode::Loss, problem.rows, problem.columns()) }
}

/// Where hard negatives go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Targets {
    /// `[splits, B, k]`: the best of each split.
    pub(super) lists: Span<u64>,
    /// `[splits, B]` excluded pairs; null: not counted.
    pub(super) excluded: Span<u32>,
    /// `[B, k]` logits as a sweep rounds them, -inf where a row has fewer negatives.
    pub(super) logits: Span<f32>,
    /// `[B, k]` their columns in ascending order, after as many -1 as a row has too few.
    pub(super) places: Span<i32>,
    /// `[B]` excluded pairs; not read where they are not counted.
    pub(super) row_excluded: Span<u32>,
}

/// The `kept` negatives of highest logit of each row, from prepared rows and columns.
pub(super) fn mine<T: Element>(
    device: &Device,
    inputs: &Inputs<T>,
    workspace: &Workspace,
    config: &LossConfig,
    sweep: &Sweep,
    kept: usize,
    targets: &Targets,
) -> Result<()> {
    let Problem { rows, .. } = inputs.problem;
    let parts = sweep.cut.partial_rows();
    let counts = !targets.excluded.is_null();
    let lists = targets.lists.holds(parts.saturating_mul(kept), "lists of hard negatives")?;
    let excluded = targets.excluded.holds_or_null(parts, "counts of excluded pairs")?;
    let arguments = arguments::HardNegatives {
        stream: stream::common(inputs, workspace, config, sweep, true)?,
        lists,
        excluded,
        kept: int(kept),
        padding: 0,
    };
    // SAFETY: `common` and the lines above have checked every length that the kernel reads or writes.
    unsafe { launch(device, sweep.file, sweep.kernel, stream::grid(sweep), &arguments) }?;
    let row_excluded = targets.row_excluded.only_if(counts);
    let arguments = arguments::HardNegativesMerge {
        lists,
        excluded,
        logits: targets.logits.holds(rows.saturating_mul(kept), "logits of hard negatives")?,
        places: targets.places.holds(rows.saturating_mul(kept), "columns of hard negatives")?,
        row_excluded: row_excluded.holds_or_null(rows, "counts of excluded pairs")?,
        splits: sweep.cut.splits,
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
    const WHAT: &str = "a test's memory";
    let problem = Problem::new(batch, config)?;
    let (inputs, _guards) = Inputs::bind(device, batch, problem, config)?;
    let plan = Plan::new(&device.hardware(), &problem, config);
    let sweep = sweep(&plan);
    let kept = config.get_hard_negatives().unwrap_or(LossConfig::MAX_HARD_NEGATIVES);
    let mut workspace = Workspace::new(device)?;
    workspace.ensure(&Sizes::of(&plan, Purpose::Loss))?;
    workspace.poison()?;
    workspace.scalars.write_word(scalars::INVERSE_TEMPERATURE, config.temperature().recip().to_bits())?;
    workspace.scalars.write_word(scalars::BIAS, config.bias().to_bits())?;
    let parts = sweep.cut.partial_rows();
    let mut lists = Buffer::new(device, parts * kept, WHAT)?;
    let mut excluded = Buffer::new(device, parts, WHAT)?;
    let mut logits = Buffer::new(device, problem.rows * kept, WHAT)?;
    let mut places = Buffer::new(device, problem.rows * kept, WHAT)?;
    let mut row_excluded = Buffer::new(device, problem.rows, WHAT)?;
    lists.fill(0xff)?;
    excluded.fill(0xff)?;
    logits.fill(0xff)?;
    places.fill(0xff)?;
    row_excluded.fill(0xff)?;
    let targets = Targets {
        lists: Span::from(&lists),
        excluded: Span::from(&excluded),
        logits: Span::from(&logits),
        places: Span::from(&places),
        row_excluded: Span::from(&row_excluded),
    };
    columns::prepare(device, &inputs, &workspace, config)?;
    rows::prepare(device, &inputs, &workspace, config)?;
    mine(device, &inputs, &workspace, config, &sweep, kept, &targets)?;
    Ok(Mined {
        logits: logits.read(problem.rows * kept)?,
        places: places.read(problem.rows * kept)?,
        excluded: row_excluded.read(problem.rows)?,
    })
}
