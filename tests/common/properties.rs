//! What must hold on every backend.

use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::case::Case;
use super::compare::check;
use super::spec::{Limits, Spec};
use super::subject::Subject;

/// Runs `property` on random cases within `limits`.
pub(crate) fn for_random_cases(limits: Limits, mut property: impl FnMut(&Spec, &Case) -> Result<(), String>) {
    let config = Config { cases: limits.cases, failure_persistence: None, ..Config::default() };
    let property = std::cell::RefCell::new(&mut property);
    let run = |spec: Spec| {
        let mut property = property.borrow_mut();
        property(&spec, &spec.build()).map_err(TestCaseError::fail)
    };
    if let Err(failure) = TestRunner::new(config).run(&Spec::strategy(limits), run) {
        panic!("{failure}");
    }
}

fn ok<T>(result: inbatch::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("unexpected error: {error}"))
}

/// Loss and gradients of a step are the oracle's.
pub(crate) fn step_matches_oracle(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    check(case, None, &ok(subject.step(case))?)
}

/// The loss alone is the oracle's.
pub(crate) fn evaluate_matches_oracle(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    check(case, None, &ok(subject.evaluate(case))?)
}

/// Gradients under any upstream gradient are the oracle's.
pub(crate) fn backward_matches_oracle(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let upstream = case.upstream.as_deref();
    check(case, upstream, &ok(subject.forward_backward(case, upstream))?)
}

/// Forward and backward give what a step gives, bit for bit, and a push between them changes nothing.
pub(crate) fn halves_equal_step(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let step = ok(subject.step(case))?;
    let halves = ok(subject.forward_backward(case, None))?;
    if step.same_bits(&halves) { Ok(()) } else { Err(format!("{step:?}\ndiffers from\n{halves:?}")) }
}

/// The same call twice gives the same bits.
pub(crate) fn repeats_bit_for_bit(subject: &mut impl Subject, case: &Case) -> Result<(), String> {
    let (first, second) = (ok(subject.step(case))?, ok(subject.step(case))?);
    if first.same_bits(&second) { Ok(()) } else { Err("two runs differ".to_owned()) }
}
