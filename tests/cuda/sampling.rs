//! Samplers and mixtures on the device: the ids and the bits of the CPU, in a graph too.

use std::collections::HashSet;

use inbatch::cuda::cudarc::driver::CudaContext;
use inbatch::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use inbatch::cuda::{self, Device, DownSampler, FrequencyCounter, Pool, Sampler, mixed_log_q};
use inbatch::sampling::{DownSampling, SamplerConfig};
use inbatch::{Error, LossConfig, cpu};

use crate::support::{Gpu, Random, bits, gpu};

const POISON: f32 = f32::from_bits(0x7fff_dead);

fn laws() -> Vec<SamplerConfig> {
    let weights: Vec<f64> = (0..700).map(|k| f64::from((k * 7919) % 701)).collect();
    vec![
        SamplerConfig::uniform(1 << 39).unwrap(),
        SamplerConfig::uniform(900).unwrap(),
        SamplerConfig::log_uniform(900).unwrap(),
        SamplerConfig::log_uniform(1 << 33).unwrap(),
        SamplerConfig::unigram(&weights, 0.75, 3).unwrap(),
    ]
}

/// Three calls on both backends: ids, expected counts and the number of draws agree in every bit.
fn samplers_agree(gpu: &Gpu) {
    let device = &gpu.device;
    let stream = device.stream();
    let laws = laws().into_iter().flat_map(|law| [law.clone(), law.without_replacement()]);
    for (seed, config) in laws.enumerate() {
        let name: String = format!("{config:?}").chars().take(60).collect();
        let config = config.seed(0x1234_5678_9abc_def0 + seed as u64);
        for count in [1, 300, 513] {
            let mut here = Sampler::new(device, config.clone(), count).unwrap();
            let mut there = cpu::Sampler::new(config.clone(), count).unwrap();
            let mut ids_d = stream.clone_htod(&vec![-7i64; count]).unwrap();
            let mut log_q_d = stream.clone_htod(&vec![POISON; count]).unwrap();
            let (mut ids, mut log_q) = (vec![-7; count], vec![POISON; count]);
            for call in 1..=3 {
                here.sample(&mut ids_d, &mut log_q_d).unwrap();
                there.sample(&mut ids, &mut log_q).unwrap();
                let context = format!("{name}, {count} ids, call {call}");
                assert_eq!(stream.clone_dtoh(&ids_d).unwrap(), ids, "{context}");
                assert_eq!(bits(&stream.clone_dtoh(&log_q_d).unwrap()), bits(&log_q), "{context}");
                assert_eq!(
                    (here.calls().unwrap(), here.tries().unwrap()),
                    (call, there.tries()),
                    "{context}"
                );
            }
            // Any ids, among them some that are never drawn.
            let others: Vec<i64> = (0..40).chain([config.range() as i64 - 1]).collect();
            let (others_d, mut log_q) = (stream.clone_htod(&others).unwrap(), vec![POISON; others.len()]);
            let mut log_q_d = stream.clone_htod(&log_q).unwrap();
            here.log_q(&others_d, &mut log_q_d).unwrap();
            there.log_q(&others, &mut log_q).unwrap();
            assert_eq!(bits(&stream.clone_dtoh(&log_q_d).unwrap()), bits(&log_q), "{name}");
        }
    }
}

/// Mixtures of one to eight pools, -inf and NaN among them.
fn mixtures_agree(gpu: &Gpu) {
    let stream = gpu.device.stream();
    let mut random = Random(5);
    let count = 300;
    for pools in 1..=8usize {
        let log_q: Vec<Vec<f32>> = (0..pools)
            .map(|k| {
                let mut values = random.floats(count, -30.0, 3.0);
                values[k] = f32::NAN;
                (10..20).for_each(|at| values[at] = f32::NEG_INFINITY);
                // So far apart that only the largest may be the reference.
                (20..40).for_each(|at| values[at] *= 60.0);
                values
            })
            .collect();
        let draws: Vec<usize> = (0..pools).map(|k| if k == 3 { 0 } else { 10 * k + 1 }).collect();
        let on_device: Vec<_> = log_q.iter().map(|values| stream.clone_htod(values).unwrap()).collect();
        let mut mixed_d = stream.clone_htod(&vec![POISON; count]).unwrap();
        let mut mixed = vec![POISON; count];
        let here: Vec<_> =
            on_device.iter().zip(&draws).map(|(values, n)| Pool::probabilities(*n, values)).collect();
        let there: Vec<_> =
            log_q.iter().zip(&draws).map(|(values, n)| cpu::Pool::probabilities(*n, values)).collect();
        mixed_log_q(&gpu.device, &here, &mut mixed_d).unwrap();
        cpu::mixed_log_q(&there, &mut mixed).unwrap();
        let found = stream.clone_dtoh(&mixed_d).unwrap();
        for (column, (found, expected)) in found.iter().zip(&mixed).enumerate() {
            let same = found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
            assert!(same, "{pools} pools, column {column}: {found} {expected}");
        }
        assert!(mixed[0].is_nan() && mixed[12] == f32::NEG_INFINITY && mixed[100].is_finite());
    }
}

