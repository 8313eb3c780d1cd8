//! The kernels that choose hard negatives, by themselves, against a selection on the host.
//!
//! Embeddings are small integers, log q and 1/tau powers of two, so that every logit is exact in f32 and in every type: the
//! choice must be the same to the last column, in spite of many ties.

use half::{bf16, f16};
use inbatch::LossConfig;
use inbatch::bank::BankConfig;
use inbatch::cuda::{Batch, InBatchLoss, MemoryBank, Mined, mined};
use ptx_emulator_harness::Emulator;

use crate::support::{Case, Gpu, OnDevice, Random, Real, Shape, gpu};

const TEMPERATURE: f32 = 0.25;

fn plain(kept: usize) -> LossConfig {
    LossConfig::new(TEMPERATURE).unwrap().hard_negatives(kept).unwrap()
}

fn excluding(kept: usize) -> LossConfig {
    plain(kept).exclude_same_item(true).exclude_same_user(true)
}

/// Whole numbers up to `largest`.
fn whole<T: Real>(random: &mut Random, n: usize, largest: u64) -> Vec<T> {
    (0..n).map(|_| T::from_f32(random.below(2 * largest + 1) as f32 - largest as f32)).collect()
}

fn halves(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| random.below(20) as f32 * -0.5).collect()
}

fn exact<T: Real>(shape: Shape, seed: u64, largest: u64) -> Case<T> {
    let mut case = Case::random(shape, seed);
    let mut random = Random(seed ^ 0x5eed);
    for values in [&mut case.users, &mut case.items, &mut case.extra] {
        *values = whole(&mut random, values.len(), largest);
    }
    case.log_q = halves(&mut random, case.log_q.len());
    case.extra_log_q = halves(&mut random, case.extra_log_q.len());
    case
}

/// A column that is nobody's own, as the bank's are.
#[derive(Clone, Debug)]
struct Column<T> {
    embedding: Vec<T>,
    log_q: f32,
    item_id: i64,
}

/// The columns of a case behind those of the batch; `None` is an absent one.
fn extra<T: Real>(case: &Case<T>) -> Vec<Option<Column<T>>> {
    let column = |k: usize| Column {
        embedding: case.extra[k * case.dim..][..case.dim].to_vec(),
        log_q: case.extra_log_q[k],
        item_id: case.extra_item_ids[k],
    };
    (0..case.extra_log_q.len()).map(|k| Some(column(k))).collect()
}

fn wide<T: Real>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| f64::from(value.to_f32())).collect()
}

fn score<T: Real>(config: &LossConfig, user: &[T], item: &[T]) -> f64 {
    let (user, item) = (wide(user), wide(item));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let sum = dot(&user, &item);
    if !config.normalizes() {
        return sum;
    }
    let norms = dot(&user, &user).sqrt() * dot(&item, &item).sqrt();
    if norms == 0.0 { 0.0 } else { sum / norms }
}

/// Every negative of a row, logit and column, and how many pairs its ids exclude.
fn negatives<T: Real>(
    config: &LossConfig,
    case: &Case<T>,
    others: &[Option<Column<T>>],
    row: usize,
) -> (Vec<(f64, usize)>, u32) {
    let Case { dim, offset, .. } = *case;
    let batch = case.log_q.len();
    let user = &case.users[row * dim..][..dim];
    let mut found = Vec::new();
    let mut excluded = 0;
    for column in 0..batch + others.len() {
        let (embedding, log_q, id) = if column < batch {
            (&case.items[column * dim..][..dim], case.log_q[column], case.item_ids[column])
        } else {
            let Some(other) = &others[column - batch] else { continue };
            (&other.embedding[..], other.log_q, other.item_id)
        };
        let owner = column.checked_sub(offset).filter(|&owner| column < batch && owner < case.rows());
        if owner == Some(row) || log_q == f32::INFINITY {
            continue;
        }
        let same_item = config.excludes_same_item() && id == case.item_ids[row + offset];
        let same_user = config.excludes_same_user()
            && owner.is_some_and(|owner| case.user_ids[owner] == case.user_ids[row]);
        if same_item || same_user {
            excluded += 1;
            continue;
        }
        let z = score(config, user, embedding) / f64::from(config.temperature()) - f64::from(log_q);
        if z != f64::NEG_INFINITY {
            found.push((z, column));
        }
    }
    (found, excluded)
}

