//! The loss object: its workspace and its entry points.

use super::backward::{ColumnGradients, ColumnSweep};
use super::cells::{Source, cells_per_row};
use super::columns::Columns;
use super::forward::RowSweep;
use super::output::Output;
use super::row_negatives::check_indices;
use super::rows::symmetric_coefficients;
use super::tiles::{RowPartition, lanes};
use super::workspace::Workspace;
use crate::cpu::{Batch, Gradients, View};
use crate::problem::check_length;
use crate::{Element, Error, LossConfig, Objective, Problem, Reduction, Result};

/// In-batch sampled softmax on the CPU.
///
/// ```
/// use inbatch::{LossConfig, cpu};
/// let (users, items) = ([0.6_f32, 0.8, 1.0, 0.0], [0.8_f32, 0.6, 0.0, 1.0]);
/// let mut loss = cpu::InBatchLoss::new(LossConfig::new(0.1)?)?;
/// let batch = cpu::Batch::new(&users, &items, 2);
/// let (mut d_users, mut d_items) = ([0.0_f32; 4], [0.0_f32; 4]);
/// let step = loss.step(&batch, &mut cpu::Gradients::new(&mut d_users, &mut d_items))?;
/// assert!(step.loss()? > 0.0);
/// # Ok::<(), inbatch::Error>(())
/// ```
///
/// Threads come from rayon's current pool; results are bitwise the same whatever their number. Matrix
/// products and exponentials use the widest vectors that the CPU has, so another kind of CPU may differ in
/// the last bits.
#[derive(Debug)]
pub struct InBatchLoss {
    pub(super) config: LossConfig,
    pub(super) workspace: Workspace,
    /// The same with users and items exchanged, for a symmetric loss.
    exchanged: Workspace,
    /// The last call's problem; its rows are what [`Output`] shows.
    pub(super) problem: Option<Problem>,
    pub(super) loss: Option<f32>,
    pub(super) d_inverse_temperature: Option<f32>,
    pub(super) d_bias: Option<f32>,
    /// What `backward` may build upon.
    saved: Saved,
}

/// What the last call kept for a backward.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Saved {
    Nothing,
    Forward {
        /// 1/B, 1/sum w or 1.
        reduction: f64,
        /// The partition's column tiles: the bank may change before the backward.
        column_tiles: usize,
    },
}