/// Weights of 1 and 0, call by call.
fn down_samplers_agree(gpu: &Gpu) {
    let stream = gpu.device.stream();
    let config = DownSampling::new(1e-3).unwrap().seed(77);
    let mut here = DownSampler::new(&gpu.device, config).unwrap();
    let mut there = cpu::DownSampler::new(config);
    let mut shares = Random(6).floats(700, -14.0, 0.0);
    shares[3] = f32::NAN;
    let shares_d = stream.clone_htod(&shares).unwrap();
    for call in 1..=3 {
        let mut weights = vec![POISON; shares.len()];
        let mut weights_d = stream.clone_htod(&weights).unwrap();
        here.weights(&shares_d, &mut weights_d).unwrap();
        there.weights(&shares, &mut weights).unwrap();
        let mut found = stream.clone_dtoh(&weights_d).unwrap();
        assert!(found[3].is_nan() && weights[3].is_nan());
        (found[3], weights[3]) = (0.0, 0.0);
        assert_eq!(bits(&found), bits(&weights), "call {call}");
        assert!(weights.contains(&0.0) && weights.contains(&1.0));
        assert_eq!((here.calls().unwrap(), there.calls()), (call, call));
        here.set_calls(call).unwrap();
    }
    let mut short = stream.clone_htod(&[POISON]).unwrap();
    assert!(matches!(here.weights(&shares_d, &mut short), Err(Error::Length { what: "weights", .. })));
}

/// Each kernel of sampling.cu, compared with the CPU.
pub(crate) fn every_kernel(gpu: &Gpu) {
    samplers_agree(gpu);
    mixtures_agree(gpu);
    down_samplers_agree(gpu);
}

#[test]
fn the_same_ids_and_bits_as_on_the_cpu() {
    every_kernel(&gpu());
}

#[test]
fn bad_mixtures() {
    let gpu = gpu();
    let stream = gpu.device.stream();
    let values = stream.clone_htod(&[0.0f32; 3]).unwrap();
    let mut mixed = stream.clone_htod(&[POISON; 2]).unwrap();
    let pools = [Pool::probabilities(1, &values)];
    assert!(matches!(mixed_log_q(&gpu.device, &pools, &mut mixed), Err(Error::Length { .. })));
    assert!(matches!(mixed_log_q(&gpu.device, &[], &mut mixed), Err(Error::NoPools)));
}

/// Every id of a small range, and a hash table that is as full as it gets.
#[test]
fn samples_of_everything() {
    everything(&gpu());
}

pub(crate) fn everything(gpu: &Gpu) {
    let stream = gpu.device.stream();
    let config = SamplerConfig::uniform(300).unwrap().without_replacement();
    let mut sampler = Sampler::new(&gpu.device, config, 300).unwrap();
    let mut ids = stream.clone_htod(&[-7i64; 300]).unwrap();
    let mut log_q = stream.clone_htod(&[POISON; 300]).unwrap();
    sampler.sample(&mut ids, &mut log_q).unwrap();
    let found: HashSet<i64> = stream.clone_dtoh(&ids).unwrap().into_iter().collect();
    assert_eq!(found, (0..300).collect());
    assert!(sampler.tries().unwrap() > 300);
}

/// Three ids of 0.29 each and a rest that is hard to meet. Their expected counts are as near to 1 as shows how exactly
/// log(1 - p) is taken, where its series is at its worst.
pub(crate) fn few_likely(gpu: &Gpu) {
    let stream = gpu.device.stream();
    let weights: Vec<f64> = [vec![0.2928; 3], vec![0.0608; 2]].concat();
    let config = SamplerConfig::unigram(&weights, 1.0, 0).unwrap().without_replacement().seed(5);
    let mut here = Sampler::new(&gpu.device, config.clone(), 5).unwrap();
    let mut there = cpu::Sampler::new(config, 5).unwrap();
    let mut ids_d = stream.clone_htod(&[-7i64; 5]).unwrap();
    let mut log_q_d = stream.clone_htod(&[POISON; 5]).unwrap();
    let (mut ids, mut log_q) = ([-7; 5], [POISON; 5]);
    for call in 1..=40 {
        here.sample(&mut ids_d, &mut log_q_d).unwrap();
        there.sample(&mut ids, &mut log_q).unwrap();
        assert_eq!(stream.clone_dtoh(&ids_d).unwrap(), ids, "call {call}");
        assert_eq!(bits(&stream.clone_dtoh(&log_q_d).unwrap()), bits(&log_q), "call {call}");
    }
}

