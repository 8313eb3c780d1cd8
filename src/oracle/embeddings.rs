//! Embeddings, normalised or not, and the way back of their gradients.

/// Embeddings as they enter the product, with the norms that they had.
pub(super) struct Embeddings {
    dim: usize,
    values: Vec<f64>,
    /// 1 where nothing was normalised, 0 for a row of norm 0.
    norms: Vec<f64>,
}

impl Embeddings {
    pub(super) fn new(parts: &[&[f64]], dim: usize, normalize: bool) -> Self {
        let mut values = parts.concat();
        let norms = values
            .chunks_exact_mut(dim)
            .map(|row| {
                if !normalize {
                    return 1.0;
                }
                let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                row.iter_mut().for_each(|x| *x = if norm == 0.0 { 0.0 } else { *x / norm });
                norm
            })
            .collect();
        Self { dim, values, norms }
    }

    pub(super) fn rows(&self) -> usize {
        self.norms.len()
    }

    pub(super) fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }

    /// The gradient of rows `first..` before normalisation, from the gradient after it:
    /// `(d - <d, x^> x^) / norm`. No gradient stays none, whatever the row holds.
    pub(super) fn through_norm(&self, first: usize, mut gradient: Vec<f64>, normalize: bool) -> Vec<f64> {
        if normalize {
            for (k, d) in gradient.chunks_exact_mut(self.dim).enumerate() {
                if d.iter().all(|d| *d == 0.0) {
                    continue;
                }
                let (unit, norm) = (self.row(first + k), self.norms[first + k]);
                let along = dot(d, unit);
                d.iter_mut()
                    .zip(unit)
                    .for_each(|(d, x)| *d = if norm == 0.0 { 0.0 } else { (*d - along * x) / norm });
            }
        }
        gradient
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
