//! Losses over a class table on the CPU: the sampled classes are columns of the same two sweeps as the in-batch loss's.
//!
//! Inputs and classes are gathered into f32 rows first, with biases as one dimension more (1 on the inputs' side), so that
//! the sweeps know nothing of ids, and the gradient of a bias is that of its dimension.

mod classes;
mod rows;

use classes::{Gathered, Named, Names};
use rows::RowStage;

use super::backward::{ColumnGradients, ColumnSweep};
use super::columns::Columns;
use super::exclusion::Groups;
use super::forward::RowSweep;
use super::frequency::check_ids;
use super::tiles::lanes;
use super::workspace::{Workspace, grow};
use super::{Batch, TableBatch, TableGradients};
use crate::table::{TableConfig, TableShape};
use crate::{Element, Error, LossConfig, Reduction, Result};

/// Sampled softmax, NCE or negative sampling over a class table; see [`crate::table`].
///
/// Sampled classes take part by two sweeps like the in-batch loss's, so that there is no `B x S` matrix. The workspace grows
/// at the first call of a larger shape, or by [`TableLoss::reserve`], and is kept.
///
/// ```
/// use inbatch::{cpu, sampling::SamplerConfig, table::TableConfig};
/// let (classes, dim) = (100, 2);
/// let weights: Vec<f32> = (0..classes * dim).map(|k| (k as f32).sin()).collect();
/// let (inputs, labels) = ([0.5_f32, -0.2, 0.1, 0.9], [3, 42]);
/// let mut sampler = cpu::Sampler::new(SamplerConfig::log_uniform(100)?.without_replacement(), 8)?;
/// let (mut sampled, mut sampled_log_q, mut label_log_q) = ([0; 8], [0.0; 8], [0.0; 2]);
/// sampler.sample(&mut sampled, &mut sampled_log_q)?;
/// sampler.log_q(&labels, &mut label_log_q)?;
///
/// let mut loss = cpu::TableLoss::new(TableConfig::sampled_softmax());
/// let batch = cpu::TableBatch::new(&inputs, &weights, dim, &labels, 1, &sampled)
///     .log_q(&label_log_q, &sampled_log_q);
/// let (mut d_inputs, mut ids, mut rows) = ([0.0_f32; 4], [0; 10], [0.0_f32; 20]);
/// let output = loss.step(&batch, &mut cpu::TableGradients::new(&mut d_inputs, &mut ids, &mut rows))?;
/// assert!(output.loss()? > 0.0);
/// let touched = &ids[..output.unique()]; // the rows of the table that get a gradient
/// assert!(touched.contains(&3) && touched.contains(&42));
/// # Ok::<(), inbatch::Error>(())
/// ```
#[derive(Debug)]
pub struct TableLoss {
    config: TableConfig,
    sweeps: Workspace,
    gathered: Gathered,
    hits: Vec<Groups>,
    /// `[B]` each row's label at one place, or `[T]` one row's labels in order.
    keys: Vec<i64>,
    losses: Vec<f32>,
    /// `[B, T]` z+.
    logits: Vec<f64>,
    /// `[B, T]` b_k, times the row's coefficient.
    pulls: Vec<f32>,
    names: Names,
    rows: usize,
    loss: Option<f32>,
    unique: usize,
}

/// What a call left in the loss object.
#[derive(Debug)]
pub struct TableOutput<'a> {
    of: &'a TableLoss,
}

impl TableOutput<'_> {
    /// The reduced loss.
    ///
    /// # Errors
    /// [`Error::NoScalarLoss`] under [`Reduction::None`].
    pub fn loss(&self) -> Result<f32> {
        self.of.loss.ok_or(Error::NoScalarLoss)
    }

    /// `[rows]` losses, times the row weights.
    pub fn row_losses(&self) -> &[f32] {
        &self.of.losses[..self.of.rows]
    }

    /// How many rows of the sparse gradient a step has written; 0 after an evaluation.
    pub fn unique(&self) -> usize {
        self.of.unique
    }
}

