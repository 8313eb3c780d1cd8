//! The numbers of a random case.

use inbatch::bank::BankConfig;

use super::case::{BankCase, Items, RowNegatives, round_to};
use super::spec::{BankSpec, RowNegativesSpec, Spec};

/// A generator of a case's numbers.
pub(super) struct Draw<'a> {
    pub(super) random: fastrand::Rng,
    pub(super) spec: &'a Spec,
}

impl Draw<'_> {
    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.random.f32()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.random.f32()).cos()
    }

    /// The scale of embeddings that gives logits the wanted spread.
    fn scale(&self) -> f32 {
        (self.spec.spread * self.spec.temperature / (self.spec.dim as f32).sqrt()).sqrt()
    }

    fn embeddings(&mut self, rows: usize) -> Vec<f32> {
        let scale = self.scale();
        (0..rows * self.spec.dim).map(|_| round_to(self.spec.dtype, self.normal() * scale)).collect()
    }

    pub(super) fn users(&mut self, items: &[f32]) -> Vec<f32> {
        let mut users = self.embeddings(self.spec.rows);
        for (user, item) in users.iter_mut().zip(&items[self.spec.offset * self.spec.dim..]) {
            *user = round_to(self.spec.dtype, *user + self.spec.lean * item);
        }
        users
    }

    pub(super) fn ids(&mut self, count: usize) -> Vec<i64> {
        // Ids that differ in the upper or the lower 32 bits only: both halves must be compared.
        (0..count)
            .map(|_| {
                let id = self.random.u64(0..self.spec.distinct_ids);
                (if id.is_multiple_of(2) { id } else { (id << 32) | 1 }).cast_signed()
            })
            .collect()
    }

    /// Of probabilities, some of them tiny.
    pub(super) fn log_q(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| -0.1 - 19.9 * self.random.f32()).collect()
    }

    pub(super) fn items(&mut self, count: usize) -> Items {
        let log_q = self.spec.log_q.then(|| self.log_q(count));
        Items {
            embeddings: self.embeddings(count),
            log_q,
            item_ids: self.spec.exclude_item.then(|| self.ids(count)),
        }
    }

    pub(super) fn bank(&mut self, spec: &BankSpec) -> BankCase {
        let mut config =
            BankConfig::new(spec.capacity, self.spec.dim).expect("a valid bank").warm_up(spec.warm_up);
        if let Some(age) = spec.max_age {
            config = config.max_age(age);
        }
        if !self.spec.log_q {
            config = config.without_log_q();
        }
        if !self.spec.exclude_item {
            config = config.without_item_ids();
        }
        BankCase {
            config,
            capacity: spec.capacity,
            warm_up: spec.warm_up,
            max_age: spec.max_age,
            pushes: spec.pushes.iter().map(|rows| self.items(*rows)).collect(),
        }
    }

    /// Places in a pool of `pool`: some absent, some named again at once.
    fn indices(&mut self, pool: usize, cells: usize) -> Vec<i32> {
        let mut last = -1;
        (0..cells)
            .map(|_| match self.random.u8(0..8) {
                _ if pool == 0 => -1,
                0 => [-1, i32::MIN][self.random.usize(0..2)],
                1 => last,
                _ => {
                    last = self.random.usize(0..pool) as i32;
                    last
                }
            })
            .collect()
    }

    pub(super) fn row_negatives(&mut self, spec: &RowNegativesSpec) -> RowNegatives {
        let cells = self.spec.rows * spec.per_row;
        RowNegatives {
            items: self.items(spec.pool.unwrap_or(cells)),
            indices: spec.pool.map(|pool| self.indices(pool, cells)),
            per_row: spec.per_row,
        }
    }

    pub(super) fn weights(&mut self) -> Vec<f32> {
        // Some of them zero, some negative; the first keeps their sum away from zero.
        let first = 4.0 * self.spec.rows as f32;
        let mut weights: Vec<f32> = (0..self.spec.rows)
            .map(|_| if self.random.u8(0..5) == 0 { 0.0 } else { self.random.f32() * 2.5 - 0.5 })
            .collect();
        weights[0] = first;
        weights
    }
}
