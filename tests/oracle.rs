//! The oracle against central differences, against automatic differentiation (golden/make.py), and against
//! numbers that others publish.

mod common;

use common::case::Case;
use common::{Limits, properties};
use inbatch::{Error, LossConfig, Objective, PositiveCorrection, Reduction, oracle};
use serde_json::Value;

/// What the gradients are gradients of: the upstream gradient times the loss (or the row losses). Where part of the loss
/// is a constant to the gradient, that part is taken from `fixed`.
fn objective(
    case: &Case,
    inputs: &oracle::Inputs<'_>,
    parameters: oracle::Parameters,
    fixed: &oracle::Outputs,
) -> f64 {
    let mut outputs = oracle::evaluate_at(&case.config, inputs, parameters).unwrap();
    if case.config.get_objective() == Objective::CorrectedLogQ {
        let mut changed = 0.0;
        for (i, loss) in outputs.row_losses.iter_mut().enumerate() {
            if outputs.stopped[i] != 0.0 {
                let moved = *loss / outputs.stopped[i] * fixed.stopped[i];
                changed += moved - *loss;
                *loss = moved;
            }
        }
        let weights = || inputs.weights.into_iter().flatten();
        let scale = match case.config.get_reduction() {
            Reduction::Mean => 1.0 / case.rows() as f64,
            Reduction::WeightedMean => 1.0 / weights().sum::<f64>(),
            _ => 1.0,
        };
        outputs.loss = outputs.loss.map(|loss| loss + scale * changed);
    }
    let upstream = inputs.upstream.unwrap_or(&[]);
    let of = |i: usize| upstream.get(i).copied().unwrap_or(1.0);
    match outputs.loss {
        Some(loss) => of(0) * loss,
        None => outputs.row_losses.iter().enumerate().map(|(i, loss)| of(i) * loss).sum(),
    }
}

/// The derivative of `f` at 0, by central differences with Richardson's extrapolation.
fn derivative(step: f64, f: impl Fn(f64) -> f64) -> f64 {
    let central = |h: f64| (f(h) - f(-h)) / (2.0 * h);
    (4.0 * central(step / 2.0) - central(step)) / 3.0
}

fn compare(name: &str, found: &[f64], expected: &[f64]) -> Result<(), String> {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut found.iter().zip(expected).map(|(x, y)| x - y));
    let size = norm(&mut expected.iter().copied());
    match found.len() == expected.len() && error <= 1e-6 * size + 1e-7 {
        true => Ok(()),
        false => Err(format!("{name}: {found:?}, expected {expected:?}")),
    }
}

#[test]
fn gradients_are_central_differences() {
    let limits = Limits { rows: 6, columns: 15, dim: 6, ..Limits::full() };
    properties::for_random_cases(limits, |_, case| {
        let upstream = case.upstream.as_deref();
        case.with_inputs(upstream, |inputs| {
            let parameters = oracle::Parameters::of(&case.config);
            let outputs = oracle::evaluate(&case.config, inputs).unwrap();
            // A step must not change which negatives are the hardest.
            if case.at_a_jump(&outputs) || case.near_a_tie(1e-2) {
                return Ok(());
            }
            let differences = |width: usize, values: &[f64], set: &dyn Fn(&[f64]) -> f64| -> Vec<f64> {
                (0..values.len())
                    .map(|k| {
                        // A thousandth of a typical element of the row: a short row that is normalised bends sooner.
                        let row = &values[k / width * width..][..width];
                        let typical = row.iter().map(|x| x.abs()).sum::<f64>() / width as f64;
                        derivative(1e-3 * typical.clamp(1e-6, 1.0), |h| {
                            let mut moved = values.to_vec();
                            moved[k] += h;
                            set(&moved)
                        })
                    })
                    .collect()
            };
            let users = differences(inputs.dim, inputs.users, &|users| {
                objective(case, &oracle::Inputs { users, ..*inputs }, parameters, &outputs)
            });
            let items = differences(inputs.dim, inputs.items, &|items| {
                objective(case, &oracle::Inputs { items, ..*inputs }, parameters, &outputs)
            });
            let extra = differences(inputs.dim, inputs.extra, &|extra| {
                objective(case, &oracle::Inputs { extra, ..*inputs }, parameters, &outputs)
            });
            let own = inputs.row_negatives.unwrap_or_default();
            let row_negatives = differences(inputs.dim, own.embeddings, &|embeddings| {
                let row_negatives = Some(oracle::RowNegatives { embeddings, ..own });
                objective(case, &oracle::Inputs { row_negatives, ..*inputs }, parameters, &outputs)
            });
            let own_log_q = own.log_q.map(|log_q| {
                differences(log_q.len(), log_q, &|log_q| {
                    let row_negatives = Some(oracle::RowNegatives { log_q: Some(log_q), ..own });
                    objective(case, &oracle::Inputs { row_negatives, ..*inputs }, parameters, &outputs)
                })
            });
            let temperature = derivative(1e-3 * parameters.inverse_temperature, |h| {
                let inverse_temperature = parameters.inverse_temperature + h;
                objective(case, inputs, oracle::Parameters { inverse_temperature, ..parameters }, &outputs)
            });
            let bias = derivative(1e-3, |h| {
                let bias = parameters.bias + h;
                objective(case, inputs, oracle::Parameters { bias, ..parameters }, &outputs)
            });
            let log_q = inputs.log_q.map(|log_q| {
                let trainable = case.batch_columns() + case.extra_columns();
                let mut slopes = differences(log_q.len(), log_q, &|log_q| {
                    let inputs = oracle::Inputs { log_q: Some(log_q), ..*inputs };
                    objective(case, &inputs, parameters, &outputs)
                });
                slopes.truncate(trainable);
                slopes
            });
            compare("d_users", &outputs.d_users, &users)?;
            compare("d_items", &outputs.d_items, &items)?;
            compare("d_extra", &outputs.d_extra, &extra)?;
            compare("d_row_negatives", &outputs.d_row_negatives, &row_negatives)?;
            let none = vec![0.0; outputs.d_row_negatives_log_q.len()];
            let own_log_q = own_log_q.unwrap_or(none);
            compare("d_row_negatives_log_q", &outputs.d_row_negatives_log_q, &own_log_q)?;
            compare("d_inverse_temperature", &[outputs.d_inverse_temperature], &[temperature])?;
            if matches!(case.config.get_objective(), Objective::Sigmoid { .. }) {
                compare("d_bias", &[outputs.d_bias_rows.iter().sum()], &[bias])?;
            }
            let user_log_q = inputs.user_log_q.unwrap_or(&[]);
            let slopes = differences(user_log_q.len(), user_log_q, &|log_q| {
                let inputs = oracle::Inputs { user_log_q: Some(log_q), ..*inputs };
                objective(case, &inputs, parameters, &outputs)
            });
            if inputs.user_log_q.is_some() {
                compare("d_user_log_q", &outputs.d_user_log_q, &slopes)?;
            } else {
                compare("d_user_log_q", &outputs.d_user_log_q, &vec![0.0; outputs.d_user_log_q.len()])?;
            }
            match log_q {
                Some(log_q) => compare("d_log_q", &outputs.d_log_q, &log_q),
                None => compare("d_log_q", &outputs.d_log_q, &vec![0.0; outputs.d_log_q.len()]),
            }
        })
    });
}

