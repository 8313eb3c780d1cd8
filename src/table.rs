//! Losses over a class table: sampled softmax, NCE and negative sampling with TensorFlow's semantics, apart from the
//! backends.
//!
//! Row `i` has an input `x_i`, `T = num_true` true classes and shares `S` sampled classes with all rows:
//!
//! ```text
//! z_c    = <x_i, w_c> + b_c - log E_c                   E_c: expected count of class c; left out by subtract_log_q(false)
//! LSE_i  = log sum exp(z) over the sampled classes that are no accidental hit
//! L+_i   = log sum exp(z) over the true classes
//! loss_i = log(exp(LSE_i) + exp(L+_i)) - mean_k z+_ik
//! ```
//!
//! which is the cross entropy of the true and sampled logits together against labels `1/T` on the true ones, as in
//! `tf.nn.sampled_softmax_loss` (Jean et al. 2015). With a sigmoid for each logit instead,
//!
//! ```text
//! loss_i = sum_k [softplus(z+_ik) - z+_ik / T] + sum over the sampled classes of softplus(z)
//! ```
//!
//! it is `tf.nn.nce_loss` (noise-contrastive estimation, Gutmann and Hyvarinen 2010), where the log of the expected count is part
//! of the model and no constant cancels; without log q, negative sampling (Mikolov et al. 2013).
//!
//! An accidental hit is a sampled class that equals **any** true class of the row; where hits are removed it takes no part
//! (TensorFlow subtracts a large number instead).

use crate::config::Link;
use crate::problem::{MAX_DIM, check_length, row_count};
use crate::{Backend, Dtype, Element, Error, Length, Problem, Reduction, Result};

/// What a loss over a class table computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableConfig {
    pub(crate) link: Link,
    pub(crate) subtract_log_q: bool,
    pub(crate) remove_accidental_hits: bool,
    pub(crate) reduction: Reduction,
}

impl TableConfig {
    /// `tf.nn.sampled_softmax_loss`: log q is subtracted from true and sampled logits, accidental hits are removed.
    pub fn sampled_softmax() -> Self {
        Self {
            link: Link::Softmax,
            subtract_log_q: true,
            remove_accidental_hits: true,
            reduction: Reduction::Mean,
        }
    }

    /// `tf.nn.nce_loss`: a sigmoid for each logit, log q subtracted, accidental hits kept.
    pub fn nce() -> Self {
        Self { link: Link::Sigmoid, remove_accidental_hits: false, ..Self::sampled_softmax() }
    }

    /// Negative sampling: [`TableConfig::nce`] without log q.
    pub fn negative_sampling() -> Self {
        Self { subtract_log_q: false, ..Self::nce() }
    }

    /// Whether the logs of the expected counts are subtracted.
    pub fn subtract_log_q(mut self, subtract: bool) -> Self {
        self.subtract_log_q = subtract;
        self
    }

    /// Whether sampled classes that equal a true class of the row are left out.
    pub fn remove_accidental_hits(mut self, remove: bool) -> Self {
        self.remove_accidental_hits = remove;
        self
    }

    /// How row losses become the loss. (TensorFlow returns them as they are: [`Reduction::None`].)
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }
}

/// One call's inputs. Nothing is checked before they reach a loss.
pub struct TableBatch<'a, B: Backend, T: Element> {
    pub(crate) inputs: B::View<'a, T>,
    pub(crate) weights: B::View<'a, T>,
    pub(crate) dim: usize,
    pub(crate) biases: Option<B::View<'a, f32>>,
    pub(crate) labels: B::View<'a, i64>,
    pub(crate) num_true: usize,
    pub(crate) sampled: B::View<'a, i64>,
    pub(crate) label_log_q: Option<B::View<'a, f32>>,
    pub(crate) sampled_log_q: Option<B::View<'a, f32>>,
    pub(crate) row_weights: Option<B::View<'a, f32>>,
}

impl<'a, B: Backend, T: Element> TableBatch<'a, B, T> {
    /// `inputs [rows, dim]`, class `weights [classes, dim]`, `labels [rows, num_true]` the true classes of each row, all
    /// different, and `sampled [num_sampled]` classes, the same ones twice or not.
    pub fn new(
        inputs: impl Into<B::View<'a, T>>,
        weights: impl Into<B::View<'a, T>>,
        dim: usize,
        labels: impl Into<B::View<'a, i64>>,
        num_true: usize,
        sampled: impl Into<B::View<'a, i64>>,
    ) -> Self {
        Self {
            inputs: inputs.into(),
            weights: weights.into(),
            dim,
            biases: None,
            labels: labels.into(),
            num_true,
            sampled: sampled.into(),
            label_log_q: None,
            sampled_log_q: None,
            row_weights: None,
        }
    }

