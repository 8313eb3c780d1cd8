//! A tower: an embedding table and the rule that updates its rows.
//!
//! A trainer of real models would put a network here. The loss does not care: it takes embeddings
//! and gives back the gradient of each.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::options::OptimizerChoice;

/// Standard deviation of the initial embeddings' entries.
const INITIAL_SCALE: f32 = 0.1;
/// Adam's decay rates and the constant that keeps divisions finite.
const FIRST_DECAY: f64 = 0.9;
const SECOND_DECAY: f64 = 0.999;
const EPSILON: f32 = 1e-8;

/// An embedding table `[rows, dim]` with its optimizer.
pub(crate) struct Tower {
    dim: usize,
    table: Vec<f32>,
    optimizer: Optimizer,
    step_size: f32,
    scratch: Scratch,
}

/// Optimizer state, of the shape of the table.
enum Optimizer {
    Adam { first: Vec<f32>, second: Vec<f32>, steps: i32 },
    Adagrad { sum: Vec<f32> },
}

/// Buffers of an update, kept between updates.
#[derive(Default)]
struct Scratch {
    order: Vec<usize>,
    gradient: Vec<f32>,
}

impl Tower {
    /// A table of small random embeddings.
    pub(crate) fn new(
        rows: usize,
        dim: usize,
        optimizer: OptimizerChoice,
        step_size: f32,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let table = (0..rows * dim).map(|_| INITIAL_SCALE * rng.sample::<f32, _>(StandardNormal)).collect();
        Self::of(table, dim, optimizer, step_size)
    }

    /// A table with the rows `table`.
    pub(crate) fn of(table: Vec<f32>, dim: usize, optimizer: OptimizerChoice, step_size: f32) -> Self {
        let zeros = || vec![0.0; table.len()];
        let optimizer = match optimizer {
            OptimizerChoice::Adam => Optimizer::Adam { first: zeros(), second: zeros(), steps: 0 },
            OptimizerChoice::Adagrad => Optimizer::Adagrad { sum: zeros() },
        };
        Self { dim, table, optimizer, step_size, scratch: Scratch::default() }
    }

    /// All rows.
    pub(crate) fn rows(&self) -> &[f32] {
        &self.table
    }

    /// Row `id` of the table.
    pub(crate) fn row(&self, id: usize) -> &[f32] {
        &self.table[id * self.dim..][..self.dim]
    }

    /// Copies the rows of `ids` into `[ids, dim]`.
    pub(crate) fn gather(&self, ids: &[i64], embeddings: &mut Vec<f32>) {
        embeddings.clear();
        for &id in ids {
            embeddings.extend_from_slice(self.row(id as usize));
        }
    }

    /// Updates the rows of `ids` by their gradients `[ids, dim]`. An id that occurs several times
    /// gets one update by the sum of its gradients.
    pub(crate) fn update(&mut self, ids: &[i64], gradients: &[f32]) {
        let dim = self.dim;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.order.clear();
        scratch.order.extend(0..ids.len());
        // Stable, so that equal ids are summed in the order of the batch: the same sum every run.
        scratch.order.sort_by_key(|&position| ids[position]);
        self.optimizer.advance();
        for same in scratch.order.chunk_by(|&a, &b| ids[a] == ids[b]) {
            scratch.gradient.clear();
            scratch.gradient.resize(dim, 0.0);
            for &position in same {
                let gradient = &gradients[position * dim..][..dim];
                for (sum, value) in scratch.gradient.iter_mut().zip(gradient) {
                    *sum += value;
                }
            }
            self.update_row(ids[same[0]] as usize, &scratch.gradient);
        }
        self.scratch = scratch;
    }

