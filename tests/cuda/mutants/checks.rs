//! What the fast cases check beside the properties of tests/common: bits that follow from other bits.

use half::bf16;
use inbatch::Dtype::F16;
use inbatch::cuda::InBatchLoss;
use inbatch::{LossConfig, Objective, Reduction};

use crate::oracle;
use crate::support::{Case, Gpu, OnDevice, Real, Results, Shape, bits, step};

fn plain() -> LossConfig {
    LossConfig::new(0.2).expect("a temperature")
}

/// `plain`, or with everything on that the configuration has.
pub(super) fn config(full: bool) -> LossConfig {
    if full { plain().normalize(true).exclude_same_item(true).exclude_same_user(true) } else { plain() }
}

/// Several tiles on each side, the last ones ragged.
pub(super) fn shape(dim: usize) -> Shape {
    (70, 80, 60, dim, 5)
}

/// More than four partials of every row and of every column.
pub(super) const SPLITS: Shape = (260, 262, 70, 9, 1);

pub(super) fn tiles(gpu: &Gpu, dim: usize, full: bool) {
    oracle::run::<f32, f32>(gpu, shape(dim), config(full), full, dim as u64);
}

pub(super) fn loss_alone<T: Real>(gpu: &Gpu) {
    for (dim, full) in [(40, true), (45, false)] {
        oracle::loss_alone::<T>(gpu, shape(dim), config(full), 4);
    }
}

/// Kernels compute in f32 whatever they read: numbers that `T` holds give the same bits in f32.
pub(super) fn as_f32<T: Real>(gpu: &Gpu, dim: usize, full: bool) {
    let case = Case::<T>::random(shape(dim), dim as u64);
    let got: Results<f32> = step(gpu, config(full), &case, full);
    let expected: Results<f32> = step(gpu, config(full), &case.widened(), full);
    assert_eq!(got, expected);
}

/// Squares of these numbers overflow and underflow. (f16 holds none such.)
pub(super) fn huge_and_tiny(gpu: &Gpu) {
    let dim = 40;
    let mut case = Case::<bf16>::random((5, 9, 3, dim, 1), 13);
    // One dimension stands out by far: in every other row it is huge, in the others it is what is not lost.
    let stretch = |values: &mut [bf16], parity: usize| {
        for (k, x) in values.iter_mut().enumerate() {
            let exponent = match (k / dim % 2 == parity, k % dim == 5) {
                (true, true) => 90,
                (true, false) => 0,
                (false, true) => -90,
                (false, false) => -120,
            };
            *x = bf16::from_f32(x.to_f32() * 2f32.powi(exponent));
        }
    };
    stretch(&mut case.users, 0);
    stretch(&mut case.items, 1);
    let got: Results<f32> = step(gpu, config(true), &case, false);
    let expected: Results<f32> = step(gpu, config(true), &case.widened(), false);
    assert_eq!(got, expected);
    assert!(got.row_losses.iter().all(|loss| f32::from_bits(*loss).is_finite()));
}

/// Gradients of 16 bits are those of 32, rounded to nearest.
pub(super) fn rounded_gradients<T: Real, G: Real>(gpu: &Gpu) {
    for (shape, full) in [(SPLITS, true), ((7, 9, 3, 45, 1), false)] {
        let case = Case::<T>::random(shape, 7);
        let got: Results<G> = step(gpu, config(full), &case, full);
        let wide: Results<f32> = step(gpu, config(full), &case, full);
        let rounded = |values: &[f32]| values.iter().map(|value| G::from_f32(*value)).collect::<Vec<G>>();
        assert_eq!(got.d_users, rounded(&wide.d_users));
        assert_eq!(got.d_items, rounded(&wide.d_items));
        assert_eq!(got.d_extra, rounded(&wide.d_extra));
        assert_eq!(got.d_inverse_temperature, wide.d_inverse_temperature);
    }
}

/// Gradients halfway between two numbers of `G`, and around them.
///
/// Users live in even dimensions, items in odd ones: all logits are 0, and with two rows, two columns, 1/tau = 2 and a
/// sum of losses the gradient of each embedding is the other embedding of its kind less itself, exactly. One embedding has
/// the upper digits, the other the lower ones, so that `T` may be as narrow as `G`.
pub(super) fn ties_round_to_even<T: Real, G: Real>(gpu: &Gpu) {
    let config = LossConfig::new(0.5).expect("a temperature").reduction(Reduction::Sum);
    let digits = if G::DTYPE == F16 { 11 } else { 8 };
    let half = 2f32.powi(-digits);
    let steps = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, -1.0, -3.0, 1.25, 0.75];
    let upper: Vec<f32> = (0..48).map(|k| 1.0 + (k / 10) as f32 / 64.0).collect();
    let lower: Vec<f32> = (0..48).map(|k| -steps[k % 10] * half).collect();
    let dim = 2 * upper.len();
    let spread = |numbers: &[f32], first: usize| -> Vec<T> {
        let mut row = vec![T::from_f32(0.0); dim];
        numbers.iter().enumerate().for_each(|(k, x)| row[2 * k + first] = T::from_f32(*x));
        row
    };
    let mut case = Case::<T>::random((2, 2, 0, dim, 0), 1);
    case.users = [spread(&lower, 0), spread(&upper, 0)].concat();
    case.items = [spread(&upper, 1), spread(&lower, 1)].concat();
    case.log_q.fill(0.0);
    let got: Results<G> = step(gpu, config, &case, false);
    let difference = |values: &[T]| -> Vec<G> {
        let (first, second) = values.split_at(dim);
        let pairs = first.iter().zip(second).map(|(a, b)| b.to_f32() - a.to_f32());
        pairs.clone().chain(pairs.map(|x| -x)).map(G::from_f32).collect()
    };
    // Without a sign: a gradient of 0 may be -0.
    let same = |a: &[G], b: &[G]| a.iter().zip(b).all(|(a, b)| a.to_f32() == b.to_f32());
    assert!(same(&got.d_users, &difference(&case.items)), "d_users");
    assert!(same(&got.d_items, &difference(&case.users)), "d_items");
}

/// Sums of sigmoids: the loss alone has the bits of a step, and a NaN in any column shows in every row.
pub(super) fn sigmoids<T: Real>(gpu: &Gpu) {
    const ROWS: usize = 5;
    let config = plain().objective(Objective::Sigmoid { bias: -2.0 }).expect("an objective");
    for dim in [40, 104, 201] {
        let losses = |case: &Case<T>| {
            let inputs = OnDevice::new(&gpu.device, case);
            let mut loss = InBatchLoss::new(&gpu.device, config).expect("a loss");
            let alone = loss.evaluate(&inputs.batch(false, false)).expect("an evaluation");
            let alone = bits(&alone.row_losses().expect("losses"));
            let with_gradients: Results<f32> = step(gpu, config, case, false);
            assert_eq!(alone, with_gradients.row_losses, "D = {dim}");
            alone
        };
        losses(&Case::random((ROWS, 70, 0, dim, 0), 3));
        // Of the columns that one thread has, each by itself, none of them a positive.
        for column in ROWS..ROWS + 4 {
            let mut case = Case::random((ROWS, 70, 0, dim, 0), 3);
            case.items[column * dim] = T::from_f32(f32::NAN);
            assert!(losses(&case).iter().all(|loss| f32::from_bits(*loss).is_nan()), "D = {dim}, {column}");
        }
    }
}
