//! Command line options.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, ensure};
use clap::{ArgAction, Parser, ValueEnum};
use inbatch::LossConfig;
use inbatch::table::TableConfig;

use crate::data::{self, Columns, Interactions, Planted};

/// Trains a two-tower retrieval model with inbatch's fused in-batch sampled-softmax loss.
///
/// Without --data it generates a catalogue with Zipf popularity and planted user tastes, so that
/// recall has a known best value. The last interaction of each user is held out; every item that
/// the user has not met in training is ranked.
#[derive(Parser, Clone, Debug)]
#[command(name = "train", version, args_override_self = true)]
pub(crate) struct Options {
    /// Where the loss runs: auto, cpu, cuda or cuda:N. Only auto chooses; it says what and why.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub(crate) device: DeviceChoice,

    /// Interactions to train on: RecBole's tab-separated .inter, or comma-separated with a header.
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,

    /// Column of --data that names the user.
    #[arg(long, default_value = "user_id", value_name = "NAME", requires = "data")]
    pub(crate) user_column: String,

    /// Column of --data that names the item.
    #[arg(long, default_value = "item_id", value_name = "NAME", requires = "data")]
    pub(crate) item_column: String,

    /// Column of --data with the time, any number that grows.
    #[arg(long, default_value = "timestamp", value_name = "NAME", requires = "data")]
    pub(crate) time_column: String,

    /// Users of the generated catalogue.
    #[arg(long, default_value_t = 2000, value_name = "N", conflicts_with = "data")]
    pub(crate) users: usize,

    /// Items of the generated catalogue.
    #[arg(long, default_value_t = 2000, value_name = "N", conflicts_with = "data")]
    pub(crate) items: usize,

    /// Negatives of a row: the batch's other items; those and uniform ones (mixed negative
    /// sampling); those and uniform, popular and cold ones; or those and the items of earlier
    /// batches (cross-batch negatives).
    #[arg(long, value_enum, default_value_t = Negatives::InBatch)]
    pub(crate) negatives: Negatives,

    /// Uniform negatives a batch with --negatives mns [default: the batch size].
    #[arg(long, value_name = "N")]
    pub(crate) uniform: Option<usize>,

    /// Items in the memory bank with --negatives cbns [default: the batch size].
    #[arg(long, value_name = "N")]
    pub(crate) bank_capacity: Option<usize>,

    /// Negatives of each pair's own beside the shared ones: items that its user has not met.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) row_negatives: usize,

    /// Keep only that many of each row's negatives, those of highest logit [default: all].
    #[arg(long, value_name = "N")]
    pub(crate) hard_negatives: Option<usize>,

    /// Sampled classes instead of the batch's items: a loss over the class table that the item tower
    /// is, each class with a bias.
    #[arg(long, value_enum, value_name = "LOSS")]
    pub(crate) class_table: Option<ClassTable>,

    /// Classes drawn for a batch with --class-table [default: the batch size, at most half of the items].
    #[arg(long, value_name = "N")]
    pub(crate) sampled: Option<usize>,

    /// Average the loss of users among items and that of items among users.
    #[arg(long)]
    pub(crate) symmetric: bool,

    /// Correct users by their log q too, where --symmetric makes them negatives.
    #[arg(long, requires = "symmetric")]
    pub(crate) logq_users: bool,

    /// Batches before the memory bank is read with --negatives cbns [default: two epochs].
    #[arg(long, value_name = "N")]
    pub(crate) bank_warm_up: Option<u64>,

    /// Correct scores by the log of each item's sampling probability.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub(crate) logq: bool,

    /// Where --logq gets the probabilities from: exact counts of the training pairs, or an estimator that
    /// learns them from the batches as they pass.
    #[arg(long, value_enum, default_value_t = Frequency::Exact)]
    pub(crate) frequency: Frequency,

    /// Leave accidental hits out of a row's negatives: other columns with the positive's item.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub(crate) exclude_same_item: bool,

    /// Leave other positives of the same user in the batch out of a row's negatives.
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_name = "BOOL")]
    pub(crate) exclude_same_user: bool,

    /// L2-normalise both towers' outputs, so that scores are cosines.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub(crate) normalize: bool,

    /// Scores are divided by this.
    #[arg(long, default_value_t = 0.15)]
    pub(crate) temperature: f32,

    /// Learn the temperature, from there, between 0.01 and 1.
    #[arg(long)]
    pub(crate) learn_temperature: bool,

    /// Drop positives of popular items as word2vec does, above this share of the training pairs: 1e-5 to 1e-3.
    #[arg(long, value_name = "SHARE")]
    pub(crate) down_sample: Option<f64>,

    /// Embedding dimension of both towers.
    #[arg(long, default_value_t = 64)]
    pub(crate) dim: usize,

    /// Pairs in a batch.
    #[arg(long, default_value_t = 1024)]
    pub(crate) batch_size: usize,

    /// Passes over the training interactions.
    #[arg(long, default_value_t = 20)]
    pub(crate) epochs: usize,

    /// How gradients become updates of the embedding tables' rows.
    #[arg(long, value_enum, default_value_t = OptimizerChoice::Adagrad)]
    pub(crate) optimizer: OptimizerChoice,

    /// Step size [default: 0.01 for adam, 0.1 for adagrad].
    #[arg(long)]
    pub(crate) learning_rate: Option<f32>,

    /// Seed of the generated data, the initial tables, the batches and the sampled negatives.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,

    /// Folder for curve.csv and curve.svg; made if it is not there.
    #[arg(long, default_value = "out", value_name = "FOLDER")]
    pub(crate) out: PathBuf,
}

