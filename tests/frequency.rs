//! The frequency estimators: formulas, statistics on a Zipf stream, checkpoints, bad input.

use inbatch::cpu::{FrequencyCounter, FrequencyEstimator};
use inbatch::frequency::{CounterSnapshot, FrequencyConfig, Snapshot};
use inbatch::{Error, LossConfig, cpu};

fn log_q(frequency: &FrequencyEstimator, ids: &[i64]) -> Vec<f32> {
    let mut log_q = vec![f32::NAN; ids.len()];
    frequency.log_q(ids, &mut log_q).unwrap();
    log_q
}

#[test]
fn the_moving_mean_by_hand() {
    let mut frequency = FrequencyEstimator::new(FrequencyConfig::direct(4, 0.25).unwrap()).unwrap();
    let mut out = [f32::NAN; 3];
    // Step 1: from A = 0, B = 100 to B = 75 + 0.25. Three sightings in one batch are one.
    frequency.step(&[2, 2, 2], &mut out).unwrap();
    assert_eq!(out, [-75.25f32.ln(); 3]);
    frequency.update(&[0; 0]).unwrap();
    frequency.update(&[1]).unwrap();
    // Step 4: three steps after the first.
    frequency.update(&[1, 2, 1]).unwrap();
    assert_eq!(frequency.steps(), 4);
    let expected = [100.0f32, 0.75 * (0.75 * 100.0 + 0.25 * 3.0) + 0.25, 0.75 * 75.25 + 0.25 * 3.0];
    assert_eq!(log_q(&frequency, &[0, 1, 2]), expected.map(|b| -b.ln()));
    assert_eq!(frequency.snapshot().last_step, [0, 4, 4, 0]);
}

#[test]
fn the_last_interval_clipped() {
    let mut frequency = FrequencyEstimator::new(FrequencyConfig::last_interval(3).unwrap()).unwrap();
    for step in 1..=2500 {
        let mut ids = vec![0];
        ids.extend((step % 7 == 0).then_some(1));
        ids.extend((step == 2500).then_some(2));
        frequency.update(&ids).unwrap();
    }
    // Every step; every seventh; once in 2500 steps, which counts as 1000.
    assert_eq!(log_q(&frequency, &[0, 1, 2]), [1.0f32, 7.0, 1000.0].map(|b| -b.ln()));
}

#[test]
fn start_value_and_seed() {
    let config = FrequencyConfig::hashed(64, 2, 0.1).unwrap().start_interval(10.0).unwrap();
    let frequency = FrequencyEstimator::new(config).unwrap();
    assert_eq!(log_q(&frequency, &[i64::MIN, -1, 0, i64::MAX]), [-10f32.ln(); 4]);
    let cells = |seed| {
        let mut frequency = FrequencyEstimator::new(config.seed(seed)).unwrap();
        frequency.update(&[1, 2, 3, 4, 5]).unwrap();
        frequency.snapshot().last_step
    };
    assert_eq!(cells(1), cells(1));
    assert_ne!(cells(1), cells(2));
    // Each table has its own hash function.
    assert_ne!(cells(1)[..64], cells(1)[64..]);
}

/// Item k of a Zipf law of exponent 1 over `items`, by inversion.
fn zipf(cumulative: &[f64], random: &mut fastrand::Rng) -> i64 {
    let u = random.f64() * cumulative[cumulative.len() - 1];
    cumulative.partition_point(|c| *c <= u) as i64
}

/// The probability that a batch of `batch` draws contains each item, and an estimator after `steps` such batches.
fn simulated(config: FrequencyConfig, items: usize, batch: usize, steps: usize) -> (Vec<f64>, Vec<f64>) {
    let mut cumulative = vec![0.0; items];
    let mut sum = 0.0;
    for (k, c) in cumulative.iter_mut().enumerate() {
        sum += 1.0 / (k + 1) as f64;
        *c = sum;
    }
    let truth = (0..items).map(|k| 1.0 - (1.0 - 1.0 / (k + 1) as f64 / sum).powi(batch as i32)).collect();
    let mut random = fastrand::Rng::with_seed(2019);
    let mut frequency = FrequencyEstimator::new(config).unwrap();
    for _ in 0..steps {
        let ids: Vec<i64> = (0..batch).map(|_| zipf(&cumulative, &mut random)).collect();
        frequency.update(&ids).unwrap();
    }
    let ids: Vec<i64> = (0..items as i64).collect();
    let found = log_q(&frequency, &ids).iter().map(|log_q| f64::from(*log_q).exp()).collect();
    (truth, found)
}

/// The mean of |B - 1/p| p over items that were seen often enough for their mean to have settled.
fn interval_error(truth: &[f64], found: &[f64], steps: usize, learning_rate: f64) -> f64 {
    let settled = |p: f64| p * steps as f64 * learning_rate > 5.0;
    let errors: Vec<f64> = truth
        .iter()
        .zip(found)
        .filter(|(p, _)| settled(**p))
        .map(|(p, q)| ((1.0 / q - 1.0 / p) * p).abs())
        .collect();
    assert!(errors.len() >= 100, "{} items have settled", errors.len());
    errors.iter().sum::<f64>() / errors.len() as f64
}

