//! Samplers: probabilities, chi-square tests with fixed seeds, expected counts, mixtures, bad input.

use inbatch::cpu::{DownSampler, Pool, Sampler, mixed_log_q};
use inbatch::sampling::{DownSampling, SamplerConfig};
use inbatch::{Error, LossConfig, cpu};

fn uniform(range: u64) -> SamplerConfig {
    SamplerConfig::uniform(range).unwrap()
}

fn log_uniform(range: u64) -> SamplerConfig {
    SamplerConfig::log_uniform(range).unwrap()
}

fn unigram(weights: &[f64], distortion: f64, reserved: u64) -> SamplerConfig {
    SamplerConfig::unigram(weights, distortion, reserved).unwrap()
}

fn sample(sampler: &mut Sampler, count: usize) -> (Vec<i64>, Vec<f32>) {
    let (mut ids, mut log_q) = (vec![-7; count], vec![f32::NAN; count]);
    sampler.sample(&mut ids, &mut log_q).unwrap();
    (ids, log_q)
}

#[test]
fn probabilities_by_their_formulas() {
    let close = |config: &SamplerConfig, id, p: f64| {
        let found = config.probability(id);
        assert!((found - p).abs() <= 1e-14 * p, "{id}: {found} {p}");
    };
    close(&uniform(7), 6, 1.0 / 7.0);
    for k in [0, 1, 100, 9999] {
        let p = ((k + 2) as f64 / (k + 1) as f64).ln() / 10_001f64.ln();
        let found = log_uniform(10_000).probability(k);
        assert!((found - p).abs() <= 1e-11 * p, "{k}: {found} {p}");
    }
    let weights = [4.0, 0.0, 9.0, 1.0];
    let config = unigram(&weights, 0.5, 2);
    assert_eq!(config.range(), 6);
    for (id, p) in [(0, 0.0), (1, 0.0), (2, 2.0 / 6.0), (3, 0.0), (4, 3.0 / 6.0), (5, 1.0 / 6.0)] {
        close(&config, id, p);
    }
    close(&unigram(&weights, 0.0, 0), 3, 1.0 / 3.0);
    close(&unigram(&[1e300, 3e300], 1.0, 0), 1, 0.75);
    for config in [uniform(7), log_uniform(1000), unigram(&weights, 1.0, 3)] {
        let sum: f64 = (0..config.range() as i64).map(|k| config.probability(k)).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        assert_eq!((config.probability(-1), config.probability(config.range() as i64)), (0.0, 0.0));
    }
}

/// Pearson's statistic against its mean and deviation under the law: (k - 1) and sqrt(2 (k - 1)).
fn chi_square(config: SamplerConfig, draws: usize) {
    let name = format!("{config:?}").chars().take(60).collect::<String>();
    let mut counts = vec![0u64; config.range() as usize];
    let mut sampler = Sampler::new(config.clone().seed(2026), draws / 4).unwrap();
    for _ in 0..4 {
        sample(&mut sampler, draws / 4).0.iter().for_each(|id| counts[*id as usize] += 1);
    }
    let (mut statistic, mut cells) = (0.0, 0);
    for (id, count) in counts.iter().enumerate() {
        let expected = draws as f64 * config.probability(id as i64);
        if expected == 0.0 {
            assert_eq!(*count, 0, "{name}: id {id} has probability 0");
            continue;
        }
        assert!(expected >= 5.0, "{name}: too few draws for id {id}");
        statistic += (*count as f64 - expected).powi(2) / expected;
        cells += 1;
    }
    let freedom = f64::from(cells - 1);
    let deviations = (statistic - freedom) / (2.0 * freedom).sqrt();
    assert!(deviations.abs() < 3.5, "{name}: {deviations} standard deviations off");
}

#[test]
fn draws_follow_their_law() {
    chi_square(uniform(97), 40_000);
    chi_square(uniform(1000), 100_000);
    chi_square(log_uniform(97), 100_000);
    chi_square(log_uniform(2000), 400_000);
    let weights: Vec<f64> = (0..300).map(|k| f64::from((k * 7919) % 301)).collect();
    chi_square(unigram(&weights, 0.75, 5), 200_000);
    chi_square(unigram(&weights, 0.0, 0), 200_000);
    chi_square(unigram(&[1.0, 1e-3, 0.0, 3.0], 1.0, 0), 100_000);
}

