//! Negatives of each row's own on the device, against the oracle of each row alone.

use half::{bf16, f16};
use inbatch::cuda::InBatchLoss;
use inbatch::{Dtype, LogQOrder, LossConfig, Objective, PositiveCorrection};

use crate::gathered::{Results, Rows, by_rows, step, wide};
use crate::support::{Gpu, Real, gpu};

pub(crate) fn config() -> LossConfig {
    LossConfig::new(0.3).unwrap().metrics(true)
}

/// Every objective, both links, either place of log q, ids, normalisation.
fn configs() -> Vec<LossConfig> {
    let objective = |objective| config().exclude_same_item(true).objective(objective).unwrap();
    vec![
        config(),
        config().normalize(true).exclude_same_item(true),
        config()
            .logq_order(LogQOrder::InsideTemperature)
            .positive_correction(PositiveCorrection::Uncorrected),
        config().logq_scale(0.0).unwrap(),
        objective(Objective::AdditiveMargin { margin: 0.4 }),
        objective(Objective::Decoupled).normalize(true),
        objective(Objective::CorrectedLogQ),
        objective(Objective::Debiased { positive_prior: 0.02 }).logq_scale(0.0).unwrap(),
        objective(Objective::Sigmoid { bias: -1.5 }),
        objective(Objective::Sigmoid { bias: -0.5 }).normalize(true).logq_order(LogQOrder::InsideTemperature),
    ]
}

/// Fewer and more negatives than a warp, dimensions below and above what a lane sums at once; rows, dimension, negatives of
/// each, extra negatives, and the size of the pool.
/// None of their own: the hardest of the others.
const SHAPES: [([usize; 4], Option<usize>); 6] = [
    ([5, 7, 3, 4], None),
    ([3, 300, 37, 1], None),
    ([6, 9, 5, 3], Some(8)),
    ([70, 130, 33, 2], Some(45)),
    ([9, 270, 0, 6], None),
    ([70, 20, 0, 90], None),
];

fn hardest_if_none(config: LossConfig, shape: [usize; 4]) -> LossConfig {
    if shape[2] == 0 { config.hard_negatives(shape[3] - 3).unwrap() } else { config }
}

/// Every shape; under every configuration if it is small.
pub(crate) fn agrees<T: Real>(gpu: &Gpu) {
    let mut loss = InBatchLoss::new(&gpu.device, config()).unwrap();
    for (shape, pool) in SHAPES {
        let data = Rows::<T>::random(shape, pool, shape[1] as u64);
        let large = shape[0].max(shape[2]) * shape[1] > 1000;
        for config in configs().into_iter().skip(usize::from(large)).step_by(if large { 4 } else { 1 }) {
            let config = hardest_if_none(config, shape);
            loss.set_config(config).unwrap();
            loss.poison_workspace().unwrap();
            let found = step::<T, f32>(&gpu.device, &mut loss, &data);
            found.check(&by_rows(config, &data), 2e-5, &format!("{shape:?} {pool:?} {config:?}"));
        }
    }
}

#[test]
fn each_row_alone_has_them_as_extra_negatives() {
    let gpu = gpu();
    agrees::<f32>(&gpu);
    agrees::<f16>(&gpu);
    agrees::<bf16>(&gpu);
}

/// Gradients of 16 bits are those of 32, rounded.
fn rounds<T: Real, G: Real>(gpu: &Gpu) {
    for (shape, pool) in [SHAPES[0], SHAPES[2], SHAPES[4]] {
        let data = Rows::<T>::random(shape, pool, 7);
        let config = hardest_if_none(config().normalize(true), shape);
        let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
        let wide_gradients = step::<T, f32>(&gpu.device, &mut loss, &data);
        let rounded = |values: &[f64]| {
            let rounded: Vec<G> = values.iter().map(|x| G::from_f32(*x as f32)).collect();
            wide(&rounded)
        };
        let found = step::<T, G>(&gpu.device, &mut loss, &data);
        assert_eq!(found.d_negatives, rounded(&wide_gradients.d_negatives));
        assert_eq!(found.d_users, rounded(&wide_gradients.d_users));
        assert_eq!(found.d_log_q, wide_gradients.d_log_q);
    }
}

