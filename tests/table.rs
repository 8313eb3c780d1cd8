//! Losses over a class table: the oracle against TensorFlow's form (golden/make_table.py) and central differences, the CPU
//! against the oracle, bad input.

mod common;

use common::table::{Case, Step, compare};
use half::{bf16, f16};
use inbatch::oracle::table::{Inputs, Outputs, evaluate};
use inbatch::sampling::SamplerConfig;
use inbatch::table::TableConfig;
use inbatch::{Element, Error, LossConfig, Reduction, cpu};
use serde_json::Value;

/// One step on the CPU against the oracle, outputs poisoned before.
fn check<T: Element, G: Element>(case: &Case, config: TableConfig, reduction: Reduction) {
    let store = |values: &[f32]| -> Vec<T> { values.iter().map(|x| T::from_f32(*x)).collect() };
    let (inputs, weights) = (store(&case.inputs), store(&case.weights));
    let mut batch =
        cpu::TableBatch::new(&inputs, &weights, case.dim, &case.labels, case.num_true, &case.sampled)
            .log_q(&case.label_log_q, &case.sampled_log_q);
    if let Some(biases) = &case.biases {
        batch = batch.biases(biases);
    }
    if let Some(row_weights) = &case.row_weights {
        batch = batch.row_weights(row_weights);
    }
    let named = case.labels.len() + case.sampled.len();
    let poison = G::from_f32(f32::NAN);
    let mut d_inputs = vec![poison; inputs.len()];
    let (mut ids, mut d_weights) = (vec![-7; named], vec![poison; named * case.dim]);
    let mut d_biases = vec![f32::NAN; named];
    let mut gradients = cpu::TableGradients::new(&mut d_inputs, &mut ids, &mut d_weights);
    if case.biases.is_some() {
        gradients = gradients.biases(&mut d_biases);
    }
    let mut loss = cpu::TableLoss::new(config.reduction(reduction));
    let output = loss.step(&batch, &mut gradients).unwrap();
    let wide = |values: &[G]| -> Vec<f64> { values.iter().map(|x| f64::from(x.to_f32())).collect() };
    let floats = |values: &[f32]| -> Vec<f64> { values.iter().map(|x| f64::from(*x)).collect() };
    let (row_losses, unique) = (output.row_losses().to_vec(), output.unique());
    let step = Step {
        row_losses: floats(&row_losses),
        d_inputs: wide(&d_inputs),
        ids,
        d_weights: wide(&d_weights),
        d_biases: floats(&d_biases),
        unique,
    };
    compare::<T, G>(case, &config, reduction, &step);
    // The loss alone has the same bits.
    let mut alone = cpu::TableLoss::new(config.reduction(reduction));
    assert_eq!(alone.evaluate(&batch).unwrap().row_losses(), row_losses);
}

fn softmax() -> TableConfig {
    TableConfig::sampled_softmax()
}

#[test]
fn cpu_agrees_with_the_oracle() {
    let shapes = [
        (1, 1, 2, 1, 1),
        (3, 5, 9, 1, 4),
        (7, 4, 6, 3, 11),
        (70, 33, 40, 2, 300),
        (130, 16, 500, 5, 70),
        (65, 9, 12, 12, 5),
        (5, 3, 40, 25, 60),
    ];
    let configs = [
        softmax(),
        softmax().remove_accidental_hits(false),
        softmax().subtract_log_q(false),
        softmax().subtract_log_q(false).remove_accidental_hits(false),
        TableConfig::nce(),
        TableConfig::nce().remove_accidental_hits(true),
        TableConfig::negative_sampling(),
    ];
    for (seed, (rows, dim, classes, num_true, sampled)) in (1..).zip(shapes) {
        for config in configs {
            for seed in [seed, seed + 10, seed + 21] {
                let case = Case::random(rows, dim, classes, num_true, sampled, seed);
                for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
                    check::<f32, f32>(&case, config, reduction);
                }
            }
        }
    }
}

#[test]
fn types_of_storage_and_gradient() {
    let case = Case::random(33, 20, 50, 2, 40, 4);
    check::<f16, f32>(&case, softmax(), Reduction::Mean);
    check::<f16, f16>(&case, softmax(), Reduction::Sum);
    check::<bf16, f32>(&case, softmax(), Reduction::Sum);
    check::<bf16, bf16>(&case, softmax(), Reduction::WeightedMean);
    check::<f32, bf16>(&case, softmax(), Reduction::None);
    check::<f16, f32>(&case, TableConfig::nce(), Reduction::Mean);
    check::<bf16, bf16>(&case, TableConfig::negative_sampling(), Reduction::Sum);
}

