//! The fast cases: small fixed problems, compared as tightly as their kernels allow, that together launch every kernel
//! that ships. CONTRIBUTING.md says how to add one.

use half::{bf16, f16};
use inbatch::Dtype::{self, Bf16, F16, F32};
use inbatch::Objective;

use super::checks::{
    SPLITS, as_f32, config, huge_and_tiny, loss_alone, rounded_gradients, sigmoids, ties_round_to_even, tiles,
};
use super::instructions::{absent_tiles_are_skipped, small_ids_take_the_short_way};
use super::specs::{
    a_row_each, bare, both_a_row_each, both_and_upstream, both_with_hits, everything, idle, ids, many_parts,
    metrics, outside, steep, symmetric, tensor_cores, weighted_mean,
};
use crate::common::case::Case as CommonCase;
use crate::common::spec::{BankSpec, RowNegativesSpec, Spec};
use crate::common::{edges, limits, properties};
use crate::subject::Cuda;
use crate::support::Gpu;
use crate::{bank, frequency, hard_negatives, kernels, oracle, parameters, row_negatives, sampling, table};

/// A case. Which kernels it launches is measured.
pub(super) struct FastCase {
    pub name: &'static str,
    /// Settings of the emulator that differ from the other tests': `("multiprocessors", "64")`.
    pub settings: &'static [(&'static str, &'static str)],
    /// Fails by an error or by a panic.
    pub run: fn(&Gpu) -> Result<(), String>,
}

/// One block meets every tile.
const FEW: &[(&str, &str)] = &[("multiprocessors", "1"), ("cc", "7.5")];

/// Each streamed tile is a split of its own.
const MANY: &[(&str, &str)] = &[("multiprocessors", "64"), ("cc", "7.5")];

/// The same with tensor cores.
const FEW_MODERN: &[(&str, &str)] = &[("multiprocessors", "1"), ("cc", "8.0")];
const MANY_MODERN: &[(&str, &str)] = &[("multiprocessors", "64"), ("cc", "8.0")];

/// A case whose checks are assertions.
macro_rules! case {
    ($name:expr, $settings:expr, $check:expr) => {
        FastCase {
            name: $name,
            settings: $settings,
            run: |gpu| {
                let check: fn(&Gpu) = $check;
                check(gpu);
                Ok(())
            },
        }
    };
}

/// A case that is a property of tests/common.
macro_rules! property {
    ($name:expr, $spec:expr, $property:expr) => {
        property!($name, FEW, $spec, $property)
    };
    ($name:expr, $settings:expr, $spec:expr, $property:expr) => {
        FastCase {
            name: $name,
            settings: $settings,
            run: |gpu| $property(&mut Cuda::new(gpu), &$spec.build()),
        }
    };
}