/// NaN first, then the higher logit, then the lower column; the best in the order of their columns.
fn choose(mut negatives: Vec<(f64, usize)>, kept: usize) -> Vec<(f64, usize)> {
    let rank = |z: f64| if z.is_nan() { f64::MAX } else { z };
    negatives.sort_by(|a, b| {
        let nan = b.0.is_nan().cmp(&a.0.is_nan());
        nan.then(rank(b.0).partial_cmp(&rank(a.0)).unwrap()).then(a.1.cmp(&b.1))
    });
    negatives.truncate(kept);
    negatives.sort_by_key(|&(_, column)| column);
    negatives
}

fn same(z: f32, expected: f64) -> bool {
    f64::from(z) == expected || (z.is_nan() && expected.is_nan())
}

/// Every row's choice is that of the host, to the last column and to the last bit.
fn check<T: Real>(config: &LossConfig, case: &Case<T>, others: &[Option<Column<T>>], got: &Mined) {
    let kept = config.get_hard_negatives().unwrap();
    for row in 0..case.rows() {
        let (all, excluded) = negatives(config, case, others, row);
        let expected = choose(all, kept);
        let logits = &got.logits[row * kept..][..kept];
        let places = &got.places[row * kept..][..kept];
        let context = format!(
            "{} row {row} of {}, {} columns, {kept} kept",
            T::DTYPE,
            case.rows(),
            case.log_q.len() + others.len()
        );
        assert_eq!(got.excluded[row], excluded, "{context}");
        let columns: Vec<i32> = expected.iter().map(|&(_, column)| column as i32).collect();
        let missing = kept - columns.len();
        assert_eq!(&places[missing..], &columns[..], "{context}");
        assert!(places[..missing].iter().all(|&place| place == -1), "{context}: {places:?}");
        assert!(logits[..missing].iter().all(|&z| z == f32::NEG_INFINITY), "{context}: {logits:?}");
        let logits = &logits[missing..];
        for (&z, &(expected, column)) in logits.iter().zip(&expected) {
            assert!(same(z, expected), "{context}, column {column}: {z} is not {expected}");
        }
    }
}

fn bits(mined: &Mined) -> (Vec<u32>, &[i32], &[u32]) {
    (mined.logits.iter().map(|z| z.to_bits()).collect(), &mined.places, &mined.excluded)
}

/// Twice, with equal bits, and as the host chooses.
fn run<T: Real>(gpu: &Gpu, config: &LossConfig, case: &Case<T>) -> Mined {
    let inputs = OnDevice::new(&gpu.device, case);
    let batch = inputs.batch(!case.extra.is_empty(), false);
    let got = mined(&gpu.device, config, &batch).unwrap();
    let again = mined(&gpu.device, config, &batch).unwrap();
    assert_eq!(bits(&got), bits(&again));
    check(config, case, &extra(case), &got);
    got
}

/// Shapes around the tile and the 32 that wait; some rows have fewer negatives than they might keep.
const SHAPES: [(Shape, usize); 9] = [
    ((1, 2, 0, 1, 0), 1),
    ((1, 2, 1, 3, 1), 2),
    ((5, 9, 0, 7, 2), 3),
    ((64, 64, 0, 8, 0), 63),
    ((65, 70, 63, 5, 3), 1),
    ((7, 40, 60, 40, 30), 33),
    ((66, 131, 30, 3, 64), 128),
    ((2, 300, 0, 33, 298), 64),
    ((9, 20, 400, 16, 0), 96),
];

pub(crate) fn shapes<T: Real>(gpu: &Gpu) {
    for (seed, (shape, kept)) in SHAPES.into_iter().enumerate() {
        run(gpu, &plain(kept), &exact::<T>(shape, seed as u64, 3));
        // Few values, and therefore ties.
        run(gpu, &excluding(kept), &exact::<T>(shape, 100 + seed as u64, 1));
    }
}

#[test]
fn shapes_around_the_tile() {
    let gpu = gpu();
    shapes::<f32>(&gpu);
    shapes::<f16>(&gpu);
    shapes::<bf16>(&gpu);
}