impl Options {
    /// Checks what the parser cannot. The temperature is the loss's to check.
    ///
    /// An option without effect is an error: it would be misread in the results.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(self.epochs >= 1, "--epochs must be at least 1");
        ensure!(self.batch_size >= 1, "--batch-size must be at least 1");
        ensure!((1..=1024).contains(&self.dim), "--dim must be 1 to 1024, got {}", self.dim);
        let step_size = self.step_size();
        ensure!(step_size.is_finite() && step_size > 0.0, "--learning-rate must be above 0, got {step_size}");
        let mns = self.negatives == Negatives::Mns;
        ensure!(mns || self.uniform.is_none(), "--uniform has an effect with --negatives mns only");
        let cbns = self.negatives == Negatives::Cbns;
        ensure!(
            cbns || (self.bank_capacity.is_none() && self.bank_warm_up.is_none()),
            "--bank-capacity and --bank-warm-up have an effect with --negatives cbns only"
        );
        let learnt = self.frequency != Frequency::Exact;
        ensure!(!learnt || self.logq, "--frequency has an effect with --logq true only");
        let pools = matches!(self.negatives, Negatives::Mns | Negatives::Pools) || self.row_negatives > 0;
        ensure!(
            !learnt || !pools,
            "an estimator knows the batch's own items only: beside others use --frequency exact"
        );
        ensure!(
            !self.symmetric || (self.negatives == Negatives::InBatch && self.row_negatives == 0),
            "--symmetric ranks the batch's users and items only: no other negatives go with it"
        );
        match self.class_table {
            Some(loss) => self.check_class_table(loss),
            None => {
                ensure!(self.sampled.is_none(), "--sampled has an effect with --class-table only");
                Ok(())
            }
        }
    }

    /// What a loss over a class table has no place for.
    fn check_class_table(&self, loss: ClassTable) -> Result<()> {
        for (given, option) in [
            (self.negatives != Negatives::InBatch, "--negatives"),
            (self.frequency != Frequency::Exact, "--frequency"),
            (self.row_negatives > 0, "--row-negatives"),
            (self.hard_negatives.is_some(), "--hard-negatives"),
            (self.symmetric, "--symmetric"),
            (self.exclude_same_user, "--exclude-same-user"),
            (self.learn_temperature, "--learn-temperature"),
        ] {
            ensure!(!given, "{option} has no effect with --class-table: its negatives are sampled classes");
        }
        ensure!(
            loss != ClassTable::Neg || !self.logq,
            "--class-table neg is nce without log q: say --logq false"
        );
        Ok(())
    }

    /// The step size asked for, or the optimizer's usual one.
    pub(crate) fn step_size(&self) -> f32 {
        self.learning_rate.unwrap_or(match self.optimizer {
            OptimizerChoice::Adam => 0.01,
            OptimizerChoice::Adagrad => 0.1,
        })
    }

    /// Interactions of a file, or generated ones with what they were generated from.
    pub(crate) fn load(&self) -> Result<(Interactions, Option<Planted>)> {
        match &self.data {
            Some(path) => {
                let columns =
                    Columns { user: &self.user_column, item: &self.item_column, time: &self.time_column };
                Ok((data::read(path, columns)?, None))
            }
            None => {
                let (interactions, planted) = data::generate(self.users, self.items, self.seed)?;
                Ok((interactions, Some(planted)))
            }
        }
    }

    /// The loss that these options ask for.
    pub(crate) fn loss_config(&self) -> Result<LossConfig> {
        let config = LossConfig::new(self.temperature)?
            .normalize(self.normalize)
            .exclude_same_item(self.exclude_same_item)
            .exclude_same_user(self.exclude_same_user)
            .symmetric(self.symmetric);
        Ok(match self.hard_negatives {
            Some(count) => config.hard_negatives(count)?,
            None => config,
        })
    }

    /// The loss over a class table that these options ask for.
    pub(crate) fn table_config(&self, loss: ClassTable) -> TableConfig {
        match loss {
            ClassTable::SampledSoftmax => TableConfig::sampled_softmax(),
            ClassTable::Nce | ClassTable::Neg => TableConfig::nce(),
        }
        .subtract_log_q(self.logq)
        .remove_accidental_hits(self.exclude_same_item)
    }
}

/// Where negatives come from.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Negatives {
    /// The items of the batch.
    InBatch,
    /// Mixed negative sampling: the batch and uniform negatives.
    Mns,
    /// The batch and, as many again, uniform, popular and cold items: half, a quarter, a quarter.
    Pools,
    /// Cross-batch negative sampling: the batch and a memory bank.
    Cbns,
}

/// Where log q comes from.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frequency {
    /// Counts of the training pairs.
    Exact,
    /// Counts of the batches so far.
    Counting,
    /// The mean interval between two sightings of an item (Yi et al. 2019).
    Streaming,
    /// The last interval between two sightings, clipped to 1..1000 batches.
    LastInterval,
}

/// A loss over a class table, and what samples its classes.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClassTable {
    /// Sampled softmax; log-uniform classes without replacement.
    SampledSoftmax,
    /// Noise-contrastive estimation; log-uniform classes without replacement.
    Nce,
    /// Negative sampling; classes by their counts to the power of 0.75.
    Neg,
}

/// The update rule.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptimizerChoice {
    /// Adam, moments of a row touched only when the row is in the batch.
    Adam,
    /// Adagrad.
    Adagrad,
}

/// What `--device` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// A CUDA device if one can be opened, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// This CUDA device or an error.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|ordinal| ordinal.parse().ok())
                .map(DeviceChoice::Cuda)
                .ok_or_else(|| {
                    format!("expected auto, cpu, cuda or cuda:N with a whole number N, got {text:?}")
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn clap_accepts_the_definition() {
        Options::command().debug_assert();
    }

    #[test]
    fn devices_parse() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong:?} was accepted");
        }
    }
}