/// Each kernel of row_negatives.cu in each of its types.
pub(crate) fn every_kernel(gpu: &Gpu) {
    agrees::<f32>(gpu);
    agrees::<f16>(gpu);
    agrees::<bf16>(gpu);
    every_gradient::<f32>(gpu);
    every_gradient::<f16>(gpu);
    every_gradient::<bf16>(gpu);
}

/// Gradients halfway between two numbers of `G`, and around them. With one row, one negative, equal logits, 1/tau = 2 and
/// a weight of 3/2 the gradient of the negative is 3/2 of the user, exactly.
fn ties_round_to_even<T: Real, G: Real>(gpu: &Gpu) {
    let digits = |dtype| if dtype == Dtype::Bf16 { 8 } else { 11 };
    let step_between = 2f32.powi(1 - digits(T::DTYPE).min(digits(G::DTYPE)));
    let mut data = Rows::<T>::random([1, 64, 1, 1], None, 1);
    data.offset = 0;
    data.users = (0..64).map(|k| T::from_f32(1.0 + k as f32 * step_between)).collect();
    for zeros in [&mut data.items, &mut data.extra, &mut data.negatives] {
        *zeros = vec![T::from_f32(0.0); 64];
    }
    data.log_q = [vec![-1.0], vec![-1.0], vec![-1.0]];
    // The extra negative is the positive once more, and left out.
    data.item_ids = [vec![1], vec![1], vec![2]];
    data.weights = vec![1.5];
    let config = LossConfig::new(0.5).unwrap().exclude_same_item(true);
    let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
    let exact: Vec<f64> = data.users.iter().map(|u| 1.5 * f64::from(u.to_f32())).collect();
    assert_eq!(step::<T, f32>(&gpu.device, &mut loss, &data).d_negatives, exact);
    let rounded: Vec<G> = exact.iter().map(|x| G::from_f32(*x as f32)).collect();
    assert_eq!(step::<T, G>(&gpu.device, &mut loss, &data).d_negatives, wide(&rounded));
}

/// The types that gradients are rounded to.
pub(crate) fn every_gradient<T: Real>(gpu: &Gpu) {
    rounds::<T, f16>(gpu);
    rounds::<T, bf16>(gpu);
    ties_round_to_even::<T, f16>(gpu);
    ties_round_to_even::<T, bf16>(gpu);
}

#[test]
fn gradients_of_every_type() {
    let gpu = gpu();
    every_gradient::<f32>(&gpu);
    every_gradient::<f16>(&gpu);
    every_gradient::<bf16>(&gpu);
}

/// Losses and user gradients of all rows but one.
fn others(results: &Results, row: usize, dim: usize) -> (Vec<u64>, Vec<u64>) {
    let bits = |values: &[f64], each: usize| {
        let rows = values.chunks_exact(each).enumerate().filter(|(i, _)| *i != row);
        rows.flat_map(|(_, values)| values.iter().map(|x| x.to_bits())).collect()
    };
    (bits(&results.row_losses, 1), bits(&results.d_users, dim))
}

