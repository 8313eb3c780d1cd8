//! The tensor-core kernels: what every backend must have, on cases that take that path, and what they alone can get wrong.

use inbatch::cuda::{Kernels, Plan};
use inbatch::{Dtype, Objective, Reduction};

use crate::common::spec::{BankSpec, RowNegativesSpec, Spec};
use crate::common::subject::Subject;
use crate::common::{Limits, case::Case, edges, properties};
use crate::subject::Cuda;
use crate::support::{Gpu, gpu};

fn limits(gpu: &Gpu) -> Limits {
    if gpu.emulator.is_some() { Limits::emulated() } else { Limits::full() }
}

fn random_cases(mut property: impl FnMut(&mut Cuda<'_>, &Case) -> Result<(), String>) {
    let gpu = gpu();
    let mut subject = Cuda::new(&gpu);
    properties::for_random_cases(limits(&gpu), |spec, _| {
        property(&mut subject, &spec.for_tensor_cores().build())
    });
}

#[test]
fn a_step_matches_the_oracle() {
    random_cases(|cuda, case| properties::step_matches_oracle(cuda, case));
}

#[test]
fn a_backward_under_any_upstream_matches_the_oracle() {
    random_cases(|cuda, case| properties::backward_matches_oracle(cuda, case));
}

#[test]
fn the_loss_alone_matches_the_oracle() {
    random_cases(|cuda, case| properties::evaluate_matches_oracle(cuda, case));
}

#[test]
fn forward_and_backward_are_a_step_bit_for_bit() {
    random_cases(|cuda, case| properties::halves_equal_step(cuda, case));
}

#[test]
fn runs_repeat_bit_for_bit() {
    random_cases(|cuda, case| properties::repeats_bit_for_bit(cuda, case));
}

#[test]
fn nan_stays_in_its_row() {
    random_cases(|cuda, case| edges::nan_stays_in_its_row(cuda, case, case.rows() / 2));
}

#[test]
fn rows_that_do_not_count_take_no_part() {
    random_cases(|cuda, case| edges::rows_without_weight_take_no_part(cuda, case));
    random_cases(|cuda, case| edges::rows_without_upstream_take_no_part(cuda, case));
}

#[test]
fn infinite_logits() {
    random_cases(|cuda, case| edges::infinite_negative(cuda, case));
    random_cases(|cuda, case| match case.batch_columns() {
        // The one negative of one row, and absent: a row without negatives, which the oracle has at -inf.
        2 => Ok(()),
        _ => edges::vanishing_negative(cuda, case),
    });
}

#[test]
fn no_negatives_no_loss() {
    random_cases(|cuda, case| edges::no_negatives(cuda, case));
}

#[test]
fn zero_rows_are_zero_vectors_when_normalised() {
    random_cases(|cuda, case| edges::zero_rows_normalised(cuda, case));
}

#[test]
fn neutral_options_change_nothing() {
    random_cases(|cuda, case| edges::neutral_options(cuda, case));
}

/// A kernel of each shape, in one of the two types, normalised or not.
const SHAPES: [(usize, Dtype, bool); 8] = [
    (48, Dtype::F16, true),
    (64, Dtype::Bf16, false),
    (112, Dtype::Bf16, true),
    (128, Dtype::F16, false),
    (208, Dtype::F16, true),
    (256, Dtype::Bf16, false),
    (512, Dtype::F16, false),
    (1024, Dtype::Bf16, true),
];

/// Odd sizes, several tiles of each shape, every segment and every option.
fn spec(dim: usize, dtype: Dtype, normalize: bool) -> Spec {
    Spec {
        seed: dim as u64,
        dtype,
        gradient_dtype: Dtype::F32,
        rows: 45,
        dim,
        offset: 3,
        surplus: 22,
        extra: Some(37),
        wants_extra_gradient: true,
        bank: Some(BankSpec { capacity: 60, pushes: vec![33, 41], warm_up: 0, max_age: None }),
        temperature: 0.07,
        spread: 2.0,
        lean: 0.3,
        log_q: true,
        logq_scale: 1.0,
        corrected: true,
        exclude_item: true,
        exclude_user: true,
        distinct_ids: 50,
        normalize,
        weights: true,
        reduction: Reduction::Mean,
        upstream: false,
        objective: Objective::Softmax,
        log_q_inside: false,
        metrics: false,
        wants_log_q_gradient: false,
        symmetric: None,
        row_negatives: None,
        hard_negatives: None,
    }
}

/// One case of each shape, changed.
fn each_shape(gpu: &Gpu, change: impl Fn(&mut Spec), check: impl Fn(&mut Cuda<'_>, &Case)) {
    for (dim, dtype, normalize) in SHAPES {
        let mut spec = spec(dim, dtype, normalize);
        change(&mut spec);
        check(&mut Cuda::new(gpu), &spec.build());
    }
}

fn matches_oracle(cuda: &mut Cuda<'_>, case: &Case) {
    properties::step_matches_oracle(cuda, case)
        .unwrap_or_else(|why| panic!("{} {}: {why}", case.dim, case.dtype));
}

/// One partial result more than the sweep's: in f32, whatever the tensor cores read.
#[test]
fn row_negatives_beside_tensor_cores() {
    let gpu = gpu();
    for (per_row, pool) in [(5, None), (33, None), (9, Some(20))] {
        let own = RowNegativesSpec { per_row, pool, wants_gradient: true };
        each_shape(
            &gpu,
            |spec| spec.row_negatives = Some(own.clone()),
            |cuda, case| {
                properties::backward_matches_oracle(cuda, case).unwrap();
                properties::halves_equal_step(cuda, case).unwrap();
            },
        );
    }
    let ran = |name: &str| gpu.device.counters().launches.iter().any(|(kernel, n)| *kernel == name && *n > 0);
    assert!(ran("stream_mma_forward_1024_bf16") && ran("row_negative_partial_bf16"));
}

#[test]
fn near_converged_rows() {
    let change = |spec: &mut Spec| {
        (spec.lean, spec.spread, spec.temperature, spec.log_q) = (3.0, 8.0, 0.05, false);
    };
    each_shape(&gpu(), change, |cuda, case| {
        let losses = case.expected(None).row_losses;
        let converged = losses.iter().filter(|loss| loss.abs() < 1e-3).count();
        assert!(2 * converged > losses.len(), "{converged} rows of {} have converged", losses.len());
        matches_oracle(cuda, case);
    });
}

#[test]
fn a_small_temperature_and_a_wide_log_q() {
    let gpu = gpu();
    each_shape(&gpu, |spec| spec.temperature = 0.01, matches_oracle);
    each_shape(&gpu, |spec| (spec.logq_scale, spec.corrected) = (2.0, false), matches_oracle);
}

#[test]
fn ids_nearly_all_duplicates() {
    // 5 ids where 45 rows meet 140 columns; half of the ids differ in their upper halves only.
    each_shape(&gpu(), |spec| spec.distinct_ids = 5, matches_oracle);
}

/// The fast comparison of 32 bits, and ids that it cannot tell apart.
#[test]
fn ids_whose_upper_halves_are_all_alike() {
    let gpu = gpu();
    for upper in [0, 1 << 32, -1 << 40] {
        for (dim, dtype, normalize) in SHAPES {
            let mut case = Spec { bank: None, ..spec(dim, dtype, normalize) }.build();
            let extra = case.extra.as_mut().and_then(|extra| extra.item_ids.as_mut());
            let item_ids = case.items.item_ids.iter_mut().chain(extra);
            item_ids.flatten().for_each(|id| *id = (*id & 0xffff_ffff) | upper);
            matches_oracle(&mut Cuda::new(&gpu), &case);
        }
    }
}

/// Gradients under an upstream gradient of this size, in f16 embeddings and f32 gradients.
fn under_upstream(gpu: &Gpu, upstream: &[f32], reduction: Reduction) {
    let change = |spec: &mut Spec| (spec.reduction, spec.weights) = (reduction, false);
    each_shape(gpu, change, |cuda, case| {
        let results = cuda.forward_backward(case, Some(upstream)).unwrap();
        crate::common::compare::check(case, Some(upstream), &results)
            .unwrap_or_else(|why| panic!("{} {} under {upstream:?}: {why}", case.dim, case.dtype));
    });
}

#[test]
fn upstream_gradients_of_any_size() {
    let gpu = gpu();
    for upstream in [1e-6, -1e-30, 1e6, 1e30] {
        under_upstream(&gpu, &[upstream], Reduction::Mean);
    }
    // Rows of very different weight side by side.
    let mixed: Vec<f32> =
        (0..45).map(|i| 10f32.powi(i % 9 - 6) * if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    under_upstream(&gpu, &mixed, Reduction::None);
}

/// Ranges that begin and end inside owner tiles, and the merging of their partials.
#[test]
fn several_ranges_an_owner_tile() {
    for multiprocessors in [3, 7, 40] {
        let gpu = gpu().with_multiprocessors(multiprocessors);
        let change = |spec: &mut Spec| {
            (spec.rows, spec.surplus, spec.extra) = (if spec.dim > 128 { 70 } else { 150 }, 40, Some(300));
            spec.exclude_user = false;
        };
        each_shape(&gpu, change, |cuda, case| {
            matches_oracle(cuda, case);
            properties::halves_equal_step(cuda, case).unwrap();
        });
    }
}

/// Few rows against many columns, and the reverse.
#[test]
fn long_and_short_shapes() {
    let gpu = gpu().with_multiprocessors(9);
    let long = |spec: &mut Spec| {
        (spec.rows, spec.surplus, spec.extra, spec.bank) = (3, 1, Some(700), None);
    };
    each_shape(&gpu, long, matches_oracle);
    let short = |spec: &mut Spec| {
        (spec.rows, spec.offset, spec.surplus, spec.extra, spec.bank) = (257, 0, 0, None, None);
        spec.wants_extra_gradient = false;
    };
    each_shape(&gpu, short, matches_oracle);
}

/// The first sweep and the second, loss only and with gradients, are different kernels with the same scores.
#[test]
fn the_loss_alone_has_the_bits_of_a_step_when_cut_alike() {
    let gpu = gpu();
    each_shape(
        &gpu,
        |_| (),
        |cuda, case| {
            let (step, alone) = (cuda.step(case).unwrap(), cuda.evaluate(case).unwrap());
            assert_eq!(step.row_losses, alone.row_losses);
            assert_eq!(step.log_sum_exp, alone.log_sum_exp);
        },
    );
}

/// 8 B N D, 2 B N D for the loss alone: no product is made that need not be, up to whole tiles.
#[test]
fn products_are_counted() {
    let gpu = gpu();
    let Some(emulator) = gpu.emulator else {
        println!("SKIPPED: only the emulator counts instructions");
        return;
    };
    for (dim, dtype, normalize) in SHAPES {
        let change = |spec: Spec| Spec { rows: 64, offset: 0, surplus: 0, extra: None, bank: None, ..spec };
        let spec = change(spec(dim, dtype, normalize));
        let case = Spec { wants_extra_gradient: false, ..spec }.build();
        let problem = inbatch::Problem {
            rows: case.rows(),
            dim,
            batch_columns: case.batch_columns(),
            extra_columns: 0,
            bank_columns: 0,
            row_negatives: 0,
            pool: None,
            offset: 0,
            dtype,
        };
        let plan = Plan::new(&gpu.device.hardware(), &problem, &case.config);
        emulator.clear();
        Cuda::new(&gpu).step(&case).unwrap();
        let products = |kernel: &str, what: &str| -> u64 {
            let forms = emulator.opcodes().into_iter();
            let of = forms.filter(|(name, form, _)| name == kernel && form.starts_with(what));
            of.map(|(_, _, count)| count).sum()
        };
        for sweep in [plan.forward(), plan.backward()] {
            let padded = |n: usize, tile: usize| (n.div_ceil(tile) * tile) as u64;
            let cells = padded(64, sweep.tile) * padded(64, sweep.streamed);
            // Two products of B N D multiplications, 16 x 8 x 16 in each instruction.
            let expected = 2 * cells * dim as u64 / (16 * 8 * 16);
            assert_eq!(products(sweep.kernel, "mma.sync"), expected, "{sweep}");
            assert!(products(sweep.kernel, "ldmatrix") < expected, "{sweep}");
            assert!(products(sweep.kernel, "cp.async.cg") > 0, "{sweep}");
        }
    }
}

#[test]
fn any_order_of_blocks_and_warps_gives_the_same_bits() {
    let gpu = gpu().with_multiprocessors(5);
    let Some(emulator) = gpu.emulator else {
        println!("SKIPPED: only the emulator can choose the order");
        return;
    };
    each_shape(
        &gpu,
        |_| (),
        |cuda, case| {
            let expected = cuda.step(case).unwrap();
            for seed in ["1", "2"] {
                emulator.set("seed", seed).unwrap();
                assert!(cuda.step(case).unwrap().same_bits(&expected), "{} {}", case.dim, case.dtype);
            }
            emulator.set("seed", "0").unwrap();
        },
    );
}

#[test]
fn poison_in_the_workspace_changes_nothing() {
    each_shape(
        &gpu(),
        |_| (),
        |cuda, case| {
            let expected = cuda.step(case).unwrap();
            let larger = Spec { rows: 70, surplus: 90, ..spec(case.dim, case.dtype, true) }.build();
            cuda.step(&larger).unwrap();
            cuda.poison();
            assert!(cuda.step(case).unwrap().same_bits(&expected), "{} {}", case.dim, case.dtype);
        },
    );
}

/// With tensor cores and without, the results agree as closely as either agrees with the oracle.
#[test]
fn tensor_cores_can_be_switched_off() {
    let gpu = gpu();
    let launched = |name: &str| {
        let counters = gpu.device.counters();
        counters.launches.iter().filter(|(kernel, _)| kernel.starts_with(name)).map(|(_, n)| n).sum::<u64>()
    };
    each_shape(
        &gpu,
        |_| (),
        |cuda, case| {
            let before = launched("stream_mma_");
            cuda.allow_tensor_cores(false);
            matches_oracle(cuda, case);
            assert_eq!(launched("stream_mma_"), before);
            cuda.allow_tensor_cores(true);
            matches_oracle(cuda, case);
            assert_eq!(launched("stream_mma_"), before + 2);
        },
    );
}

/// A device without the instructions gets the kernels that it can run.
#[test]
fn an_older_device_takes_the_plain_kernels() {
    let gpu = gpu().with_setting("cc", "7.5", "8.0");
    if gpu.emulator.is_none() {
        println!("SKIPPED: a real GPU has the capability that it has");
        return;
    }
    assert_eq!(gpu.device.hardware().compute_capability, (7, 5));
    let case = spec(64, Dtype::Bf16, false).build();
    matches_oracle(&mut Cuda::new(&gpu), &case);
    let counters = gpu.device.counters();
    let streams: Vec<_> = counters.launches.iter().filter(|(name, _)| name.starts_with("stream_")).collect();
    assert_eq!(streams, [&("stream_backward_64_bf16", 1), &("stream_forward_64_bf16", 1)]);
}

#[test]
fn dimensions_that_tensor_cores_do_not_take() {
    let gpu = gpu();
    for (dim, dtype) in [(16, Dtype::Bf16), (40, Dtype::F16), (264, Dtype::Bf16), (64, Dtype::F32)] {
        let case = spec(dim, dtype, false).build();
        let problem = inbatch::Problem {
            rows: case.rows(),
            dim,
            batch_columns: case.batch_columns(),
            extra_columns: case.extra_columns(),
            bank_columns: 0,
            row_negatives: 0,
            pool: None,
            offset: case.offset,
            dtype,
        };
        let plan = Plan::new(&gpu.device.hardware(), &problem, &case.config);
        assert_eq!(plan.kernels(), Kernels::Simt, "{plan}");
        matches_oracle(&mut Cuda::new(&gpu), &case);
    }
}
