//! One case on one mutant, and what comes of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use inbatch::cuda::Device;
use inbatch::cuda::cudarc::driver::CudaContext;
use ptx_emulator_harness::Emulator;

use super::cases::{CASES, FastCase};
use super::draw::Mutant;
use crate::support::{Gpu, Turn, turn};

/// Why a case failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// `mismatch`, or the name of the emulator's report.
    pub kind: String,
    pub message: String,
}

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The case that failed, and how.
    Killed { case: String, kind: String },
    /// Whether a case gets to the statement at all.
    Survived { reached: bool },
    /// It is no PTX: not a defect that could be overlooked.
    Stillborn(String),
}

/// The settings of all other tests, which a case may change for itself.
const DEFAULTS: [(&str, &str); 4] =
    [("multiprocessors", "1"), ("cc", "8.0"), ("instruction_limit", "10000000000"), ("checks", "all")];

/// No kernel that ships stores by several lanes what one can: a mutant that does has a wrong condition.
const CHECKS: (&str, &str) = ("checks", "all,redundant");

/// The emulator for as long as a turn lasts, its settings put back at the end.
pub(super) struct Bench {
    emulator: Emulator,
    turn: Turn,
    launches: &'static [Launches],
}

/// The kernels that a case launches, with their instructions.
type Launches = BTreeMap<String, u64>;

impl Bench {
    /// Runs every case on the kernels that ship. `None` without the emulator: a GPU may do anything with a mutant.
    pub(super) fn new() -> Option<Self> {
        let emulator = ptx_emulator_harness::device().expect("a device to test on").emulator()?;
        let turn = turn();
        emulator.set("quiet", "1").expect("a setting");
        // Measured once in a process.
        static LAUNCHES: OnceLock<Vec<Launches>> = OnceLock::new();
        let mut bench = Self { emulator, turn, launches: &[] };
        bench.launches = LAUNCHES.get_or_init(|| CASES.iter().map(|case| bench.measure(case)).collect());
        Some(bench)
    }

    fn measure(&self, case: &FastCase) -> Launches {
        let begin = std::time::Instant::now();
        let failure = self.run(case, "none").err();
        assert_eq!(failure, None, "{} fails on the kernels that ship", case.name);
        let launches: Launches =
            self.emulator.kernels().into_iter().map(|run| (run.name, run.warp_instructions)).collect();
        let instructions = launches.values().sum::<u64>();
        println!("{}: {instructions} warp instructions, {:.2} s", case.name, begin.elapsed().as_secs_f64());
        launches
    }

    /// The cases that launch `kernel`, those that cost least first, each with the instructions that no kernel of it
    /// reaches.
    fn cases_of(&self, kernel: &str) -> Vec<(&'static FastCase, u64)> {
        let mut cases: Vec<_> = CASES
            .iter()
            .zip(self.launches)
            .filter(|(_, launches)| launches.contains_key(kernel))
            .map(|(case, launches)| (case, launches.values().sum::<u64>(), launches.values().max()))
            .collect();
        cases.sort_by_key(|(_, cost, _)| *cost);
        cases.into_iter().map(|(case, _, most)| (case, 4 * most.copied().unwrap_or(0) + 10_000)).collect()
    }

    pub(super) fn is_covered(&self, kernel: &str) -> bool {
        self.launches.iter().any(|launches| launches.contains_key(kernel))
    }

    /// Runs the cases of a mutant's kernel on it, up to the first that fails.
    pub(super) fn try_mutant(&self, mutant: &Mutant) -> Verdict {
        match self.try_text(mutant, &mutant.text()) {
            Some((_, Failure { kind, message })) if kind == "LoadError" => Verdict::Stillborn(message),
            Some((case, failure)) => Verdict::Killed { case: case.name.to_owned(), kind: failure.kind },
            None => Verdict::Survived { reached: self.try_text(mutant, &mutant.trapped()).is_some() },
        }
    }

    /// The first case of the mutant's kernel that fails with `text` in the place of its file.
    fn try_text(&self, mutant: &Mutant, text: &str) -> Option<(&'static FastCase, Failure)> {
        let original = mutant.file.text;
        self.emulator.substitute(original, Some(text)).expect("a text without zero bytes");
        let failure = self.cases_of(mutant.kernel).into_iter().find_map(|(case, limit)| {
            self.run(case, &limit.to_string()).err().map(|failure| (case, failure))
        });
        self.emulator.substitute(original, None).expect("a text without zero bytes");
        failure
    }

    /// One case in a context of its own: a fault ends the context it happens in.
    fn run(&self, case: &FastCase, instruction_limit: &str) -> Result<(), Failure> {
        let emulator = self.emulator;
        emulator.clear();
        let limit = ("instruction_limit", instruction_limit);
        for (name, value) in DEFAULTS.iter().chain(case.settings).chain(&[limit, CHECKS]) {
            emulator.set(name, value).expect("a setting of the emulator");
        }
        let context = CudaContext::new_non_primary(0, 0).expect("a context");
        let device = Device::on_stream(context.default_stream()).expect("a device");
        let result = catch_unwind(AssertUnwindSafe(|| {
            let gpu = Gpu::of_turn(&self.turn, device, emulator);
            let result = (case.run)(&gpu);
            // Taken before the end of `gpu`, which does not like reports.
            let report = emulator.report();
            if report.is_some() {
                emulator.clear();
            }
            (result, report)
        }));
        let failed = |kind: &str, message: String| Err(Failure { kind: kind.to_owned(), message });
        match (result, emulator.report()) {
            (Ok((_, Some(report))), _) | (_, Some(report)) => failed(&report.kind, report.text),
            (Ok((Err(message), None)), None) => failed("mismatch", message),
            (Err(_), None) => failed("mismatch", "the case panicked".to_owned()),
            (Ok((Ok(()), None)), None) => Ok(()),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for (name, value) in DEFAULTS.iter().chain(&[("quiet", "0")]) {
            self.emulator.set(name, value).expect("a setting of the emulator");
        }
        self.emulator.clear();
    }
}
