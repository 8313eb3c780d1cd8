//! The schemes: each is a change of the trainer's options, of the loss's configuration, or of both.

use inbatch::{LogQOrder, LossConfig, Objective, PositiveCorrection, Result};

use crate::options::{ClassTable, Frequency, Negatives, Options};

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

    /// What it trains with, where `options` are everybody's.
    pub(crate) fn applied(&self, options: &Options) -> anyhow::Result<(Options, LossConfig)> {
        let mut options = options.clone();
        (self.options)(&mut options);
        options.check()?;
        let config = (self.loss)(options.loss_config()?)?;
        Ok((options, config))
    }
}

/// What the rows of a sigmoid start from, SigLIP's: both are learnt.
const SIGMOID_TEMPERATURE: f32 = 0.1;
const SIGMOID_BIAS: f32 = -10.0;

/// word2vec's threshold of down-sampling.
const THRESHOLD: f64 = 1e-3;

/// Every scheme, in the order of the table.
pub(crate) const SCHEMES: &[Scheme] = &[
    // Log q: whether, how much, where from.
    Scheme::new("softmax", "in-batch softmax, no correction").options(|options| options.logq = false),
    Scheme::new("logq", "log q subtracted from every logit (Yi et al. 2019)"),
    Scheme::new("logq-negatives", "log q subtracted from the negatives alone (MNS eq. 5)")
        .loss(|config| Ok(config.positive_correction(PositiveCorrection::Uncorrected))),
    Scheme::new("logq-half", "half of log q subtracted").loss(|config| config.logq_scale(0.5)),
    Scheme::new("logq-inside", "log q inside the temperature, (s - log q) / tau (Merlin)")
        .loss(|config| Ok(config.logq_order(LogQOrder::InsideTemperature))),
    Scheme::new("counting", "log q from exact counts of the batches so far")
        .options(|options| options.frequency = Frequency::Counting),
    Scheme::new("streaming", "log q from the streaming frequency estimator (Yi et al. 2019)")
        .options(|options| options.frequency = Frequency::Streaming),
    Scheme::new(
        "last-interval",
        "the same from the last interval alone: learning rate 1, clipped to 1..1000",
    )
    .options(|options| options.frequency = Frequency::LastInterval),
    // Which pairs count, and how.
    Scheme::new("keep-hits", "log q, accidental hits not excluded")
        .options(|options| options.exclude_same_item = false),
    Scheme::new("exclude-user", "log q, other positives of the same user excluded too")
        .options(|options| options.exclude_same_user = true),
    Scheme::new("down-sample", "log q, and popular positives dropped, threshold 0.001 (Mikolov et al. 2013)")
        .options(|options| options.down_sample = Some(THRESHOLD)),
    Scheme::new("symmetric", "log q of items, and items among users too (CLIP)").options(symmetric),
    Scheme::new("symmetric-both", "the same with log q of items and of users").options(|options| {
        symmetric(options);
        options.logq_users = true;
    }),
    // Where negatives come from, beside the batch.
    Scheme::new("mns", "mixed negatives: the batch and as many uniform ones (Yang et al. 2020)")
        .options(|options| options.negatives = Negatives::Mns),
    Scheme::new("mns-no-logq", "mixed negatives without log q").options(|options| {
        options.negatives = Negatives::Mns;
        options.logq = false;
    }),
    Scheme::new("pools", "the batch and as many uniform, popular and cold ones, log q of the mixture")
        .options(|options| options.negatives = Negatives::Pools),
    Scheme::new("cbns", "cross-batch negatives: a memory bank (Wang et al. 2021)")
        .options(|options| options.negatives = Negatives::Cbns),
    Scheme::new(
        "row-negatives",
        "the batch and 32 items for each pair that its user has not met, log q of the mixture",
    )
    .options(|options| options.row_negatives = 32),
    Scheme::new("hard-negatives", "log q, the 64 hardest negatives of the batch alone (TFRS)")
        .options(|options| options.hard_negatives = Some(64)),
    // What a row makes of its logits.
    Scheme::new("learnt-temperature", "log q, and the temperature learnt between 0.01 and 1 (CLIP)")
        .options(|options| options.learn_temperature = true),
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
    Scheme::new("sigmoid", "a sigmoid for each pair, scale and bias learnt, no log q (SigLIP)")
        .options(|options| {
            sigmoid(options);
            options.logq = false;
        })
        .loss(|config| config.objective(Objective::Sigmoid { bias: SIGMOID_BIAS })),
    // No constant cancels under a sigmoid: log q is that of expected counts, as the counting estimator has it.
    Scheme::new("nce", "the same with log q of expected counts (noise-contrastive estimation)")
        .options(|options| {
            sigmoid(options);
            options.frequency = Frequency::Counting;
        })
        .loss(|config| config.objective(Objective::Sigmoid { bias: SIGMOID_BIAS })),
    // Items as classes of a table: sampled classes are the negatives, each class has a bias.
    Scheme::new("table-softmax", "class table: sampled softmax, log-uniform classes (TensorFlow)")
        .options(|options| options.class_table = Some(ClassTable::SampledSoftmax)),
    Scheme::new("table-nce", "class table: NCE, log-uniform classes (TensorFlow)").options(|options| {
        options.class_table = Some(ClassTable::Nce);
        options.exclude_same_item = false;
    }),
    Scheme::new("table-neg", "class table: negative sampling by count^0.75 (Mikolov et al. 2013)").options(
        |options| {
            options.class_table = Some(ClassTable::Neg);
            options.exclude_same_item = false;
            options.logq = false;
        },
    ),
];

/// Other rows of the same user are hits, too, where users are negatives.
fn symmetric(options: &mut Options) {
    options.symmetric = true;
    options.exclude_same_user = true;
}

fn sigmoid(options: &mut Options) {
    options.temperature = SIGMOID_TEMPERATURE;
    options.learn_temperature = true;
}
