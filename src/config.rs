//! What to compute: temperature, log q, exclusion, normalisation, reduction.

use crate::{Error, Result};

/// Whether the log q correction applies to the positive too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PositiveCorrection {
    /// `z+ = s+ - lambda log_q+`: every column is corrected (Yi et al. 2019, CBNS, TFRS,
    /// TensorFlow's sampled softmax).
    #[default]
    Corrected,
    /// `z+ = s+`: only negatives are corrected (MNS eq. 5, Khrylchenko et al. 2025).
    Uncorrected,
}

/// How row losses become the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// `sum_i w_i loss_i / B`, with `w_i = 1` when no weights are given.
    #[default]
    Mean,
    /// `sum_i w_i loss_i / sum_i w_i`; weights are required and must not sum to 0.
    WeightedMean,
    /// `sum_i w_i loss_i`.
    Sum,
    /// The row losses `w_i loss_i` themselves.
    None,
}

/// The loss to compute. Built once, shared by every step.
///
/// ```
/// use inbatch::{LossConfig, Reduction};
/// let config = LossConfig::new(0.05)?.normalize(true).exclude_same_item(true).reduction(Reduction::Mean);
/// assert_eq!(config.temperature(), 0.05);
/// # Ok::<(), inbatch::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossConfig {
    temperature: f32,
    logq_scale: f32,
    positive_correction: PositiveCorrection,
    exclude_same_item: bool,
    exclude_same_user: bool,
    normalize: bool,
    reduction: Reduction,
}

impl LossConfig {
    /// Scores are `s_ij = <u_i, v_j> / temperature`. Everything else starts at its default: full
    /// log q correction wherever log_q is given, the positive corrected, no exclusion, no
    /// normalisation, mean reduction.
    ///
    /// # Errors
    /// [`Error::Temperature`] unless `temperature` is finite and above 0, with a finite inverse.
    pub fn new(temperature: f32) -> Result<Self> {
        let valid = temperature > 0.0 && temperature.is_finite() && temperature.recip().is_finite();
        if !valid {
            return Err(Error::Temperature(temperature));
        }
        Ok(Self {
            temperature,
            logq_scale: 1.0,
            positive_correction: PositiveCorrection::default(),
            exclude_same_item: false,
            exclude_same_user: false,
            normalize: false,
            reduction: Reduction::default(),
        })
    }

    /// Another temperature, everything else kept; same conditions as [`LossConfig::new`].
    ///
    /// # Errors
    /// [`Error::Temperature`].
    pub fn with_temperature(self, temperature: f32) -> Result<Self> {
        let checked = Self::new(temperature)?;
        Ok(Self { temperature: checked.temperature, ..self })
    }

    /// lambda in `z_ij = s_ij - lambda log_q_j`. 1 is the full correction, 0 ignores log_q.
    ///
    /// # Errors
    /// [`Error::LogqScale`] unless finite.
    pub fn logq_scale(mut self, logq_scale: f32) -> Result<Self> {
        if !logq_scale.is_finite() {
            return Err(Error::LogqScale(logq_scale));
        }
        self.logq_scale = logq_scale;
        Ok(self)
    }

    /// Whether the positive is corrected by log q too.
    pub fn positive_correction(mut self, positive_correction: PositiveCorrection) -> Self {
        self.positive_correction = positive_correction;
        self
    }

    /// Leaves accidental hits out of the sum: columns whose item id equals the positive's.
    /// Needs item ids for every segment.
    pub fn exclude_same_item(mut self, exclude: bool) -> Self {
        self.exclude_same_item = exclude;
        self
    }

    /// Leaves out the positives of other rows of the same user. Needs user ids.
    pub fn exclude_same_user(mut self, exclude: bool) -> Self {
        self.exclude_same_user = exclude;
        self
    }

    /// L2-normalises users and items inside the loss; gradients are those of the raw embeddings.
    /// A row of norm 0 counts as the zero vector and gets a zero gradient.
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// How row losses become the loss.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The temperature tau.
    pub fn temperature(&self) -> f32 {
        self.temperature
    }

    /// lambda, the scale of log q.
    pub fn get_logq_scale(&self) -> f32 {
        self.logq_scale
    }

    /// Whether the positive is corrected.
    pub fn get_positive_correction(&self) -> PositiveCorrection {
        self.positive_correction
    }

    /// Whether accidental hits are left out.
    pub fn excludes_same_item(&self) -> bool {
        self.exclude_same_item
    }

    /// Whether positives of the same user are left out.
    pub fn excludes_same_user(&self) -> bool {
        self.exclude_same_user
    }

    /// Whether embeddings are normalised inside.
    pub fn normalizes(&self) -> bool {
        self.normalize
    }

    /// The reduction.
    pub fn get_reduction(&self) -> Reduction {
        self.reduction
    }
}