/// Without replacement the ids differ; how often each is in the sample agrees with the expected counts.
#[test]
fn expected_counts_of_unique_samples() {
    let weights: Vec<f64> = (1..=40).map(f64::from).collect();
    for config in [uniform(40), log_uniform(40), unigram(&weights, 1.0, 3)] {
        let range = config.range() as usize;
        let (samples, count) = (20_000, 10);
        let mut sampler = Sampler::new(config.without_replacement().seed(1), count).unwrap();
        let (mut seen, mut expected) = (vec![0.0; range], vec![0.0; range]);
        let all: Vec<i64> = (0..range as i64).collect();
        let mut log_q = vec![f32::NAN; range];
        for _ in 0..samples {
            let (ids, own) = sample(&mut sampler, count);
            sampler.log_q(&all, &mut log_q).unwrap();
            for (id, own) in ids.iter().zip(own) {
                seen[*id as usize] += 1.0 / f64::from(samples);
                assert_eq!(own, log_q[*id as usize]);
            }
            assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), count);
            assert!(sampler.tries() >= count as u64);
            for (expected, log_q) in expected.iter_mut().zip(&log_q) {
                *expected += f64::from(*log_q).exp() / f64::from(samples);
            }
        }
        // The formula treats the number of draws as if it did not depend on what they brought, which here is off by 1.5%
        // for the most frequent id; the rest is chance.
        for (id, (seen, expected)) in seen.iter().zip(&expected).enumerate() {
            let deviation = (expected * (1.0 - expected) / f64::from(samples)).sqrt();
            assert!((seen - expected).abs() <= 0.02 * expected + 4.0 * deviation, "{id}: {seen} {expected}");
        }
    }
}

#[test]
fn expected_counts_with_replacement() {
    let mut sampler = Sampler::new(log_uniform(50).seed(3), 200).unwrap();
    let (ids, log_q) = sample(&mut sampler, 200);
    for (id, log_q) in ids.iter().zip(log_q) {
        let expected = (200.0 * sampler.config().probability(*id)).ln() as f32;
        assert!(
            (log_q - expected).abs() <= 2.0 * f32::EPSILON * expected.abs().max(1.0),
            "{log_q} {expected}"
        );
    }
    assert_eq!((sampler.calls(), sampler.tries()), (1, 200));
}

/// Every id, however many draws that takes; and a law of one id.
#[test]
fn samples_of_everything() {
    for config in [uniform(64), log_uniform(64), unigram(&[3.0, 0.0, 1.0, 2.0], 1.0, 1)] {
        let ids = if config.range() == 64 { 64 } else { 3 };
        let mut sampler = Sampler::new(config.without_replacement(), ids).unwrap();
        let (mut found, log_q) = sample(&mut sampler, ids);
        found.sort_unstable();
        let expected: Vec<i64> = if ids == 64 { (0..64).collect() } else { vec![1, 3, 4] };
        assert_eq!(found, expected);
        assert!(log_q.iter().all(|log_q| *log_q <= 0.0 && *log_q > -0.7), "{log_q:?}");
    }
    let mut one = Sampler::new(log_uniform(1).without_replacement(), 1).unwrap();
    assert_eq!(sample(&mut one, 1), (vec![0], vec![0.0]));
}

#[test]
fn seeds_and_calls() {
    for config in [uniform(1 << 40), uniform(1 << 30).without_replacement()] {
        let mut a = Sampler::new(config.clone().seed(5), 50).unwrap();
        let mut b = Sampler::new(config.clone().seed(5), 50).unwrap();
        let mut c = Sampler::new(config.seed(6), 50).unwrap();
        let first = sample(&mut a, 50);
        assert_eq!(first, sample(&mut b, 50));
        assert_ne!(first.0, sample(&mut c, 50).0);
        let second = sample(&mut a, 50);
        assert_ne!(first.0, second.0);
        // As after a restart.
        b.set_calls(1);
        assert_eq!(sample(&mut b, 50), second);
    }
}