fn numbers(case: &Value, field: &str) -> Option<Vec<f64>> {
    case[field].as_array().map(|array| array.iter().map(|x| x.as_f64().unwrap()).collect())
}

fn ids(case: &Value, field: &str) -> Option<Vec<i64>> {
    case[field].as_array().map(|array| array.iter().map(|x| x.as_i64().unwrap()).collect())
}

fn golden_config(case: &Value) -> LossConfig {
    let flag = |field: &str| case[field].as_bool().unwrap();
    LossConfig::new(case["temperature"].as_f64().unwrap() as f32)
        .and_then(|config| config.logq_scale(case["logq_scale"].as_f64().unwrap() as f32))
        .unwrap()
        .positive_correction(match flag("corrected") {
            true => PositiveCorrection::Corrected,
            false => PositiveCorrection::Uncorrected,
        })
        .exclude_same_item(!case["item_ids"].is_null())
        .exclude_same_user(!case["user_ids"].is_null())
        .normalize(flag("normalize"))
        .reduction(match case["reduction"].as_str().unwrap() {
            "mean" => Reduction::Mean,
            "weighted_mean" => Reduction::WeightedMean,
            _ => Reduction::Sum,
        })
}

#[test]
fn agrees_with_automatic_differentiation() {
    let golden: Value = serde_json::from_str(include_str!("golden/loss.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 14);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let buffer = |field: &str| numbers(case, field).unwrap();
        let (log_q, weights) = (numbers(case, "log_q"), numbers(case, "weights"));
        let (item_ids, user_ids) = (ids(case, "item_ids"), ids(case, "user_ids"));
        let outputs = oracle::evaluate(
            &golden_config(case),
            &oracle::Inputs {
                dim: case["dim"].as_u64().unwrap() as usize,
                users: &buffer("users"),
                items: &buffer("items"),
                extra: &buffer("extra"),
                bank: &buffer("bank"),
                offset: case["offset"].as_u64().unwrap() as usize,
                log_q: log_q.as_deref(),
                item_ids: item_ids.as_deref(),
                user_ids: user_ids.as_deref(),
                weights: weights.as_deref(),
                ..oracle::Inputs::default()
            },
        )
        .unwrap();
        for (field, found) in [
            ("loss", &vec![outputs.loss.unwrap()]),
            ("row_losses", &outputs.row_losses),
            ("d_users", &outputs.d_users),
            ("d_items", &outputs.d_items),
            ("d_extra", &outputs.d_extra),
            ("d_inverse_temperature", &vec![outputs.d_inverse_temperature]),
        ] {
            let expected = numbers(case, field).unwrap_or_else(|| vec![case[field].as_f64().unwrap()]);
            assert_eq!(found.len(), expected.len(), "{name}: {field}");
            for (x, y) in found.iter().zip(&expected) {
                // The file's temperatures, scales and weights are exact in f32, so only f64 rounds.
                assert!((x - y).abs() <= 1e-12 * (1.0 + y.abs()), "{name}: {field} is {x}, expected {y}");
            }
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// TensorFlow Recommenders, tasks/retrieval_test.py: scores [[6, 3], [9, 5]], summed loss
/// `-ln sigmoid(3) - ln(1 - sigmoid(4))`.
#[test]
fn tensorflow_recommenders_retrieval_example() {
    let config = LossConfig::new(1.0).unwrap().reduction(Reduction::Sum);
    let inputs = oracle::Inputs {
        dim: 3,
        users: &[1.0, 2.0, 3.0, 2.0, 3.0, 4.0],
        items: &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        ..oracle::Inputs::default()
    };
    let loss = oracle::evaluate(&config, &inputs).unwrap().loss.unwrap();
    let expected = -sigmoid(3.0).ln() - (1.0 - sigmoid(4.0)).ln();
    assert!((loss - expected).abs() < 1e-12, "{loss} {expected}");
}

/// The same scores by hand with sampling probabilities 1/2 and 1/8: subtracting log q multiplies e^s by
/// 2 and 8, so row 0 has odds 2 e^6 : 8 e^3 and row 1 odds 8 e^5 : 2 e^9.
#[test]
fn correction_divides_by_the_sampling_probability() {
    let config = LossConfig::new(1.0).unwrap().reduction(Reduction::None);
    let log_q = [0.5f64.ln(), 0.125f64.ln()];
    let inputs = oracle::Inputs {
        dim: 3,
        users: &[1.0, 2.0, 3.0, 2.0, 3.0, 4.0],
        items: &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        log_q: Some(&log_q),
        ..oracle::Inputs::default()
    };
    let losses = oracle::evaluate(&config, &inputs).unwrap().row_losses;
    let odds = [8.0 * 3f64.exp() / (2.0 * 6f64.exp()), 2.0 * 9f64.exp() / (8.0 * 5f64.exp())];
    for (loss, odds) in losses.iter().zip(odds) {
        assert!((loss - odds.ln_1p()).abs() < 1e-12, "{loss} {odds}");
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let config = LossConfig::new(1.0).unwrap();
    let good = oracle::Inputs { dim: 2, users: &[1.0; 2], items: &[1.0; 4], ..oracle::Inputs::default() };
    let error =
        |config: &LossConfig, inputs: oracle::Inputs<'_>| oracle::evaluate(config, &inputs).unwrap_err();
    assert!(oracle::evaluate(&config, &good).is_ok());
    assert!(matches!(error(&config, oracle::Inputs { dim: 0, ..good }), Error::Dimension { .. }));
    assert!(matches!(error(&config, oracle::Inputs { users: &[1.0; 3], ..good }), Error::NotRows { .. }));
    assert!(matches!(error(&config, oracle::Inputs { users: &[], ..good }), Error::NoRows));
    assert!(matches!(error(&config, oracle::Inputs { offset: 2, ..good }), Error::PositivesOutside { .. }));
    let log_q = [0.0; 3];
    assert!(matches!(error(&config, oracle::Inputs { log_q: Some(&log_q), ..good }), Error::Length { .. }));
    let pool = oracle::RowNegatives {
        embeddings: &[1.0; 4],
        indices: Some(&[-1, 2]),
        per_row: 2,
        ..Default::default()
    };
    let with = |own| oracle::Inputs { row_negatives: Some(own), ..good };
    let index = |indices| oracle::RowNegatives { indices: Some(indices), ..pool };
    assert!(oracle::evaluate(&config, &with(index(&[-1, 1]))).is_ok());
    assert!(matches!(error(&config, with(pool)), Error::RowNegativeIndex { slot: 1, index: 2, .. }));
    assert!(matches!(error(&config, with(index(&[0]))), Error::Length { .. }));
    let own = oracle::RowNegatives { indices: None, per_row: 3, ..pool };
    assert!(matches!(error(&config, with(own)), Error::Length { .. }));
    let log_q = oracle::RowNegatives { log_q: Some(&[0.0; 2]), ..index(&[0, 1]) };
    assert!(matches!(error(&config, with(log_q)), Error::MissingLogQ(_)));
    let by_item = config.exclude_same_item(true);
    let ids = oracle::Inputs { item_ids: Some(&[1, 2]), ..with(index(&[0, 1])) };
    assert!(matches!(error(&by_item, ids), Error::MissingItemIds(_)));
    assert!(matches!(error(&by_item, good), Error::MissingItemIds(_)));
    assert!(matches!(error(&config.exclude_same_user(true), good), Error::MissingUserIds));
    let weighted = config.reduction(Reduction::WeightedMean);
    assert!(matches!(error(&weighted, good), Error::MissingWeights));
}
