//! The item tower as a class table: sampled classes instead of the batch's items, sparse gradients by id.
//!
//! `class_table_cuda.rs` is the same on a GPU.

use anyhow::Result;
use inbatch::cpu;
use inbatch::table::TableConfig;

use crate::step::{HostBatch, HostGradients, Step};

/// A loss over a class table on the CPU. It takes inner products as they are: see [`Cosine`].
pub(crate) struct CpuClassStep {
    loss: cpu::TableLoss,
}

impl CpuClassStep {
    pub(crate) fn new(config: TableConfig) -> Self {
        Self { loss: cpu::TableLoss::new(config) }
    }
}

impl Step for CpuClassStep {
    fn step(&mut self, batch: &HostBatch, gradients: &mut HostGradients) -> Result<f32> {
        let (rows, named, dim) = (batch.rows(), batch.item_ids.len(), batch.dim);
        let (labels, sampled) = batch.item_ids.split_at(rows);
        let mut inputs = cpu::TableBatch::new(&batch.users, &batch.items, dim, labels, 1, sampled);
        if !batch.log_q.is_empty() {
            inputs = inputs.log_q(&batch.log_q[..rows], &batch.log_q[rows..]);
        }
        if !batch.weights.is_empty() {
            inputs = inputs.row_weights(&batch.weights);
        }
        // Room for every label and sampled class; as many as there are different ones are written.
        gradients.users.resize(batch.users.len(), 0.0);
        gradients.item_ids.resize(named, 0);
        gradients.items.resize(named * dim, 0.0);
        gradients.biases.resize(if batch.biases.is_empty() { 0 } else { named }, 0.0);
        let HostGradients { users, item_ids, items, biases, .. } = gradients;
        let mut outputs = cpu::TableGradients::new(&mut users[..], &mut item_ids[..], &mut items[..]);
        if !batch.biases.is_empty() {
            inputs = inputs.biases(&batch.biases);
            outputs = outputs.biases(&mut biases[..]);
        }
        let output = self.loss.step(&inputs, &mut outputs)?;
        let (loss, unique) = (output.loss()?, output.unique());
        gradients.keep(unique, dim);
        Ok(loss)
    }
}

impl HostGradients {
    /// Drops what lies beyond the first `count` items.
    pub(crate) fn keep(&mut self, count: usize, dim: usize) {
        self.item_ids.truncate(count);
        self.items.truncate(count * dim);
        self.biases.truncate(count);
    }
}

/// Gives a loss that takes inner products users and items whose products are `<u, v> / temperature`, of the unit vectors
/// if asked, and carries the gradients back. The in-batch loss does this inside.
pub(crate) struct Cosine {
    step: Box<dyn Step>,
    temperature: f32,
    normalize: bool,
    scaled: HostBatch,
    user_scales: Vec<f32>,
    item_scales: Vec<f32>,
}

impl Cosine {
    pub(crate) fn new(step: Box<dyn Step>, temperature: f32, normalize: bool) -> Self {
        let (scaled, user_scales, item_scales) = Default::default();
        Self { step, temperature, normalize, scaled, user_scales, item_scales }
    }
}

impl Step for Cosine {
    fn step(&mut self, batch: &HostBatch, gradients: &mut HostGradients) -> Result<f32> {
        let Self { step, temperature, normalize, scaled, user_scales, item_scales } = self;
        let (dim, normalize) = (batch.dim, *normalize);
        scaled.clone_from(batch);
        scale(&mut scaled.users, dim, 1.0 / *temperature, normalize, user_scales);
        scale(&mut scaled.items, dim, 1.0, normalize, item_scales);
        let loss = step.step(scaled, gradients)?;
        for (row, &factor) in user_scales.iter().enumerate() {
            unscale(
                &mut gradients.users[row * dim..][..dim],
                &batch.users[row * dim..][..dim],
                factor,
                normalize,
            );
        }
        for (gradient, &id) in gradients.items.chunks_exact_mut(dim).zip(&gradients.item_ids) {
            let row = id as usize;
            unscale(gradient, &batch.items[row * dim..][..dim], item_scales[row], normalize);
        }
        Ok(loss)
    }
}