fn numbers(case: &Value, field: &str) -> Vec<f64> {
    case[field].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn ids(case: &Value, field: &str) -> Vec<i64> {
    case[field].as_array().unwrap().iter().map(|x| x.as_i64().unwrap()).collect()
}

#[test]
fn the_oracle_agrees_with_tensorflows_form() {
    let golden: Value = serde_json::from_str(include_str!("golden/table.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 11);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let flag = |field: &str| case[field].as_bool().unwrap();
        let family = match case["link"].as_str().unwrap() {
            "softmax" => softmax(),
            _ => TableConfig::nce(),
        };
        let config = family
            .subtract_log_q(flag("subtract_log_q"))
            .remove_accidental_hits(flag("remove_accidental_hits"));
        let (labels, sampled) = (ids(case, "labels"), ids(case, "sampled"));
        let losses = numbers(case, "losses");
        let (label_log_q, sampled_log_q) = (numbers(case, "label_log_q"), numbers(case, "sampled_log_q"));
        let outputs = evaluate(
            &config,
            &Inputs {
                dim: case["dim"].as_u64().unwrap() as usize,
                inputs: &numbers(case, "inputs"),
                weights: &numbers(case, "weights"),
                biases: &numbers(case, "biases"),
                labels: &labels,
                num_true: case["num_true"].as_u64().unwrap() as usize,
                sampled: &sampled,
                log_q: Some((&label_log_q, &sampled_log_q)),
                coefficients: &vec![1.0; losses.len()],
            },
        );
        for (found, expected) in outputs.losses.iter().zip(&losses) {
            assert!((found - expected).abs() <= 1e-12 * (1.0 + expected), "{name}: {found} {expected}");
        }
        // And the samplers' expected counts are TensorFlow's.
        let mut law = SamplerConfig::log_uniform(case["range_max"].as_u64().unwrap()).unwrap();
        if flag("unique") {
            law = law.without_replacement();
        }
        let tries = case["num_tries"].as_u64().unwrap();
        for (id, log_q) in labels.iter().chain(&sampled).zip(label_log_q.iter().chain(&sampled_log_q)) {
            let p = law.probability(*id);
            let count =
                if flag("unique") { -(tries as f64 * (-p).ln_1p()).exp_m1() } else { tries as f64 * p };
            assert!((count.ln() - log_q).abs() <= 1e-12 * (1.0 + log_q.abs()), "{name}: {id}");
        }
    }
}

#[test]
fn gradients_are_central_differences() {
    let configs = [
        softmax(),
        softmax().subtract_log_q(false).remove_accidental_hits(false),
        TableConfig::nce(),
        TableConfig::nce().remove_accidental_hits(true),
    ];
    for (seed, config) in (1..).zip(configs) {
        let case = Case::random(4, 3, 8, 2, 6, seed);
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|x| f64::from(*x)).collect() };
        let (inputs, weights) = (wide(&case.inputs), wide(&case.weights));
        let biases = case.biases.as_ref().map_or(vec![0.0; 8], |b| wide(b));
        let (label_log_q, sampled_log_q) = (wide(&case.label_log_q), wide(&case.sampled_log_q));
        let coefficients = [1.0, -0.5, 0.0, 2.0];
        let outputs = |inputs: &[f64], weights: &[f64], biases: &[f64]| {
            evaluate(
                &config,
                &Inputs {
                    dim: 3,
                    inputs,
                    weights,
                    biases,
                    labels: &case.labels,
                    num_true: 2,
                    sampled: &case.sampled,
                    log_q: Some((&label_log_q, &sampled_log_q)),
                    coefficients: &coefficients,
                },
            )
        };
        let total = |outputs: Outputs| -> f64 {
            outputs
                .losses
                .iter()
                .zip(coefficients)
                .map(|(loss, g)| if g == 0.0 { 0.0 } else { g * loss })
                .sum()
        };
        let derivative = |values: &[f64], k: usize, f: &dyn Fn(&[f64]) -> f64| {
            let at = |h: f64| {
                let mut moved = values.to_vec();
                moved[k] += h;
                f(&moved)
            };
            (at(1e-5) - at(-1e-5)) / 2e-5
        };
        let exact = outputs(&inputs, &weights, &biases);
        type Loss<'f> = &'f dyn Fn(&[f64]) -> f64;
        let of_inputs: Loss<'_> = &|x| total(outputs(x, &weights, &biases));
        let of_weights: Loss<'_> = &|w| total(outputs(&inputs, w, &biases));
        let of_biases: Loss<'_> = &|b| total(outputs(&inputs, &weights, b));
        for (values, found, f) in [
            (&inputs, &exact.d_inputs, of_inputs),
            (&weights, &exact.d_weights, of_weights),
            (&biases, &exact.d_biases, of_biases),
        ] {
            for (k, found) in found.iter().enumerate() {
                let expected = derivative(values, k, f);
                assert!((found - expected).abs() <= 1e-7, "{k}: {found} {expected}");
            }
        }
    }
}