/// Intervals are geometric, so a mean with learning rate a has a relative standard deviation of at most
/// sqrt(a / (2 - a)), and a mean absolute error of 0.8 times that.
#[test]
fn intervals_on_a_zipf_stream() {
    let (items, batch, steps) = (2000, 128, 20_000);
    for learning_rate in [0.05f32, 0.01] {
        let config = FrequencyConfig::direct(items, learning_rate).unwrap();
        let (truth, found) = simulated(config, items, batch, steps);
        let rate = f64::from(learning_rate);
        let error = interval_error(&truth, &found, steps, rate);
        let expected = 0.8 * (rate / (2.0 - rate)).sqrt();
        assert!(
            error < 1.1 * expected && error > 0.3 * expected,
            "rate {rate}: {error}, expected {expected}"
        );
    }
}

/// In tables half the size of the catalogue nearly every item shares its bucket; several hash functions repair
/// most of what that does.
#[test]
fn several_hash_functions_repair_collisions() {
    let (items, batch, steps) = (2000, 128, 8000);
    let error = |hashes| {
        let config = FrequencyConfig::hashed(1000, hashes, 0.02).unwrap().seed(5);
        let (truth, found) = simulated(config, items, batch, steps);
        interval_error(&truth, &found, steps, 0.02)
    };
    let (one, five) = (error(1), error(5));
    println!("mean relative error of the interval: 1 hash {one:.3}, 5 hashes {five:.3}");
    assert!(five < 0.5 * one, "{one} {five}");
}

#[test]
fn exact_counts() {
    let mut counter = FrequencyCounter::new(5).unwrap();
    let mut out = [f32::NAN; 4];
    counter.step(&[3, 1, 3, 3], &mut out).unwrap();
    // Four draws: 3 of 4 are item 3, so three are expected.
    assert_eq!(out, [3.0f32.ln(), 0.0, 3.0f32.ln(), 3.0f32.ln()]);
    counter.restore(&CounterSnapshot { counts: vec![1, 0, 3, 96, 0] }).unwrap();
    let mut out = [f32::NAN; 3];
    counter.log_q(1, &[3, 1, 0], &mut out).unwrap();
    assert_eq!(out, [0.96f64, 0.01, 0.01].map(|q| q.ln() as f32));
    counter.log_q(50, &[3, 1, 0], &mut out).unwrap();
    assert_eq!(out, [48f64, 0.5, 0.5].map(|q| q.ln() as f32));
    assert_eq!(counter.snapshot().counts, [1, 0, 3, 96, 0]);
}

/// The estimate goes into the loss as it is.
#[test]
fn into_the_loss() {
    let mut frequency = FrequencyEstimator::new(FrequencyConfig::hashed(100, 2, 0.1).unwrap()).unwrap();
    let (embeddings, ids) = ([0.5f32, 0.25, -0.5, 1.0], [4, 9]);
    let mut log_q = [f32::NAN; 2];
    frequency.update(&[9]).unwrap();
    frequency.step(&ids, &mut log_q).unwrap();
    let batch = cpu::Batch::new(&embeddings, &embeddings, 2);
    let mut loss = cpu::InBatchLoss::new(LossConfig::new(1.0).unwrap()).unwrap();
    let without = loss.evaluate(&batch).unwrap().loss().unwrap();
    let with = loss.evaluate(&batch.log_q(&log_q)).unwrap().loss().unwrap();
    assert!(with.is_finite() && with != without);
}

fn estimator() -> FrequencyEstimator {
    let mut frequency = FrequencyEstimator::new(FrequencyConfig::hashed(7, 2, 0.1).unwrap()).unwrap();
    frequency.update(&[1, 2, 3]).unwrap();
    frequency.update(&[3, 4]).unwrap();
    frequency
}

#[test]
fn checkpoints_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frequency.safetensors");
    let mut saved = estimator();
    saved.save(&path).unwrap();
    let mut loaded = FrequencyEstimator::new(*saved.config()).unwrap();
    loaded.load(&path).unwrap();
    assert_eq!(loaded.snapshot(), saved.snapshot());
    let (mut a, mut b) = ([0.0; 3], [1.0; 3]);
    saved.step(&[2, 9, 4], &mut a).unwrap();
    loaded.step(&[2, 9, 4], &mut b).unwrap();
    assert_eq!(a, b);

    let mut counter = FrequencyCounter::new(3).unwrap();
    counter.update(&[0, 2, 2]).unwrap();
    counter.snapshot().save(&path).unwrap();
    assert_eq!(CounterSnapshot::load(&path).unwrap().counts, [1, 0, 2]);
    // One is not the other.
    assert!(matches!(Snapshot::load(&path), Err(Error::Checkpoint { .. })));
    assert!(matches!(Snapshot::load(folder.path().join("none")), Err(Error::CheckpointIo { .. })));
}