/// Multiplies each row by `factor`, over its length if asked; `scales` are the products of both.
fn scale(rows: &mut [f32], dim: usize, factor: f32, normalize: bool, scales: &mut Vec<f32>) {
    scales.clear();
    for row in rows.chunks_exact_mut(dim) {
        let scale = if normalize { factor / length(row) } else { factor };
        row.iter_mut().for_each(|value| *value *= scale);
        scales.push(scale);
    }
}

/// The gradient of a row out of that of the scaled row: of a unit vector only what stands upright on it counts.
fn unscale(gradient: &mut [f32], row: &[f32], scale: f32, normalize: bool) {
    let along: f32 = match normalize {
        true => row.iter().zip(&*gradient).map(|(a, b)| a * b).sum::<f32>() / length(row).powi(2),
        false => 0.0,
    };
    for (value, x) in gradient.iter_mut().zip(row) {
        *value = scale * (*value - along * x);
    }
}

fn length(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use inbatch::LossConfig;

    use crate::step::{CpuStep, StepConfig};

    /// Two users, a table of three classes, labels 2 and 0, sampled class 1.
    fn batch() -> HostBatch {
        HostBatch {
            user_ids: vec![0, 1],
            item_ids: vec![2, 0, 1],
            users: vec![0.3, -0.7, 1.1, 0.4],
            items: vec![0.5, 0.2, -0.9, 1.3, 0.8, -0.1],
            ..HostBatch::new(2)
        }
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 2e-6, "{found:?} is not {expected:?}");
        }
    }

    /// With one row the table's softmax is the in-batch one with the sampled classes as extra negatives.
    #[test]
    fn cosines_over_a_temperature_are_those_of_the_in_batch_loss() {
        for normalize in [true, false] {
            let mut table = batch();
            table.user_ids.truncate(1);
            table.users.truncate(2);
            table.item_ids = vec![2, 1, 0];
            let mut in_batch = table.clone();
            in_batch.items = vec![0.8, -0.1, -0.9, 1.3, 0.5, 0.2];
            let config = TableConfig::sampled_softmax().subtract_log_q(false);
            let mut cosine = Cosine::new(Box::new(CpuClassStep::new(config)), 0.3, normalize);
            let loss = LossConfig::new(0.3).unwrap().normalize(normalize);
            let mut direct = CpuStep::new(StepConfig { loss, bank: None, learned: None }).unwrap();
            let (mut found, mut expected) = (HostGradients::default(), HostGradients::default());
            let found_loss = cosine.step(&table, &mut found).unwrap();
            let expected_loss = direct.step(&in_batch, &mut expected).unwrap();
            assert!((found_loss - expected_loss).abs() < 1e-6, "{found_loss} {expected_loss}");
            assert_eq!(found.item_ids, [2, 1, 0]);
            assert_close(&found.users, &expected.users);
            assert_close(&found.items, &expected.items);
        }
    }

    #[test]
    fn a_class_named_twice_gets_one_gradient_and_biases_get_theirs() {
        let mut table = batch();
        table.item_ids = vec![2, 2, 1, 1];
        table.biases = vec![0.1, -0.2, 0.3];
        let config = TableConfig::negative_sampling();
        let (mut step, mut found) = (CpuClassStep::new(config), HostGradients::default());
        step.step(&table, &mut found).unwrap();
        assert_eq!(found.item_ids, [2, 1]);
        assert_eq!((found.items.len(), found.biases.len()), (4, 2));
        // Class 2 is twice a label, class 1 twice a negative of both rows; the mean is over 2 rows.
        let sigmoid = |row: usize, class: usize| {
            let (user, item) = (&table.users[2 * row..], &table.items[2 * class..]);
            1.0 / (1.0 + (-(user[0] * item[0] + user[1] * item[1] + table.biases[class])).exp())
        };
        let of_label = (sigmoid(0, 2) + sigmoid(1, 2) - 2.0) / 2.0;
        assert_close(&found.biases, &[of_label, sigmoid(0, 1) + sigmoid(1, 1)]);
    }
}
