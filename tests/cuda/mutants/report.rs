//! What was killed, what survived and why: docs/mutants.md.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::draw::{Mutant, shape};
use super::trial::Verdict;

/// Killed mutants in a hundred, at least.
const WANTED: f64 = 95.0;

/// How the reason of a survivor begins that no test can kill.
const EQUIVALENT: &str = "Equivalent";

/// Why mutants survive, by the shape of what was changed and of its neighbours: lines move and registers are numbered
/// anew, but shapes stay.
pub(super) struct Reasons(Vec<serde_json::Value>);

impl Reasons {
    pub(super) fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cuda/mutants/survivors.json");
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let file: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        Self(file.as_array().expect("a list of survivors").clone())
    }

    fn matches(entry: &serde_json::Value, mutant: &Mutant) -> bool {
        let is = |field: &str, text: &str| entry[field].as_str() == Some(text);
        is("kernel", mutant.kernel)
            && is("operator", mutant.operator.name())
            && is("around", &mutant.site.around)
            && is("changed", &shape(&mutant.changed))
    }

    /// The reason why `mutant` survives, if one is known.
    pub(super) fn of(&self, mutant: &Mutant) -> Option<&str> {
        self.0.iter().find(|entry| Self::matches(entry, mutant))?["reason"].as_str()
    }

    /// Reasons that no survivor needs any more.
    fn unused<'a>(&'a self, survivors: &'a [&Mutant]) -> impl Iterator<Item = &'a serde_json::Value> {
        self.0.iter().filter(|entry| !survivors.iter().any(|mutant| Self::matches(entry, mutant)))
    }
}

pub(super) struct Report<'a> {
    outcomes: Vec<(&'a Mutant, &'a Verdict)>,
    reasons: Reasons,
}

#[derive(Default)]
struct Count {
    tried: usize,
    killed: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(mutants: &'a [Mutant], verdicts: &'a [Verdict]) -> Self {
        Self { outcomes: mutants.iter().zip(verdicts).collect(), reasons: Reasons::read() }
    }

