//! The estimators' whole state in host memory, and its files.

use std::path::Path;

use safetensors::tensor::Dtype;

use super::FrequencyConfig;
use crate::checkpoint::{self, Contents, Reason, tensor};
use crate::{Error, Result};

const FORMAT: &str = "inbatch.frequency_estimator";
const COUNTER_FORMAT: &str = "inbatch.frequency_counter";
const VERSION: &str = "1";

/// The state of a `FrequencyEstimator` of any backend. Tensors `last_step` and `interval`, `[hashes, buckets]` both; the
/// step and what the ids' places depend on are in the metadata. Learning rate and clipping are configuration, not
/// state, and may differ after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Buckets of a table.
    pub buckets: usize,
    /// Tables.
    pub hashes: usize,
    /// Whether ids are buckets.
    pub direct: bool,
    /// What chose the hash functions.
    pub seed: u64,
    /// Steps made.
    pub step: u64,
    /// `[hashes, buckets]` A: the step at which a bucket was last seen, 0 if never.
    pub last_step: Vec<u64>,
    /// `[hashes, buckets]` B: the mean interval.
    pub interval: Vec<f32>,
}

impl Snapshot {
    pub(crate) fn new(config: &FrequencyConfig, step: u64, last_step: Vec<u64>, interval: Vec<f32>) -> Self {
        let FrequencyConfig { buckets, hashes, direct, seed, .. } = *config;
        Self { buckets, hashes, direct, seed, step, last_step, interval }
    }

    /// Whether an estimator of this configuration can take the snapshot.
    ///
    /// # Errors
    /// [`Error::Snapshot`].
    pub(crate) fn check(&self, config: &FrequencyConfig) -> Result<()> {
        let numbers = |x: (usize, usize, bool, u64)| [x.0 as u64, x.1 as u64, u64::from(x.2), x.3];
        let ours = numbers((config.buckets, config.hashes, config.direct, config.seed));
        let theirs = numbers((self.buckets, self.hashes, self.direct, self.seed));
        for (what, (ours, theirs)) in ["number of buckets", "number of hashes", "direct addressing", "seed"]
            .iter()
            .zip(ours.iter().zip(theirs))
        {
            if *ours != theirs {
                return Err(Error::Snapshot(format!("its {what} is {theirs}, the estimator's is {ours}")));
            }
        }
        self.inconsistency().map_or(Ok(()), |why| Err(Error::Snapshot(why.to_owned())))
    }

    fn inconsistency(&self) -> Option<&'static str> {
        let cells = self.buckets.checked_mul(self.hashes);
        let checks = [
            (cells == Some(self.last_step.len()), "last steps of another number"),
            (cells == Some(self.interval.len()), "intervals of another number"),
            (self.last_step.iter().all(|step| *step <= self.step), "buckets seen in the future"),
            (
                self.interval.iter().all(|b| b.is_finite() && *b > 0.0),
                "an interval that is not finite and above 0",
            ),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map(|(_, why)| why)
    }

    /// Writes the file; a crash in between leaves the old one whole.
    ///
    /// # Errors
    /// [`Error::CheckpointIo`], [`Error::Checkpoint`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        checkpoint::save(path.as_ref(), self.encode())
    }

    /// Reads a file that [`Snapshot::save`] wrote.
    ///
    /// # Errors
    /// [`Error::CheckpointIo`]; [`Error::Checkpoint`] if it is truncated, foreign, of another version, or contradicts
    /// itself.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        checkpoint::load(path.as_ref(), Self::decode)
    }

    fn encode(&self) -> Reason<Vec<u8>> {
        let shape = || vec![self.hashes, self.buckets];
        let tensors = vec![
            tensor("last_step", Dtype::U64, shape(), bytemuck::cast_slice(&self.last_step))?,
            tensor("interval", Dtype::F32, shape(), bytemuck::cast_slice(&self.interval))?,
        ];
        let numbers = [
            ("buckets", self.buckets.to_string()),
            ("hashes", self.hashes.to_string()),
            ("direct", self.direct.to_string()),
            ("seed", self.seed.to_string()),
            ("step", self.step.to_string()),
        ];
        checkpoint::encode(FORMAT, VERSION, tensors, &numbers)
    }

    fn decode(bytes: &[u8]) -> Reason<Self> {
        let file = Contents::read(bytes, FORMAT, VERSION)?;
        let snapshot = Self {
            buckets: file.number("buckets")?,
            hashes: file.number("hashes")?,
            direct: file.number("direct")?,
            seed: file.number("seed")?,
            step: file.number("step")?,
            last_step: file.values("last_step", Dtype::U64)?,
            interval: file.values("interval", Dtype::F32)?,
        };
        snapshot.inconsistency().map_or(Ok(snapshot), |why| Err(format!("it holds {why}")))
    }
}

/// The state of a `FrequencyCounter` of any backend: the tensor `counts [size]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterSnapshot {
    /// How often each id was counted.
    pub counts: Vec<u64>,
}

impl CounterSnapshot {
    /// The sum of all counts.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it exceeds 64 bits.
    pub fn total(&self) -> Result<u64> {
        let sum = self.counts.iter().map(|count| u128::from(*count)).sum::<u128>();
        let max = u128::from(u64::MAX);
        u64::try_from(sum).map_err(|_| Error::TooLarge { what: "the sum of all counts", size: sum, max })
    }

    /// Whether a counter of this size can take the snapshot, and the total.
    ///
    /// # Errors
    /// [`Error::Snapshot`], [`Error::TooLarge`].
    pub(crate) fn check(&self, size: usize) -> Result<u64> {
        if self.counts.len() != size {
            return Err(Error::Snapshot(format!("it counts {} ids, the counter {size}", self.counts.len())));
        }
        self.total()
    }

    /// Writes the file; a crash in between leaves the old one whole.
    ///
    /// # Errors
    /// [`Error::CheckpointIo`], [`Error::Checkpoint`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let encoded =
            tensor("counts", Dtype::U64, vec![self.counts.len()], bytemuck::cast_slice(&self.counts))
                .and_then(|counts| checkpoint::encode(COUNTER_FORMAT, VERSION, vec![counts], &[]));
        checkpoint::save(path.as_ref(), encoded)
    }

    /// Reads a file that [`CounterSnapshot::save`] wrote.
    ///
    /// # Errors
    /// [`Error::CheckpointIo`], [`Error::Checkpoint`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        checkpoint::load(path.as_ref(), |bytes| {
            let file = Contents::read(bytes, COUNTER_FORMAT, VERSION)?;
            Ok(Self { counts: file.values("counts", Dtype::U64)? })
        })
    }
}