#[test]
fn bad_laws_and_samplers() {
    assert!(matches!(SamplerConfig::uniform(0), Err(Error::SamplingRange { .. })));
    assert!(matches!(SamplerConfig::log_uniform((1 << 40) + 1), Err(Error::SamplingRange { .. })));
    assert!(matches!(SamplerConfig::unigram(&[1.0], 1.0, u64::MAX), Err(Error::SamplingRange { .. })));
    for (weights, index) in [([1.0, -1.0], 1), ([f64::NAN, 1.0], 0), ([1.0, f64::INFINITY], 1)] {
        let found = SamplerConfig::unigram(&weights, 1.0, 0);
        assert!(matches!(found, Err(Error::Weight { index: at, .. }) if at == index), "{weights:?}");
    }
    assert!(matches!(SamplerConfig::unigram(&[1.0, 1e300], 2.0, 0), Err(Error::Weight { index: 1, .. })));
    assert!(matches!(SamplerConfig::unigram(&[1.0], f64::NAN, 0), Err(Error::Distortion(_))));
    for weights in [&[][..], &[0.0, 0.0]] {
        assert!(matches!(SamplerConfig::unigram(weights, 1.0, 3), Err(Error::NoWeight { .. })));
    }
    // Each weight is fine, its power is 0.
    assert!(
        matches!(SamplerConfig::unigram(&[1e-200; 2], 2.0, 0), Err(Error::NoWeight { distortion }) if distortion == 2.0)
    );

    assert!(matches!(Sampler::new(uniform(5), 0), Err(Error::NoSamples)));
    assert!(matches!(Sampler::new(uniform(5), 1 << 31), Err(Error::TooLarge { .. })));
    let unique = |config: SamplerConfig, count| Sampler::new(config.without_replacement(), count);
    assert!(matches!(unique(uniform(5), 6), Err(Error::TooManyUnique { num_sampled: 6, available: 5 })));
    let reserved = unigram(&[1.0, 0.0, 2.0], 1.0, 9);
    assert!(matches!(unique(reserved, 3), Err(Error::TooManyUnique { num_sampled: 3, available: 2 })));
    assert!(matches!(unique(unigram(&[1.0, 1e-30], 1.0, 0), 2), Err(Error::TooManyDraws { .. })));
    assert!(unique(uniform(5), 5).is_ok());

    let mut sampler = Sampler::new(uniform(5), 3).unwrap();
    let (mut ids, mut log_q) = ([-7; 3], [f32::NAN; 2]);
    assert!(matches!(sampler.sample(&mut ids, &mut log_q), Err(Error::Length { what: "log_q", .. })));
    assert!(matches!(sampler.sample(&mut ids[..2], &mut log_q), Err(Error::Length { what: "ids", .. })));
    assert!(matches!(sampler.log_q(&ids, &mut log_q), Err(Error::Length { .. })));
    for bad in [-1, 5] {
        assert!(matches!(sampler.log_q(&[0, bad], &mut log_q), Err(Error::UnknownId { size: 5, .. })));
    }
    assert_eq!((ids, sampler.calls()), ([-7; 3], 0));
}

#[test]
fn mixtures_by_hand() {
    // 6 columns of the batch, 2 drawn uniformly from 4 ids.
    let batch = [0.5f32, 0.25, 0.125, 0.0].map(f32::ln);
    let expected_uniform = [0.5f32; 4].map(f32::ln);
    let pools = [Pool::probabilities(6, &batch), Pool::expected_counts(2, &expected_uniform)];
    let mut mixed = [f32::NAN; 4];
    mixed_log_q(&pools, &mut mixed).unwrap();
    for (found, q) in mixed.iter().zip([0.5, 0.25, 0.125, 0.0]) {
        let expected = ((6.0 * q + 2.0 * 0.25) / 8.0f64).ln();
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} {expected}");
    }
    // A single pool is itself, also where numbers are extreme; a pool of no columns changes nothing.
    let log_q = [-1e30f32, -800.0, 3.5, f32::NEG_INFINITY];
    let garbage = [f32::NAN; 4];
    mixed_log_q(&[Pool::probabilities(3, &log_q), Pool::probabilities(0, &garbage)], &mut mixed).unwrap();
    assert_eq!(mixed, log_q);
    mixed_log_q(&[Pool::probabilities(3, &log_q), Pool::probabilities(1, &garbage)], &mut mixed).unwrap();
    assert!(mixed.iter().all(|log_q| log_q.is_nan()));

    let pool = || Pool::probabilities(3, &log_q);
    assert!(matches!(mixed_log_q(&[], &mut mixed), Err(Error::NoPools)));
    assert!(matches!(mixed_log_q(&[Pool::probabilities(0, &log_q)], &mut mixed), Err(Error::NoPools)));
    assert!(matches!(mixed_log_q(&[pool()], &mut mixed[..3]), Err(Error::Length { .. })));
    let nine: Vec<_> = (0..9).map(|_| pool()).collect();
    assert!(matches!(mixed_log_q(&nine, &mut mixed), Err(Error::TooLarge { .. })));
}