impl InBatchLoss {
    /// A loss object; its workspace grows at the first call, or by [`InBatchLoss::reserve`].
    ///
    /// # Errors
    /// None today; the signature is that of every backend.
    pub fn new(config: LossConfig) -> Result<Self> {
        Ok(Self {
            config,
            workspace: Workspace::default(),
            exchanged: Workspace::default(),
            problem: None,
            loss: None,
            d_inverse_temperature: None,
            d_bias: None,
            saved: Saved::Nothing,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &LossConfig {
        &self.config
    }

    /// Another configuration, for instance a learned temperature's next value. The workspace stays; a
    /// forward still waiting for its backward is forgotten.
    pub fn set_config(&mut self, config: LossConfig) {
        self.config = config;
        self.saved = Saved::Nothing;
    }

    /// Bytes of workspace that a step on this problem needs, on the current thread pool. The matrix
    /// product library's packing buffers, under 1 MiB a thread, come on top and are freed within the call.
    pub fn workspace_bytes(&self, problem: &Problem) -> u128 {
        let directions = if self.config.is_symmetric() { 2 } else { 1 };
        Workspace::bytes(problem, &self.config, true) * directions
    }

    /// Allocates the workspace for problems up to this one, so that no later call grows it.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn reserve(&mut self, problem: &Problem) -> Result<()> {
        self.grow(problem, true)
    }

    /// Loss only: no gradients, no workspace for them, half of a forward's arithmetic.
    ///
    /// # Errors
    /// What [`Problem::new`] finds wrong, [`Error::WeightSum`], [`Error::NotAProbability`], [`Error::RowNegativeIndex`],
    /// [`Error::OutOfMemory`].
    pub fn evaluate<T: Element>(&mut self, batch: &Batch<'_, T>) -> Result<Output<'_>> {
        self.sweep_rows(batch, false)?;
        Ok(Output { of: self })
    }

    /// Loss and all gradients, with an upstream gradient of 1 (of ones under [`Reduction::None`]).
    ///
    /// # Errors
    /// As [`InBatchLoss::evaluate`], and what [`Problem::check_gradients`] finds wrong with the gradient buffers. Nothing has been written to them then.
    pub fn step<T: Element, G: Element>(
        &mut self,
        batch: &Batch<'_, T>,
        gradients: &mut Gradients<'_, G>,
    ) -> Result<Output<'_>> {
        Problem::new(batch, &self.config)?.check_gradients(batch, &self.config, gradients)?;
        self.sweep_rows(batch, true)?;
        self.backward(batch, None, gradients)
    }

    /// The forward half: keeps the row statistics and O for [`InBatchLoss::backward`].
    ///
    /// # Errors
    /// As [`InBatchLoss::evaluate`].
    pub fn forward<T: Element>(&mut self, batch: &Batch<'_, T>) -> Result<Output<'_>> {
        self.sweep_rows(batch, true)?;
        Ok(Output { of: self })
    }

    /// The backward half, for the batch that the last `forward` saw. `upstream` is the gradient of the
    /// loss: `[1]`, or `[B]` under [`Reduction::None`]; `None` means ones. The bank is not read: a push
    /// since the forward is fine. May be called again with another upstream.
    ///
    /// # Errors
    /// [`Error::NoForward`], and those of [`InBatchLoss::step`].
    pub fn backward<T: Element, G: Element>(
        &mut self,
        batch: &Batch<'_, T>,
        upstream: Option<View<'_, f32>>,
        gradients: &mut Gradients<'_, G>,
    ) -> Result<Output<'_>> {
        let given = Problem::new(batch, &self.config)?;
        given.check_gradients(batch, &self.config, gradients)?;
        let (Saved::Forward { reduction, column_tiles }, Some(problem)) = (self.saved, self.problem) else {
            return Err(Error::NoForward("there has been no forward"));
        };
        if !problem.same_but_bank(&given) {
            return Err(Error::NoForward("the batch has another shape or type"));
        }
        let (expected, why) = match self.config.get_reduction() {
            Reduction::None => (problem.rows, "one for each row loss"),
            _ => (1, "one for the reduced loss"),
        };
        check_length("upstream", upstream.as_ref(), expected, why)?;
        // Another pool may have more threads than the one that the forward ran on.
        self.grow(&problem, true)?;
        let coefficient = |i: usize| {
            let weight = batch.weights.as_ref().map_or(1.0, |weights| f64::from(weights.0[i]));
            let upstream =
                upstream.as_ref().map_or(1.0, |u| f64::from(u.0[if expected == 1 { 0 } else { i }]));
            upstream * weight * reduction
        };
        if self.config.is_symmetric() {
            self.sweep_both(&problem, batch, coefficient, gradients);
        } else {
            self.sweep_columns(&problem, column_tiles, batch, coefficient, gradients);
        }
        Ok(Output { of: self })
    }

    /// Sweep 1 and the forward row stage.
    fn sweep_rows<T: Element>(&mut self, batch: &Batch<'_, T>, gradients: bool) -> Result<()> {
        let problem = Problem::new(batch, &self.config)?;
        let reduction = reduction_scale(&self.config, batch)?;
        check_probabilities(&self.config, &problem, batch)?;
        check_indices(&problem, batch)?;
        self.grow(&problem, gradients)?;
        let columns = Columns::new(batch);
        // A symmetric loss has no O: both gradients are sums of sweep 2.
        let with_output = gradients && !self.config.is_symmetric();
        sweep_rows(&self.config, &problem, batch, &mut self.workspace, with_output);
        if self.config.is_symmetric() {
            sweep_rows(&self.config, &problem, &exchanged(batch), &mut self.exchanged, false);
            let items = &self.exchanged.forward.row_losses;
            let rows = self.workspace.forward.row_losses[..problem.rows].iter_mut().zip(items);
            rows.for_each(|(user, item)| *user = (*user + *item) / 2.0);
        }
        let forward = &self.workspace.forward;
        let sum: f64 = forward.row_losses[..problem.rows].iter().map(|loss| f64::from(*loss)).sum();
        self.loss = (self.config.get_reduction() != Reduction::None).then_some((sum * reduction) as f32);
        self.problem = Some(problem);
        self.saved = if gradients {
            Saved::Forward { reduction, column_tiles: columns.tiles() }
        } else {
            Saved::Nothing
        };
        (self.d_inverse_temperature, self.d_bias) = (None, None);
        Ok(())
    }

    /// The backward row stage and sweep 2.
    fn sweep_columns<T: Element, G: Element>(
        &mut self,
        problem: &Problem,
        column_tiles: usize,
        batch: &Batch<'_, T>,
        coefficient: impl Fn(usize) -> f64 + Sync,
        gradients: &mut Gradients<'_, G>,
    ) {
        let columns = Columns::new(batch);
        let Workspace { prepared, cells, forward, backward } = &mut self.workspace;
        let mut rows = RowSweep::new(&self.config, problem, batch, &columns, prepared);
        rows.partition = RowPartition::new(problem, column_tiles);
        rows.user_gradients(&self.config, forward, coefficient, backward, gradients.users.0);
        let each = backward.rows[..problem.rows].iter().map(|row| row.d_inverse_temperature);
        self.d_inverse_temperature = Some(each.sum::<f64>() as f32);
        let each = backward.rows[..problem.rows].iter().map(|row| row.d_bias);
        let has_bias = matches!(self.config.get_objective(), Objective::Sigmoid { .. });
        self.d_bias = has_bias.then(|| each.sum::<f64>() as f32);
        let lanes = lanes(problem.gradient_columns());
        let hardest_alone = self.config.get_hard_negatives().is_some();
        let own_gradients = gradients.row_negatives.is_some() || gradients.row_negatives_log_q.is_some();
        let chosen = cells_per_row(&self.config, problem).filter(|_| hardest_alone || own_gradients);
        let chosen = chosen.map(|per_row| {
            cells.sort(per_row, problem);
            (&*cells, per_row)
        });
        let hardest = chosen.filter(|_| hardest_alone);
        let sweep = ColumnSweep { forward: &rows, lanes, rows: backward, own: None, cells: hardest };
        let embeddings = Some(&mut *gradients.items.0);
        let log_q = gradients.log_q.as_mut().map(|log_q| &mut *log_q.0);
        sweep.run(&columns.segments[0], ColumnGradients { embeddings, log_q, temperature: None });
        let embeddings = gradients.extra.as_mut().map(|extra| &mut *extra.0);
        let log_q = gradients.extra_log_q.as_mut().map(|log_q| &mut *log_q.0);
        sweep.run(&columns.segments[1], ColumnGradients { embeddings, log_q, temperature: None });
        let embeddings = gradients.row_negatives.as_mut().map(|own| &mut *own.0);
        let log_q = gradients.row_negatives_log_q.as_mut().map(|log_q| &mut *log_q.0);
        let of_own = ColumnSweep { cells: chosen, ..sweep };
        of_own.run(&columns.own, ColumnGradients { embeddings, log_q, temperature: None });
    }

    /// Sweep 2 of a symmetric loss, once for the items and once for the users.
    fn sweep_both<T: Element, G: Element>(
        &mut self,
        problem: &Problem,
        batch: &Batch<'_, T>,
        coefficient: impl Fn(usize) -> f64 + Sync,
        gradients: &mut Gradients<'_, G>,
    ) {
        let Self { config, workspace, exchanged: other, .. } = self;
        let exchanged = exchanged(batch);
        let (items, users) = (Columns::new(batch), Columns::new(&exchanged));
        let directions =
            [(&workspace.forward, &mut workspace.backward), (&other.forward, &mut other.backward)];
        symmetric_coefficients(config, coefficient, directions, problem.rows);
        let forth = RowSweep::new(config, problem, batch, &items, &workspace.prepared);
        let back = RowSweep::new(config, problem, &exchanged, &users, &other.prepared);
        let lanes = lanes(problem.rows);
        let terms = &mut std::mem::take(&mut workspace.backward.terms);
        let of_items = ColumnSweep {
            forward: &forth,
            lanes,
            rows: &workspace.backward,
            own: Some((&back, &other.backward)),
            cells: None,
        };
        let temperature = Some(&mut terms[..problem.rows]);
        let embeddings = Some(&mut *gradients.items.0);
        let log_q = gradients.log_q.as_mut().map(|log_q| &mut *log_q.0);
        of_items.run(&items.segments[0], ColumnGradients { embeddings, log_q, temperature });
        let of_users = ColumnSweep {
            forward: &back,
            lanes,
            rows: &other.backward,
            own: Some((&forth, &workspace.backward)),
            cells: None,
        };
        let embeddings = Some(&mut *gradients.users.0);
        let log_q = gradients.user_log_q.as_mut().map(|log_q| &mut *log_q.0);
        of_users.run(&users.segments[0], ColumnGradients { embeddings, log_q, temperature: None });
        let scores: f64 = terms[..problem.rows].iter().map(|term| f64::from(*term)).sum();
        // What does not go through scores: log q inside the temperature, in either direction.
        let rows = workspace.backward.rows[..problem.rows].iter().chain(&other.backward.rows[..problem.rows]);
        let beside: f64 = rows.map(|row| row.d_inverse_temperature).sum();
        self.d_inverse_temperature = Some((scores + beside) as f32);
        self.workspace.backward.terms = std::mem::take(terms);
    }

    fn grow(&mut self, problem: &Problem, gradients: bool) -> Result<()> {
        self.workspace.reserve(problem, &self.config, gradients)?;
        match self.config.is_symmetric() {
            true => self.exchanged.reserve(problem, &self.config, gradients),
            false => Ok(()),
        }
    }
}

/// Sweep 1 of one direction and its row stage.
fn sweep_rows<T: Element>(
    config: &LossConfig,
    problem: &Problem,
    batch: &Batch<'_, T>,
    workspace: &mut Workspace,
    with_output: bool,
) {
    let columns = Columns::new(batch);
    workspace.prepared.prepare(config, batch, &columns);
    let Workspace { prepared, cells, forward, .. } = workspace;
    let sweep = RowSweep::new(config, problem, batch, &columns, prepared);
    match (config.get_hard_negatives(), &batch.row_negatives) {
        (Some(kept), _) => {
            sweep.mine(forward, &mut cells.found, kept, with_output);
            sweep.add_cells(Source::Found, kept, cells, forward, with_output);
        }
        (None, Some(own)) => {
            sweep.run(forward, with_output);
            let source = Source::Own(own.indices.as_ref().map(|indices| indices.0));
            sweep.add_cells(source, own.per_row, cells, forward, with_output);
        }
        (None, None) => sweep.run(forward, with_output),
    }
    sweep.finish(config, batch.weights.as_ref().map(|w| w.0), forward, with_output);
}

/// The batch with users and items exchanged. Ids and weights belong to the pair, and stay.
fn exchanged<'a, T: Element>(batch: &Batch<'a, T>) -> Batch<'a, T> {
    Batch {
        users: batch.items,
        items: batch.users,
        dim: batch.dim,
        offset: 0,
        log_q: batch.user_log_q,
        user_log_q: None,
        item_ids: batch.item_ids,
        user_ids: batch.user_ids,
        weights: batch.weights,
        extra: None,
        bank: None,
        row_negatives: None,
    }
}