    /// `[classes]` biases of the classes.
    pub fn biases(mut self, biases: impl Into<B::View<'a, f32>>) -> Self {
        self.biases = Some(biases.into());
        self
    }

    /// The logs of the expected counts of `labels [rows, num_true]` and of `sampled [num_sampled]` in the sample, as
    /// samplers return them (TensorFlow takes the counts themselves).
    pub fn log_q(
        mut self,
        labels: impl Into<B::View<'a, f32>>,
        sampled: impl Into<B::View<'a, f32>>,
    ) -> Self {
        self.label_log_q = Some(labels.into());
        self.sampled_log_q = Some(sampled.into());
        self
    }

    /// `[rows]` weights of the rows, multiplied into their losses.
    pub fn row_weights(mut self, weights: impl Into<B::View<'a, f32>>) -> Self {
        self.row_weights = Some(weights.into());
        self
    }
}

/// Where gradients are written: dense for the inputs, sparse for the table.
///
/// Of the `rows num_true + num_sampled` classes that a call names, each different one gets one row, in the order of first
/// appearance (labels row by row, then the sampled ones). The buffers have room for all; how many were written the
/// call's output says, and the ids beyond are -1.
pub struct TableGradients<'a, B: Backend, G: Element> {
    pub(crate) inputs: B::ViewMut<'a, G>,
    pub(crate) ids: B::ViewMut<'a, i64>,
    pub(crate) weights: B::ViewMut<'a, G>,
    pub(crate) biases: Option<B::ViewMut<'a, f32>>,
}

impl<'a, B: Backend, G: Element> TableGradients<'a, B, G> {
    /// `inputs [rows, dim]`, `ids [n]` and `weights [n, dim]` with `n = rows num_true + num_sampled`.
    pub fn new(
        inputs: impl Into<B::ViewMut<'a, G>>,
        ids: impl Into<B::ViewMut<'a, i64>>,
        weights: impl Into<B::ViewMut<'a, G>>,
    ) -> Self {
        Self { inputs: inputs.into(), ids: ids.into(), weights: weights.into(), biases: None }
    }

    /// `[n]` gradients of the biases of the same classes.
    pub fn biases(mut self, biases: impl Into<B::ViewMut<'a, f32>>) -> Self {
        self.biases = Some(biases.into());
        self
    }
}

/// The shape of one call. Two calls with equal shapes need the same workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableShape {
    /// `B`: inputs.
    pub rows: usize,
    /// `D`: dimension of inputs and classes.
    pub dim: usize,
    /// `C`: classes of the table.
    pub classes: usize,
    /// `T`: true classes of a row.
    pub num_true: usize,
    /// `S`: sampled classes.
    pub sampled: usize,
    /// Whether classes have biases.
    pub biases: bool,
}

impl TableShape {
    /// Checks every length and every field that the configuration needs.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::NotRows`], [`Error::NoRows`], [`Error::NoTrueClass`], [`Error::NoSamples`],
    /// [`Error::TooLarge`], [`Error::Length`], [`Error::MissingExpectedCounts`], [`Error::MissingWeights`].
    pub fn new<B: Backend, T: Element>(batch: &TableBatch<'_, B, T>, config: &TableConfig) -> Result<Self> {
        let (dim, num_true) = (batch.dim, batch.num_true);
        // Biases take part as one dimension more.
        let max = MAX_DIM - usize::from(batch.biases.is_some());
        if dim == 0 || dim > max {
            return Err(Error::Dimension { dim, max });
        }
        let rows = row_count("inputs", batch.inputs.length(), dim)?;
        let classes = row_count("the class weights", batch.weights.length(), dim)?;
        let sampled = batch.sampled.length();
        if rows == 0 {
            return Err(Error::NoRows);
        }
        if num_true == 0 {
            return Err(Error::NoTrueClass);
        }
        if sampled == 0 {
            return Err(Error::NoSamples);
        }
        let named = (rows as u128).saturating_mul(num_true as u128).saturating_add(sampled as u128);
        let max = i32::MAX as u128;
        if named > max {
            return Err(Error::TooLarge { what: "the number of true and sampled classes", size: named, max });
        }
        check_length("biases", batch.biases.as_ref(), classes, "one for each class")?;
        check_length("labels", Some(&batch.labels), rows * num_true, "num_true for each row")?;
        let why = "one for each label";
        check_length("the labels' log_q", batch.label_log_q.as_ref(), rows * num_true, why)?;
        let why = "one for each sampled class";
        check_length("the sampled classes' log_q", batch.sampled_log_q.as_ref(), sampled, why)?;
        check_length("row_weights", batch.row_weights.as_ref(), rows, "one for each row")?;
        if config.subtract_log_q && batch.sampled_log_q.is_none() {
            return Err(Error::MissingExpectedCounts);
        }
        if config.reduction == Reduction::WeightedMean && batch.row_weights.is_none() {
            return Err(Error::MissingWeights);
        }
        Ok(Self { rows, dim, classes, num_true, sampled, biases: batch.biases.is_some() })
    }

