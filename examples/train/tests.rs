//! Whole runs on small data.

use std::fs;
use std::path::Path;

use clap::Parser;

use crate::options::Options;
use crate::{Outcome, data, run};

/// Options of a small run that writes to `out`, and more of them.
fn options(out: &Path, more: &[&str]) -> Options {
    let out = out.to_str().expect("temporary folders have plain names");
    let small =
        ["train", "--device", "cpu", "--dim", "16", "--batch-size", "256", "--epochs", "6", "--out", out];
    Options::parse_from(small.iter().chain(more))
}

const GENERATED: [&str; 4] = ["--users", "300", "--items", "200"];

fn run_generated(more: &[&str]) -> Outcome {
    let out = tempfile::tempdir().unwrap();
    run(&options(out.path(), &[&GENERATED, more].concat())).unwrap()
}

fn message(more: &[&str]) -> String {
    let out = tempfile::tempdir().unwrap();
    match run(&options(out.path(), more)) {
        Ok(_) => panic!("{more:?} was accepted"),
        Err(error) => format!("{error:#}"),
    }
}

/// Recall@10 of the last epoch, and of the most popular items.
fn recalls(outcome: &Outcome) -> (f64, f64) {
    (outcome.curve.last().unwrap().recall_at_10, outcome.baselines[0].metrics.recall_10)
}

fn assert_learns(outcome: &Outcome, what: &str) {
    let (first, last) = (outcome.curve[0].loss, outcome.curve.last().unwrap().loss);
    assert!(last < 0.95 * first, "{what}: loss from {first} to {last}");
    let (model, popular) = recalls(outcome);
    assert!(model > 1.2 * popular, "{what}: recall@10 {model}, most popular {popular}");
}

#[test]
fn a_run_learns_the_planted_tastes_and_leaves_its_outputs() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("made/by/the/run");
    let outcome = run(&options(&folder, &GENERATED)).unwrap();
    assert_learns(&outcome, "in-batch");
    let best = outcome.baselines[1];
    assert_eq!(best.name, "best achievable");
    assert!(recalls(&outcome).0 < 1.1 * best.metrics.recall_10, "better than the truth");

    let csv = fs::read_to_string(folder.join("curve.csv")).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "epoch,loss,recall_at_10,recall_at_50,ndcg_at_10,tail_share,seconds");
    assert_eq!(lines.len(), 1 + 6);
    let last: Vec<f64> = lines[6].split(',').map(|field| field.parse().unwrap()).collect();
    let expected = outcome.curve[5];
    assert_eq!(last[..3], [6.0, expected.loss, expected.recall_at_10]);

    let svg = fs::read_to_string(folder.join("curve.svg")).unwrap();
    for part in ["<svg", "polyline", "Loss", "recall@10", "most popular, recall@10", "</svg>"] {
        assert!(svg.contains(part), "the plot has no {part}");
    }
}

#[test]
fn every_optimizer_and_kind_of_negatives_learns() {
    for more in [
        &["--optimizer", "adam", "--negatives", "in-batch"][..],
        &["--optimizer", "adagrad", "--negatives", "mns"],
        &["--negatives", "pools"],
        &["--negatives", "cbns"],
        &["--symmetric", "--logq-users"],
        &["--row-negatives", "8"],
        &["--learn-temperature"],
        &["--down-sample", "0.001"],
        &["--frequency", "counting"],
        &["--class-table", "sampled-softmax"],
    ] {
        assert_learns(&run_generated(more), &more.join(" "));
    }
}

#[test]
fn log_q_raises_recall_and_lowers_the_share_of_the_tail() {
    let (with, without) = (run_generated(&[]), run_generated(&["--logq", "false"]));
    assert!(recalls(&with).0 > 1.3 * recalls(&without).0, "{} {}", recalls(&with).0, recalls(&without).0);
    let tail = |outcome: &Outcome| outcome.curve.last().unwrap().tail_share;
    assert!(tail(&with) < 0.8 * tail(&without), "{} {}", tail(&with), tail(&without));
}

#[test]
fn the_same_seed_gives_the_same_curve() {
    let curve = |seed| {
        let outcome = run_generated(&["--seed", seed, "--epochs", "2", "--negatives", "mns"]);
        outcome.curve.iter().map(|one| (one.loss, one.recall_at_50)).collect::<Vec<_>>()
    };
    assert_eq!(curve("5"), curve("5"));
    assert_ne!(curve("5"), curve("6"));
}

#[test]
fn data_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.inter");
    let (interactions, _) = data::generate(300, 200, 0).unwrap();
    let mut text = "user_id:token\titem_id:token\ttimestamp:float\n".to_owned();
    for one in &interactions.all {
        text += &format!("u{}\ti{}\t{}\n", one.user, one.item, one.time);
    }
    fs::write(&file, &text).unwrap();
    let file = file.to_str().unwrap();
    let outcome = run(&options(folder.path(), &["--data", file])).unwrap();
    assert_eq!(outcome.baselines.len(), 1);
    assert_learns(&outcome, "file");

    fs::write(file, text + "u1\ti1\n").unwrap();
    let line = interactions.all.len() + 2;
    assert!(message(&["--data", file]).ends_with(&format!("line {line}: found 2 fields, the header has 3")));
}

#[test]
fn a_batch_larger_than_the_data_is_cut() {
    assert_eq!(run_generated(&["--batch-size", "10000000", "--epochs", "1"]).curve.len(), 1);
}

#[test]
fn wrong_options_are_explained() {
    for (more, expected) in [
        (&["--epochs", "0"][..], "--epochs must be at least 1"),
        (&["--batch-size", "0"], "--batch-size must be at least 1"),
        (&["--dim", "0"], "--dim must be 1 to 1024"),
        (&["--learning-rate", "NaN"], "--learning-rate must be above 0"),
        (&["--temperature", "0"], "temperature must be finite and above 0"),
        (&["--uniform", "5"], "--negatives mns only"),
        (&["--bank-capacity", "5"], "--negatives cbns only"),
        (&["--sampled", "5"], "--class-table only"),
        (&["--negatives", "pools", "--frequency", "streaming"], "use --frequency exact"),
        (&["--logq", "false", "--frequency", "counting"], "--logq true only"),
        (&["--symmetric", "--negatives", "mns"], "no other negatives go with it"),
        (&["--row-negatives", "8", "--frequency", "streaming"], "use --frequency exact"),
        (&["--hard-negatives", "0"], "hard"),
        (&["--class-table", "nce", "--learn-temperature"], "--learn-temperature has no effect"),
        (&["--class-table", "neg"], "say --logq false"),
        (&["--down-sample", "0"], "threshold"),
        (&["--items", "7"], "--items must be at least"),
        (&["--device", "cuda:99"], "cuda:99"),
        (&["--data", "no/such/file"], "no/such/file"),
    ] {
        let found = message(more);
        assert!(found.contains(expected), "{more:?}: {found}");
    }
}

#[test]
fn divergence_is_an_error_with_a_remedy() {
    let found =
        message(&["--learning-rate", "1e30", "--normalize", "false", "--users", "300", "--items", "200"]);
    assert!(found.contains("lower --learning-rate"), "{found}");
}
