//! The tensor-core kernels: the properties of every backend on cases that take that path.

use crate::common::{Limits, properties};
use crate::subject::Cuda;
use crate::support::{Gpu, gpu};

fn limits(gpu: &Gpu) -> Limits {
    if gpu.emulator.is_some() { Limits::emulated() } else { Limits::full() }
}

macro_rules! property {
    ($name:ident, $property:ident) => {
        #[test]
        fn $name() {
            let gpu = gpu();
            let mut subject = Cuda::new(&gpu);
            properties::for_random_cases(limits(&gpu), |spec, _| {
                properties::$property(&mut subject, &spec.for_tensor_cores().build())
            });
        }
    };
}

property!(a_step_matches_the_oracle, step_matches_oracle);
property!(a_backward_under_any_upstream_matches_the_oracle, backward_matches_oracle);
property!(the_loss_alone_matches_the_oracle, evaluate_matches_oracle);
property!(forward_and_backward_are_a_step_bit_for_bit, halves_equal_step);
property!(runs_repeat_bit_for_bit, repeats_bit_for_bit);
