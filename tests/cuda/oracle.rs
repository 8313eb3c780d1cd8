//! Against the f64 oracle: every dtype, every chunk of D, every feature, sizes around the tile.

use std::collections::BTreeSet;

use half::{bf16, f16};
use inbatch::cuda::cudarc::driver::sys::CUdevice_attribute_enum;
use inbatch::cuda::{InBatchLoss, Kernels, Plan};
use inbatch::oracle;
use inbatch::{Dtype, Element, LearnedTemperature, LossConfig, PositiveCorrection, Reduction};

use crate::bank::same_on_both_backends;
use crate::support::{Case, Gpu, OnDevice, Real, Results, Shape, bits, gpu, step, step_with};

fn widen<T: Element>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| f64::from(value.to_f32())).collect()
}

fn floats(bits: &[u32]) -> Vec<f64> {
    bits.iter().map(|&bits| f64::from(f32::from_bits(bits))).collect()
}

/// ||got - expected|| / ||expected||, the plain norm where the expected is 0.
fn error(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    // An infinity must be met exactly; then it is no distance.
    let difference = norm(&mut got.iter().zip(expected).map(|(g, e)| if g == e { 0.0 } else { g - e }));
    let size = norm(&mut expected.iter().copied().filter(|e| e.is_finite()));
    if size == 0.0 { difference } else { difference / size }
}

fn expect<T: Element>(case: &Case<T>, config: &LossConfig, weighted: bool) -> oracle::Outputs {
    let log_q = [case.log_q.clone(), case.extra_log_q.clone()].concat();
    let log_q: Vec<f64> = log_q.iter().map(|&x| f64::from(x)).collect();
    let item_ids = [case.item_ids.clone(), case.extra_item_ids.clone()].concat();
    let weights: Vec<f64> = case.weights.iter().map(|&x| f64::from(x)).collect();
    let inputs = oracle::Inputs {
        dim: case.dim,
        users: &widen(&case.users),
        items: &widen(&case.items),
        extra: &widen(&case.extra),
        offset: case.offset,
        log_q: Some(&log_q),
        item_ids: Some(&item_ids),
        user_ids: Some(&case.user_ids),
        weights: weighted.then_some(&weights[..]),
        ..oracle::Inputs::default()
    };
    oracle::evaluate(config, &inputs).unwrap()
}

/// Relative errors of f32 arithmetic on sums of this length, at logits of a few dozens.
const F32_TOLERANCE: f64 = 5e-6;

/// The largest relative error of one rounding to a type.
fn rounding(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 0.0,
        Dtype::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-8),
    }
}

/// `weights` is the type of the softmax weights in the second product: f32 but on tensor cores.
fn compare<G: Element>(got: &Results<G>, expected: &oracle::Outputs, weights: Dtype, context: &str) {
    let rounding_of_weights = rounding(weights);
    let rounding = rounding(G::DTYPE) + rounding_of_weights;
    let check = |name: &str, got: &[f64], expected: &[f64], tolerance: f64| {
        let error = error(got, expected);
        assert!(error <= tolerance, "{context}: {name} off by {error:e}");
    };
    if let Some(loss) = expected.loss {
        let got = f64::from(f32::from_bits(got.loss.expect("a scalar loss")));
        check("loss", &[got], &[loss], 2.0 * F32_TOLERANCE);
    }
    check("row losses", &floats(&got.row_losses), &expected.row_losses, F32_TOLERANCE);
    check("log-sum-exp", &floats(&got.log_sum_exp), &expected.log_sum_exp, F32_TOLERANCE);
    check("d_users", &widen(&got.d_users), &expected.d_users, F32_TOLERANCE + rounding);
    check("d_items", &widen(&got.d_items), &expected.d_items, F32_TOLERANCE + rounding);
    check("d_extra", &widen(&got.d_extra), &expected.d_extra, F32_TOLERANCE + rounding);
    let got = f64::from(f32::from_bits(got.d_inverse_temperature));
    // Rows of either sign cancel in the sum.
    let scale: f64 = expected.d_inverse_temperature_rows.iter().map(|x| x.abs()).sum();
    let off = (got - expected.d_inverse_temperature).abs() / scale.max(f64::MIN_POSITIVE);
    assert!(off <= F32_TOLERANCE + rounding_of_weights, "{context}: d(1/tau) off by {off:e}");
}

pub(crate) fn run<T: Real, G: Real>(gpu: &Gpu, shape: Shape, config: LossConfig, weighted: bool, seed: u64) {
    let case = Case::<T>::random(shape, seed);
    let got = step::<T, G>(gpu, config, &case, weighted);
    let context = format!("{shape:?} {} -> {} {config:?}", T::DTYPE, G::DTYPE);
    let weights = match Plan::new(&gpu.device.hardware(), &case.problem(), &config).kernels() {
        Kernels::Mma => T::DTYPE,
        _ => Dtype::F32,
    };
    compare(&got, &expect(&case, &config, weighted), weights, &context);
}

fn plain() -> LossConfig {
    LossConfig::new(0.2).unwrap()
}

#[test]
fn shapes_around_the_tile_and_every_chunk_of_dim() {
    let gpu = gpu();
    let shapes: [Shape; 9] = [
        (1, 1, 0, 1, 0),
        (1, 2, 1, 3, 1),
        (7, 7, 0, 16, 0),
        (63, 70, 5, 31, 2),
        (64, 64, 64, 64, 0),
        (65, 131, 3, 65, 66),
        (5, 9, 130, 128, 4),
        (3, 4, 0, 257, 1),
        (2, 66, 0, 520, 0),
    ];
    for (seed, shape) in shapes.into_iter().enumerate() {
        run::<f32, f32>(&gpu, shape, plain(), false, seed as u64);
    }
}

