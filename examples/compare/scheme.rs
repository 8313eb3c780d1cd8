//! The schemes: each is a change of the trainer's options, of the loss's configuration, or of both.

use inbatch::{LogQOrder, LossConfig, Objective, PositiveCorrection, Result};

use crate::options::{Frequency, Negatives, Options};

/// A way to train.
pub(crate) struct Scheme {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// What it is, and whose.
    pub(crate) what: &'static str,
    pub(crate) options: fn(&mut Options),
    pub(crate) loss: fn(LossConfig) -> Result<LossConfig>,
}

impl Scheme {
    /// The plain in-batch softmax with log q: what every scheme starts from.
    const fn new(name: &'static str, what: &'static str) -> Self {
        Self { name, what, options: |_| {}, loss: Ok }
    }

    const fn options(self, options: fn(&mut Options)) -> Self {
        Self { options, ..self }
    }

    const fn loss(self, loss: fn(LossConfig) -> Result<LossConfig>) -> Self {
        Self { loss, ..self }
    }
}

/// Every scheme, in the order of the table.
pub(crate) const SCHEMES: &[Scheme] = &[
    Scheme::new("softmax", "in-batch softmax, no correction").options(|options| options.logq = false),
    Scheme::new("logq", "log q subtracted from every logit (Yi et al. 2019)"),
    Scheme::new("logq-negatives", "log q subtracted from the negatives alone (MNS eq. 5)")
        .loss(|config| Ok(config.positive_correction(PositiveCorrection::Uncorrected))),
    Scheme::new("logq-half", "half of log q subtracted").loss(|config| config.logq_scale(0.5)),
    Scheme::new("logq-inside", "log q inside the temperature, (s - log q) / tau (Merlin)")
        .loss(|config| Ok(config.logq_order(LogQOrder::InsideTemperature))),
    Scheme::new("streaming", "log q from the streaming frequency estimator (Yi et al. 2019)")
        .options(|options| options.frequency = Frequency::Streaming),
    Scheme::new("keep-hits", "log q, accidental hits not excluded")
        .options(|options| options.exclude_same_item = false),
    Scheme::new("exclude-user", "log q, other positives of the same user excluded too")
        .options(|options| options.exclude_same_user = true),
    Scheme::new("mns", "mixed negatives: the batch and as many uniform ones (Yang et al. 2020)")
        .options(|options| options.negatives = Negatives::Mns),
    Scheme::new("mns-no-logq", "mixed negatives without log q").options(|options| {
        options.negatives = Negatives::Mns;
        options.logq = false;
    }),
    Scheme::new("cbns", "cross-batch negatives: a memory bank (Wang et al. 2021)")
        .options(|options| options.negatives = Negatives::Cbns),
    Scheme::new("margin", "softmax with log q and a margin of 0.1 on the positive's cosine (CosFace)").loss(
        |config| {
            let margin = 0.1 / config.temperature();
            config.objective(Objective::AdditiveMargin { margin })
        },
    ),
    Scheme::new("decoupled", "log q, the positive out of the denominator (Yeh et al. 2021)")
        .loss(|config| config.objective(Objective::Decoupled)),
    Scheme::new("corrected-logq", "the corrected log q (Khrylchenko et al. 2025)")
        .loss(|config| config.objective(Objective::CorrectedLogQ)),
    Scheme::new("debiased", "debiased, no log q, prior 0.01 (Chuang et al. 2020)")
        .options(|options| options.logq = false)
        .loss(|config| config.objective(Objective::Debiased { positive_prior: 0.01 })),
    Scheme::new("sigmoid", "a sigmoid for each pair, no log q, fixed bias -7 (SigLIP, negative sampling)")
        .options(|options| options.logq = false)
        .loss(|config| config.objective(Objective::Sigmoid { bias: -7.0 })),
    Scheme::new("nce", "a sigmoid for each pair with log q, fixed bias -7 (noise-contrastive estimation)")
        .loss(|config| config.objective(Objective::Sigmoid { bias: -7.0 })),
];