impl TableLoss {
    /// A loss object; its workspace grows at the first call.
    pub fn new(config: TableConfig) -> Self {
        Self {
            config,
            sweeps: Workspace::default(),
            gathered: Gathered::default(),
            hits: Vec::new(),
            keys: Vec::new(),
            losses: Vec::new(),
            logits: Vec::new(),
            pulls: Vec::new(),
            names: Names::default(),
            rows: 0,
            loss: None,
            unique: 0,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &TableConfig {
        &self.config
    }

    /// Bytes of workspace that a step of this shape needs, on the current thread pool. The matrix product library's
    /// packing buffers, under 1 MiB a thread, come on top and are freed within the call.
    pub fn workspace_bytes(&self, shape: &TableShape) -> u128 {
        let (problem, rows) = (shape.problem(1), shape.rows as u128);
        let labels = rows * shape.num_true as u128;
        let mut bytes = Workspace::bytes(&problem, &LossConfig::of_link(self.config.link), true)
            + Gathered::bytes(shape, problem.dim)
            + Names::bytes(shape.named())
            + rows * size_of::<f32>() as u128
            + labels * (size_of::<f64>() + size_of::<f32>()) as u128
            + shape.rows.max(shape.num_true) as u128 * size_of::<i64>() as u128;
        if self.config.remove_accidental_hits {
            let groups = Groups::bytes(shape.rows, shape.sampled) + size_of::<Groups>() as u128;
            bytes += shape.num_true as u128 * groups;
            bytes += Workspace::label_bytes(&problem, shape.num_true);
        }
        bytes
    }

    /// Allocates the workspace for shapes up to this one, so that no later call grows it.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn reserve(&mut self, shape: &TableShape) -> Result<()> {
        self.grow(shape, true)
    }

    /// Loss only.
    ///
    /// # Errors
    /// [`Error::UnknownId`] for a label or sampled class outside the table, [`Error::DuplicateLabel`],
    /// [`Error::ExpectedCount`] for a class that the sampler never draws, [`Error::WeightSum`], and what does not fit:
    /// [`Error::Dimension`], [`Error::NotRows`], [`Error::NoRows`], [`Error::NoTrueClass`], [`Error::NoSamples`],
    /// [`Error::Length`], [`Error::MissingExpectedCounts`], [`Error::MissingWeights`], [`Error::OutOfMemory`].
    pub fn evaluate<T: Element>(&mut self, batch: &TableBatch<'_, T>) -> Result<TableOutput<'_>> {
        let shape = TableShape::new(batch, &self.config)?;
        self.run::<T, f32>(batch, shape, None)?;
        Ok(TableOutput { of: self })
    }

    /// Loss and gradients. Rows of the table's gradient beyond [`TableOutput::unique`] are not written.
    ///
    /// # Errors
    /// As [`TableLoss::evaluate`], and [`Error::Length`] or [`Error::UnexpectedBiasGradient`] for the gradient buffers.
    /// Nothing has been written to them then.
    pub fn step<T: Element, G: Element>(
        &mut self,
        batch: &TableBatch<'_, T>,
        gradients: &mut TableGradients<'_, G>,
    ) -> Result<TableOutput<'_>> {
        let shape = TableShape::new(batch, &self.config)?;
        shape.check_gradients(gradients)?;
        self.run(batch, shape, Some(gradients))?;
        Ok(TableOutput { of: self })
    }

    fn run<T: Element, G: Element>(
        &mut self,
        batch: &TableBatch<'_, T>,
        shape: TableShape,
        gradients: Option<&mut TableGradients<'_, G>>,
    ) -> Result<()> {
        grow(&mut self.keys, shape.rows.max(shape.num_true))?;
        check_classes(batch, &shape, &self.config, &mut self.keys)?;
        let reduction = reduction_scale(&self.config, batch, &shape)?;
        self.grow(&shape, gradients.is_some())?;
        let (problem, sweep_config) = (shape.problem(1), LossConfig::of_link(self.config.link));
        let dim = problem.dim;
        self.gathered.fill(batch, &shape, dim);
        self.build_hits(batch, &shape);

        let sampled_log_q = batch.sampled_log_q.as_ref().filter(|_| self.config.subtract_log_q);
        let Gathered { inputs, labels, sampled, d_sampled, ids } = &mut self.gathered;
        let columns = Batch::<f32>::new(&inputs[..shape.rows * dim], &sampled[..shape.sampled * dim], dim);
        let columns = match sampled_log_q {
            Some(log_q) => columns.log_q(log_q.0),
            None => columns,
        };
        let streamed = Columns::new(&columns);
        let Workspace { prepared, forward, backward, .. } = &mut self.sweeps;
        let mut sweep = RowSweep::new(&sweep_config, &problem, &columns, &streamed, prepared);
        sweep.labels = if self.config.remove_accidental_hits { &self.hits[..shape.num_true] } else { &[] };
        sweep.run(forward, gradients.is_some());

        let stage = RowStage {
            sweep: &sweep,
            shape: &shape,
            inputs,
            labels,
            label_log_q: batch.label_log_q.as_ref().filter(|_| self.config.subtract_log_q).map(|q| q.0),
            row_weights: batch.row_weights.as_ref().map(|weights| weights.0),
            reduction,
        };
        let losses = &mut self.losses[..shape.rows];
        let logits = &mut self.logits[..shape.rows * shape.num_true];
        self.unique = match gradients {
            None => {
                stage.losses(forward, logits, losses);
                0
            }
            Some(gradients) => {
                let pulls = &mut self.pulls[..shape.rows * shape.num_true];
                stage.gradients(forward, backward, logits, losses, pulls, gradients.inputs.0);
                let d_sampled = &mut d_sampled[..shape.sampled * dim];
                let lanes = lanes(shape.sampled);
                let target =
                    ColumnGradients { embeddings: Some(&mut *d_sampled), log_q: None, temperature: None };
                ColumnSweep { forward: &sweep, lanes, rows: backward, own: None, cells: None }
                    .run(&streamed.segments[0], target);
                let named = Named { shape: &shape, dim, ids, inputs, pulls, d_sampled, prepared };
                named.scatter(&mut self.names, gradients)
            }
        };
        self.rows = shape.rows;
        let sum: f64 = self.losses[..shape.rows].iter().map(|loss| f64::from(*loss)).sum();
        self.loss = (self.config.reduction != Reduction::None).then_some((sum * reduction) as f32);
        Ok(())
    }

    /// Makes room for a shape; does nothing when there is room already.
    fn grow(&mut self, shape: &TableShape, gradients: bool) -> Result<()> {
        let bytes = self.workspace_bytes(shape);
        if bytes > isize::MAX as u128 {
            return Err(Error::OutOfMemory { bytes });
        }
        let problem = shape.problem(1);
        self.sweeps.reserve(&problem, &LossConfig::of_link(self.config.link), gradients)?;
        self.gathered.reserve(shape, problem.dim, gradients)?;
        grow(&mut self.keys, shape.rows.max(shape.num_true))?;
        grow(&mut self.losses, shape.rows)?;
        grow(&mut self.logits, shape.rows * shape.num_true)?;
        if gradients {
            grow(&mut self.pulls, shape.rows * shape.num_true)?;
            self.names.reserve(shape.named())?;
        }
        if !self.config.remove_accidental_hits {
            return Ok(());
        }
        if self.hits.len() < shape.num_true {
            let bytes = (shape.num_true * size_of::<Groups>()) as u128;
            let more = shape.num_true - self.hits.len();
            self.hits.try_reserve_exact(more).map_err(|_| Error::OutOfMemory { bytes })?;
            self.hits.resize_with(shape.num_true, Groups::default);
        }
        for hits in &mut self.hits[..shape.num_true] {
            hits.reserve(shape.rows, shape.sampled)?;
        }
        self.sweeps.reserve_labels(&problem, shape.num_true)
    }

    /// One grouping for each place of a label: which sampled classes equal it, row by row.
    fn build_hits<T: Element>(&mut self, batch: &TableBatch<'_, T>, shape: &TableShape) {
        if !self.config.remove_accidental_hits {
            return;
        }
        let place = &mut self.keys[..shape.rows];
        for (k, hits) in self.hits.iter_mut().take(shape.num_true).enumerate() {
            let labels = batch.labels.0.iter().skip(k).step_by(shape.num_true);
            place.iter_mut().zip(labels).for_each(|(place, label)| *place = *label);
            hits.build(place, shape.sampled, std::iter::once((0, batch.sampled.0)));
        }
    }
}

/// Labels of a row up to which each is compared with each; more are sorted.
const FEW_LABELS: usize = 16;

/// Ids inside the table, true classes of a row all different, expected counts above 0. `sorted` has room for a row's labels.
fn check_classes<T: Element>(
    batch: &TableBatch<'_, T>,
    shape: &TableShape,
    config: &TableConfig,
    sorted: &mut [i64],
) -> Result<()> {
    let known = |id| usize::try_from(id).is_ok_and(|id: usize| id < shape.classes);
    check_ids(batch.labels.0, known, shape.classes)?;
    check_ids(batch.sampled.0, known, shape.classes)?;
    for (row, labels) in batch.labels.0.chunks_exact(shape.num_true).enumerate() {
        if labels.len() > FEW_LABELS {
            let sorted = &mut sorted[..labels.len()];
            sorted.copy_from_slice(labels);
            sorted.sort_unstable();
            if sorted.windows(2).all(|pair| pair[0] != pair[1]) {
                continue;
            }
        }
        // The first that repeats an earlier one.
        for (k, id) in labels.iter().enumerate() {
            if labels[..k].contains(id) {
                return Err(Error::DuplicateLabel { row, id: *id });
            }
        }
    }
    if config.subtract_log_q {
        for (what, log_q) in [("label", &batch.label_log_q), ("sampled class", &batch.sampled_log_q)] {
            let log_q = log_q.as_ref().map_or(&[][..], |log_q| log_q.0);
            if let Some((index, log_q)) = log_q.iter().enumerate().find(|(_, log_q)| !log_q.is_finite()) {
                return Err(Error::ExpectedCount { what, index, log_q: *log_q });
            }
        }
    }
    Ok(())
}

/// `1/B`, `1 / sum w` or 1.
fn reduction_scale<T: Element>(
    config: &TableConfig,
    batch: &TableBatch<'_, T>,
    shape: &TableShape,
) -> Result<f64> {
    match (config.reduction, &batch.row_weights) {
        (Reduction::Mean, _) => Ok(1.0 / shape.rows as f64),
        (Reduction::WeightedMean, Some(weights)) => {
            let sum: f64 = weights.0.iter().map(|w| f64::from(*w)).sum();
            match sum != 0.0 && sum.is_finite() {
                true => Ok(1.0 / sum),
                false => Err(Error::WeightSum(sum as f32)),
            }
        }
        _ => Ok(1.0),
    }
}
