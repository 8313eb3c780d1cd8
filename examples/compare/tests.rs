//! Small comparisons on generated data.

use std::fs;
use std::path::Path;

use clap::Parser;

use super::{CompareOptions, MOST_POPULAR, chosen, run};
use crate::scheme::SCHEMES;

/// Options of a small comparison that writes to `out`, and more of them.
fn options(out: &Path, more: &[&str]) -> CompareOptions {
    let out = out.to_str().expect("temporary folders have plain names");
    let small = ["compare", "--device", "cpu", "--dim", "16", "--batch-size", "256", "--out", out];
    let data = ["--users", "300", "--items", "200"];
    CompareOptions::parse_from(small.iter().chain(&data).chain(more))
}

#[test]
fn every_scheme_learns_more_than_chance_and_the_table_is_complete() {
    let out = tempfile::tempdir().unwrap();
    let table = run(&options(out.path(), &["--epochs", "6", "--seeds", "1"])).unwrap();
    let markdown = table.markdown();
    for scheme in SCHEMES {
        let recall = table.spread(scheme.name, |row| row.recall_at_10).unwrap();
        assert_eq!(recall.values.len(), 1);
        // Ten of at most 200 items at random.
        assert!(recall.mean > 2.0 * 10.0 / 200.0, "{}: {recall:?}", scheme.name);
        let losses = table.rows.iter().filter(|row| row.scheme == scheme.name);
        for (first, last) in losses.map(|row| (row.first_loss.unwrap(), row.last_loss.unwrap())) {
            assert!(first - last > 0.02 * first.abs(), "{}: loss {first} to {last}", scheme.name);
        }
        assert!(markdown.contains(&format!("| `{}` |", scheme.name)), "{markdown}");
        assert!(table.step_ms(scheme.name).unwrap() > 0.0);
    }
    assert!(table.step_ms(MOST_POPULAR).is_none());

    let [csv, _, svg] = table.save(out.path()).unwrap();
    let lines = fs::read_to_string(csv).unwrap().lines().count();
    assert_eq!(lines, 1 + SCHEMES.len() + 1);
    let svg = fs::read_to_string(svg).unwrap();
    assert!(SCHEMES.iter().all(|scheme| svg.contains(scheme.name)), "a scheme is missing in the plot");
    assert!(svg.contains("recall@10") && svg.contains("tail share"), "a panel is missing");
}

#[test]
fn runs_are_kept_where_they_were_made_with_the_same_options() {
    let out = tempfile::tempdir().unwrap();
    let csv = out.path().join("compare.csv");
    let run = |more: &[&str]| {
        let more = [&["--epochs", "1", "--seeds", "2"], more].concat();
        run(&options(out.path(), &more)).unwrap();
        fs::read_to_string(&csv).unwrap()
    };
    // The times are in the lines: a line that is the same was not measured again.
    let kept =
        |before: &str, after: &str| before.lines().skip(1).filter(|&line| after.contains(line)).count();
    let first = run(&["--schemes", "logq,softmax"]);
    assert_eq!(first.lines().count(), 1 + 2 * 3);
    // Cut in the second seed.
    let cut: String = first.lines().take(1 + 4).map(|line| format!("{line}\n")).collect();
    fs::write(&csv, &cut).unwrap();
    let second = run(&["--schemes", "logq,softmax", "--resume"]);
    assert_eq!((second.lines().count(), kept(&cut, &second)), (1 + 2 * 3, 4));
    assert!(kept(&first, &second) < 6, "the cut runs were not made again");
    // More schemes, and what was there stays; another temperature, and nothing does.
    let third = run(&["--schemes", "mns", "--resume"]);
    assert_eq!((third.lines().count(), kept(&second, &third)), (1 + 2 * 4, 6));
    let fourth = run(&["--schemes", "mns", "--resume", "--temperature", "0.2"]);
    assert_eq!((fourth.lines().count(), kept(&third, &fourth)), (1 + 2 * 2, 0));
    // Without --resume a comparison begins anew.
    assert_eq!(run(&["--schemes", "logq"]).lines().count(), 1 + 2 * 2);

    fs::write(&csv, "other,columns\n1,2\n").unwrap();
    let error = super::run(&options(out.path(), &["--resume"])).err().unwrap();
    assert!(format!("{error:#}").contains("without --resume"), "{error:#}");
}

#[test]
fn options_that_a_scheme_cannot_have_stop_the_comparison_before_it_begins() {
    let out = tempfile::tempdir().unwrap();
    let error = run(&options(out.path(), &["--frequency", "streaming"])).err().unwrap();
    assert!(format!("{error:#}").contains("scheme softmax: --frequency has an effect"), "{error:#}");
    assert!(!out.path().join("compare.csv").exists());
}

#[test]
fn schemes_are_chosen_by_name() {
    assert_eq!(chosen(&[]).unwrap().len(), SCHEMES.len());
    let two = chosen(&["mns".to_owned(), "logq".to_owned()]).unwrap();
    assert_eq!(two.iter().map(|scheme| scheme.name).collect::<Vec<_>>(), ["mns", "logq"]);
    let error = chosen(&["no-such".to_owned()]).err().unwrap().to_string();
    assert!(error.contains("no-such") && error.contains("--list"), "{error}");
    let mut names: Vec<_> = SCHEMES.iter().map(|scheme| scheme.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), SCHEMES.len(), "two schemes of one name");
}
