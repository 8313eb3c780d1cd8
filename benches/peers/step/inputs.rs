//! The problem that `run.py` has written, in the storage type that is asked for.

use std::fs;
use std::path::{Path, PathBuf};

use inbatch::{Element, LossConfig};

use super::Result;

/// Where the problem lies and how large it is.
pub(super) struct Shape {
    pub(super) folder: PathBuf,
    exclude: bool,
    rows: usize,
    columns: usize,
    dim: usize,
    tau: f32,
}

impl Shape {
    pub(super) fn parse(folder: &str, exclude: bool, sizes: &[String]) -> Result<Self> {
        let [rows, columns, dim, tau] = sizes else { return Err("expected ROWS COLUMNS DIM TAU".into()) };
        let (rows, columns) = (rows.parse()?, columns.parse()?);
        Ok(Self { folder: folder.into(), exclude, rows, columns, dim: dim.parse()?, tau: tau.parse()? })
    }
}

/// Embeddings and their fields. The columns beyond the rows are a memory bank's.
pub(super) struct Inputs<T> {
    pub(super) config: LossConfig,
    pub(super) dim: usize,
    pub(super) users: Vec<T>,
    pub(super) items: Vec<T>,
    pub(super) bank: Vec<T>,
    pub(super) log_q: Vec<f32>,
    pub(super) bank_log_q: Vec<f32>,
    pub(super) ids: Vec<i64>,
    pub(super) bank_ids: Vec<i64>,
}

impl<T: Element> Inputs<T> {
    pub(super) fn read(shape: &Shape) -> Result<Self> {
        let Shape { folder, rows, columns, dim, .. } = shape;
        let banked = columns.checked_sub(*rows).ok_or("fewer columns than rows")?;
        let embeddings = |name: &str, count: usize| -> Result<Vec<T>> {
            let values: Vec<f32> = load(folder, &format!("{name}.f32"), count * dim)?;
            Ok(values.into_iter().map(T::from_f32).collect())
        };
        let (users, items) = (embeddings("users", *rows)?, embeddings("items", *rows)?);
        let bank = embeddings("bank", banked)?;
        let mut log_q: Vec<f32> = load(folder, "log_q.f32", *columns)?;
        let mut ids: Vec<i64> = load(folder, "ids.i64", *columns)?;
        let (bank_log_q, bank_ids) = (log_q.split_off(*rows), ids.split_off(*rows));
        let config = LossConfig::new(shape.tau)?.exclude_same_item(shape.exclude);
        Ok(Self { config, dim: *dim, users, items, bank, log_q, bank_log_q, ids, bank_ids })
    }
}

fn load<V: bytemuck::Pod>(folder: &Path, name: &str, elements: usize) -> Result<Vec<V>> {
    let bytes = fs::read(folder.join(name))?;
    let values: Vec<V> = bytes.chunks_exact(size_of::<V>()).map(bytemuck::pod_read_unaligned).collect();
    if values.len() != elements {
        return Err(format!("{name} holds {} values, expected {elements}", values.len()).into());
    }
    Ok(values)
}
