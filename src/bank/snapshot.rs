//! A bank's whole state in host memory, and its file.
//!
//! The file is in the safetensors format: tensors `embeddings [len, dim]`, `entry_steps [len]` and, if kept,
//! `log_q [len]` and `item_ids [len]`, slot by slot; the ring's position is in the metadata. Warm-up and
//! maximal age are configuration, not state, and may differ after a restart.

use std::path::Path;

use safetensors::tensor::Dtype as FileDtype;

use super::{BankConfig, Ring};
use crate::checkpoint::{self, Contents, Reason, tensor};
use crate::{Dtype, Error, Result};

/// What marks a file as ours.
const FORMAT: &str = "inbatch.memory_bank";
const VERSION: &str = "1";

/// The state of a memory bank of any backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Storage of the embeddings.
    pub dtype: Dtype,
    /// Embedding dimension.
    pub dim: usize,
    /// Slots of the ring.
    pub capacity: usize,
    /// The slot that is written next.
    pub head: usize,
    /// Pushes made so far.
    pub step: u64,
    /// `[len, dim]` elements, as little-endian bytes; slots `[0, len)` are filled.
    pub embeddings: Vec<u8>,
    /// `[len]`, if the bank keeps log q.
    pub log_q: Option<Vec<f32>>,
    /// `[len]`, if the bank keeps item ids.
    pub item_ids: Option<Vec<i64>>,
    /// `[len]`: the number of pushes before the one that filled the slot.
    pub entry_steps: Vec<u64>,
}

impl Snapshot {
    /// Filled slots.
    pub fn len(&self) -> usize {
        self.entry_steps.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.entry_steps.is_empty()
    }

    pub(crate) fn ring(&self) -> Ring {
        Ring { capacity: self.capacity, head: self.head, len: self.len(), step: self.step }
    }

    /// Whether a bank of this configuration and type can take the snapshot.
    ///
    /// # Errors
    /// [`Error::DtypeMismatch`], [`Error::Snapshot`].
    pub(crate) fn check(&self, config: &BankConfig, dtype: Dtype) -> Result<()> {
        if self.dtype != dtype {
            return Err(Error::DtypeMismatch { expected: dtype, found: self.dtype });
        }
        let word = |with| if with { "with" } else { "without" };
        for (what, bank, snapshot) in
            [("dimension", config.dim, self.dim), ("capacity", config.capacity, self.capacity)]
        {
            if bank != snapshot {
                return Err(Error::Snapshot(format!("its {what} is {snapshot}, the bank's is {bank}")));
            }
        }
        for (what, bank, snapshot) in [
            ("log_q", config.log_q, self.log_q.is_some()),
            ("item_ids", config.item_ids, self.item_ids.is_some()),
        ] {
            if bank != snapshot {
                let (snapshot, bank) = (word(snapshot), word(bank));
                return Err(Error::Snapshot(format!("it is {snapshot} {what}, the bank {bank}")));
            }
        }
        self.inconsistency().map_or(Ok(()), |why| Err(Error::Snapshot(why.to_owned())))
    }

    /// What contradicts itself in here, if anything.
    fn inconsistency(&self) -> Option<&'static str> {
        let len = self.len();
        let elements = len.checked_mul(self.dim).and_then(|n| n.checked_mul(self.dtype.bytes()));
        let in_order = |steps: &[u64]| steps.windows(2).all(|pair| pair[0] <= pair[1]);
        let oldest = if len < self.capacity { 0 } else { self.head };
        let checks = [
            (len <= self.capacity, "more embeddings than its capacity"),
            (self.head < self.capacity, "a ring position beyond its capacity"),
            (len >= self.capacity || self.head == len, "a ring position that does not follow its length"),
            (elements == Some(self.embeddings.len()), "embeddings of another length"),
            (self.log_q.as_ref().is_none_or(|x| x.len() == len), "log_q of another length"),
            (self.item_ids.as_ref().is_none_or(|x| x.len() == len), "item_ids of another length"),
            (self.entry_steps.iter().all(|step| *step < self.step), "embeddings from the future"),
            (
                oldest <= len
                    && in_order(&self.entry_steps[oldest..])
                    && in_order(&self.entry_steps[..oldest]),
                "embeddings out of order",
            ),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map(|(_, why)| why)
    }

    /// Writes the file under a temporary name beside `path`, flushes it to the disk and renames it, so
    /// that `path` holds either the old checkpoint or the whole new one.
    ///
    /// # Errors
    /// [`Error::CheckpointIo`], [`Error::Checkpoint`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        checkpoint::save(path.as_ref(), self.encode())
    }

    /// Reads a file that [`Snapshot::save`] wrote.
    ///
    /// # Errors
    /// [`Error::CheckpointIo`]; [`Error::Checkpoint`] if it is truncated, foreign, of another version, or
    /// contradicts itself.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        checkpoint::load(path.as_ref(), Self::decode)
    }

    fn encode(&self) -> Reason<Vec<u8>> {
        let len = self.len();
        let mut tensors = vec![
            tensor("embeddings", file_dtype(self.dtype), vec![len, self.dim], &self.embeddings)?,
            tensor("entry_steps", FileDtype::U64, vec![len], bytemuck::cast_slice(&self.entry_steps))?,
        ];
        if let Some(log_q) = &self.log_q {
            tensors.push(tensor("log_q", FileDtype::F32, vec![len], bytemuck::cast_slice(log_q))?);
        }
        if let Some(item_ids) = &self.item_ids {
            tensors.push(tensor("item_ids", FileDtype::I64, vec![len], bytemuck::cast_slice(item_ids))?);
        }
        let numbers = [
            ("dim", self.dim.to_string()),
            ("capacity", self.capacity.to_string()),
            ("head", self.head.to_string()),
            ("step", self.step.to_string()),
        ];
        checkpoint::encode(FORMAT, VERSION, tensors, &numbers)
    }

    fn decode(bytes: &[u8]) -> Reason<Self> {
        let file = Contents::read(bytes, FORMAT, VERSION)?;
        let embeddings = file.tensor("embeddings")?;
        let snapshot = Self {
            dtype: memory_dtype(embeddings.dtype())?,
            dim: file.number("dim")?,
            capacity: file.number("capacity")?,
            head: file.number("head")?,
            step: file.number("step")?,
            embeddings: embeddings.data().to_vec(),
            log_q: file.optional("log_q", FileDtype::F32)?,
            item_ids: file.optional("item_ids", FileDtype::I64)?,
            entry_steps: file.values("entry_steps", FileDtype::U64)?,
        };
        match snapshot.inconsistency() {
            None => Ok(snapshot),
            Some(why) => Err(format!("it holds {why}")),
        }
    }
}

fn file_dtype(dtype: Dtype) -> FileDtype {
    match dtype {
        Dtype::F32 => FileDtype::F32,
        Dtype::F16 => FileDtype::F16,
        Dtype::Bf16 => FileDtype::BF16,
    }
}

fn memory_dtype(dtype: FileDtype) -> Reason<Dtype> {
    match dtype {
        FileDtype::F32 => Ok(Dtype::F32),
        FileDtype::F16 => Ok(Dtype::F16),
        FileDtype::BF16 => Ok(Dtype::Bf16),
        other => Err(format!("its embeddings are {other:?}, not f32, f16 or bf16")),
    }
}
