//! What to compute: temperature, log q, objective, exclusion, normalisation, reduction.

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

/// Where log q stands to the temperature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogQOrder {
    /// `z = s / tau - lambda log_q`, with s the inner product (Yi et al. 2019, TFRS, TensorFlow).
    #[default]
    OutsideTemperature,
    /// `z = (s - lambda log_q) / tau` (Merlin's order): a small temperature enlarges the correction too.
    InsideTemperature,
}

/// What a row makes of its logits. With `LSE` the log-sum-exp over the row's negatives, `n` their number, `z+` the
/// positive's logit and `softplus(x) = log(1 + e^x)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Objective {
    /// Sampled softmax: `softplus(LSE - z+)`.
    #[default]
    Softmax,
    /// Softmax with a margin on the positive: `softplus(LSE - (z+ - margin))`. In units of the logit: a margin `m` on
    /// the cosine is `m / tau` here (CosFace, Wang et al. 2018).
    AdditiveMargin {
        /// Any finite number; 0 is [`Objective::Softmax`].
        margin: f32,
    },
    /// Decoupled contrastive learning: `LSE - z+`, the positive absent from the denominator (Yeh et al. 2021).
    /// May be negative.
    Decoupled,
    /// The corrected log q of Khrylchenko et al. 2025: `w (LSE' - s+)` with `LSE' = LSE + lambda log(1 - q_+)` and
    /// `w = sigmoid(LSE' - log n - s+)`, through which no gradient flows. The positive is never corrected
    /// ([`PositiveCorrection`] is ignored), and `log_q` holds logarithms of probabilities below 1. May be negative.
    CorrectedLogQ,
    /// Debiased contrastive loss: `log(e^{z+} + G) - z+` with
    /// `G = max((e^LSE - n tau_plus e^{z+}) / (1 - tau_plus), n e^{-1/tau})` (Chuang et al. 2020). The lower bound
    /// supposes unit vectors; log q has no place in it.
    Debiased {
        /// `tau_plus`, the share of positives among the negatives: in `[0, 1)`; 0 is [`Objective::Softmax`] but for
        /// the bound.
        positive_prior: f32,
    },
    /// A yes-or-no question for each pair: `softplus(-z+) + sum_j softplus(z_ij)`, `z = s / tau + bias - lambda log_q`.
    /// SigLIP (Zhai et al. 2023) with both constants learnt; noise-contrastive estimation with log q the logarithm of
    /// the *expected count*; negative sampling without log q.
    Sigmoid {
        /// Added to every logit; SigLIP starts at -10. Its gradient comes with every backward.
        bias: f32,
    },
}

/// What makes weights of logits in the sweeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// `W_ij = exp(z_ij - LSE_i)`.
    Softmax,
    /// `W_ij = sigmoid(z_ij)`.
    Sigmoid,
}

/// What a configuration asks of the sweeps beyond softmax, exclusion and normalisation. A kernel that lacks one of
/// these must leave the work to one that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SweepFeatures {
    /// The weight's form.
    pub(crate) link: Link,
    /// Negatives, excluded pairs and the positive's rank are counted in sweep 1.
    pub(crate) counts: bool,
    /// Sweep 1 accumulates the weighted column bias, which the temperature's gradient needs.
    pub(crate) moment: bool,
    /// Columns have a loss of their own: sweep 2 adds two weights, and runs for the users too.
    pub(crate) symmetric: bool,
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
    objective: Objective,
    logq_order: LogQOrder,
    metrics: bool,
    symmetric: bool,
    hard_negatives: Option<u32>,
}

