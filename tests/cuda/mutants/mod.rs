//! Tests of the tests: kernels with one statement broken, which the fast cases must notice.
//!
//!     cargo test -p inbatch --test cuda mutants -- --ignored --nocapture
//!
//! tries [`EACH`] mutants of every kernel that ships and writes docs/mutants.md. `INBATCH_MUTANTS` and
//! `INBATCH_MUTANTS_SEED` ask for others, which are printed and not written; so does `INBATCH_MUTANTS_OF`, which takes only
//! the mutants of kernels that have one of its words in their names. It fails if fewer than 95 of 100 are killed, or
//! if a survivor has no reason in `survivors.json`.

mod cases;
mod checks;
mod compiled;
mod draw;
mod instructions;
mod operators;
mod report;
mod specs;
mod trial;
mod workers;

use draw::draw;
use trial::{Bench, Verdict};

/// Mutants of each kernel.
const EACH: usize = 2;

const SEED: u64 = 20_261_128;

/// Mutants that every `cargo test` tries.
const DOZEN: usize = 12;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The mutants that the environment asks for, and whether they are those of docs/mutants.md.
fn asked_for() -> (Vec<draw::Mutant>, bool) {
    let (each, seed) = (number("INBATCH_MUTANTS"), number("INBATCH_MUTANTS_SEED"));
    let mut mutants = draw(each.map_or(EACH, |each| each as usize), seed.unwrap_or(SEED));
    let of = std::env::var("INBATCH_MUTANTS_OF").ok();
    if let Some(of) = &of {
        mutants.retain(|mutant| of.split(',').any(|word| mutant.kernel.contains(word)));
    }
    (mutants, each.is_none() && seed.is_none() && of.is_none())
}

#[test]
fn fast_cases_launch_every_kernel_that_ships() {
    let Some(bench) = Bench::new() else { return println!("SKIPPED: only the emulator runs the fast cases") };
    let missing: Vec<_> = draw::kernels().into_iter().filter(|kernel| !bench.is_covered(kernel)).collect();
    assert!(missing.is_empty(), "no case in tests/cuda/mutants/cases.rs launches {missing:?}");
}

#[test]
fn a_dozen_is_killed() {
    let Some(bench) = Bench::new() else { return println!("SKIPPED: only the emulator runs mutants") };
    let known = report::Reasons::read();
    let mut mutants = draw(EACH, SEED);
    mutants.retain(|mutant| known.of(mutant).is_none());
    fastrand::Rng::with_seed(SEED).shuffle(&mut mutants);
    let mut killed = 0;
    for mutant in mutants {
        match bench.try_mutant(&mutant) {
            Verdict::Killed { case, kind } => {
                println!("{}: killed by {case} ({kind})", mutant.describe());
                killed += 1;
            }
            Verdict::Stillborn(why) => println!("{}: {why}", mutant.describe()),
            Verdict::Survived { .. } => panic!("{}: no case noticed", mutant.describe()),
        }
        if killed == DOZEN {
            return;
        }
    }
    panic!("fewer than {DOZEN} mutants");
}

#[test]
#[ignore = "takes minutes; a dozen of these mutants are tried by a_dozen_is_killed"]
fn mutants_of_every_kernel() {
    if ptx_emulator_harness::device().expect("a device to test on").emulator().is_none() {
        return println!("SKIPPED: only the emulator runs mutants");
    }
    let (mutants, as_documented) = asked_for();
    let count = mutants.len();
    let begin = std::time::Instant::now();
    let verdicts = workers::try_all(&mutants, |index, verdict| {
        println!("{}/{count} {}: {verdict:?}", index + 1, mutants[index].describe());
    });
    println!("{count} mutants in {:.0} s", begin.elapsed().as_secs_f64());
    let report = report::Report::new(&mutants, &verdicts);
    println!("{}", report.markdown());
    if as_documented {
        report.write();
    }
    report.judge().unwrap_or_else(|why| panic!("{why}"));
}

#[test]
#[ignore = "a process of mutants_of_every_kernel, which gives it its orders"]
fn worker() {
    if std::env::var_os(workers::VARIABLE).is_some() {
        workers::serve(&asked_for().0);
    }
}
