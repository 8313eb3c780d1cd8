//! Files of stateful parts: safetensors with our own mark in the metadata, written whole or not at all.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use bytemuck::Pod;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::{Error, Result};

/// Why a file is of no use.
pub(crate) type Reason<T> = std::result::Result<T, String>;

/// A named tensor.
pub(crate) type Tensor<'a> = (&'static str, TensorView<'a>);

/// A tensor over bytes that stay where they are.
pub(crate) fn tensor<'a>(
    name: &'static str,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: &'a [u8],
) -> Reason<Tensor<'a>> {
    TensorView::new(dtype, shape, bytes).map(|view| (name, view)).map_err(|error| format!("{name}: {error}"))
}

/// The bytes of a file of this format and version.
pub(crate) fn encode(
    format: &str,
    version: &str,
    tensors: Vec<Tensor<'_>>,
    numbers: &[(&str, String)],
) -> Reason<Vec<u8>> {
    let mut metadata: HashMap<String, String> =
        numbers.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    metadata.insert("format".to_owned(), format.to_owned());
    metadata.insert("version".to_owned(), version.to_owned());
    safetensors::serialize(tensors, Some(metadata)).map_err(|error| error.to_string())
}

/// Writes under a temporary name beside `path`, flushes to the disk and renames, so that `path` holds either the old
/// checkpoint or the whole new one.
pub(crate) fn save(path: &Path, encoded: Reason<Vec<u8>>) -> Result<()> {
    let bytes = encoded.map_err(|why| unusable(path, why))?;
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

/// Reads a file and what `decode` makes of it.
pub(crate) fn load<S>(path: &Path, decode: impl FnOnce(&[u8]) -> Reason<S>) -> Result<S> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::CheckpointIo { path: path.to_owned(), source })?;
    decode(&bytes).map_err(|why| unusable(path, why))
}

fn unusable(path: &Path, why: String) -> Error {
    Error::Checkpoint { path: path.to_owned(), why }
}

/// A whole file of the right format and version.
pub(crate) struct Contents<'a> {
    file: SafeTensors<'a>,
    metadata: HashMap<String, String>,
}

impl<'a> Contents<'a> {
    pub(crate) fn read(bytes: &'a [u8], format: &str, version: &str) -> Reason<Self> {
        let text = |error: safetensors::SafeTensorError| format!("it is no whole safetensors file ({error})");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(text)?;
        let file = SafeTensors::deserialize(bytes).map_err(text)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let entry = |key: &str| metadata.get(key).map(String::as_str);
        if entry("format") != Some(format) {
            return Err(format!("its metadata does not say format = {format}"));
        }
        if entry("version") != Some(version) {
            return Err(format!("its version is {:?}, this crate reads {version}", entry("version")));
        }
        Ok(Self { file, metadata })
    }

    /// A number of the metadata.
    pub(crate) fn number<N: std::str::FromStr>(&self, key: &str) -> Reason<N> {
        let text = self.metadata.get(key).ok_or_else(|| format!("its metadata has no {key}"))?;
        text.parse().map_err(|_| format!("its metadata says {key} = {text:?}, not a number"))
    }

    /// A tensor that must be there.
    pub(crate) fn tensor(&self, name: &str) -> Reason<TensorView<'a>> {
        self.file.tensor(name).map_err(|error| error.to_string())
    }

    /// A tensor's elements, `None` if there is no such tensor.
    pub(crate) fn optional<V: Pod>(&self, name: &str, dtype: Dtype) -> Reason<Option<Vec<V>>> {
        let Ok(tensor) = self.file.tensor(name) else { return Ok(None) };
        if tensor.dtype() != dtype {
            return Err(format!("its {name} are {:?}, not {dtype:?}", tensor.dtype()));
        }
        Ok(Some(bytemuck::pod_collect_to_vec(tensor.data())))
    }

    /// The elements of a tensor that must be there.
    pub(crate) fn values<V: Pod>(&self, name: &str, dtype: Dtype) -> Reason<Vec<V>> {
        self.optional(name, dtype)?.ok_or_else(|| format!("{name} are missing"))
    }
}