/// One row, one true class: the in-batch loss of a batch of one with the sampled classes as extra negatives.
#[test]
fn one_row_is_an_in_batch_loss_with_extra_negatives() {
    let case = Case { biases: None, row_weights: None, ..Case::random(1, 6, 9, 1, 30, 5) };
    let row = |id: &i64| case.weights[*id as usize * 6..][..6].to_vec();
    let positive = row(&case.labels[0]);
    let extra: Vec<f32> = case.sampled.iter().flat_map(row).collect();
    let mut in_batch = cpu::InBatchLoss::new(LossConfig::new(1.0).unwrap().exclude_same_item(true)).unwrap();
    let extra = cpu::Items::new(&extra).log_q(&case.sampled_log_q).item_ids(&case.sampled);
    let batch = cpu::Batch::new(&case.inputs, &positive, 6)
        .log_q(&case.label_log_q)
        .item_ids(&case.labels)
        .extra(extra);
    let expected = in_batch.evaluate(&batch).unwrap().loss().unwrap();
    let mut table = cpu::TableLoss::new(softmax());
    let batch = cpu::TableBatch::new(&case.inputs, &case.weights, 6, &case.labels, 1, &case.sampled)
        .log_q(&case.label_log_q, &case.sampled_log_q);
    let found = table.evaluate(&batch).unwrap().loss().unwrap();
    assert!((found - expected).abs() <= 2e-6 * expected.abs(), "{found} {expected}");
}

/// Every class sampled once, with expected count 1: the full softmax over the table.
#[test]
fn every_class_sampled_is_the_full_softmax() {
    let mut case = Case { biases: None, row_weights: None, ..Case::random(5, 4, 7, 1, 7, 9) };
    case.sampled = (0..7).collect();
    let mut loss = cpu::TableLoss::new(softmax().reduction(Reduction::None));
    let (ones, zeros) = (vec![0.0f32; 5], vec![0.0f32; 7]);
    let batch = cpu::TableBatch::new(&case.inputs, &case.weights, 4, &case.labels, 1, &case.sampled)
        .log_q(&ones, &zeros);
    let found = loss.evaluate(&batch).unwrap().row_losses().to_vec();
    for (i, found) in found.iter().enumerate() {
        let logit = |class: usize| -> f64 {
            (0..4).map(|d| f64::from(case.inputs[i * 4 + d]) * f64::from(case.weights[class * 4 + d])).sum()
        };
        let total: f64 = (0..7).map(|class| logit(class).exp()).sum();
        let expected = total.ln() - logit(case.labels[i] as usize);
        assert!((f64::from(*found) - expected).abs() <= 2e-6 * expected.max(1.0), "{found} {expected}");
    }
}

/// A row of NaN spoils its own numbers and the classes' it touches; a row of weight 0 nothing at all.
#[test]
fn rows_keep_to_themselves() {
    let mut case = Case::random(6, 4, 30, 1, 10, 2);
    let run = |case: &Case| {
        let mut d_inputs = vec![0.0f32; case.inputs.len()];
        let (mut ids, mut rows) = (vec![0; 16], vec![0.0f32; 64]);
        let mut loss = cpu::TableLoss::new(softmax().reduction(Reduction::Sum));
        let batch = cpu::TableBatch::new(&case.inputs, &case.weights, 4, &case.labels, 1, &case.sampled)
            .log_q(&case.label_log_q, &case.sampled_log_q)
            .row_weights(case.row_weights.as_deref().unwrap());
        let output =
            loss.step(&batch, &mut cpu::TableGradients::new(&mut d_inputs, &mut ids, &mut rows)).unwrap();
        let unique = output.unique();
        let losses = output.row_losses().to_vec();
        rows.truncate(unique * 4);
        (losses, d_inputs, rows)
    };
    let whole = run(&case);
    case.inputs[4..8].fill(f32::NAN);
    let spoilt = run(&case);
    assert!(spoilt.0[1].is_nan() && spoilt.1[4..8].iter().all(|x| x.is_nan()));
    assert_eq!((&spoilt.0[2..], &spoilt.1[8..]), (&whole.0[2..], &whole.1[8..]));
    case.row_weights.as_mut().unwrap()[1] = 0.0;
    let silenced = run(&case);
    assert_eq!((silenced.0[1], &silenced.1[4..8]), (0.0, &[0.0; 4][..]));
    assert!(silenced.2.iter().all(|x| x.is_finite()));
}