#[test]
fn splits_choose_the_same() {
    let case = exact::<f32>((70, 200, 300, 6, 60), 7, 2);
    let config = excluding(100);
    let one = run(&gpu(), &config, &case);
    for multiprocessors in [2, 64] {
        let split = run(&gpu().with_multiprocessors(multiprocessors), &config, &case);
        assert_eq!(bits(&one), bits(&split));
    }
    shapes::<bf16>(&gpu().with_multiprocessors(64));
}

/// What each column adds to the list before it: everything, nothing, a tie.
pub(crate) fn orders<T: Real>(gpu: &Gpu) {
    for kept in [1, 32, 127, 128] {
        for slope in [1.0, -1.0, 0.0] {
            let mut case = exact::<T>((3, 250, 0, 2, 0), 5, 0);
            case.users.fill(T::from_f32(1.0));
            case.log_q.fill(0.0);
            for (column, item) in case.items.chunks_mut(2).enumerate() {
                item[0] = T::from_f32(slope * column as f32);
            }
            run(gpu, &plain(kept), &case);
        }
    }
}

#[test]
fn columns_in_order() {
    let gpu = gpu();
    orders::<f32>(&gpu);
    orders::<f16>(&gpu);
    orders::<bf16>(&gpu);
}

/// NaN is the highest, infinities are numbers, and -inf is no negative; absent columns may hold anything.
pub(crate) fn extremes<T: Real>(gpu: &Gpu) {
    for (seed, kept) in [(1, 1), (2, 3), (3, 20), (4, 90)] {
        let mut case = exact::<T>((20, 70, 70, 2, 9), seed, 2);
        let mut random = Random(seed);
        let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN, -0.0];
        for _ in 0..12 {
            let at = random.below(case.items.len() as u64) as usize;
            case.items[at] = T::from_f32(strange[random.below(5) as usize]);
            let at = random.below(case.log_q.len() as u64) as usize;
            case.log_q[at] = strange[random.below(5) as usize];
            let at = random.below(case.extra_log_q.len() as u64) as usize;
            case.extra_log_q[at] = f32::INFINITY;
            case.extra[at * case.dim] = T::from_f32(f32::NAN);
        }
        case.users[0] = T::from_f32(f32::NAN);
        case.users[5] = T::from_f32(f32::INFINITY);
        run(gpu, &excluding(kept), &case);
    }
}

#[test]
fn nan_and_infinity() {
    let gpu = gpu();
    extremes::<f32>(&gpu);
    extremes::<f16>(&gpu);
    extremes::<bf16>(&gpu);
}

/// Positive and negative zeros are equal: the lower column stays.
#[test]
fn zeros_of_both_signs() {
    let mut case = exact::<f32>((2, 90, 0, 1, 0), 1, 0);
    case.log_q.fill(0.0);
    for (column, item) in case.items.iter_mut().enumerate() {
        *item = if column % 3 == 0 { 0.0 } else { -0.0 };
    }
    case.users = vec![1.0, -1.0];
    // log q of -0 leaves the sign of the product.
    case.log_q.iter_mut().step_by(2).for_each(|log_q| *log_q = -0.0);
    run(&gpu(), &plain(40), &case);
}

/// Slots that are too old, empty, or of a bank that warms up are nothing.
pub(crate) fn bank_slots<T: Real>(gpu: &Gpu) {
    const CAPACITY: usize = 150;
    let dim = 4;
    let case = exact::<T>((6, 11, 5, dim, 2), 3, 2);
    let config = BankConfig::new(CAPACITY, dim).unwrap().warm_up(1).max_age(1);
    let mut bank = MemoryBank::<T>::new(&gpu.device, config).unwrap();
    let mut others = extra(&case);
    let behind = others.len();
    others.resize(behind + CAPACITY, None);
    let mut head = 0;
    let inputs = OnDevice::new(&gpu.device, &case);
    for (seed, count) in [(0, 0), (11, 70), (12, 40), (13, 60)] {
        if count > 0 {
            let pushed = exact::<T>((1, count, 0, dim, 0), seed, 2);
            bank.push(&OnDevice::new(&gpu.device, &pushed).pushed()).unwrap();
            // The pushes before are too old now.
            others[behind..].fill(None);
            for k in 0..count {
                others[behind + head] = Some(Column {
                    embedding: pushed.items[k * dim..][..dim].to_vec(),
                    log_q: pushed.log_q[k],
                    item_id: pushed.item_ids[k],
                });
                head = (head + 1) % CAPACITY;
            }
        }
        for kept in [1, 50] {
            let config = excluding(kept);
            let batch: Batch<'_, T> = inputs.batch(true, false).bank(&bank);
            let got = mined(&gpu.device, &config, &batch).unwrap();
            check(&config, &case, &others, &got);
        }
    }
}

