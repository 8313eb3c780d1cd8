//! The family's losses against numbers by their published formulas (golden/family.py), on the oracle and the CPU.

use inbatch::{LogQOrder, LossConfig, Objective, PositiveCorrection, Reduction, cpu, oracle};
use serde_json::Value;

struct Golden {
    dim: usize,
    offset: usize,
    temperature: f32,
    users: Vec<f64>,
    items: Vec<f64>,
    log_q: Vec<f64>,
    value: Value,
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn golden() -> Golden {
    let value: Value = serde_json::from_str(include_str!("golden/family.json")).unwrap();
    Golden {
        dim: value["dim"].as_u64().unwrap() as usize,
        offset: value["offset"].as_u64().unwrap() as usize,
        temperature: value["temperature"].as_f64().unwrap() as f32,
        users: numbers(&value["users"]),
        items: numbers(&value["items"]),
        log_q: numbers(&value["log_q"]),
        value,
    }
}

/// Name, configuration, whether log q is given.
fn schemes(temperature: f32) -> Vec<(&'static str, LossConfig, bool)> {
    let config = LossConfig::new(temperature).unwrap().reduction(Reduction::None).metrics(true);
    let of = |objective| config.objective(objective).unwrap();
    vec![
        ("softmax", config, true),
        ("merlin", config.logq_order(LogQOrder::InsideTemperature), true),
        ("margin", of(Objective::AdditiveMargin { margin: 0.75 }), false),
        ("decoupled", of(Objective::Decoupled), true),
        ("corrected_log_q", of(Objective::CorrectedLogQ), true),
        ("debiased", of(Objective::Debiased { positive_prior: 0.125 }).normalize(true), false),
        ("debiased_bound", of(Objective::Debiased { positive_prior: 0.5 }).normalize(true), false),
        ("sigmoid", of(Objective::Sigmoid { bias: -1.5 }), false),
        ("nce", of(Objective::Sigmoid { bias: 0.0 }), true),
    ]
}

#[test]
fn the_oracle_is_what_was_published() {
    let golden = golden();
    for (name, config, with_log_q) in schemes(golden.temperature) {
        let inputs = oracle::Inputs {
            dim: golden.dim,
            offset: golden.offset,
            users: &golden.users,
            items: &golden.items,
            log_q: with_log_q.then_some(&golden.log_q),
            ..oracle::Inputs::default()
        };
        let found = oracle::evaluate(&config, &inputs).unwrap();
        let expected = numbers(&golden.value["row_losses"][name]);
        assert_eq!(found.row_losses.len(), expected.len());
        for (x, y) in found.row_losses.iter().zip(&expected) {
            assert!((x - y).abs() <= 1e-12 * (1.0 + y.abs()), "{name}: {x}, expected {y}");
        }
        if name == "softmax" {
            let ranks: Vec<u32> =
                numbers(&golden.value["ranks"]).into_iter().map(|rank| rank as u32).collect();
            assert_eq!(found.ranks, ranks);
            assert!(ranks.iter().any(|rank| *rank != ranks[0]), "ranks say nothing: {ranks:?}");
        }
    }
}

#[test]
fn the_symmetric_loss_is_what_was_published() {
    let golden = golden();
    let rows = golden.users.len() / golden.dim;
    let positives = golden.offset..golden.offset + rows;
    let items = &golden.items[positives.start * golden.dim..positives.end * golden.dim];
    let user_log_q = numbers(&golden.value["user_log_q"]);
    let config = LossConfig::new(golden.temperature).unwrap().reduction(Reduction::None).symmetric(true);
    let inputs = oracle::Inputs {
        dim: golden.dim,
        users: &golden.users,
        items,
        log_q: Some(&golden.log_q[positives]),
        user_log_q: Some(&user_log_q),
        ..oracle::Inputs::default()
    };
    let found = oracle::evaluate(&config, &inputs).unwrap().row_losses;
    let expected = numbers(&golden.value["row_losses"]["symmetric"]);
    assert_eq!(found.len(), expected.len());
    for (x, y) in found.iter().zip(&expected) {
        assert!((x - y).abs() <= 1e-12 * (1.0 + y.abs()), "{x}, expected {y}");
    }
}

#[test]
fn the_cpu_is_what_was_published() {
    let golden = golden();
    let narrow = |values: &[f64]| values.iter().map(|x| *x as f32).collect::<Vec<f32>>();
    let (users, items, log_q) = (narrow(&golden.users), narrow(&golden.items), narrow(&golden.log_q));
    for (name, config, with_log_q) in schemes(golden.temperature) {
        let mut batch = cpu::Batch::new(&users, &items, golden.dim).offset(golden.offset);
        if with_log_q {
            batch = batch.log_q(&log_q);
        }
        let mut loss = cpu::InBatchLoss::new(config).unwrap();
        let output = loss.evaluate(&batch).unwrap();
        let expected = numbers(&golden.value["row_losses"][name]);
        for (x, y) in output.row_losses().iter().zip(&expected) {
            assert!((f64::from(*x) - y).abs() <= 4e-6 * (1.0 + y.abs()), "{name}: {x}, expected {y}");
        }
    }
}

/// The oracle's and the CPU's row losses of one batch.
fn both(
    config: LossConfig,
    golden: &Golden,
    item_ids: Option<&[i64]>,
    own: Option<oracle::RowNegatives<'_>>,
) -> [Vec<f64>; 2] {
    let inputs = oracle::Inputs {
        dim: golden.dim,
        offset: golden.offset,
        users: &golden.users,
        items: &golden.items,
        log_q: Some(&golden.log_q),
        item_ids,
        row_negatives: own,
        ..oracle::Inputs::default()
    };
    let exact = oracle::evaluate(&config, &inputs).unwrap().row_losses;
    let narrow = |values: &[f64]| values.iter().map(|x| *x as f32).collect::<Vec<f32>>();
    let (users, items, log_q) = (narrow(&golden.users), narrow(&golden.items), narrow(&golden.log_q));
    let embeddings = own.map(|own| (narrow(own.embeddings), narrow(own.log_q.unwrap_or(&[]))));
    let mut batch = cpu::Batch::new(&users, &items, golden.dim).offset(golden.offset).log_q(&log_q);
    if let Some(ids) = item_ids {
        batch = batch.item_ids(ids);
    }
    if let (Some(own), Some((embeddings, log_q))) = (own, &embeddings) {
        let items = cpu::Items::new(embeddings).log_q(log_q);
        batch = batch.row_negatives(match own.indices {
            Some(indices) => cpu::RowNegatives::of_pool(items, indices, own.per_row),
            None => cpu::RowNegatives::new(items, own.per_row),
        });
    }
    let mut loss = cpu::InBatchLoss::new(config).unwrap();
    let found = loss.evaluate(&batch).unwrap().row_losses().iter().map(|x| f64::from(*x)).collect();
    [exact, found]
}

fn close(name: &str, [exact, found]: [Vec<f64>; 2], expected: &[f64]) {
    assert_eq!((exact.len(), found.len()), (expected.len(), expected.len()));
    for ((exact, found), y) in exact.iter().zip(found).zip(expected) {
        assert!((exact - y).abs() <= 1e-12 * (1.0 + y.abs()), "{name}: the oracle has {exact}, expected {y}");
        assert!((found - y).abs() <= 4e-6 * (1.0 + y.abs()), "{name}: the CPU has {found}, expected {y}");
    }
}

#[test]
fn row_negatives_are_further_logits_of_their_row() {
    let golden = golden();
    let config = LossConfig::new(golden.temperature).unwrap().reduction(Reduction::None);
    let [own, own_log_q, pool, pool_log_q] =
        ["own", "own_log_q", "pool", "pool_log_q"].map(|field| numbers(&golden.value[field]));
    let indices: Vec<i32> = numbers(&golden.value["indices"]).iter().map(|index| *index as i32).collect();
    for (name, negatives) in [
        (
            "row_negatives",
            oracle::RowNegatives {
                embeddings: &own,
                log_q: Some(&own_log_q),
                per_row: 2,
                ..Default::default()
            },
        ),
        (
            "row_negatives_of_pool",
            oracle::RowNegatives {
                embeddings: &pool,
                log_q: Some(&pool_log_q),
                indices: Some(&indices),
                per_row: 2,
                ..Default::default()
            },
        ),
    ] {
        let found = both(config, &golden, None, Some(negatives));
        close(name, found, &numbers(&golden.value["row_losses"][name]));
    }
}

/// TensorFlow Recommenders' `Retrieval(num_hard_negatives=...)`, accidental hits removed first.
#[test]
fn hard_negatives_are_tensorflow_recommenders() {
    let golden = golden();
    let config =
        LossConfig::new(golden.temperature).unwrap().reduction(Reduction::None).exclude_same_item(true);
    let ids: Vec<i64> = numbers(&golden.value["item_ids"]).iter().map(|id| *id as i64).collect();
    let mut losses = vec![];
    // 6 are all the negatives there are: as many as TFRS keeps when more are asked for.
    for kept in [1, 2, 4, 6] {
        let name = format!("hard_negatives_{kept}");
        let expected = numbers(&golden.value["row_losses"][&name]);
        close(&name, both(config.hard_negatives(kept).unwrap(), &golden, Some(&ids), None), &expected);
        losses.push(expected);
    }
    let all = both(config, &golden, Some(&ids), None);
    close("all negatives", all, &losses[3]);
    assert!(losses[0].iter().zip(&losses[1]).all(|(one, two)| one < two), "{losses:?}");
}

/// The bound of the debiased loss holds in some rows of its golden case and not in others.
#[test]
fn the_golden_prior_meets_the_bound() {
    let golden = golden();
    let config = LossConfig::new(golden.temperature).unwrap().normalize(true);
    let config = config.objective(Objective::Debiased { positive_prior: 0.5 }).unwrap();
    let config = config.positive_correction(PositiveCorrection::Uncorrected);
    let inputs = oracle::Inputs {
        dim: golden.dim,
        offset: golden.offset,
        users: &golden.users,
        items: &golden.items,
        ..oracle::Inputs::default()
    };
    let outputs = oracle::evaluate(&config, &inputs).unwrap();
    let bound = |i: &usize| {
        let taken = f64::from(outputs.negatives[*i]) * 0.5;
        (outputs.log_sum_exp[*i] - outputs.z_positive[*i]).exp() < taken
    };
    let at_bound = (0..outputs.row_losses.len()).filter(bound).count();
    assert!(at_bound > 0 && at_bound < outputs.row_losses.len(), "{at_bound}");
}