/// Mixed negatives from two pools side by side in one extra buffer equal those of one pool that holds both.
#[test]
fn pools_are_slices_of_one_extra_buffer() {
    let mut random = fastrand::Rng::with_seed(8);
    let (dim, rows, catalogue) = (6, 5, 30usize);
    let table: Vec<f32> = (0..catalogue * dim).map(|_| random.f32() - 0.5).collect();
    let users: Vec<f32> = (0..rows * dim).map(|_| random.f32() - 0.5).collect();
    let batch_ids: Vec<i64> = (0..rows).map(|_| random.i64(0..30)).collect();
    let popularity: Vec<f64> = (0..catalogue).map(|k| 1.0 / (k + 1) as f64).collect();
    let embed = |ids: &[i64]| -> Vec<f32> {
        ids.iter().flat_map(|id| table[*id as usize * dim..][..dim].to_vec()).collect()
    };

    // Four uniform negatives, then three popular ones, in one buffer of ids.
    let mut uniform = Sampler::new(uniform(30).seed(1), 4).unwrap();
    let mut popular = Sampler::new(unigram(&popularity, 1.0, 0).seed(2), 3).unwrap();
    let mut ids = [batch_ids.clone(), vec![0; 7]].concat();
    let mut own = [f32::NAN; 4];
    uniform.sample(&mut ids[rows..rows + 4], &mut own).unwrap();
    popular.sample(&mut ids[rows + 4..], &mut own[..3]).unwrap();
    // Each pool's say on every column.
    let mut counts = vec![0.0; catalogue];
    batch_ids.iter().for_each(|id| counts[*id as usize] += 1.0 / rows as f32);
    let by_batch: Vec<f32> = ids.iter().map(|id| counts[*id as usize].ln()).collect();
    let (mut by_uniform, mut by_popular) = (vec![0.0; ids.len()], vec![0.0; ids.len()]);
    uniform.log_q(&ids, &mut by_uniform).unwrap();
    popular.log_q(&ids, &mut by_popular).unwrap();
    let mut log_q = vec![f32::NAN; ids.len()];
    let pools = [
        Pool::probabilities(rows, &by_batch),
        Pool::expected_counts(4, &by_uniform),
        Pool::expected_counts(3, &by_popular),
    ];
    mixed_log_q(&pools, &mut log_q).unwrap();
    for (column, id) in ids.iter().enumerate() {
        let q = f64::from(counts[*id as usize]);
        let q =
            (rows as f64 * q + 4.0 / 30.0 + 3.0 * popular.config().probability(*id)) / (rows as f64 + 7.0);
        assert!((f64::from(log_q[column]) - q.ln()).abs() < 1e-5, "{column}: {} {}", log_q[column], q.ln());
    }

    let config = LossConfig::new(0.2).unwrap().exclude_same_item(true);
    let (items, extra) = (embed(&batch_ids), embed(&ids[rows..]));
    let mut loss = cpu::InBatchLoss::new(config).unwrap();
    let mut value = |order: &[usize]| {
        let pick = |k: usize| extra[k * dim..][..dim].to_vec();
        let extra: Vec<f32> = order.iter().flat_map(|k| pick(*k)).collect();
        let extra_log_q: Vec<f32> = order.iter().map(|k| log_q[rows + k]).collect();
        let extra_ids: Vec<i64> = order.iter().map(|k| ids[rows + k]).collect();
        let extra = cpu::Items::new(&extra).log_q(&extra_log_q).item_ids(&extra_ids);
        let batch =
            cpu::Batch::new(&users, &items, dim).log_q(&log_q[..rows]).item_ids(&batch_ids).extra(extra);
        loss.evaluate(&batch).unwrap().loss().unwrap()
    };
    let (ab, ba) = (value(&[0, 1, 2, 3, 4, 5, 6]), value(&[4, 5, 6, 0, 1, 2, 3]));
    assert!((ab - ba).abs() <= 1e-6 * ab.abs(), "{ab} {ba}");
}

#[test]
fn down_sampling() {
    // word2vec's program: (sqrt(f / t) + 1) t / f.
    let config = DownSampling::new(1e-4).unwrap();
    let p = config.keep_probability(0.01f64.ln());
    assert!((p - (10.0 + 1.0) / 100.0).abs() < 1e-14, "{p}");
    let keep = |share: f64| config.keep_probability(share.ln());
    assert_eq!((keep(1e-4), keep(0.0), keep(1e-300)), (1.0, 1.0, 1.0));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(DownSampling::new(bad), Err(Error::Threshold(_))));
    }
    let shares = vec![0.01f32.ln(); 20_000];
    let mut weights = vec![f32::NAN; 20_000];
    let mut sampler = DownSampler::new(config.seed(1));
    sampler.weights(&shares, &mut weights).unwrap();
    assert!(weights.iter().all(|weight| *weight == 0.0 || *weight == 1.0));
    let kept = f64::from(weights.iter().sum::<f32>());
    assert!((kept - 20_000.0 * p).abs() < 4.0 * (20_000.0 * p * (1.0 - p)).sqrt(), "{kept}");
    // Another call draws anew, a restart goes on.
    let mut again = vec![f32::NAN; 20_000];
    sampler.weights(&shares, &mut again).unwrap();
    assert_ne!(weights, again);
    let mut restarted = DownSampler::new(config.seed(1));
    restarted.set_calls(sampler.calls() - 1);
    restarted.weights(&shares, &mut weights).unwrap();
    assert_eq!(weights, again);
    // A share that is not known shows in the loss.
    sampler.weights(&[f32::NAN, f32::NEG_INFINITY], &mut weights[..2]).unwrap();
    assert!(weights[0].is_nan() && weights[1] == 1.0);
    assert!(matches!(sampler.weights(&[0.0; 3], &mut weights), Err(Error::Length { what: "weights", .. })));
}
