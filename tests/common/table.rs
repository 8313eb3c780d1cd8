//! Random problems of the losses over a class table, and a step's results against the oracle's.

use inbatch::oracle::table::{Inputs, Outputs, evaluate};
use inbatch::table::TableConfig;
use inbatch::{Dtype, Element, Reduction};

/// One problem on the host, embeddings as f32.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) dim: usize,
    pub(crate) num_true: usize,
    pub(crate) inputs: Vec<f32>,
    pub(crate) weights: Vec<f32>,
    pub(crate) biases: Option<Vec<f32>>,
    pub(crate) labels: Vec<i64>,
    pub(crate) sampled: Vec<i64>,
    pub(crate) label_log_q: Vec<f32>,
    pub(crate) sampled_log_q: Vec<f32>,
    pub(crate) row_weights: Option<Vec<f32>>,
}

impl Case {
    /// Few classes, so that hits are many; `sampled` may name a class twice.
    pub(crate) fn random(
        rows: usize,
        dim: usize,
        classes: usize,
        num_true: usize,
        sampled: usize,
        seed: u64,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut values =
            |n: usize, scale: f32| (0..n).map(|_| (random.f32() - 0.5) * scale).collect::<Vec<_>>();
        let (inputs, weights) = (values(rows * dim, 3.0), values(classes * dim, 2.0));
        let biases = (!seed.is_multiple_of(3)).then(|| values(classes, 4.0));
        let label_log_q = values(rows * num_true, 6.0);
        let sampled_log_q = values(sampled, 6.0);
        let row_weights = seed.is_multiple_of(2).then(|| values(rows, 4.0));
        let mut labels = Vec::new();
        for _ in 0..rows {
            let mut all: Vec<i64> = (0..classes as i64).collect();
            random.shuffle(&mut all);
            labels.extend_from_slice(&all[..num_true]);
        }
        let sampled = (0..sampled).map(|_| random.i64(0..classes as i64)).collect();
        Self {
            dim,
            num_true,
            inputs,
            weights,
            biases,
            labels,
            sampled,
            label_log_q,
            sampled_log_q,
            row_weights,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.inputs.len() / self.dim
    }

    /// The oracle on the embeddings as type `T` holds them.
    pub(crate) fn expected<T: Element>(&self, config: &TableConfig, reduction: Reduction) -> Outputs {
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|x| f64::from(*x)).collect() };
        let stored = |values: &[f32]| -> Vec<f64> {
            values.iter().map(|x| f64::from(T::from_f32(*x).to_f32())).collect()
        };
        let weights = self.row_weights.as_ref().map_or(vec![1.0; self.rows()], |weights| wide(weights));
        let scale = match reduction {
            Reduction::Mean => 1.0 / self.rows() as f64,
            Reduction::WeightedMean => 1.0 / weights.iter().sum::<f64>(),
            _ => 1.0,
        };
        let biases = self.biases.as_ref().map_or(vec![0.0; self.weights.len() / self.dim], |b| wide(b));
        let coefficients: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
        let mut outputs = evaluate(
            config,
            &Inputs {
                dim: self.dim,
                inputs: &stored(&self.inputs),
                weights: &stored(&self.weights),
                biases: &biases,
                labels: &self.labels,
                num_true: self.num_true,
                sampled: &self.sampled,
                log_q: Some((&wide(&self.label_log_q), &wide(&self.sampled_log_q))),
                coefficients: &coefficients,
            },
        );
        outputs.losses.iter_mut().zip(&weights).for_each(|(loss, weight)| *loss *= weight);
        outputs
    }
}

/// ||found - expected|| / ||expected||, the plain norm where nothing is expected.
fn error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let size = norm(&mut expected.iter().copied());
    norm(&mut found.iter().zip(expected).map(|(x, y)| x - y)) / if size == 0.0 { 1.0 } else { size }
}

/// f32 arithmetic at logits of some ten.
const TOLERANCE: f64 = 5e-6;

/// A step's results, widened. Beyond `unique` the buffers hold what was there before.
pub(crate) struct Step {
    pub(crate) row_losses: Vec<f64>,
    pub(crate) d_inputs: Vec<f64>,
    pub(crate) ids: Vec<i64>,
    pub(crate) d_weights: Vec<f64>,
    pub(crate) d_biases: Vec<f64>,
    pub(crate) unique: usize,
}

/// Holds a step from poisoned (NaN) buffers to the oracle.
pub(crate) fn compare<T: Element, G: Element>(
    case: &Case,
    config: &TableConfig,
    reduction: Reduction,
    found: &Step,
) {
    let expected = case.expected::<T>(config, reduction);
    let context = format!("{config:?} {reduction:?} {} -> {}", T::DTYPE, G::DTYPE);
    let within = |name: &str, found: &[f64], expected: &[f64], tolerance: f64| {
        let error = error(found, expected);
        assert!(error <= tolerance, "{context}: {name} off by {error:e}");
    };
    let rounding = match G::DTYPE {
        Dtype::F32 => 0.0,
        Dtype::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-8),
    };
    within("losses", &found.row_losses, &expected.losses, TOLERANCE);
    // The sparse gradient, made dense: first appearances in order, each class once, nothing but -1 behind.
    let mut seen = Vec::new();
    case.labels.iter().chain(&case.sampled).for_each(|id| {
        if !seen.contains(id) {
            seen.push(*id);
        }
    });
    let (dim, unique) = (case.dim, found.unique);
    assert_eq!(found.ids[..unique], seen, "{context}");
    assert!(found.ids[unique..].iter().all(|id| *id == -1), "{context}");
    assert!(found.d_weights[unique * dim..].iter().all(|x| x.is_nan()), "{context}");
    let mut d_weights = vec![0.0; case.weights.len()];
    let mut d_biases = vec![0.0; case.weights.len() / dim];
    for (k, id) in seen.iter().enumerate() {
        let class = *id as usize * dim;
        d_weights[class..class + dim].copy_from_slice(&found.d_weights[k * dim..(k + 1) * dim]);
        d_biases[*id as usize] = found.d_biases[k];
    }
    within("d_inputs", &found.d_inputs, &expected.d_inputs, TOLERANCE + rounding);
    within("d_weights", &d_weights, &expected.d_weights, TOLERANCE + rounding);
    if case.biases.is_some() {
        within("d_biases", &d_biases, &expected.d_biases, TOLERANCE);
    }
}
