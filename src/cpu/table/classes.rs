//! Between ids and rows: gathers classes for the sweeps, adds up the gradients of each class.

use rayon::prelude::*;

use crate::cpu::tiles::optional_chunks;
use crate::cpu::workspace::{Prepared, grow};
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
    /// Bytes for rows of `dim`.
    pub(super) fn bytes(shape: &TableShape, dim: usize) -> u128 {
        let (rows, sampled) = (shape.rows as u128, shape.sampled as u128);
        let labels = rows * shape.num_true as u128;
        (rows + labels + 2 * sampled) * dim as u128 * 4 + (labels + sampled) * 8
    }

    /// Makes room for rows of `dim`.
    pub(super) fn reserve(&mut self, shape: &TableShape, dim: usize, gradients: bool) -> Result<()> {
        grow(&mut self.inputs, shape.rows * dim)?;
        grow(&mut self.labels, shape.rows * shape.num_true * dim)?;
        grow(&mut self.sampled, shape.sampled * dim)?;
        if gradients {
            grow(&mut self.d_sampled, shape.sampled * dim)?;
        }
        grow(&mut self.ids, shape.named())
    }

    /// Widens inputs, true and sampled classes into rows of `dim`. The buffers have been reserved.
    pub(super) fn fill<T: Element>(&mut self, batch: &TableBatch<'_, T>, shape: &TableShape, dim: usize) {
        let true_classes = shape.rows * shape.num_true;
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
    }
}

/// The names of a call, class by class: scratch of [`Named::scatter`].
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Ids and places, in order.
    keys: Vec<(i64, u32)>,
    /// For each name the next one of the same class, or [`LAST`].
    next: Vec<u32>,
    /// The first name of each class, in order.
    firsts: Vec<u32>,
}

const LAST: u32 = u32::MAX;

impl Names {
    /// Bytes for so many names.
    pub(super) fn bytes(named: usize) -> u128 {
        named as u128 * (size_of::<(i64, u32)>() + 2 * size_of::<u32>()) as u128
    }

    pub(super) fn reserve(&mut self, named: usize) -> Result<()> {
        grow(&mut self.keys, named)?;
        grow(&mut self.next, named)?;
        grow(&mut self.firsts, named)
    }

    /// Links the names of each class in their order; returns how many classes there are.
    fn link(&mut self, ids: &[i64]) -> usize {
        let keys = &mut self.keys[..ids.len()];
        for ((at, key), id) in (0..).zip(keys.iter_mut()).zip(ids) {
            *key = (*id, at);
        }
        keys.par_sort_unstable();
        self.next[..ids.len()].fill(LAST);
        let mut unique = 0;
        let mut before = None;
        for (id, at) in keys {
            match before {
                Some((same, name)) if same == *id => self.next[name as usize] = *at,
                _ => {
                    self.firsts[unique] = *at;
                    unique += 1;
                }
            }
            before = Some((*id, *at));
        }
        self.firsts[..unique].par_sort_unstable();
        unique
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
    pub(super) prepared: &'a Prepared,
}

impl Named<'_> {
    /// Adds up the gradients of each class in the order of its appearances and returns how many classes there are.
    pub(super) fn scatter<G: Element>(&self, names: &mut Names, target: &mut TableGradients<'_, G>) -> usize {
        let unique = names.link(&self.ids[..self.shape.named()]);
        let (firsts, next) = (&names.firsts[..unique], &names.next);
        let ids = &mut target.ids.0;
        ids.fill(-1);
        ids.iter_mut().zip(firsts).for_each(|(id, first)| *id = self.ids[*first as usize]);
        let rows = (
            firsts.par_iter(),
            target.weights.0.par_chunks_exact_mut(self.shape.dim),
            optional_chunks(target.biases.as_mut().map(|biases| &mut *biases.0), 1, unique),
        );
        rows.into_par_iter().with_min_len(64).for_each(|(first, weights, bias)| {
            let mut scratch = self.prepared.scratch();
            let row = &mut scratch.accumulator[..self.dim];
            self.sum(*first, next, row);
            weights.iter_mut().zip(&*row).for_each(|(target, sum)| *target = G::from_f32(*sum));
            if let Some([bias]) = bias {
                *bias = row[self.shape.dim];
            }
        });
        unique
    }

    /// The gradient of the class whose first name is `first`.
    fn sum(&self, first: u32, next: &[u32], row: &mut [f32]) {
        let true_classes = self.shape.rows * self.shape.num_true;
        row.fill(0.0);
        let mut name = first;
        while name != LAST {
            let at = name as usize;
            if at >= true_classes {
                let gradient = &self.d_sampled[(at - true_classes) * self.dim..][..self.dim];
                row.iter_mut().zip(gradient).for_each(|(sum, d)| *sum += d);
            } else if self.pulls[at] != 0.0 {
                let x = &self.inputs[at / self.shape.num_true * self.dim..][..self.dim];
                row.iter_mut().zip(x).for_each(|(sum, x)| *sum -= self.pulls[at] * x);
            }
            name = next[at];
        }
    }
}