    /// Labels and sampled classes together.
    pub(crate) fn named(&self) -> usize {
        self.rows.saturating_mul(self.num_true).saturating_add(self.sampled)
    }

    /// The sweeps' problem, rows padded to a `multiple` of dimensions. No column is any row's positive: true classes are
    /// not among the columns. Biases take part as one dimension more.
    pub(crate) fn problem(&self, multiple: usize) -> Problem {
        let dim = self.dim.saturating_add(usize::from(self.biases));
        Problem {
            rows: self.rows,
            dim: dim.checked_next_multiple_of(multiple).unwrap_or(dim),
            batch_columns: self.sampled,
            extra_columns: 0,
            bank_columns: 0,
            row_negatives: 0,
            pool: None,
            offset: self.sampled,
            dtype: Dtype::F32,
        }
    }

    /// Checks gradient buffers against the shape.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::UnexpectedBiasGradient`].
    pub(crate) fn check_gradients<B: Backend, G: Element>(
        &self,
        gradients: &TableGradients<'_, B, G>,
    ) -> Result<()> {
        let (named, why) = (self.named(), "one for each label and sampled class");
        let shape = "the shape of the inputs";
        check_length("the gradient of inputs", Some(&gradients.inputs), self.rows * self.dim, shape)?;
        check_length("the gradient's ids", Some(&gradients.ids), named, why)?;
        check_length("the gradient of weights", Some(&gradients.weights), named * self.dim, why)?;
        check_length("the gradient of biases", gradients.biases.as_ref(), named, why)?;
        match gradients.biases.is_some() && !self.biases {
            true => Err(Error::UnexpectedBiasGradient),
            false => Ok(()),
        }
    }
}

/// The row function of several positives under the softmax link: from `LSE` (-inf: no negative) and the positives' logits the loss and `a`;
/// the logits become `b_k = 1/T - (1 - a) softmax_k(z+)`, so that `dloss/dz_ij = a W_ij` and `dloss/dz+_k = -b_k`.
pub(crate) fn several_positives(lse: f64, logits: &mut [f64]) -> (f64, f64) {
    let count = logits.len() as f64;
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|z| (z - largest).exp()).sum();
    // L+ - mean z+, which is exactly 0 for one positive.
    let spread = sum.ln() + logits.iter().map(|z| largest - z).sum::<f64>() / count;
    let x = lse - (largest + sum.ln());
    let e = (-x.abs()).exp();
    let softplus = if x.is_nan() { x } else { x.max(0.0) + e.ln_1p() };
    let a = if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
    for z in logits {
        let share = (*z - largest).exp() / sum;
        // In this order a single positive has b = a to the last bit.
        *z = (1.0 / count - share) + a * share;
    }
    (softplus + spread, a)
}

/// The same under the sigmoid link, from `sum_j softplus(z_ij)`; `a = 1`.
pub(crate) fn several_sigmoids(sum: f64, logits: &mut [f64]) -> (f64, f64) {
    let label = 1.0 / logits.len() as f64;
    let mut loss = sum;
    for z in logits {
        let e = (-z.abs()).exp();
        // softplus(z) - z/T; for one positive softplus(-z), without cancellation.
        loss += z.abs() * if *z >= 0.0 { 1.0 - label } else { label } + e.ln_1p();
        let sigmoid = if *z >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
        let rest = if *z >= 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) };
        *z = if label == 1.0 { rest } else { label - sigmoid };
    }
    (loss, 1.0)
}