pub(super) static CASES: &[FastCase] = &[
    case!("pushes, f32", FEW, bank::same_on_both_backends::<f32>),
    case!("pushes, f16", FEW, bank::same_on_both_backends::<f16>),
    case!("pushes, bf16", FEW, bank::same_on_both_backends::<bf16>),
    case!("a bank's ring", FEW, |gpu| bank::follow(gpu, 9, 0, None)),
    case!("a bank's warm-up and age", FEW, |gpu| bank::follow(gpu, 9, 2, Some(1))),
    case!("positions beyond 32 bits, f32", FEW, |gpu| kernels::beyond_32_bits::<f32>(gpu, "f32")),
    case!("positions beyond 32 bits, f16", FEW, |gpu| kernels::beyond_32_bits::<f16>(gpu, "f16")),
    case!("positions beyond 32 bits, bf16", FEW, |gpu| kernels::beyond_32_bits::<bf16>(gpu, "bf16")),
    case!("merges beyond 32 bits", FEW, kernels::merges_beyond_32_bits),
    case!("objective on a grid", FEW, kernels::objectives_on_a_grid),
    case!("loss alone, f32", FEW, |gpu| loss_alone::<f32>(gpu)),
    case!("loss alone, f16", FEW, |gpu| loss_alone::<f16>(gpu)),
    case!("loss alone, bf16", FEW, |gpu| loss_alone::<bf16>(gpu)),
    case!("step, D = 40", FEW, |gpu| tiles(gpu, 40, true)),
    case!("step, D = 45, plain", MANY, |gpu| tiles(gpu, 45, false)),
    case!("step, D = 99, plain", FEW, |gpu| tiles(gpu, 99, false)),
    case!("step, D = 104", MANY, |gpu| tiles(gpu, 104, true)),
    case!("step, D = 201, plain", MANY, |gpu| tiles(gpu, 201, false)),
    case!("step, D = 248", FEW, |gpu| tiles(gpu, 248, true)),
    case!("step, D = 300", FEW, |gpu| oracle::run::<f32, f32>(
        gpu,
        (3, 4, 2, 300, 1),
        config(true),
        false,
        5
    )),
    case!("splits", MANY, |gpu| oracle::run::<f32, f32>(gpu, SPLITS, config(true), true, 6)),
    case!("f16 as f32, D = 40", MANY, |gpu| as_f32::<f16>(gpu, 40, true)),
    case!("f16 as f32, D = 45, plain", FEW, |gpu| as_f32::<f16>(gpu, 45, false)),
    case!("f16 as f32, D = 99, plain", MANY, |gpu| as_f32::<f16>(gpu, 99, false)),
    case!("f16 as f32, D = 104", FEW, |gpu| as_f32::<f16>(gpu, 104, true)),
    case!("f16 as f32, D = 201, plain", MANY, |gpu| as_f32::<f16>(gpu, 201, false)),
    case!("f16 as f32, D = 248", FEW, |gpu| as_f32::<f16>(gpu, 248, true)),
    case!("bf16 as f32, D = 40", MANY, |gpu| as_f32::<bf16>(gpu, 40, true)),
    case!("bf16 as f32, D = 45, plain", FEW, |gpu| as_f32::<bf16>(gpu, 45, false)),
    case!("bf16 as f32, D = 99, plain", MANY, |gpu| as_f32::<bf16>(gpu, 99, false)),
    case!("bf16 as f32, D = 104", FEW, |gpu| as_f32::<bf16>(gpu, 104, true)),
    case!("bf16 as f32, D = 201, plain", MANY, |gpu| as_f32::<bf16>(gpu, 201, false)),
    case!("bf16 as f32, D = 248", FEW, |gpu| as_f32::<bf16>(gpu, 248, true)),
    case!("bf16 as f32, huge and tiny", FEW, huge_and_tiny),
    case!("an unreadable bank, f32", FEW, |gpu| absent_tiles_are_skipped::<f32>(gpu)),
    case!("an unreadable bank, f16", FEW, |gpu| absent_tiles_are_skipped::<f16>(gpu)),
    case!("an unreadable bank, bf16", FEW, |gpu| absent_tiles_are_skipped::<bf16>(gpu)),
    case!("f32 to f16", MANY, |gpu| rounded_gradients::<f32, f16>(gpu)),
    case!("f32 to bf16", MANY, |gpu| rounded_gradients::<f32, bf16>(gpu)),
    case!("f16 to f16", MANY, |gpu| rounded_gradients::<f16, f16>(gpu)),
    case!("f16 to bf16", MANY, |gpu| rounded_gradients::<f16, bf16>(gpu)),
    case!("bf16 to f16", MANY, |gpu| rounded_gradients::<bf16, f16>(gpu)),
    case!("bf16 to bf16", MANY, |gpu| rounded_gradients::<bf16, bf16>(gpu)),
    case!("ties, f32 to f16", FEW, |gpu| ties_round_to_even::<f32, f16>(gpu)),
    case!("ties, f32 to bf16", FEW, |gpu| ties_round_to_even::<f32, bf16>(gpu)),
    case!("ties, f16 to f16", FEW, |gpu| ties_round_to_even::<f16, f16>(gpu)),
    case!("ties, f16 to bf16", FEW, |gpu| ties_round_to_even::<f16, bf16>(gpu)),
    case!("ties, bf16 to f16", FEW, |gpu| ties_round_to_even::<bf16, f16>(gpu)),
    case!("ties, bf16 to bf16", FEW, |gpu| ties_round_to_even::<bf16, bf16>(gpu)),
    property!("every option, f32 to f32", everything(F32, F32, 20), properties::backward_matches_oracle),
    property!("every option, f32 to f16", everything(F32, F16, 21), properties::backward_matches_oracle),
    property!("every option, f32 to bf16", everything(F32, Bf16, 22), properties::backward_matches_oracle),
    property!("every option, f16 to f32", everything(F16, F32, 23), properties::backward_matches_oracle),
    property!("every option, f16 to f16", everything(F16, F16, 24), properties::backward_matches_oracle),
    property!("every option, f16 to bf16", everything(F16, Bf16, 25), properties::backward_matches_oracle),
    property!("every option, bf16 to f32", everything(Bf16, F32, 26), properties::backward_matches_oracle),
    property!("every option, bf16 to f16", everything(Bf16, F16, 27), properties::backward_matches_oracle),
    property!("every option, bf16 to bf16", everything(Bf16, Bf16, 28), properties::backward_matches_oracle),
    property!(
        "both directions",
        Spec { log_q: false, ..symmetric(F32, F32, 24) },
        properties::backward_matches_oracle
    ),
    property!("both directions, f32, D = 24", symmetric(F32, F32, 24), properties::backward_matches_oracle),
    property!("both directions, f32, D = 100", symmetric(F32, F32, 100), properties::backward_matches_oracle),
    property!("both directions, f32, D = 200", symmetric(F32, F32, 200), properties::backward_matches_oracle),
    property!("both directions, f32 to f16", symmetric(F32, F16, 24), properties::backward_matches_oracle),
    property!("both directions, f32 to bf16", symmetric(F32, Bf16, 24), properties::backward_matches_oracle),
    property!("both directions, f16, D = 24", symmetric(F16, F32, 24), properties::backward_matches_oracle),
    property!("both directions, f16, D = 100", symmetric(F16, F32, 100), properties::backward_matches_oracle),
    property!("both directions, f16, D = 200", symmetric(F16, F32, 200), properties::backward_matches_oracle),
    property!("both directions, f16 to f16", symmetric(F16, F16, 24), properties::backward_matches_oracle),
    property!("both directions, f16 to bf16", symmetric(F16, Bf16, 24), properties::backward_matches_oracle),
    property!("both directions, bf16, D = 24", symmetric(Bf16, F32, 24), properties::backward_matches_oracle),
    property!(
        "both directions, bf16, D = 100",
        symmetric(Bf16, F32, 100),
        properties::backward_matches_oracle
    ),
    property!(
        "both directions, bf16, D = 200",
        symmetric(Bf16, F32, 200),
        properties::backward_matches_oracle
    ),
    property!("both directions, bf16 to f16", symmetric(Bf16, F16, 24), properties::backward_matches_oracle),
    property!(
        "both directions, bf16 to bf16",
        symmetric(Bf16, Bf16, 24),
        properties::backward_matches_oracle
    ),
    property!("both directions, log q outside", outside(), properties::backward_matches_oracle),
    property!(
        "both directions, hits, f32, D = 24",
        both_with_hits(F32, 24),
        properties::backward_matches_oracle
    ),
    property!(
        "both directions, hits, f32, D = 100",
        both_with_hits(F32, 100),
        properties::backward_matches_oracle
    ),
    property!(
        "both directions, hits, f32, D = 200",
        both_with_hits(F32, 200),
        properties::backward_matches_oracle
    ),
    property!(
        "both directions, hits, f16, D = 24",
        both_with_hits(F16, 24),
        properties::backward_matches_oracle
    ),
    property!(
        "both directions, hits, f16, D = 100",
        both_with_hits(F16, 100),
        properties::backward_matches_oracle
    ),
    property!(
        "both directions, hits, f16, D = 200",
        both_with_hits(F16, 200),
        properties::backward_matches_oracle
    ),
    property!(
        "both directions, hits, bf16, D = 24",
        both_with_hits(Bf16, 24),
        properties::backward_matches_oracle
    ),
    property!(
        "both directions, hits, bf16, D = 100",
        both_with_hits(Bf16, 100),
        properties::backward_matches_oracle
    ),
    property!(
        "both directions, hits, bf16, D = 200",
        both_with_hits(Bf16, 200),
        properties::backward_matches_oracle
    ),
    property!("both directions, one upstream", both_and_upstream(), properties::backward_matches_oracle),
    property!("both directions, a row each", both_a_row_each(), properties::backward_matches_oracle),
    property!("ties", metrics(), limits::ties_are_the_positives),
    FastCase { name: "a bank's end within a thread's columns", settings: FEW, run: banks_end_anywhere },
    case!("descent", FEW, parameters::descent),
    case!("parameters of one's own", FEW, parameters::own_parameters),
    property!("an upstream a row", a_row_each(), properties::backward_matches_oracle),
    property!("a weighted mean", weighted_mean(), properties::step_matches_oracle),
    property!("rows without weight, f32, D = 24", idle(F32, 24), edges::rows_without_weight_take_no_part),
    property!("rows without weight, f32, D = 72", idle(F32, 72), edges::rows_without_weight_take_no_part),
    property!("rows without weight, f32, D = 136", idle(F32, 136), edges::rows_without_weight_take_no_part),
    property!("rows without weight, f16, D = 24", idle(F16, 24), edges::rows_without_weight_take_no_part),
    property!("rows without weight, f16, D = 72", idle(F16, 72), edges::rows_without_weight_take_no_part),
    property!("rows without weight, f16, D = 136", idle(F16, 136), edges::rows_without_weight_take_no_part),
    property!("rows without weight, bf16, D = 24", idle(Bf16, 24), edges::rows_without_weight_take_no_part),
    property!("rows without weight, bf16, D = 72", idle(Bf16, 72), edges::rows_without_weight_take_no_part),
    property!("rows without weight, bf16, D = 136", idle(Bf16, 136), edges::rows_without_weight_take_no_part),
    property!("rows without upstream", a_row_each(), edges::rows_without_upstream_take_no_part),
    property!("an infinite negative", bare(), edges::infinite_negative),
    property!("no negatives", bare(), edges::no_negatives),
    property!("zero rows", bare(), edges::zero_rows_normalised),
    property!("extreme norms", bare(), edges::extreme_norms_normalised),
    property!("neutral options", everything(F32, F32, 4), edges::neutral_options),
    case!("hard negatives, f32", FEW, hard_negatives::shapes::<f32>),
    case!("hard negatives, f32, many parts", MANY, hard_negatives::shapes::<f32>),
    case!("hard negatives of a bank, f32", FEW, hard_negatives::bank_slots::<f32>),
    case!("hard negatives, f32, NaN and infinity", FEW, hard_negatives::extremes::<f32>),
    case!("hard negatives, f32, normalized", FEW, hard_negatives::normalized::<f32>),
    case!("hard negatives, f32, in order", FEW, hard_negatives::orders::<f32>),
    case!("hard negatives, f16", FEW, hard_negatives::shapes::<f16>),
    case!("hard negatives, f16, many parts", MANY, hard_negatives::shapes::<f16>),
    case!("hard negatives of a bank, f16", FEW, hard_negatives::bank_slots::<f16>),
    case!("hard negatives, f16, NaN and infinity", FEW, hard_negatives::extremes::<f16>),
    case!("hard negatives, f16, normalized", FEW, hard_negatives::normalized::<f16>),
    case!("hard negatives, f16, in order", FEW, hard_negatives::orders::<f16>),
    case!("hard negatives, bf16", FEW, hard_negatives::shapes::<bf16>),
    case!("hard negatives, bf16, many parts", MANY, hard_negatives::shapes::<bf16>),
    case!("hard negatives of a bank, bf16", FEW, hard_negatives::bank_slots::<bf16>),
    case!("hard negatives, bf16, NaN and infinity", FEW, hard_negatives::extremes::<bf16>),
    case!("hard negatives, bf16, normalized", FEW, hard_negatives::normalized::<bf16>),
    case!("hard negatives, bf16, in order", FEW, hard_negatives::orders::<bf16>),
    FastCase { name: "row negatives, f32 to f32", settings: FEW, run: |gpu| own_columns(gpu, F32, F32) },
    FastCase { name: "row negatives, f32 to f16", settings: FEW, run: |gpu| own_columns(gpu, F32, F16) },
    FastCase { name: "row negatives, f32 to bf16", settings: FEW, run: |gpu| own_columns(gpu, F32, Bf16) },
    FastCase { name: "row negatives, f16 to f32", settings: FEW, run: |gpu| own_columns(gpu, F16, F32) },
    FastCase { name: "row negatives, f16 to f16", settings: FEW, run: |gpu| own_columns(gpu, F16, F16) },
    FastCase { name: "row negatives, f16 to bf16", settings: FEW, run: |gpu| own_columns(gpu, F16, Bf16) },
    FastCase { name: "row negatives, bf16 to f32", settings: FEW, run: |gpu| own_columns(gpu, Bf16, F32) },
    FastCase { name: "row negatives, bf16 to f16", settings: FEW, run: |gpu| own_columns(gpu, Bf16, F16) },
    FastCase { name: "row negatives, bf16 to bf16", settings: FEW, run: |gpu| own_columns(gpu, Bf16, Bf16) },
    case!("row negatives, f32", FEW, row_negatives::agrees::<f32>),
    case!("row negatives, f16", MANY, row_negatives::agrees::<f16>),
    case!("row negatives, bf16", FEW, row_negatives::agrees::<bf16>),
    case!("row negatives, gradients of f32", FEW, row_negatives::every_gradient::<f32>),
    case!("row negatives, gradients of f16", FEW, row_negatives::every_gradient::<f16>),
    case!("row negatives, gradients of bf16", FEW, row_negatives::every_gradient::<bf16>),
    case!("an index beyond the pool", FEW, row_negatives::index_beyond_the_pool),
    case!("NaN in a row negative", FEW, row_negatives::nan_in_a_negative),
    case!("class tables", FEW, table::every_kernel),
    case!("wide class tables", FEW, table::wide),
    case!("class tables of every width", FEW, table::every_width),
    case!("several true classes", FEW, table::several),
    case!("hits of several true classes", FEW, table::hits_of_several),
    case!("many classes", FEW, table::many),
    case!("unknown classes", FEW, table::unknown_classes),
    case!("frequencies", FEW, frequency::every_kernel),
    case!("unknown ids", FEW, frequency::unknown_ids),
    case!("samplers", FEW, sampling::every_kernel),
    case!("samples of everything", FEW, sampling::everything),
    case!("samples of a few likely ids", FEW, sampling::few_likely),
    case!("ids outside the range", FEW, sampling::ids_outside),
    FastCase { name: "the family, f32 to f32", settings: FEW, run: |gpu| family(gpu, F32, F32, 24) },
    FastCase { name: "the family, f32 to f16", settings: FEW, run: |gpu| family(gpu, F32, F16, 72) },
    FastCase { name: "the family, f32 to bf16", settings: FEW, run: |gpu| family(gpu, F32, Bf16, 136) },
    FastCase { name: "the family, f16 to f32", settings: FEW, run: |gpu| family(gpu, F16, F32, 24) },
    FastCase { name: "the family, f16 to f16", settings: FEW, run: |gpu| family(gpu, F16, F16, 72) },
    FastCase { name: "the family, f16 to bf16", settings: FEW, run: |gpu| family(gpu, F16, Bf16, 136) },
    FastCase { name: "the family, bf16 to f32", settings: FEW, run: |gpu| family(gpu, Bf16, F32, 24) },
    FastCase { name: "the family, bf16 to f16", settings: FEW, run: |gpu| family(gpu, Bf16, F16, 72) },
    FastCase { name: "the family, bf16 to bf16", settings: FEW, run: |gpu| family(gpu, Bf16, Bf16, 136) },
    case!("sigmoids, f32", FEW, |gpu| sigmoids::<f32>(gpu)),
    case!("sigmoids, f16", FEW, |gpu| sigmoids::<f16>(gpu)),
    case!("sigmoids, bf16", FEW, |gpu| sigmoids::<bf16>(gpu)),
    property!("metrics", metrics(), whole),
    property!("metrics, many parts, f32 to f32", MANY, many_parts(F32, F32), whole),
    property!("metrics, many parts, f32 to f16", MANY, many_parts(F32, F16), whole),
    property!("metrics, many parts, f32 to bf16", MANY, many_parts(F32, Bf16), whole),
    property!("metrics, many parts, f16 to f32", MANY, many_parts(F16, F32), whole),
    property!("metrics, many parts, f16 to f16", MANY, many_parts(F16, F16), whole),
    property!("metrics, many parts, f16 to bf16", MANY, many_parts(F16, Bf16), whole),
    property!("metrics, many parts, bf16 to f32", MANY, many_parts(Bf16, F32), whole),
    property!("metrics, many parts, bf16 to f16", MANY, many_parts(Bf16, F16), whole),
    property!("metrics, many parts, bf16 to bf16", MANY, many_parts(Bf16, Bf16), whole),
    property!("tensor cores, f16, D = 48", FEW_MODERN, tensor_cores(F16, F32, 48, true), whole),
    property!("tensor cores, f16, D = 64", MANY_MODERN, tensor_cores(F16, F16, 64, true), whole),
    property!("tensor cores, f16, D = 64, bare", FEW_MODERN, tensor_cores(F16, Bf16, 64, false), whole),
    property!("tensor cores, f16, D = 112", FEW_MODERN, tensor_cores(F16, Bf16, 112, true), whole),
    property!("tensor cores, f16, D = 128", MANY_MODERN, tensor_cores(F16, F32, 128, true), whole),
    property!("tensor cores, f16, D = 128, bare", FEW_MODERN, tensor_cores(F16, F16, 128, false), whole),
    property!("tensor cores, f16, D = 240", FEW_MODERN, tensor_cores(F16, F16, 240, true), whole),
    property!("tensor cores, f16, D = 256", MANY_MODERN, tensor_cores(F16, Bf16, 256, true), whole),
    property!("tensor cores, f16, D = 256, bare", FEW_MODERN, tensor_cores(F16, F32, 256, false), whole),
    property!("tensor cores, f16, D = 400", FEW_MODERN, tensor_cores(F16, F32, 400, true), whole),
    property!("tensor cores, f16, D = 528", FEW_MODERN, tensor_cores(F16, F16, 528, true), whole),
    property!("tensor cores, f16, D = 528, bare", MANY_MODERN, tensor_cores(F16, Bf16, 528, false), whole),
    property!("tensor cores, bf16, D = 48", FEW_MODERN, tensor_cores(Bf16, F32, 48, true), whole),
    property!("tensor cores, bf16, D = 64", MANY_MODERN, tensor_cores(Bf16, F16, 64, true), whole),
    property!("tensor cores, bf16, D = 64, bare", FEW_MODERN, tensor_cores(Bf16, Bf16, 64, false), whole),
    property!("tensor cores, bf16, D = 112", FEW_MODERN, tensor_cores(Bf16, Bf16, 112, true), whole),
    property!("tensor cores, bf16, D = 128", MANY_MODERN, tensor_cores(Bf16, F32, 128, true), whole),
    property!("tensor cores, bf16, D = 128, bare", FEW_MODERN, tensor_cores(Bf16, F16, 128, false), whole),
    property!("tensor cores, bf16, D = 240", FEW_MODERN, tensor_cores(Bf16, F16, 240, true), whole),
    property!("tensor cores, bf16, D = 256", MANY_MODERN, tensor_cores(Bf16, Bf16, 256, true), whole),
    property!("tensor cores, bf16, D = 256, bare", FEW_MODERN, tensor_cores(Bf16, F32, 256, false), whole),
    property!("tensor cores, bf16, D = 400", FEW_MODERN, tensor_cores(Bf16, F32, 400, true), whole),
    property!("tensor cores, bf16, D = 528", FEW_MODERN, tensor_cores(Bf16, F16, 528, true), whole),
    property!("tensor cores, bf16, D = 528, bare", MANY_MODERN, tensor_cores(Bf16, Bf16, 528, false), whole),
    property!("ids, f32, D = 40, plain", FEW, ids(F32, 40), large_and_small),
    property!("ids, f32, D = 100, plain", FEW, ids(F32, 100), large_and_small),
    property!("ids, f32, D = 200, plain", FEW, ids(F32, 200), large_and_small),
    property!("ids, f16, D = 40, plain", FEW, ids(F16, 40), large_and_small),
    property!("ids, f16, D = 100, plain", FEW, ids(F16, 100), large_and_small),
    property!("ids, f16, D = 200, plain", FEW, ids(F16, 200), large_and_small),
    property!("ids, bf16, D = 40, plain", FEW, ids(Bf16, 40), large_and_small),
    property!("ids, bf16, D = 100, plain", FEW, ids(Bf16, 100), large_and_small),
    property!("ids, bf16, D = 200, plain", FEW, ids(Bf16, 200), large_and_small),
    case!("small ids, f16", MANY_MODERN, |gpu| small_ids_take_the_short_way::<f16>(gpu)),
    property!("ids, f16, D = 64", MANY_MODERN, ids(F16, 64), large_and_small),
    property!("ids, f16, D = 128", MANY_MODERN, ids(F16, 128), large_and_small),
    property!("ids, f16, D = 256", MANY_MODERN, ids(F16, 256), large_and_small),
    property!("ids, f16, D = 528", MANY_MODERN, ids(F16, 528), large_and_small),
    property!("steep, f16, D = 64", FEW_MODERN, steep(F16, 64), whole),
    property!("steep, f16, D = 128", FEW_MODERN, steep(F16, 128), whole),
    property!("steep, f16, D = 256", FEW_MODERN, steep(F16, 256), whole),
    property!("steep, f16, D = 528", FEW_MODERN, steep(F16, 528), whole),
    case!("small ids, bf16", MANY_MODERN, |gpu| small_ids_take_the_short_way::<bf16>(gpu)),
    property!("ids, bf16, D = 64", MANY_MODERN, ids(Bf16, 64), large_and_small),
    property!("ids, bf16, D = 128", MANY_MODERN, ids(Bf16, 128), large_and_small),
    property!("ids, bf16, D = 256", MANY_MODERN, ids(Bf16, 256), large_and_small),
    property!("ids, bf16, D = 528", MANY_MODERN, ids(Bf16, 528), large_and_small),
    property!("steep, bf16, D = 64", FEW_MODERN, steep(Bf16, 64), whole),
    property!("steep, bf16, D = 128", FEW_MODERN, steep(Bf16, 128), whole),
    property!("steep, bf16, D = 256", FEW_MODERN, steep(Bf16, 256), whole),
    property!("steep, bf16, D = 528", FEW_MODERN, steep(Bf16, 528), whole),
];