#[test]
fn absent_bank_slots() {
    let gpu = gpu();
    bank_slots::<f32>(&gpu);
    bank_slots::<f16>(&gpu);
    bank_slots::<bf16>(&gpu);
}

/// Normalised, logits are rounded: each is the host's up to that, and no column left out is better by more.
pub(crate) fn normalized<T: Real>(gpu: &Gpu) {
    let case = Case::<T>::random((70, 90, 50, 24, 4), 21);
    let config = excluding(20).normalize(true);
    let inputs = OnDevice::new(&gpu.device, &case);
    let got = mined(&gpu.device, &config, &inputs.batch(true, false)).unwrap();
    let near = 1e-5;
    for row in 0..case.rows() {
        let (all, excluded) = negatives(&config, &case, &extra(&case), row);
        assert_eq!(got.excluded[row], excluded);
        let places = &got.places[row * 20..][..20];
        assert!(places.is_sorted_by(|a, b| a < b) && places[0] >= 0, "{places:?}");
        let z = |column: i32| all.iter().find(|(_, other)| *other == column as usize).unwrap().0;
        for (&place, &logit) in places.iter().zip(&got.logits[row * 20..][..20]) {
            assert!((z(place) - f64::from(logit)).abs() < near, "{} is not {logit}", z(place));
        }
        let least = places.iter().map(|&place| z(place)).fold(f64::INFINITY, f64::min);
        let best = all.iter().filter(|(_, column)| !places.contains(&(*column as i32)));
        let best = best.map(|(z, _)| *z).fold(f64::NEG_INFINITY, f64::max);
        assert!(best <= least + near, "row {row}: {best} was left out, {least} was kept");
    }
}

#[test]
fn normalized_embeddings() {
    let gpu = gpu();
    normalized::<f32>(&gpu);
    normalized::<f16>(&gpu);
    normalized::<bf16>(&gpu);
}

/// Each kernel, in every type.
pub(crate) fn every_kernel(gpu: &Gpu) {
    bank_slots::<f32>(gpu);
    bank_slots::<f16>(gpu);
    bank_slots::<bf16>(gpu);
}

/// Warp instructions of the choice and of a sweep that only forms the loss.
fn instructions(gpu: &Gpu, emulator: &Emulator, case: &Case<f32>, kept: usize) -> [f64; 2] {
    let inputs = OnDevice::new(&gpu.device, case);
    let batch = inputs.batch(false, false);
    emulator.clear();
    mined(&gpu.device, &plain(kept), &batch).unwrap();
    let config = LossConfig::new(TEMPERATURE).unwrap();
    InBatchLoss::new(&gpu.device, config).unwrap().evaluate(&batch).unwrap().loss().unwrap();
    let runs = emulator.kernels();
    let of = |prefix: &str| {
        let runs = runs.iter().filter(|run| run.name.starts_with(prefix));
        runs.map(|run| run.warp_instructions).sum::<u64>() as f64
    };
    [of("hard_negatives"), of("stream_loss")]
}

/// Of many columns few get past the first comparison, and those that do go into the list by 32: what is not the scores' is a
/// fraction of them. (Put into the list one by one, 128 would cost twice as much.)
#[test]
fn choosing_costs_little_beside_scores() {
    let gpu = gpu();
    let Some(emulator) = gpu.emulator else {
        return println!("SKIPPED: only the emulator counts instructions");
    };
    let case = Case::<f32>::random((64, 4096, 0, 64, 0), 3);
    for (kept, most) in [(10, 1.6), (128, 2.7)] {
        let [choice, loss] = instructions(&gpu, &emulator, &case, kept);
        println!("k = {kept}: {choice} warp instructions, {loss} of the loss alone");
        assert!(choice < most * loss, "k = {kept}: {choice} is more than {most} times {loss}");
    }
}