/// Each kernel that ships, in every type, compared: with the oracle, the pushes with the CPU's bank.
#[test]
fn every_kernel_that_ships() {
    let gpu = gpu();
    every_type_of_gradient::<f32>(&gpu);
    every_type_of_gradient::<f16>(&gpu);
    every_type_of_gradient::<bf16>(&gpu);
    crate::frequency::every_kernel(&gpu);
    crate::sampling::every_kernel(&gpu);
    crate::table::every_kernel(&gpu);
    crate::hard_negatives::every_kernel(&gpu);
    crate::row_negatives::every_kernel(&gpu);
    let ran: BTreeSet<_> =
        gpu.device.counters().launches.into_iter().filter(|(_, n)| *n > 0).map(|(name, _)| name).collect();
    let ships = entries();
    assert_eq!(ships.len(), 125);
    let missing: Vec<_> = ships.iter().filter(|name| !ran.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "never launched: {missing:?}");
}

fn every_type_of_gradient<T: Real>(gpu: &Gpu) {
    let shape = (20, 33, 9, 40, 3);
    let config = plain().normalize(true);
    run::<T, f32>(gpu, shape, config, false, 1);
    run::<T, f16>(gpu, shape, config, false, 2);
    run::<T, bf16>(gpu, shape, config, false, 3);
    // Rows that are no multiple of 16 bytes, and chunks of 128 and 256.
    for (dim, seed) in [(13, 9), (72, 10), (130, 11)] {
        run::<T, f32>(gpu, (9, 11, 2, dim, 1), plain(), false, seed);
    }
    loss_alone::<T>(gpu, shape, config, 4);
    if T::DTYPE != Dtype::F32 {
        // A tensor-core kernel for each reach of dimensions.
        for (dim, seed) in [(64, 12), (128, 13), (192, 14), (640, 15)] {
            let shape = (20, 33, 9, dim, 3);
            run::<T, f32>(gpu, shape, config, false, seed);
            loss_alone::<T>(gpu, shape, config, seed);
        }
    }
    same_on_both_backends::<T>(gpu);
    symmetric_and_learnt::<T>(gpu);
}

/// Items against users, too; and learnt parameters, which tests/cuda/parameters.rs compares.
fn symmetric_and_learnt<T: Real>(gpu: &Gpu) {
    let case = Case::<T>::random((20, 20, 0, 40, 0), 5);
    let config = plain().symmetric(true);
    let got: Results<f32> = step(gpu, config, &case, true);
    compare(&got, &expect(&case, &config, true), Dtype::F32, "symmetric");
    let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
    let _: Results<f32> = step_with(gpu, &mut loss, &case, false);
    loss.descend_temperature(&LearnedTemperature::new(0.2).unwrap(), 0.0).unwrap();
    assert!((loss.temperature().unwrap() - 0.2).abs() < 1e-6);
}

pub(crate) fn loss_alone<T: Real>(gpu: &Gpu, shape: Shape, config: LossConfig, seed: u64) {
    let case = Case::<T>::random(shape, seed);
    let inputs = OnDevice::new(&gpu.device, &case);
    let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
    let got = loss.evaluate(&inputs.batch(!case.extra.is_empty(), false)).unwrap().row_losses().unwrap();
    let got: Vec<f64> = got.into_iter().map(f64::from).collect();
    let off = error(&got, &expect(&case, &config, false).row_losses);
    assert!(off <= F32_TOLERANCE, "the loss alone in {}, {shape:?}: off by {off:e}", T::DTYPE);
}

/// The symbols of the embedded PTX.
fn entries() -> Vec<String> {
    let lines = inbatch::cuda::ptx().iter().flat_map(|file| file.text.lines());
    let names = lines.filter_map(|line| line.strip_prefix(".visible .entry ")?.split('(').next());
    names.map(str::to_owned).collect()
}

/// So many rows that nothing is split: each block meets every tile and carries its sums from one to the next.
#[test]
fn many_tiles_in_one_block() {
    let gpu = gpu();
    let count = CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    let multiprocessors = gpu.device.stream().context().attribute(count).unwrap() as usize;
    let rows = 128 * multiprocessors;
    let config = plain().exclude_same_user(true);
    let case = Case::<f32>::random((rows, rows + 70, 90, 9, 30), 12);
    let got: Results<f32> = step(&gpu, config, &case, true);
    compare(&got, &expect(&case, &config, true), Dtype::F32, "many tiles");
    // The loss alone goes through a kernel of its own, with the same bits.
    let inputs = OnDevice::new(&gpu.device, &case);
    let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
    let output = loss.evaluate(&inputs.batch(true, true)).unwrap();
    assert_eq!(bits(&output.row_losses().unwrap()), got.row_losses);
}

#[test]
fn features() {
    let gpu = gpu();
    let shape = (33, 70, 40, 24, 5);
    let configs = [
        plain().normalize(true),
        plain().exclude_same_item(true),
        plain().exclude_same_user(true),
        plain().exclude_same_item(true).exclude_same_user(true).normalize(true),
        plain().positive_correction(PositiveCorrection::Uncorrected),
        plain().logq_scale(0.0).unwrap(),
        plain().logq_scale(0.5).unwrap().reduction(Reduction::Sum),
        plain().reduction(Reduction::None),
        LossConfig::new(0.03).unwrap().normalize(true).exclude_same_item(true),
    ];
    for (seed, config) in configs.into_iter().enumerate() {
        run::<f32, f32>(&gpu, shape, config, false, seed as u64);
        run::<f32, f32>(&gpu, shape, config, true, seed as u64);
    }
    run::<f32, f32>(&gpu, shape, plain().reduction(Reduction::WeightedMean), true, 77);
}
