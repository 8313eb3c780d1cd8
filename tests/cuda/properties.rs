//! The properties that every backend must have, on random cases over every option.

use crate::common::{Limits, hard_negatives, limits, properties, row_negatives};
use crate::subject::Cuda;
use crate::support::{Gpu, gpu};

fn size(gpu: &Gpu) -> Limits {
    if gpu.emulator.is_some() { Limits::emulated() } else { Limits::full() }
}

macro_rules! property {
    ($name:ident, $property:path) => {
        #[test]
        fn $name() {
            let gpu = gpu();
            let mut subject = Cuda::new(&gpu);
            properties::for_random_cases(size(&gpu), |_, case| $property(&mut subject, case));
        }
    };
}

property!(a_step_matches_the_oracle, properties::step_matches_oracle);
property!(a_backward_under_any_upstream_matches_the_oracle, properties::backward_matches_oracle);
property!(the_loss_alone_matches_the_oracle, properties::evaluate_matches_oracle);
property!(forward_and_backward_are_a_step_bit_for_bit, properties::halves_equal_step);
property!(runs_repeat_bit_for_bit, properties::repeats_bit_for_bit);
property!(schemes_meet_at_their_limits_bit_for_bit, limits::exact_limits);
property!(schemes_meet_at_their_limits, limits::limits);
property!(ties_are_the_positives, limits::ties_are_the_positives);
property!(a_symmetric_loss_has_no_sides, limits::symmetry);
property!(row_negatives_of_all_rows_are_extra_negatives, row_negatives::shared_by_all_rows);
property!(row_negatives_may_be_copied_out_of_their_pool, row_negatives::copies_of_a_pool);
property!(no_row_negatives_are_none, row_negatives::none_at_all);
property!(nan_reaches_the_rows_that_name_it, row_negatives::nan_reaches_the_rows_that_name_it);
property!(all_negatives_are_the_hardest_of_as_many, hard_negatives::all_of_them);
property!(the_few_hardest_match_the_oracle, hard_negatives::few_of_them);
property!(of_equal_negatives_the_first_are_the_hardest, hard_negatives::of_equals_the_first);
property!(nan_is_the_hardest_negative, hard_negatives::nan_is_the_hardest);
