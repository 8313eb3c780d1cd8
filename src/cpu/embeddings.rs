//! Embeddings as they enter a product: f32, of unit length if the loss normalises.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::product::Rows;
use crate::{Dtype, Element};

/// The reciprocal norm of each row, 0 for a zero row. f64, because the square of an f32 and the reciprocal
/// of a tiny norm do not fit in f32.
pub(super) fn inverse_norms<T: Element>(embeddings: &[T], dim: usize, inverse_norms: &mut [f64]) {
    inverse_norms.par_iter_mut().zip(embeddings.par_chunks_exact(dim)).with_min_len(64).for_each(
        |(inverse, row)| {
            let square: f64 = row.iter().map(|x| f64::from(x.to_f32())).map(|x| x * x).sum();
            *inverse = if square == 0.0 { 0.0 } else { square.sqrt().recip() };
        },
    );
}

/// Rows `range` of `embeddings`, in place if they can be used as they are, else converted into `buffer`.
/// Zero rows are appended up to `at_least` rows.
pub(super) fn load<'a, T: Element>(
    embeddings: &'a [T],
    range: Range<usize>,
    dim: usize,
    inverse_norms: Option<&[f64]>,
    at_least: usize,
    buffer: &'a mut [f32],
) -> Rows<'a> {
    let source = &embeddings[range.start * dim..range.end * dim];
    if inverse_norms.is_none() && T::DTYPE == Dtype::F32 && range.len() >= at_least {
        return Rows::new(bytemuck::cast_slice(source), dim);
    }
    Rows::new(convert(source, range, dim, inverse_norms, at_least, buffer), dim)
}

/// As [`load`], but rows with `keep` false become zero vectors, whatever they hold.
pub(super) fn load_kept<'a, T: Element>(
    embeddings: &'a [T],
    range: Range<usize>,
    dim: usize,
    inverse_norms: Option<&[f64]>,
    at_least: usize,
    keep: impl Fn(usize) -> bool,
    buffer: &'a mut [f32],
) -> Rows<'a> {
    if range.clone().all(&keep) {
        return load(embeddings, range, dim, inverse_norms, at_least, buffer);
    }
    let source = &embeddings[range.start * dim..range.end * dim];
    let kept = convert(source, range.clone(), dim, inverse_norms, at_least, buffer);
    for (row, i) in kept.chunks_exact_mut(dim).zip(range) {
        if !keep(i) {
            row.fill(0.0);
        }
    }
    Rows::new(kept, dim)
}

fn convert<'a, T: Element>(
    source: &[T],
    range: Range<usize>,
    dim: usize,
    inverse_norms: Option<&[f64]>,
    at_least: usize,
    buffer: &'a mut [f32],
) -> &'a mut [f32] {
    let buffer = &mut buffer[..range.len().max(at_least) * dim];
    let (rows, padding) = buffer.split_at_mut(source.len());
    T::widen(source, rows);
    padding.fill(0.0);
    if let Some(inverse_norms) = inverse_norms {
        let scale_rows = || {
            for (row, inverse) in rows.chunks_exact_mut(dim).zip(&inverse_norms[range]) {
                scale(row, *inverse);
            }
        };
        Arch::new().dispatch(scale_rows);
    }
    buffer
}

/// Multiplies a row by a factor that may lie outside the range of f32.
#[inline(always)]
fn scale(row: &mut [f32], factor: f64) {
    let narrow = factor as f32;
    if narrow == 0.0 || narrow.is_normal() {
        row.iter_mut().for_each(|x| *x *= narrow);
    } else {
        row.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
    }
}

/// `<a, b>`, products and sum in f64: exact products, so that only the sum rounds. Eight running sums let
/// the compiler use vectors.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = a_chunks
        .remainder()
        .iter()
        .zip(b_chunks.remainder())
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for k in 0..8 {
            sums[k] += f64::from(a[k]) * f64::from(b[k]);
        }
    }
    sums.iter().sum::<f64>() + tail
}

/// Turns the gradient of a normalised row into that of the raw row and rounds it:
/// `(d - <d, x^> x^) / norm`, or `d` itself when nothing was normalised.
pub(super) fn store_gradient<G: Element>(
    gradient: &[f32],
    unit: &[f32],
    inverse_norm: Option<f64>,
    target: &mut [G],
) {
    match inverse_norm {
        None => target.iter_mut().zip(gradient).for_each(|(t, d)| *t = G::from_f32(*d)),
        Some(inverse) => {
            let along = dot(gradient, unit);
            for ((t, d), x) in target.iter_mut().zip(gradient).zip(unit) {
                *t = G::from_f32(((f64::from(*d) - along * f64::from(*x)) * inverse) as f32);
            }
        }
    }
}
