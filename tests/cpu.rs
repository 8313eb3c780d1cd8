//! The CPU backend against the oracle, over every option.

mod common;

use common::{Cpu, Limits, properties};

#[test]
fn a_step_matches_the_oracle() {
    let mut cpu = Cpu::default();
    properties::for_random_cases(Limits::full(), |_, case| properties::step_matches_oracle(&mut cpu, case));
}

#[test]
fn a_backward_under_any_upstream_matches_the_oracle() {
    let mut cpu = Cpu::default();
    properties::for_random_cases(Limits::full(), |_, case| {
        properties::backward_matches_oracle(&mut cpu, case)
    });
}

#[test]
fn the_loss_alone_matches_the_oracle() {
    let mut cpu = Cpu::default();
    properties::for_random_cases(Limits::full(), |_, case| {
        properties::evaluate_matches_oracle(&mut cpu, case)
    });
}

#[test]
fn forward_and_backward_are_a_step_bit_for_bit() {
    let mut cpu = Cpu::default();
    properties::for_random_cases(Limits::full(), |_, case| properties::halves_equal_step(&mut cpu, case));
}

#[test]
fn runs_repeat_bit_for_bit() {
    let mut cpu = Cpu::default();
    properties::for_random_cases(Limits::full(), |_, case| properties::repeats_bit_for_bit(&mut cpu, case));
}
