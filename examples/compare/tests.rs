//! Small comparisons on generated data.

use clap::Parser;

use super::{CompareOptions, chosen, run};
use crate::scheme::SCHEMES;

fn options(more: &[&str]) -> CompareOptions {
    let small = [
        "compare",
        "--device",
        "cpu",
        "--dim",
        "16",
        "--batch-size",
        "256",
        "--epochs",
        "4",
        "--users",
        "300",
        "--items",
        "200",
        "--seeds",
        "2",
    ];
    CompareOptions::parse_from(small.iter().chain(more))
}

#[test]
fn every_scheme_learns_more_than_chance_and_the_table_is_complete() {
    let table = run(&options(&[])).unwrap();
    let markdown = table.markdown();
    for scheme in SCHEMES {
        let recall = table.spread(scheme.name, |row| Some(row.recall_at_10)).unwrap();
        // Ten of at most 200 items at random.
        assert!(recall.mean > 2.0 * 10.0 / 200.0, "{}: {recall:?}", scheme.name);
        assert!(recall.least <= recall.mean && recall.mean <= recall.most);
        assert!(markdown.contains(&format!("| {} |", scheme.name)), "{markdown}");
        assert!(table.spread(scheme.name, |row| row.step_ms).unwrap().least > 0.0);
    }
    assert!(table.spread("most-popular", |row| row.step_ms).is_none());

    let out = tempfile::tempdir().unwrap();
    let [csv, _, svg] = table.save(out.path()).unwrap();
    let lines = std::fs::read_to_string(csv).unwrap().lines().count();
    assert_eq!(lines, 1 + 2 * (SCHEMES.len() + 1));
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(SCHEMES.iter().all(|scheme| svg.contains(scheme.name)), "a scheme is missing in the plot");
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