/// `1/B`, `1 / sum w` or 1.
fn reduction_scale<T: Element>(config: &LossConfig, batch: &Batch<'_, T>) -> Result<f64> {
    match (config.get_reduction(), &batch.weights) {
        (Reduction::Mean, _) => Ok(batch.dim as f64 / batch.users.0.len() as f64),
        (Reduction::WeightedMean, Some(weights)) => {
            let sum: f64 = weights.0.iter().map(|w| f64::from(*w)).sum();
            if sum == 0.0 || !sum.is_finite() {
                return Err(Error::WeightSum(sum as f32));
            }
            Ok(1.0 / sum)
        }
        _ => Ok(1.0),
    }
}

/// The corrected log q subtracts `log(q / (1 - q_+))`.
fn check_probabilities<T: Element>(
    config: &LossConfig,
    problem: &Problem,
    batch: &Batch<'_, T>,
) -> Result<()> {
    if config.get_objective() != Objective::CorrectedLogQ || config.get_logq_scale() == 0.0 {
        return Ok(());
    }
    let log_q = batch.log_q.as_ref().map_or(&[][..], |log_q| log_q.0);
    let positives = log_q.iter().skip(problem.offset).take(problem.rows).enumerate();
    match positives.into_iter().find(|(_, log_q)| log_q.is_nan() || **log_q >= 0.0) {
        Some((row, log_q)) => Err(Error::NotAProbability { row, log_q: *log_q }),
        None => Ok(()),
    }
}
