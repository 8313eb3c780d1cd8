//! The CPU backend as a peer.

use std::fs;
use std::time::Instant;

use inbatch::Element;
use inbatch::bank::BankConfig;
use inbatch::cpu::{Batch, Gradients, InBatchLoss, Items, MemoryBank};

use super::inputs::Inputs;
use super::{Peer, Result};

pub(super) struct Cpu<T: Element> {
    inputs: Inputs<T>,
    bank: Option<MemoryBank<T>>,
    d_users: Vec<T>,
    d_items: Vec<T>,
    loss: InBatchLoss,
}

impl<T: Element> Cpu<T> {
    pub(super) fn new(mut inputs: Inputs<T>) -> Result<Self> {
        let banked = inputs.bank_ids.len();
        let mut bank = None;
        if banked > 0 {
            let ring = bank.insert(MemoryBank::new(BankConfig::new(banked, inputs.dim)?)?);
            ring.push(&Items::new(&inputs.bank).log_q(&inputs.bank_log_q).item_ids(&inputs.bank_ids))?;
            inputs.bank = Vec::new();
        }
        // Touched, so that they count as outputs and not as the step's memory.
        let d_users = vec![T::from_f32(f32::NAN); inputs.users.len()];
        let d_items = d_users.clone();
        let loss = InBatchLoss::new(inputs.config)?;
        Ok(Self { inputs, bank, d_users, d_items, loss })
    }

    /// One step on the first `rows` rows; returns the loss.
    fn run(&mut self, rows: usize) -> Result<f32> {
        let inputs = &self.inputs;
        let elements = rows * inputs.dim;
        let mut batch = Batch::new(&inputs.users[..elements], &inputs.items[..elements], inputs.dim)
            .log_q(&inputs.log_q[..rows])
            .item_ids(&inputs.ids[..rows]);
        if let Some(bank) = &self.bank {
            batch = batch.bank(bank);
        }
        let mut gradients = Gradients::new(&mut self.d_users[..elements], &mut self.d_items[..elements]);
        Ok(self.loss.step(&batch, &mut gradients)?.loss()?)
    }
}

impl<T: Element> Peer for Cpu<T> {
    fn step(&mut self) -> Result<f64> {
        let begin = Instant::now();
        self.run(self.inputs.ids.len())?;
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    }

    fn check(&mut self) -> Result<(f32, [Vec<f32>; 2])> {
        let loss = self.run(self.inputs.ids.len())?;
        let widen = |values: &[T]| values.iter().map(|value| value.to_f32()).collect();
        Ok((loss, [widen(&self.d_users), widen(&self.d_items)]))
    }

    fn memory(&mut self) -> Result<u64> {
        // Library pages and thread stacks are not the step's.
        self.run(self.inputs.ids.len().min(16))?;
        // Makes the kernel forget the peak so far.
        fs::write("/proc/self/clear_refs", "5")?;
        let before = status("VmRSS")?;
        self.run(self.inputs.ids.len())?;
        Ok(status("VmHWM")?.saturating_sub(before))
    }
}

/// A field of `/proc/self/status` in bytes.
fn status(field: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|line| line.starts_with(field)).ok_or("no such field")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).ok_or("no value")?.parse()?;
    Ok(kilobytes * 1024)
}
