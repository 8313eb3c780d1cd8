//! The CPU backend against the oracle, over every option.

mod common;

use common::case::Case;
use common::cpu_subject::Cpu;
use common::spec::{BankSpec, RowNegativesSpec, Spec};
use common::subject::Subject;
use common::{Limits, edges, hard_negatives, limits, properties, row_negatives};
use inbatch::{Dtype, LossConfig, Objective, Reduction};

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

/// A property of `edges` on random cases of a few rows up to several tiles.
fn edge(property: impl Fn(&mut Cpu, &Case) -> Result<(), String>) {
    let limits = Limits { cases: Limits::full().cases / 4, ..Limits::full() };
    let mut cpu = Cpu::default();
    properties::for_random_cases(limits, |_, case| property(&mut cpu, case));
}

#[test]
fn nan_stays_in_its_row() {
    edge(|cpu, case| edges::nan_stays_in_its_row(cpu, case, case.rows() / 2));
}

#[test]
fn rows_without_weight_take_no_part() {
    edge(edges::rows_without_weight_take_no_part);
}

#[test]
fn rows_without_upstream_take_no_part() {
    edge(edges::rows_without_upstream_take_no_part);
}

#[test]
fn a_negative_at_plus_infinity_is_an_infinite_loss() {
    edge(edges::infinite_negative);
}

#[test]
fn a_negative_at_minus_infinity_is_absent() {
    edge(edges::vanishing_negative);
}

#[test]
fn no_negatives_no_loss() {
    edge(edges::no_negatives);
}

#[test]
fn zero_rows_are_zero_vectors_when_normalised() {
    edge(edges::zero_rows_normalised);
}

#[test]
fn norms_beyond_f32_are_normalised() {
    edge(edges::extreme_norms_normalised);
}

#[test]
fn neutral_options_change_nothing() {
    edge(edges::neutral_options);
}

#[test]
fn schemes_meet_at_their_limits_bit_for_bit() {
    edge(limits::exact_limits);
}

#[test]
fn schemes_meet_at_their_limits() {
    edge(limits::limits);
}

#[test]
fn a_symmetric_loss_has_no_sides() {
    edge(limits::symmetry);
}

#[test]
fn ties_are_the_positives() {
    edge(limits::ties_are_the_positives);
}

#[test]
fn row_negatives_that_all_rows_share_are_extra_negatives() {
    edge(row_negatives::shared_by_all_rows);
}

#[test]
fn row_negatives_may_be_copies_or_places() {
    edge(row_negatives::copies_of_a_pool);
}

#[test]
fn no_row_negatives_change_nothing() {
    edge(row_negatives::none_at_all);
}

#[test]
fn a_nan_reaches_the_rows_that_name_it() {
    edge(row_negatives::nan_reaches_the_rows_that_name_it);
}

#[test]
fn what_nobody_names_changes_nothing() {
    edge(row_negatives::what_nobody_names);
}

#[test]
fn as_many_hard_negatives_as_there_are_are_all() {
    edge(hard_negatives::all_of_them);
}

#[test]
fn hard_negatives_are_the_hardest() {
    edge(hard_negatives::few_of_them);
}

#[test]
fn of_equal_negatives_the_first_are_the_hardest() {
    edge(hard_negatives::of_equals_the_first);
}

#[test]
fn a_nan_is_the_hardest_negative() {
    edge(hard_negatives::nan_is_the_hardest);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let pools: Vec<rayon::ThreadPool> = [1, 2, 3, 7]
        .into_iter()
        .map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
        .collect();
    let limits = Limits { rows: 300, columns: 6000, dim: 24, cases: Limits::full().cases / 8 };
    properties::for_random_cases(limits, |_, case| {
        let run = |pool: &rayon::ThreadPool| pool.install(|| Cpu::default().step(case).unwrap());
        let expected = run(&pools[0]);
        let differs = pools[1..].iter().find(|pool| !run(pool).same_bits(&expected));
        differs.map_or(Ok(()), |pool| Err(format!("{} threads differ from 1", pool.current_num_threads())))
    });
}

/// Every segment and every option.
fn large(rows: usize, dim: usize, extra: usize, capacity: usize) -> Spec {
    Spec {
        seed: 5,
        dtype: Dtype::F32,
        gradient_dtype: Dtype::F32,
        rows,
        dim,
        offset: 3,
        surplus: 10,
        extra: Some(extra),
        wants_extra_gradient: true,
        bank: Some(BankSpec {
            capacity,
            pushes: vec![capacity / 2, capacity / 2 + 7, 9],
            warm_up: 0,
            max_age: Some(2),
        }),
        temperature: 0.05,
        spread: 2.0,
        lean: 0.2,
        log_q: true,
        logq_scale: 1.0,
        corrected: true,
        exclude_item: true,
        exclude_user: true,
        distinct_ids: 50,
        normalize: false,
        weights: true,
        reduction: Reduction::Mean,
        upstream: false,
        objective: Objective::Softmax,
        log_q_inside: true,
        metrics: true,
        wants_log_q_gradient: true,
        symmetric: None,
        row_negatives: None,
        hard_negatives: None,
    }
}

/// Several row tiles, several splits of the columns, tiles of every segment: more than random cases reach.
#[test]
fn large_shapes_match_the_oracle() {
    let own = RowNegativesSpec { per_row: 5, pool: Some(300), wants_gradient: true };
    let with_own = |spec| Spec { row_negatives: Some(own.clone()), ..spec };
    // Few rows: among many, two logits of one of them would be all but equal at the edge.
    let hardest = |spec| Spec { hard_negatives: Some(40), ..spec };
    for spec in [
        large(700, 9, 1100, 3000),
        large(4200, 3, 300, 100),
        large(3, 17, 2, 9000),
        with_own(large(700, 9, 1100, 3000)),
        with_own(large(3, 17, 2, 9000)),
        hardest(large(3, 17, 2, 9000)),
        hardest(large(66, 9, 1100, 3000)),
    ] {
        let case = spec.build();
        properties::step_matches_oracle(&mut Cpu::default(), &case).unwrap();
        properties::halves_equal_step(&mut Cpu::default(), &case).unwrap();
    }
}

/// Several splits of the columns: what they left there in an earlier call, a NaN even, must not matter.
#[test]
fn an_earlier_call_does_not_matter() {
    let spec = Spec { hard_negatives: Some(20), ..large(3, 17, 2, 9000) };
    for case in [spec.build(), Spec { hard_negatives: None, ..spec.clone() }.build()] {
        let mut used = Cpu::default();
        let mut poison = Spec { hard_negatives: None, ..spec.clone() }.build();
        poison.users.fill(f32::NAN);
        used.step(&poison).unwrap();
        let (used, fresh) = (used.step(&case).unwrap(), Cpu::default().step(&case).unwrap());
        assert!(used.same_bits(&fresh), "{:?}", case.config);
    }
}

/// Every id alike: B x N accidental hits, no memory for them.
#[test]
fn all_ids_alike_stay_linear() {
    let rows = 3000;
    let users: Vec<f32> = (0..rows * 4).map(|k| (k % 7) as f32 - 3.0).collect();
    let ids = vec![9; rows];
    let config = LossConfig::new(1.0).unwrap().exclude_same_item(true).exclude_same_user(true);
    let mut loss = inbatch::cpu::InBatchLoss::new(config).unwrap();
    let batch = inbatch::cpu::Batch::new(&users, &users, 4).item_ids(&ids).user_ids(&ids);
    let output = loss.evaluate(&batch).unwrap();
    assert!(output.row_losses().iter().all(|loss| *loss == 0.0));
}