/// One true class and no sampled one left: the sigmoid link keeps its positive term.
#[test]
fn nce_without_negatives_keeps_its_positive() {
    let mut loss = cpu::TableLoss::new(TableConfig::negative_sampling().remove_accidental_hits(true));
    let batch = cpu::TableBatch::new(&INPUTS[..2], &WEIGHTS, 2, &[1], 1, &[1]);
    // <x, w> = -0.55: softplus(0.55).
    let found = loss.evaluate(&batch).unwrap().loss().unwrap();
    assert!((found - 0.55f32.exp().ln_1p()).abs() < 1e-6, "{found}");
}

/// A row whose every sampled class is a hit has only its true classes: loss 0 for one, no gradient.
#[test]
fn rows_without_negatives() {
    let (inputs, weights) = ([0.5f32, -1.0], [1.0f32, 2.0, -0.5, 0.3]);
    let mut loss = cpu::TableLoss::new(softmax().subtract_log_q(false));
    let (mut d_inputs, mut ids, mut rows) = ([f32::NAN; 2], [0; 3], [f32::NAN; 6]);
    let batch = cpu::TableBatch::new(&inputs, &weights, 2, &[1], 1, &[1, 1]);
    let output =
        loss.step(&batch, &mut cpu::TableGradients::new(&mut d_inputs, &mut ids, &mut rows)).unwrap();
    assert_eq!((output.loss().unwrap(), output.unique()), (0.0, 1));
    assert_eq!((d_inputs, ids, &rows[..2]), ([0.0; 2], [1, -1, -1], &[0.0; 2][..]));
}

const INPUTS: [f32; 4] = [0.5, -1.0, 0.2, 0.7];
const WEIGHTS: [f32; 6] = [1.0, 2.0, -0.5, 0.3, 0.1, 0.9];

fn batch<'a>(labels: &'a [i64], num_true: usize, sampled: &'a [i64]) -> cpu::TableBatch<'a, f32> {
    cpu::TableBatch::new(&INPUTS, &WEIGHTS, 2, labels, num_true, sampled)
}