/// An index beyond the pool makes its row NaN. No other row sees it, and nothing is read or written out of bounds.
pub(crate) fn index_beyond_the_pool(gpu: &Gpu) {
    let (shape, dim) = ([6, 40, 5, 3], 40);
    for config in [config(), config().normalize(true).exclude_same_item(true)] {
        for outside in [8, 9, i32::MAX] {
            let mut data = Rows::<f32>::random(shape, Some(8), 3);
            let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
            let clean = step::<f32, f32>(&gpu.device, &mut loss, &data);
            data.indices.as_mut().unwrap()[2 * 5 + 1] = outside;
            let found = step::<f32, f32>(&gpu.device, &mut loss, &data);
            assert_eq!(others(&found, 2, dim), others(&clean, 2, dim));
            assert!(found.row_losses[2].is_nan() && found.loss.is_nan());
            assert!(found.d_users[2 * dim..3 * dim].iter().all(|x| x.is_nan()));
        }
        // A pool without rows, named all the same.
        let mut data = Rows::<f32>::random(shape, Some(1), 3);
        data.indices.as_mut().unwrap().fill(-1);
        data.indices.as_mut().unwrap()[2 * 5] = 0;
        data.negatives.clear();
        data.log_q[2].clear();
        data.item_ids[2].clear();
        let found = step::<f32, f32>(&gpu.device, &mut InBatchLoss::new(&gpu.device, config).unwrap(), &data);
        assert!(found.row_losses.iter().enumerate().all(|(i, loss)| loss.is_nan() == (i == 2)));
    }
}

#[test]
fn an_index_beyond_the_pool_is_nan_in_its_row() {
    index_beyond_the_pool(&gpu());
}

/// NaN among the negatives of a row stays in that row's loss and gradient, and in that negative's own.
pub(crate) fn nan_in_a_negative(gpu: &Gpu) {
    let (row, dim) = (1, 9);
    for config in [config(), config().normalize(true), configs()[8]] {
        let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
        let mut data = Rows::<f32>::random([5, dim, 4, 3], None, 3);
        // Nobody's positive.
        data.item_ids[2].fill(1 << 40);
        let clean = step::<f32, f32>(&gpu.device, &mut loss, &data);
        let mut dirty = data.clone();
        dirty.negatives[(row * 4 + 2) * dim] = f32::NAN;
        let found = step::<f32, f32>(&gpu.device, &mut loss, &dirty);
        assert_eq!(others(&found, row, dim), others(&clean, row, dim));
        assert!(found.row_losses[row].is_nan());
        let elsewhere = |results: &Results| {
            let values = results.d_negatives.chunks_exact(4 * dim).enumerate();
            values.filter(|(i, _)| *i != row).flat_map(|(_, d)| d.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(elsewhere(&found), elsewhere(&clean));
        // The same in a row of weight 0: nothing at all has changed but its log-sum-exp.
        let idle = 5 / 2;
        let mut dirty = data.clone();
        dirty.negatives[idle * 4 * dim..(idle + 1) * 4 * dim].fill(f32::NAN);
        let found = step::<f32, f32>(&gpu.device, &mut loss, &dirty);
        assert_eq!(found.tensors()[2..], clean.tensors()[2..]);
        assert_eq!((found.loss, &found.row_losses), (clean.loss, &clean.row_losses));
        let own = &found.d_negatives[idle * 4 * dim..(idle + 1) * 4 * dim];
        assert!(own.iter().chain(&found.d_users[idle * dim..(idle + 1) * dim]).all(|x| *x == 0.0));
    }
}

#[test]
fn nan_in_a_negative_stays_in_its_row() {
    nan_in_a_negative(&gpu());
}

#[test]
fn any_order_of_blocks_gives_the_same_bits() {
    let gpu = gpu();
    let Some(emulator) = gpu.emulator else {
        println!("SKIPPED: only the emulator can choose the order");
        return;
    };
    for (shape, pool) in SHAPES {
        let data = Rows::<f32>::random(shape, pool, 5);
        let config = hardest_if_none(config().normalize(true), shape);
        let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
        let first = step::<f32, f32>(&gpu.device, &mut loss, &data);
        for seed in ["1", "2"] {
            emulator.set("seed", seed).unwrap();
            assert_eq!(step::<f32, f32>(&gpu.device, &mut loss, &data), first, "order {seed}");
        }
        emulator.set("seed", "0").unwrap();
    }
}