#[test]
fn bad_calls() {
    let gpu = gpu();
    let device = &gpu.device;
    let config = SamplerConfig::uniform(5).unwrap();
    assert!(matches!(Sampler::new(device, config.clone(), 0), Err(Error::NoSamples)));
    let unique = config.clone().without_replacement();
    assert!(matches!(Sampler::new(device, unique, 6), Err(Error::TooManyUnique { .. })));
    let mut sampler = Sampler::new(device, config, 2).unwrap();
    let mut ids = device.stream().clone_htod(&[4i64, -1, 5]).unwrap();
    let mut log_q = device.stream().clone_htod(&[POISON; 3]).unwrap();
    assert!(matches!(sampler.sample(&mut ids, &mut log_q), Err(Error::Length { what: "ids", .. })));
    assert_eq!(sampler.calls().unwrap(), 0);
    sampler.set_calls(17).unwrap();
    assert_eq!(sampler.calls().unwrap(), 17);
}

/// What nobody can refuse before somebody waits is NaN.
#[test]
fn log_q_of_ids_outside_the_range() {
    ids_outside(&gpu());
}

pub(crate) fn ids_outside(gpu: &Gpu) {
    let stream = gpu.device.stream();
    let weights = [1.0, 2.0, 0.0, 3.0, 4.0];
    let unigram = SamplerConfig::unigram(&weights, 1.0, 0).unwrap();
    for config in [SamplerConfig::uniform(5).unwrap(), SamplerConfig::log_uniform(5).unwrap(), unigram] {
        let sampler = Sampler::new(&gpu.device, config, 2).unwrap();
        let ids = stream.clone_htod(&[4i64, -1, 5, i64::MIN, i64::MAX, 1 << 32]).unwrap();
        let mut log_q = stream.clone_htod(&[POISON; 6]).unwrap();
        sampler.log_q(&ids, &mut log_q).unwrap();
        let found = stream.clone_dtoh(&log_q).unwrap();
        assert!(found[0].is_finite() && found[1..].iter().all(|x| x.is_nan()), "{found:?}");
    }
}

/// Each replay of a captured sample draws what the next call would.
#[test]
fn replays_draw_new_ids() {
    let _gpu = gpu();
    let context = CudaContext::new(0).unwrap();
    // SAFETY: each buffer below is used on one stream only.
    unsafe { context.disable_event_tracking() };
    let device = Device::on_stream(context.new_stream().unwrap()).unwrap();
    let stream = device.stream().clone();
    for config in
        [SamplerConfig::log_uniform(400).unwrap(), SamplerConfig::uniform(400).unwrap().without_replacement()]
    {
        let mut sampler = Sampler::new(&device, config.clone(), 60).unwrap();
        let mut twin = cpu::Sampler::new(config, 60).unwrap();
        let mut ids_d = stream.clone_htod(&[-7i64; 60]).unwrap();
        let mut log_q_d = stream.clone_htod(&[POISON; 60]).unwrap();
        device.synchronize().unwrap();
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        sampler.sample(&mut ids_d, &mut log_q_d).unwrap();
        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().expect("a graph");
        for replay in 0..3 {
            graph.launch().unwrap();
            let (mut ids, mut log_q) = ([-7; 60], [POISON; 60]);
            twin.sample(&mut ids, &mut log_q).unwrap();
            assert_eq!(stream.clone_dtoh(&ids_d).unwrap(), ids, "replay {replay}");
            assert_eq!(bits(&stream.clone_dtoh(&log_q_d).unwrap()), bits(&log_q), "replay {replay}");
        }
    }
}