/// Of the four columns that a thread of a plain stream has, the first, second ... are readable slots of a bank, the rest are
/// empty ones.
fn banks_end_anywhere(gpu: &Gpu) -> Result<(), String> {
    let mut subject = Cuda::new(gpu);
    for (dtype, dim) in [F32, F16, Bf16].into_iter().flat_map(|dtype| [24, 100, 200].map(|dim| (dtype, dim)))
    {
        for pushed in 5..8 {
            let bank = Some(BankSpec { capacity: 40, pushes: vec![pushed], warm_up: 0, max_age: None });
            // No column outweighs the others.
            let flat = Spec { temperature: 1.0, logq_scale: 0.05, lean: 0.0, ..everything(dtype, F32, 30) };
            let ends = Spec { bank, rows: 21, dim, ..flat };
            whole(&mut subject, &ends.build())
                .map_err(|message| format!("{dtype:?}, D = {dim}, {pushed} slots: {message}"))?;
        }
    }
    Ok(())
}

/// Loss alone, then gradients.
fn whole(subject: &mut Cuda<'_>, case: &CommonCase) -> Result<(), String> {
    properties::evaluate_matches_oracle(subject, case)?;
    properties::backward_matches_oracle(subject, case)
}

/// Columns of each row's own under either link, out of a pool and without one.
fn own_columns(gpu: &Gpu, dtype: Dtype, gradient_dtype: Dtype) -> Result<(), String> {
    let mut subject = Cuda::new(gpu);
    for objective in [Objective::Softmax, Objective::Sigmoid { bias: -2.0 }] {
        for pool in [None, Some(17)] {
            let own = RowNegativesSpec { per_row: 4, pool, wants_gradient: true };
            let spec = Spec {
                rows: 11,
                objective,
                row_negatives: Some(own),
                ..everything(dtype, gradient_dtype, 60)
            };
            whole(&mut subject, &spec.build())
                .map_err(|message| format!("{objective:?}, {pool:?}: {message}"))?;
        }
    }
    Ok(())
}

