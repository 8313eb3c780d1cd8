//! This crate's side of the comparison with PyTorch: answers the orders of `cpu.py` on standard
//! input, one JSON line each. `torch_worker.py` speaks the same language and explains it.
//!
//! `step FOLDER ROWS DIM TAU`; threads come from `RAYON_NUM_THREADS`.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs, io};

use inbatch::LossConfig;
use inbatch::cpu::{Batch, Gradients, InBatchLoss};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, rows, dim, tau] = arguments.as_slice() else {
        return Err("usage: step FOLDER ROWS DIM TAU".into());
    };
    let mut worker = Worker::new(PathBuf::from(folder), rows.parse()?, dim.parse()?, tau.parse()?)?;
    for line in io::stdin().lock().lines() {
        let answer = match line?.trim() {
            "step" => worker.step()?,
            "check" => worker.check()?,
            "memory" => worker.memory()?,
            "quit" => break,
            other => return Err(format!("no order {other:?}").into()),
        };
        println!("{answer}");
        io::stdout().flush()?;
    }
    Ok(())
}

struct Worker {
    folder: PathBuf,
    dim: usize,
    users: Vec<f32>,
    items: Vec<f32>,
    log_q: Vec<f32>,
    d_users: Vec<f32>,
    d_items: Vec<f32>,
    loss: InBatchLoss,
}

impl Worker {
    fn new(folder: PathBuf, rows: usize, dim: usize, tau: f32) -> Result<Self> {
        let users = load(&folder, "users", rows * dim)?;
        let items = load(&folder, "items", rows * dim)?;
        let log_q = load(&folder, "log_q", rows)?;
        // Touched, so that they count as outputs and not as the step's memory.
        let d_users = vec![f32::NAN; rows * dim];
        let d_items = d_users.clone();
        let loss = InBatchLoss::new(LossConfig::new(tau)?)?;
        Ok(Self { folder, dim, users, items, log_q, d_users, d_items, loss })
    }

    /// One step on the first `rows` rows; returns the loss.
    fn run(&mut self, rows: usize) -> Result<f32> {
        let elements = rows * self.dim;
        let batch =
            Batch::new(&self.users[..elements], &self.items[..elements], self.dim).log_q(&self.log_q[..rows]);
        let mut gradients = Gradients::new(&mut self.d_users[..elements], &mut self.d_items[..elements]);
        Ok(self.loss.step(&batch, &mut gradients)?.loss()?)
    }

    fn step(&mut self) -> Result<String> {
        let begin = Instant::now();
        let loss = self.run(self.log_q.len())?;
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        Ok(format!(r#"{{"ms": {ms}, "loss": {loss}}}"#))
    }

    fn check(&mut self) -> Result<String> {
        let loss = self.run(self.log_q.len())?;
        for (name, gradient) in [("d_users", &self.d_users), ("d_items", &self.d_items)] {
            fs::write(self.folder.join(format!("{name}.f32")), bytemuck::cast_slice(gradient))?;
        }
        Ok(format!(r#"{{"loss": {loss}}}"#))
    }

    fn memory(&mut self) -> Result<String> {
        // Library pages and thread stacks are not the step's.
        self.run(self.log_q.len().min(16))?;
        // Makes the kernel forget the peak so far.
        fs::write("/proc/self/clear_refs", "5")?;
        let before = status("VmRSS")?;
        self.run(self.log_q.len())?;
        Ok(format!(r#"{{"bytes": {}}}"#, status("VmHWM")?.saturating_sub(before)))
    }
}

fn load(folder: &Path, name: &str, elements: usize) -> Result<Vec<f32>> {
    let bytes = fs::read(folder.join(format!("{name}.f32")))?;
    let values: Vec<f32> = bytes.as_chunks().0.iter().map(|value| f32::from_ne_bytes(*value)).collect();
    if values.len() != elements {
        return Err(format!("{name} holds {} values, expected {elements}", values.len()).into());
    }
    Ok(values)
}

/// A field of `/proc/self/status` in bytes.
fn status(field: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|line| line.starts_with(field)).ok_or("no such field")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).ok_or("no value")?.parse()?;
    Ok(kilobytes * 1024)
}