/// Mixed negatives from ids to the loss on the device: two pools in one extra buffer, log Q* over three pools on every
/// column, nothing read back in between; the CPU on the same ids says the same.
#[test]
fn mixed_negatives_into_the_loss() {
    let gpu = gpu();
    let stream = gpu.device.stream();
    let mut random = Random(9);
    let (dim, rows, catalogue) = (5, 6, 40usize);
    let popularity: Vec<f64> = (0..catalogue).map(|k| 1.0 / (k + 1) as f64).collect();
    let laws = [
        SamplerConfig::uniform(40).unwrap().seed(1),
        SamplerConfig::unigram(&popularity, 0.75, 0).unwrap().seed(2).without_replacement(),
    ];
    let batch_ids: Vec<i64> = (0..rows).map(|_| random.below(40) as i64).collect();
    let (users, items, extra): (Vec<f32>, Vec<f32>, Vec<f32>) =
        (random.values(rows * dim), random.values(rows * dim), random.values(7 * dim));
    let config = LossConfig::new(0.3).unwrap().exclude_same_item(true);

    // The batch, four uniform ones, three popular ones.
    let mut ids = stream.clone_htod(&[batch_ids.clone(), vec![0; 7]].concat()).unwrap();
    let floats = |n: usize| stream.clone_htod(&vec![POISON; n]).unwrap();
    let (mut counts, mut own) = (FrequencyCounter::new(&gpu.device, catalogue).unwrap(), floats(4));
    let mut uniform = Sampler::new(&gpu.device, laws[0].clone(), 4).unwrap();
    let mut popular = Sampler::new(&gpu.device, laws[1].clone(), 3).unwrap();
    uniform.sample(ids.slice_mut(rows..rows + 4), own.slice_mut(..4)).unwrap();
    popular.sample(ids.slice_mut(rows + 4..), own.slice_mut(..3)).unwrap();
    counts.update(ids.slice(..rows)).unwrap();
    let (mut q, mut log_q) = ([floats(13), floats(13), floats(13)], floats(13));
    counts.log_q(1, &ids, &mut q[0]).unwrap();
    uniform.log_q(&ids, &mut q[1]).unwrap();
    popular.log_q(&ids, &mut q[2]).unwrap();
    let pools =
        [Pool::probabilities(rows, &q[0]), Pool::expected_counts(4, &q[1]), Pool::expected_counts(3, &q[2])];
    mixed_log_q(&gpu.device, &pools, &mut log_q).unwrap();
    let (users_d, items_d) = (stream.clone_htod(&users).unwrap(), stream.clone_htod(&items).unwrap());
    let extra_d = stream.clone_htod(&extra).unwrap();
    let negatives = cuda::Items::new(&extra_d).log_q(log_q.slice(rows..)).item_ids(ids.slice(rows..));
    let batch = cuda::Batch::new(&users_d, &items_d, dim)
        .log_q(log_q.slice(..rows))
        .item_ids(ids.slice(..rows))
        .extra(negatives);
    let mut loss = cuda::InBatchLoss::new(&gpu.device, config).unwrap();
    let found = loss.evaluate(&batch).unwrap().row_losses().unwrap();

    let ids = stream.clone_dtoh(&ids).unwrap();
    assert_eq!(ids[..rows], batch_ids);
    let share = |id: i64| batch_ids.iter().filter(|other| **other == id).count().max(1) as f64 / rows as f64;
    // The unique sample took as many draws as the device says; its first call on the CPU is the same.
    let mut twin = cpu::Sampler::new(laws[1].clone(), 3).unwrap();
    let (mut drawn, mut drawn_log_q) = ([0; 3], [0.0; 3]);
    twin.sample(&mut drawn, &mut drawn_log_q).unwrap();
    assert_eq!(ids[rows + 4..], drawn);
    let expected_log_q: Vec<f32> = ids
        .iter()
        .map(|id| {
            let p = laws[1].probability(*id);
            let of_popular = -(twin.tries() as f64 * (-p).ln_1p()).exp_m1();
            ((rows as f64 * share(*id) + 4.0 / 40.0 + of_popular) / (rows as f64 + 7.0)).ln() as f32
        })
        .collect();
    for (found, expected) in stream.clone_dtoh(&log_q).unwrap().iter().zip(&expected_log_q) {
        assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{found} {expected}");
    }
    let negatives = cpu::Items::new(&extra).log_q(&expected_log_q[rows..]).item_ids(&ids[rows..]);
    let batch = cpu::Batch::new(&users, &items, dim)
        .log_q(&expected_log_q[..rows])
        .item_ids(&batch_ids)
        .extra(negatives);
    let mut loss = cpu::InBatchLoss::new(config).unwrap();
    for (found, expected) in found.iter().zip(loss.evaluate(&batch).unwrap().row_losses()) {
        assert!((found - expected).abs() <= 2e-5 * expected.abs().max(0.1), "{found} {expected}");
    }
}
