//! The properties that every backend must have, on random cases over every option.

use crate::common::{Limits, limits, properties};
use crate::subject::{Cuda, supported};
use crate::support::{Gpu, gpu};

fn size(gpu: &Gpu) -> Limits {
    supported(if gpu.emulator.is_some() { Limits::emulated() } else { Limits::full() })
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