/// Every objective, with gradients of log q where it has one.
fn family(gpu: &Gpu, dtype: Dtype, gradient_dtype: Dtype, dim: usize) -> Result<(), String> {
    let objectives = [
        Objective::AdditiveMargin { margin: 1.5 },
        Objective::Decoupled,
        Objective::CorrectedLogQ,
        Objective::Debiased { positive_prior: 0.1 },
        Objective::Sigmoid { bias: -2.0 },
    ];
    let mut subject = Cuda::new(gpu);
    let plain = Spec { rows: 21, dim, dtype, gradient_dtype, ..metrics() };
    whole(&mut subject, &plain.build()).map_err(|message| format!("metrics: {message}"))?;
    for (seed, objective) in objectives.into_iter().enumerate() {
        let log_q = !matches!(objective, Objective::Debiased { .. });
        let spec = everything(dtype, gradient_dtype, 40 + seed as u64);
        // The positive's log q once left out where that of the negatives counts, inside the temperature.
        let left_out = objective == Objective::Decoupled;
        let spec = Spec { log_q_inside: left_out, corrected: !left_out, ..spec };
        let spec = Spec { rows: 21, dim, log_q, objective, wants_log_q_gradient: log_q, ..spec };
        whole(&mut subject, &spec.build()).map_err(|message| format!("{objective:?}: {message}"))?;
    }
    Ok(())
}

/// `whole`, and again with ids of 32 bits, which have a way of their own.
fn large_and_small(subject: &mut Cuda<'_>, case: &CommonCase) -> Result<(), String> {
    whole(subject, case)?;
    let mut small = case.clone();
    let ids = small.items.item_ids.iter_mut().chain(&mut small.user_ids);
    ids.flatten().for_each(|id| *id = (*id & 1) + (*id >> 32) + (*id & 6));
    whole(subject, &small)
}
