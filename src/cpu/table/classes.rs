//! Between ids and rows: gathers classes for the sweeps, adds up the gradients of each class.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::cpu::workspace::grow;
use crate::cpu::{TableBatch, TableGradients};
use crate::table::TableShape;
use crate::{Element, Result};

/// f32 rows as the sweeps read them, `[n, D]`, or `[n, D + 1]` with biases.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) inputs: Vec<f32>,
    pub(super) labels: Vec<f32>,
    pub(super) sampled: Vec<f32>,
    pub(super) d_sampled: Vec<f32>,
    pub(super) ids: Vec<i64>,
}

impl Gathered {
    /// Widens inputs, true and sampled classes into rows of `dim`.
    pub(super) fn fill<T: Element>(
        &mut self,
        batch: &TableBatch<'_, T>,
        shape: &TableShape,
        dim: usize,
    ) -> Result<()> {
        let true_classes = shape.rows * shape.num_true;
        for (buffer, rows) in [
            (&mut self.inputs, shape.rows),
            (&mut self.labels, true_classes),
            (&mut self.sampled, shape.sampled),
            (&mut self.d_sampled, shape.sampled),
        ] {
            grow(buffer, rows * dim)?;
        }
        grow(&mut self.ids, shape.named())?;
        self.ids[..true_classes].copy_from_slice(batch.labels.0);
        self.ids[true_classes..shape.named()].copy_from_slice(batch.sampled.0);
        let widen = |target: &mut [f32], source: &[T], last: f32| {
            T::widen(source, target);
            if let Some(bias) = target.get_mut(shape.dim) {
                *bias = last;
            }
        };
        self.inputs
            .par_chunks_exact_mut(dim)
            .zip(batch.inputs.0.par_chunks_exact(shape.dim))
            .with_min_len(64)
            .for_each(|(target, source)| widen(target, source, 1.0));
        for (buffer, ids) in [(&mut self.labels, batch.labels.0), (&mut self.sampled, batch.sampled.0)] {
            buffer.par_chunks_exact_mut(dim).zip(ids).with_min_len(64).for_each(|(target, id)| {
                let class = *id as usize;
                let bias = batch.biases.as_ref().map_or(0.0, |biases| biases.0[class]);
                widen(target, &batch.weights.0[class * shape.dim..(class + 1) * shape.dim], bias);
            });
        }
        Ok(())
    }
}

/// The classes that a call names, with what makes their gradients.
pub(super) struct Named<'a> {
    pub(super) shape: &'a TableShape,
    pub(super) dim: usize,
    pub(super) ids: &'a [i64],
    pub(super) inputs: &'a [f32],
    pub(super) pulls: &'a [f32],
    pub(super) d_sampled: &'a [f32],
}

impl Named<'_> {
    /// Adds up the gradients of each class in the order of its appearances and returns how many classes there are.
    pub(super) fn scatter<G: Element>(&self, target: &mut TableGradients<'_, G>) -> usize {
        let (named, true_classes) = (self.shape.named(), self.shape.rows * self.shape.num_true);
        // First appearances, and for each name the next one of the same class.
        let mut last: HashMap<i64, usize> = HashMap::with_capacity(named);
        let mut next = vec![usize::MAX; named];
        let mut firsts = Vec::with_capacity(named);
        for (at, id) in self.ids[..named].iter().enumerate() {
            match last.insert(*id, at) {
                Some(before) => next[before] = at,
                None => firsts.push(at),
            }
        }
        let ids = &mut target.ids.0;
        ids.fill(-1);
        ids.iter_mut().zip(&firsts).for_each(|(id, first)| *id = self.ids[*first]);
        let sum = |first: usize, row: &mut Vec<f32>| {
            row.clear();
            row.resize(self.dim, 0.0);
            let mut at = first;
            while at != usize::MAX {
                if at >= true_classes {
                    let gradient = &self.d_sampled[(at - true_classes) * self.dim..][..self.dim];
                    row.iter_mut().zip(gradient).for_each(|(sum, d)| *sum += d);
                } else if self.pulls[at] != 0.0 {
                    let x = &self.inputs[at / self.shape.num_true * self.dim..][..self.dim];
                    row.iter_mut().zip(x).for_each(|(sum, x)| *sum -= self.pulls[at] * x);
                }
                at = next[at];
            }
        };
        let dim = self.shape.dim;
        let rows = target.weights.0.par_chunks_exact_mut(dim).zip(&firsts).with_min_len(64);
        rows.for_each_init(Vec::new, |row, (target, first)| {
            sum(*first, row);
            target.iter_mut().zip(&*row).for_each(|(target, sum)| *target = G::from_f32(*sum));
        });
        if let Some(biases) = &mut target.biases {
            let biases = biases.0.par_iter_mut().zip(&firsts).with_min_len(64);
            biases.for_each_init(Vec::new, |row, (bias, first)| {
                sum(*first, row);
                *bias = row[dim];
            });
        }
        firsts.len()
    }
}
