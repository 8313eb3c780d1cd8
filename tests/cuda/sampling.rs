//! Samplers and mixtures on the device: the ids and the bits of the CPU, in a graph too.

use std::collections::HashSet;

use inbatch::cuda::cudarc::driver::CudaContext;
use inbatch::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use inbatch::cuda::{Device, Pool, Sampler, mixed_log_q};
use inbatch::sampling::SamplerConfig;
use inbatch::{Error, cpu};

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

/// Each kernel of sampling.cu, compared with the CPU.
pub(crate) fn every_kernel(gpu: &Gpu) {
    samplers_agree(gpu);
    mixtures_agree(gpu);
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
    let gpu = gpu();
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
    drop(gpu);
}