impl LossConfig {
    /// The most negatives that [`LossConfig::hard_negatives`] keeps.
    pub const MAX_HARD_NEGATIVES: usize = 128;

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
        Ok(Self { temperature, ..Self::of_link(Link::Softmax) })
    }

    /// The plain loss of a link at temperature 1: what the sweeps of a loss over a class table compute.
    pub(crate) fn of_link(link: Link) -> Self {
        Self {
            temperature: 1.0,
            logq_scale: 1.0,
            positive_correction: PositiveCorrection::default(),
            exclude_same_item: false,
            exclude_same_user: false,
            normalize: false,
            reduction: Reduction::default(),
            objective: match link {
                Link::Softmax => Objective::Softmax,
                Link::Sigmoid => Objective::Sigmoid { bias: 0.0 },
            },
            logq_order: LogQOrder::default(),
            metrics: false,
            symmetric: false,
            hard_negatives: None,
        }
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

    /// What a row makes of its logits; [`Objective::Softmax`] by default.
    ///
    /// # Errors
    /// [`Error::Margin`], [`Error::PositivePrior`] or [`Error::SigmoidBias`] for a parameter outside its range.
    pub fn objective(mut self, objective: Objective) -> Result<Self> {
        match objective {
            Objective::AdditiveMargin { margin } if !margin.is_finite() => return Err(Error::Margin(margin)),
            Objective::Debiased { positive_prior } if !(0.0..1.0).contains(&positive_prior) => {
                return Err(Error::PositivePrior(positive_prior));
            }
            Objective::Sigmoid { bias } if !bias.is_finite() => return Err(Error::SigmoidBias(bias)),
            _ => self.objective = objective,
        }
        Ok(self)
    }

    /// Whether log q is divided by the temperature too.
    pub fn logq_order(mut self, logq_order: LogQOrder) -> Self {
        self.logq_order = logq_order;
        self
    }

    /// Averages the loss of users against items and that of items against users (CLIP, sentence-transformers'
    /// `MultipleNegativesSymmetricRankingLoss`): row i's loss is the mean of user i's among the items and item i's among
    /// the users. Items and users of the batch alone: as many items as users, no extra negatives, no bank, no
    /// negatives of each row's own, no [`LossConfig::hard_negatives`]. Log q may be given for the items ([`Batch::log_q`](crate::Batch::log_q)), for the users
    /// ([`Batch::user_log_q`](crate::Batch::user_log_q)), or for both. What is excluded is excluded either way. For
    /// [`Objective::Softmax`], [`Objective::AdditiveMargin`] and [`Objective::Decoupled`]. Counts and log-sum-exp are
    /// those of the users' rows. A user of weight 0 stays a negative of the items.
    pub fn symmetric(mut self, symmetric: bool) -> Self {
        self.symmetric = symmetric;
        self
    }

    /// Keeps only the `k` negatives of highest logit of each row, corrected and after exclusion, out of batch, extra
    /// negatives and bank (TensorFlow Recommenders' `num_hard_negatives`). Of equal logits the column that comes first
    /// stays. Fewer where a row has fewer. Counts are those of the negatives kept.
    ///
    /// # Errors
    /// [`Error::HardNegativesCount`] unless `k` lies in `1..=`[`LossConfig::MAX_HARD_NEGATIVES`].
    pub fn hard_negatives(mut self, k: usize) -> Result<Self> {
        if k == 0 || k > Self::MAX_HARD_NEGATIVES {
            return Err(Error::HardNegativesCount { asked: k, max: Self::MAX_HARD_NEGATIVES });
        }
        self.hard_negatives = Some(k as u32);
        Ok(self)
    }

    /// Every negative again, after [`LossConfig::hard_negatives`].
    pub fn all_negatives(mut self) -> Self {
        self.hard_negatives = None;
        self
    }

    /// Counts, in the same sweep, each positive's rank, its negatives and its excluded pairs: see
    /// [`Metrics`](crate::Metrics).
    pub fn metrics(mut self, metrics: bool) -> Self {
        self.metrics = metrics;
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

    /// The objective.
    pub fn get_objective(&self) -> Objective {
        self.objective
    }

    /// Where log q stands to the temperature.
    pub fn get_logq_order(&self) -> LogQOrder {
        self.logq_order
    }

    /// Whether ranks, negatives and excluded pairs are counted.
    pub fn counts_metrics(&self) -> bool {
        self.metrics
    }

    /// Whether items are ranked against users, too.
    pub fn is_symmetric(&self) -> bool {
        self.symmetric
    }

    /// How many negatives of each row are kept, if not all.
    pub fn get_hard_negatives(&self) -> Option<usize> {
        self.hard_negatives.map(|k| k as usize)
    }

    /// Whether log q enters the positive's logit.
    pub(crate) fn corrects_positive(&self) -> bool {
        self.positive_correction == PositiveCorrection::Corrected
            && self.objective != Objective::CorrectedLogQ
    }

    /// What is added to every logit, the positive's too.
    pub(crate) fn bias(&self) -> f32 {
        match self.objective {
            Objective::Sigmoid { bias } => bias,
            _ => 0.0,
        }
    }

    /// What the sweeps must be able to do.
    pub(crate) fn sweep_features(&self) -> SweepFeatures {
        let needs_count = matches!(self.objective, Objective::CorrectedLogQ | Objective::Debiased { .. });
        SweepFeatures {
            link: match self.objective {
                Objective::Sigmoid { .. } => Link::Sigmoid,
                _ => Link::Softmax,
            },
            counts: self.metrics || needs_count,
            moment: self.logq_order == LogQOrder::InsideTemperature && self.logq_scale != 0.0,
            symmetric: self.symmetric,
        }
    }
}
