//! A bank's whole state in host memory, and its file.
//!
//! The file is in the safetensors format: tensors `embeddings [len, dim]`, `entry_steps [len]` and, if kept,
//! `log_q [len]` and `item_ids [len]`, slot by slot; the ring's position is in the metadata. Warm-up and
//! maximal age are configuration, not state, and may differ after a restart.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as FileDtype, TensorView};

use super::{BankConfig, Ring};
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
        let path = path.as_ref();
        let bytes = self.encode().map_err(|error| damaged(path, error))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
            file.write_all(&bytes)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|source| Error::CheckpointIo { path: path.to_owned(), source })
    }

    /// Reads a file that [`Snapshot::save`] wrote.
    ///
    /// # Errors
    /// [`Error::CheckpointIo`]; [`Error::Checkpoint`] if it is truncated, foreign, of another version, or
    /// contradicts itself.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes =
            std::fs::read(path).map_err(|source| Error::CheckpointIo { path: path.to_owned(), source })?;
        Self::decode(&bytes).map_err(|why| damaged(path, why))
    }

    fn encode(&self) -> std::result::Result<Vec<u8>, String> {
        let len = self.len();
        let mut tensors = vec![
            view("embeddings", file_dtype(self.dtype), vec![len, self.dim], &self.embeddings)?,
            view("entry_steps", FileDtype::U64, vec![len], bytemuck::cast_slice(&self.entry_steps))?,
        ];
        if let Some(log_q) = &self.log_q {
            tensors.push(view("log_q", FileDtype::F32, vec![len], bytemuck::cast_slice(log_q))?);
        }
        if let Some(item_ids) = &self.item_ids {
            tensors.push(view("item_ids", FileDtype::I64, vec![len], bytemuck::cast_slice(item_ids))?);
        }
        let metadata = [
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_owned()),
            ("dim", self.dim.to_string()),
            ("capacity", self.capacity.to_string()),
            ("head", self.head.to_string()),
            ("step", self.step.to_string()),
        ];
        let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        safetensors::serialize(tensors, Some(metadata)).map_err(|error| error.to_string())
    }

    fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        let text = |error: safetensors::SafeTensorError| format!("it is no whole safetensors file ({error})");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(text)?;
        let file = SafeTensors::deserialize(bytes).map_err(text)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let entry = |key: &str| metadata.get(key).map(String::as_str);
        if entry("format") != Some(FORMAT) {
            return Err(format!("its metadata does not say format = {FORMAT}"));
        }
        if entry("version") != Some(VERSION) {
            return Err(format!("its version is {:?}, this crate reads {VERSION}", entry("version")));
        }
        let embeddings = file.tensor("embeddings").map_err(|error| error.to_string())?;
        let snapshot = Self {
            dtype: memory_dtype(embeddings.dtype())?,
            dim: number(&metadata, "dim")?,
            capacity: number(&metadata, "capacity")?,
            head: number(&metadata, "head")?,
            step: number(&metadata, "step")?,
            embeddings: embeddings.data().to_vec(),
            log_q: values(&file, "log_q", FileDtype::F32)?,
            item_ids: values(&file, "item_ids", FileDtype::I64)?,
            entry_steps: values(&file, "entry_steps", FileDtype::U64)?.ok_or("entry_steps are missing")?,
        };
        match snapshot.inconsistency() {
            None => Ok(snapshot),
            Some(why) => Err(format!("it holds {why}")),
        }
    }
}

fn damaged(path: &Path, why: String) -> Error {
    Error::Checkpoint { path: path.to_owned(), why }
}

fn view<'a>(
    name: &'static str,
    dtype: FileDtype,
    shape: Vec<usize>,
    bytes: &'a [u8],
) -> std::result::Result<(&'static str, TensorView<'a>), String> {
    TensorView::new(dtype, shape, bytes).map(|view| (name, view)).map_err(|error| format!("{name}: {error}"))
}

fn file_dtype(dtype: Dtype) -> FileDtype {
    match dtype {
        Dtype::F32 => FileDtype::F32,
        Dtype::F16 => FileDtype::F16,
        Dtype::Bf16 => FileDtype::BF16,
    }
}

fn memory_dtype(dtype: FileDtype) -> std::result::Result<Dtype, String> {
    match dtype {
        FileDtype::F32 => Ok(Dtype::F32),
        FileDtype::F16 => Ok(Dtype::F16),
        FileDtype::BF16 => Ok(Dtype::Bf16),
        other => Err(format!("its embeddings are {other:?}, not f32, f16 or bf16")),
    }
}

fn number<N: std::str::FromStr>(
    metadata: &HashMap<String, String>,
    key: &str,
) -> std::result::Result<N, String> {
    let text = metadata.get(key).ok_or_else(|| format!("its metadata has no {key}"))?;
    text.parse().map_err(|_| format!("its metadata says {key} = {text:?}, not a number"))
}

/// A tensor's elements, `None` if there is no such tensor.
fn values<V: bytemuck::Pod>(
    file: &SafeTensors<'_>,
    name: &str,
    dtype: FileDtype,
) -> std::result::Result<Option<Vec<V>>, String> {
    let Ok(tensor) = file.tensor(name) else { return Ok(None) };
    if tensor.dtype() != dtype {
        return Err(format!("its {name} are {:?}, not {dtype:?}", tensor.dtype()));
    }
    Ok(Some(bytemuck::pod_collect_to_vec(tensor.data())))
}