    fn update_row(&mut self, id: usize, gradient: &[f32]) {
        let place = id * self.dim..(id + 1) * self.dim;
        let row = &mut self.table[place.clone()];
        match &mut self.optimizer {
            Optimizer::Adam { first, second, steps } => {
                let correction = |decay: f64| (1.0 - decay.powi(*steps)) as f32;
                let (first_correction, second_correction) =
                    (correction(FIRST_DECAY), correction(SECOND_DECAY));
                let (fresh_first, fresh_second) = ((1.0 - FIRST_DECAY) as f32, (1.0 - SECOND_DECAY) as f32);
                let moments = first[place.clone()].iter_mut().zip(&mut second[place]);
                for ((value, &g), (m, v)) in row.iter_mut().zip(gradient).zip(moments) {
                    *m += fresh_first * (g - *m);
                    *v += fresh_second * (g * g - *v);
                    let root = (*v / second_correction).sqrt();
                    *value -= self.step_size * (*m / first_correction) / (root + EPSILON);
                }
            }
            Optimizer::Adagrad { sum } => {
                for ((value, &g), s) in row.iter_mut().zip(gradient).zip(&mut sum[place]) {
                    *s += g * g;
                    *value -= self.step_size * g / (s.sqrt() + EPSILON);
                }
            }
        }
    }
}

impl Optimizer {
    fn advance(&mut self) {
        if let Optimizer::Adam { steps, .. } = self {
            *steps = steps.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, generator};

    fn tower(optimizer: OptimizerChoice) -> Tower {
        Tower::new(4, 2, optimizer, 0.5, &mut generator(7, Purpose::Tables))
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{found:?} is not {expected:?}");
        }
    }

    #[test]
    fn gather_copies_rows_in_order() {
        let tower = tower(OptimizerChoice::Adam);
        let mut embeddings = vec![9.0; 3];
        tower.gather(&[2, 0, 2], &mut embeddings);
        assert_eq!(embeddings, [tower.row(2), tower.row(0), tower.row(2)].concat());
    }

    #[test]
    fn repeated_ids_are_one_update_by_the_sum() {
        for optimizer in [OptimizerChoice::Adam, OptimizerChoice::Adagrad] {
            let (mut apart, mut summed) = (tower(optimizer), tower(optimizer));
            for _ in 0..3 {
                apart.update(&[3, 1, 3], &[1.0, -2.0, 0.5, 0.25, 2.0, 7.0]);
                summed.update(&[1, 3], &[0.5, 0.25, 3.0, 5.0]);
            }
            assert_eq!(apart.table, summed.table, "{optimizer:?}");
        }
    }

    #[test]
    fn adagrad_by_hand() {
        let mut tower = tower(OptimizerChoice::Adagrad);
        let before = tower.row(1).to_vec();
        tower.update(&[1], &[3.0, -4.0]);
        tower.update(&[1], &[4.0, 3.0]);
        // Steps 0.5 g / sqrt(sum of squares): 3/3 and 4/5; -4/4 and 3/5.
        assert_close(tower.row(1), &[before[0] - 0.5 - 0.4, before[1] + 0.5 - 0.3]);
    }

    #[test]
    fn adam_by_hand() {
        let mut tower = tower(OptimizerChoice::Adam);
        let before = tower.row(2).to_vec();
        tower.update(&[2], &[3.0, -4.0]);
        // The first step is the step size times the sign of the gradient.
        assert_close(tower.row(2), &[before[0] - 0.5, before[1] + 0.5]);
        tower.update(&[2], &[1.0, -4.0]);
        // m = 0.9 * 0.3 + 0.1 = 0.37, v = 0.999 * 0.009 + 0.001 = 0.009991, corrected by 0.19 and
        // 0.001999.
        let second = 0.5 * (0.37 / 0.19) / (0.009991f32 / 0.001999).sqrt();
        assert_close(tower.row(2), &[before[0] - 0.5 - second, before[1] + 1.0]);
    }

    #[test]
    fn other_rows_stay() {
        let mut tower = tower(OptimizerChoice::Adam);
        let before = tower.table.clone();
        tower.update(&[1], &[1.0, 1.0]);
        assert_eq!(tower.row(0), &before[..2]);
        assert_eq!(tower.row(3), &before[6..]);
    }
}