#[test]
fn damaged_and_foreign_checkpoints_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frequency");
    let mut victim = estimator();
    let before = victim.snapshot();
    victim.save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut refuse = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = victim.load(&path).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{what}: {error}");
        assert_eq!(victim.snapshot(), before, "{what}");
    };
    for cut in [0, 8, whole.len() / 2, whole.len() - 1] {
        refuse(&whole[..cut], "a truncated file");
    }
    for (from, to) in [
        ("inbatch.frequency_estimator", "another.frequency_estimator"),
        ("\"version\":\"1\"", "\"version\":\"9\""),
        ("\"step\":\"2\"", "\"step\":\"1\""),
        ("\"buckets\":\"7\"", "\"buckets\":\"8\""),
        ("\"direct\":\"false\"", "\"direct\":\"folse\""),
    ] {
        let at = whole.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        refuse(&bytes, from);
    }
    let others = [
        FrequencyConfig::hashed(8, 2, 0.1).unwrap(),
        FrequencyConfig::hashed(7, 3, 0.1).unwrap(),
        FrequencyConfig::hashed(7, 2, 0.1).unwrap().seed(1),
        FrequencyConfig::direct(7, 0.1).unwrap(),
    ];
    for config in others {
        let mut other = FrequencyEstimator::new(config).unwrap();
        assert!(matches!(other.restore(&before), Err(Error::Snapshot(_))), "{config:?}");
    }
    let negative = Snapshot { interval: vec![-1.0; 14], ..before.clone() };
    assert!(matches!(victim.restore(&negative), Err(Error::Snapshot(_))));
    let mut counter = FrequencyCounter::new(3).unwrap();
    let large = CounterSnapshot { counts: vec![u64::MAX, 1, 0] };
    assert!(matches!(counter.restore(&large), Err(Error::TooLarge { .. })));
    assert!(matches!(counter.restore(&CounterSnapshot { counts: vec![1; 4] }), Err(Error::Snapshot(_))));
}

#[test]
fn bad_configurations() {
    for bad in [0.0, -0.1, 1.1, f32::NAN] {
        assert!(matches!(FrequencyConfig::direct(3, bad), Err(Error::LearningRate(_))), "{bad}");
    }
    assert!(matches!(FrequencyConfig::direct(0, 0.1), Err(Error::NoBuckets { .. })));
    assert!(matches!(FrequencyConfig::hashed(3, 0, 0.1), Err(Error::NoBuckets { .. })));
    assert!(matches!(FrequencyConfig::hashed(3, 17, 0.1), Err(Error::TooLarge { .. })));
    assert!(matches!(FrequencyConfig::hashed(usize::MAX, 2, 0.1), Err(Error::TooLarge { .. })));
    assert!(matches!(FrequencyCounter::new(0), Err(Error::NoBuckets { .. })));
    let config = FrequencyConfig::direct(3, 0.1).unwrap();
    for bad in [0.5, f32::NAN, f32::INFINITY] {
        assert!(matches!(config.start_interval(bad), Err(Error::Interval { .. })), "{bad}");
    }
    for (low, high) in [(0.0, 1.0), (2.0, 1.0), (1.0, f32::INFINITY), (f32::NAN, 1.0)] {
        assert!(matches!(config.clip(low, high), Err(Error::Interval { .. })), "{low} {high}");
    }
    let huge = FrequencyEstimator::new(FrequencyConfig::hashed(1 << 40, 16, 0.1).unwrap());
    assert!(matches!(huge, Err(Error::OutOfMemory { .. })));
}

#[test]
fn bad_calls_change_nothing() {
    let mut frequency = FrequencyEstimator::new(FrequencyConfig::direct(3, 0.1).unwrap()).unwrap();
    frequency.update(&[1]).unwrap();
    let before = frequency.snapshot();
    let mut out = [f32::NAN; 2];
    for bad in [-1, 3, i64::MAX] {
        assert!(
            matches!(frequency.step(&[0, bad], &mut out), Err(Error::UnknownId { size: 3, .. })),
            "{bad}"
        );
        assert!(matches!(frequency.log_q(&[0, bad], &mut out), Err(Error::UnknownId { .. })), "{bad}");
    }
    assert!(matches!(frequency.step(&[0], &mut out), Err(Error::Length { what: "log_q", .. })));
    assert!(matches!(frequency.set_steps(0), Err(Error::StepBackwards { given: 0, current: 1 })));
    assert_eq!(frequency.snapshot(), before);
    assert!(out.iter().all(|x| x.is_nan()));
    frequency.set_steps(41).unwrap();
    frequency.update(&[2]).unwrap();
    assert_eq!(frequency.snapshot().last_step, [0, 1, 42]);

    let mut counter = FrequencyCounter::new(3).unwrap();
    assert!(matches!(counter.step(&[0, 3], &mut out), Err(Error::UnknownId { .. })));
    assert!(matches!(counter.step(&[0], &mut out), Err(Error::Length { .. })));
    assert_eq!(counter.snapshot().counts, [0; 3]);
}