#[test]
fn bad_input() {
    let (labels, sampled, log_q) = ([0, 1], [2, 0, 2], [-1.0f32; 3]);
    let error = |config: TableConfig, batch: cpu::TableBatch<'_, f32>| {
        let mut loss = cpu::TableLoss::new(config);
        let (mut d_inputs, mut ids, mut rows) = ([f32::NAN; 4], [-7; 5], [f32::NAN; 10]);
        let mut gradients = cpu::TableGradients::new(&mut d_inputs, &mut ids, &mut rows);
        let error = loss.step(&batch, &mut gradients).unwrap_err();
        assert_eq!(loss.evaluate(&batch).unwrap_err().to_string(), error.to_string());
        assert!(d_inputs.iter().chain(&rows).all(|x| x.is_nan()) && ids == [-7; 5], "{error}");
        error
    };
    let plain = softmax().subtract_log_q(false);
    let found = |labels: &[i64], num_true, sampled: &[i64]| error(plain, batch(labels, num_true, sampled));
    assert!(matches!(found(&[0, 3], 1, &sampled), Error::UnknownId { id: 3, size: 3 }));
    assert!(matches!(found(&[0, -1], 1, &sampled), Error::UnknownId { id: -1, .. }));
    assert!(matches!(found(&labels, 1, &[0, 7, 0]), Error::UnknownId { id: 7, .. }));
    let twice = cpu::TableLoss::new(plain).evaluate(&batch(&[0, 1, 2, 2], 2, &sampled)).unwrap_err();
    assert!(matches!(twice, Error::DuplicateLabel { row: 1, id: 2 }));
    // Many labels are sorted to see that they differ; what is told is the first that repeats an earlier one.
    let mut many: Vec<i64> = (0..40).rev().chain(0..40).collect();
    let (inputs, weights) = ([0.5f32; 2], [0.1f32; 40]);
    let of_many = |many: &[i64]| {
        let batch = cpu::TableBatch::new(&inputs, &weights, 1, many, 40, &sampled);
        cpu::TableLoss::new(plain).evaluate(&batch).map(|_| ())
    };
    of_many(&many).unwrap();
    (many[48], many[75], many[60]) = (3, 3, 7);
    let twice = of_many(&many).unwrap_err();
    assert!(matches!(twice, Error::DuplicateLabel { row: 1, id: 3 }), "{twice}");
    assert!(matches!(found(&labels, 0, &sampled), Error::NoTrueClass));
    assert!(matches!(found(&labels, 2, &sampled), Error::Length { what: "labels", .. }));
    assert!(matches!(found(&labels, 1, &[]), Error::NoSamples));
    assert!(matches!(found(&labels, usize::MAX, &sampled), Error::TooLarge { .. }));
    assert!(matches!(error(softmax(), batch(&labels, 1, &sampled)), Error::MissingExpectedCounts));
    let short = batch(&labels, 1, &sampled).log_q(&log_q[..1], &log_q);
    assert!(matches!(error(plain, short), Error::Length { what: "the labels' log_q", .. }));
    // An expected count of 0, or one that is not known.
    for bad in [f32::NEG_INFINITY, f32::NAN] {
        let zero = [-1.0, bad, -1.0];
        let of_sampled = batch(&labels, 1, &sampled).log_q(&log_q[..2], &zero);
        let found = error(softmax(), of_sampled);
        assert!(matches!(found, Error::ExpectedCount { what: "sampled class", index: 1, .. }), "{found}");
        let of_label = batch(&labels, 1, &sampled).log_q(&zero[..2], &log_q);
        assert!(matches!(error(softmax(), of_label), Error::ExpectedCount { what: "label", index: 1, .. }));
    }
    let biases = [0.0f32; 2];
    assert!(matches!(
        error(plain, batch(&labels, 1, &sampled).biases(&biases)),
        Error::Length { what: "biases", .. }
    ));
    let weighted = plain.reduction(Reduction::WeightedMean);
    assert!(matches!(error(weighted, batch(&labels, 1, &sampled)), Error::MissingWeights));
    let zero = [1.0f32, -1.0];
    let batch_of_zero = batch(&labels, 1, &sampled).row_weights(&zero);
    assert!(matches!(error(weighted, batch_of_zero), Error::WeightSum(_)));
    let empty = cpu::TableBatch::new(&INPUTS[..0], &WEIGHTS, 2, &labels[..0], 1, &sampled);
    assert!(matches!(error(plain, empty), Error::NoRows));
    let ragged = cpu::TableBatch::new(&INPUTS, &WEIGHTS[..5], 2, &labels, 1, &sampled);
    assert!(matches!(error(plain, ragged), Error::NotRows { what: "the class weights", .. }));
    // Biases take a dimension of their own.
    let (wide, biases) = (vec![0.0f32; 1024], [0.0f32]);
    let widest = || cpu::TableBatch::new(&wide, &wide, 1024, &[0], 1, &[0]);
    assert!(cpu::TableLoss::new(plain).evaluate(&widest()).is_ok());
    let error_of = cpu::TableLoss::new(plain).evaluate(&widest().biases(&biases)).unwrap_err();
    assert!(matches!(error_of, Error::Dimension { dim: 1024, max: 1023 }), "{error_of}");
    let flat = cpu::TableBatch::new(&INPUTS, &WEIGHTS, 0, &labels, 1, &sampled);
    assert!(matches!(error(plain, flat), Error::Dimension { .. }));

    let mut loss = cpu::TableLoss::new(plain.reduction(Reduction::None));
    let (mut d_inputs, mut ids, mut rows) = ([0.0f32; 4], [0; 5], [0.0f32; 10]);
    let mut biases = [0.0f32; 5];
    let good = batch(&labels, 1, &sampled);
    let mut gradients = cpu::TableGradients::new(&mut d_inputs, &mut ids, &mut rows).biases(&mut biases);
    assert!(matches!(loss.step(&good, &mut gradients), Err(Error::UnexpectedBiasGradient)));
    let mut gradients = cpu::TableGradients::new(&mut d_inputs, &mut ids[..4], &mut rows);
    assert!(matches!(
        loss.step(&good, &mut gradients),
        Err(Error::Length { what: "the gradient's ids", .. })
    ));
    assert!(matches!(loss.evaluate(&good).unwrap().loss(), Err(Error::NoScalarLoss)));
}