    fn survivors(&self) -> Vec<&'a Mutant> {
        let survived = |verdict: &Verdict| matches!(verdict, Verdict::Survived { .. });
        self.outcomes.iter().filter(|(_, verdict)| survived(verdict)).map(|(mutant, _)| *mutant).collect()
    }

    /// Mutants that were PTX, by what `key` says of them.
    fn counts<K: Ord>(&self, key: impl Fn(&Mutant) -> K) -> BTreeMap<K, Count> {
        let mut counts: BTreeMap<K, Count> = BTreeMap::new();
        for (mutant, verdict) in &self.outcomes {
            if !matches!(verdict, Verdict::Stillborn(_)) {
                let count = counts.entry(key(mutant)).or_default();
                count.tried += 1;
                count.killed += usize::from(matches!(verdict, Verdict::Killed { .. }));
            }
        }
        counts
    }

    /// Killed mutants in a hundred.
    fn score(&self) -> f64 {
        let all = self.counts(|_| ()).into_values().next().unwrap_or_default();
        100.0 * all.killed as f64 / all.tried.max(1) as f64
    }

    /// An error unless enough was killed and every survivor has its reason.
    pub(super) fn judge(&self) -> Result<(), String> {
        let survivors = self.survivors();
        for entry in self.reasons.unused(&survivors) {
            println!("no survivor of this run needs the reason {entry}");
        }
        let unexplained: Vec<_> = survivors.iter().filter(|m| self.reasons.of(m).is_none()).collect();
        for mutant in &unexplained {
            let entry = serde_json::json!({
                "kernel": mutant.kernel, "operator": mutant.operator.name(),
                "around": mutant.site.around, "changed": shape(&mutant.changed), "reason": "",
            });
            println!("write a test, or a reason into survivors.json: {entry}");
        }
        if !unexplained.is_empty() {
            return Err(format!("{} survivors without a reason", unexplained.len()));
        }
        match self.score() {
            score if score >= WANTED => Ok(()),
            score => Err(format!("only {score:.1} of 100 mutants were killed")),
        }
    }

    pub(super) fn write(&self) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/mutants.md");
        std::fs::write(path, self.markdown()).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = String::from(HEAD);
        let all = self.counts(|_| ()).into_values().next().unwrap_or_default();
        let survivors = self.survivors();
        let is_equivalent =
            |mutant: &&&Mutant| self.reasons.of(mutant).is_some_and(|reason| reason.starts_with(EQUIVALENT));
        let equivalent = survivors.iter().filter(is_equivalent).count();
        let kernels = self.counts(|mutant| mutant.kernel);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} mutants of {} kernels, {} killed: {:.1} of 100. {} survived, each with its reason below. By these reasons \
             {equivalent} compute the same as the kernels that ship, so that no test can tell them apart.\n",
            all.tried,
            kernels.len(),
            all.killed,
            self.score(),
            survivors.len(),
        );
        let stillborn = self.outcomes.len() - all.tried;
        if stillborn > 0 {
            let _ = writeln!(text, "{stillborn} more were no PTX and do not count.\n");
        }
        let _ = writeln!(text, "| defect | mutants | killed |\n|---|---|---|");
        for (operator, count) in self.counts(|mutant| mutant.operator) {
            let _ = writeln!(text, "| {} | {} | {} |", operator.name(), count.tried, count.killed);
        }
        let _ = writeln!(text, "\n| what gave it away | mutants |\n|---|---|");
        for (kind, count) in self.kinds() {
            let _ = writeln!(text, "| {kind} | {count} |");
        }
        let _ = writeln!(text, "\n| kernel | mutants | killed |\n|---|---|---|");
        for (kernel, count) in kernels {
            let _ = writeln!(text, "| `{kernel}` | {} | {} |", count.tried, count.killed);
        }
        let _ = writeln!(text, "\n## Survivors\n");
        for mutant in survivors {
            let reason = self.reasons.of(mutant).unwrap_or("**no reason yet**");
            let _ = writeln!(text, "- {}. {reason}", mutant.describe());
        }
        text
    }

    /// How many were killed by a wrong result, and by each kind of report.
    fn kinds(&self) -> BTreeMap<&str, usize> {
        let mut kinds = BTreeMap::new();
        for (_, verdict) in &self.outcomes {
            if let Verdict::Killed { kind, .. } = verdict {
                *kinds.entry(kind.as_str()).or_default() += 1;
            }
        }
        kinds
    }
}

const HEAD: &str = "\
# Mutants of the kernels

Written by `cargo test -p inbatch --test cuda mutants -- --ignored --nocapture`; do not edit.

Do the tests notice a broken kernel? Each mutant is the PTX that ships with one statement changed: a barrier dropped, an
immediate nudged, a comparison flipped, operands swapped, a wait removed, a predicate negated. It runs on the emulator
under the cases of `tests/cuda/mutants/cases.rs` that launch its kernel. A case that fails, a report of the emulator, or
a kernel that does not end kills it. Fences are left alone: a missing one shows only on hardware with weak memory. Which
mutants are tried follows from a fixed seed: first the kernel, then the defect, then the statement.

A nudged number is one more or one less; from 65536 on, where one can be lost in rounding, twice or half. An address
moves to its neighbour, an infinity changes its sign.

A mutant stands for a slip in the source, so what no slip can change is not drawn (`tests/cuda/mutants/compiled.rs`
recognises it by its shape):

- A division of 64 bits, which the compiler does in 32 where both numbers fit: its choice, and the wide way. Either way has
  the same quotient, and the source has one division. The short way, which the cases take, is drawn.
- A library function's branch for arguments that are infinite, NaN or negative, and a logarithm's for 0.

Statements that no case reaches are drawn like all others.

The emulator runs with its check for redundant stores. The kernels that ship never store by several lanes what one can, so
that a condition `lane == 0` that came out wrong is seen even where all lanes hold the same.

";
