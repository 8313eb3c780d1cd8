//! The frequency estimators on the device: the same bits as on the CPU, two launches a step, in a graph.

use inbatch::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use inbatch::cuda::cudarc::driver::{CudaContext, result};
use inbatch::cuda::{self, Device, FrequencyCounter, FrequencyEstimator, InBatchLoss};
use inbatch::frequency::{CounterSnapshot, FrequencyConfig};
use inbatch::{Error, LossConfig, cpu};

use crate::support::{Case, Gpu, OnDevice, Random, bits, gpu};

const POISON: f32 = f32::from_bits(0x7fff_dead);

fn configs() -> [FrequencyConfig; 5] {
    [
        FrequencyConfig::direct(50, 0.01).unwrap(),
        FrequencyConfig::last_interval(50).unwrap(),
        FrequencyConfig::hashed(16, 1, 0.3).unwrap(),
        FrequencyConfig::hashed(101, 4, 0.05).unwrap().seed(99).start_interval(7.0).unwrap(),
        FrequencyConfig::hashed(1 << 20, 2, 0.7).unwrap().clip(3.0, 40.0).unwrap(),
    ]
}

/// Ids below 50 with many duplicates, more than a block.
fn batch(random: &mut Random, count: usize) -> Vec<i64> {
    (0..count).map(|_| (random.below(50) * random.below(50) / 50) as i64).collect()
}

/// Both backends through the same stream, exchanging checkpoints: every state and every log q has equal bits.
fn estimators_agree(gpu: &Gpu) {
    let device = &gpu.device;
    let stream = device.stream();
    let folder = tempfile::tempdir().unwrap();
    for (seed, config) in configs().into_iter().enumerate() {
        let mut random = Random(seed as u64);
        let mut here = FrequencyEstimator::new(device, config).unwrap();
        let mut there = cpu::FrequencyEstimator::new(config).unwrap();
        for (step, count) in [1, 300, 17, 64, 700, 2].into_iter().enumerate() {
            let ids = batch(&mut random, count);
            let ids_d = stream.clone_htod(&ids).unwrap();
            let mut log_q_d = stream.clone_htod(&vec![POISON; count]).unwrap();
            let mut log_q = vec![POISON; count];
            here.step(&ids_d, &mut log_q_d).unwrap();
            there.step(&ids, &mut log_q).unwrap();
            let context = format!("{config:?}, step {step}");
            assert_eq!(bits(&stream.clone_dtoh(&log_q_d).unwrap()), bits(&log_q), "{context}");
            assert_eq!(here.snapshot().unwrap(), there.snapshot(), "{context}");
            // Empty batches are steps too, and reading is none.
            let none = stream.clone_htod(&[0i64]).unwrap();
            here.update(none.slice(..0)).unwrap();
            there.update(&[0i64; 0]).unwrap();
            here.log_q(&ids_d, &mut log_q_d).unwrap();
            assert_eq!(here.steps().unwrap(), there.steps());

            let (mine, theirs) = (folder.path().join("cuda"), folder.path().join("cpu"));
            here.save(&mine).unwrap();
            there.save(&theirs).unwrap();
            here = FrequencyEstimator::new(device, config).unwrap();
            here.load(&theirs).unwrap();
            there = cpu::FrequencyEstimator::new(config).unwrap();
            there.load(&mine).unwrap();
        }
    }
}

/// The same for exact counts.
fn counters_agree(gpu: &Gpu) {
    let device = &gpu.device;
    let stream = device.stream();
    let mut random = Random(4);
    let mut here = FrequencyCounter::new(device, 50).unwrap();
    let mut there = cpu::FrequencyCounter::new(50).unwrap();
    let start = CounterSnapshot { counts: (0..50).map(|k| k * k).collect() };
    here.restore(&start).unwrap();
    there.restore(&start).unwrap();
    for count in [1, 300, 40] {
        let ids = batch(&mut random, count);
        let ids_d = stream.clone_htod(&ids).unwrap();
        let mut log_q_d = stream.clone_htod(&vec![POISON; count]).unwrap();
        let mut log_q = vec![POISON; count];
        here.step(&ids_d, &mut log_q_d).unwrap();
        there.step(&ids, &mut log_q).unwrap();
        assert_eq!(bits(&stream.clone_dtoh(&log_q_d).unwrap()), bits(&log_q));
        here.update(&ids_d).unwrap();
        there.update(&ids).unwrap();
        assert_eq!(here.snapshot().unwrap(), there.snapshot());
        here.log_q(1, &ids_d, &mut log_q_d).unwrap();
        there.log_q(1, &ids, &mut log_q).unwrap();
        assert_eq!(bits(&stream.clone_dtoh(&log_q_d).unwrap()), bits(&log_q));
    }
}

/// Each kernel of frequency.cu, compared with the CPU.
pub(crate) fn every_kernel(gpu: &Gpu) {
    estimators_agree(gpu);
    counters_agree(gpu);
}

#[test]
fn the_same_bits_as_on_the_cpu() {
    every_kernel(&gpu());
}

#[test]
fn a_step_is_two_launches() {
    let gpu = gpu();
    let device = &gpu.device;
    let mut frequency = FrequencyEstimator::new(device, configs()[3]).unwrap();
    let ids = device.stream().clone_htod(&[3i64, 1, 3]).unwrap();
    let mut log_q = device.stream().clone_htod(&[POISON; 3]).unwrap();
    let launches = || device.counters().launches.iter().map(|(_, n)| n).sum::<u64>();
    let before = (launches(), device.counters().allocations);
    frequency.step(&ids, &mut log_q).unwrap();
    assert_eq!((launches(), device.counters().allocations), (before.0 + 2, before.1));
}

/// Nothing on the device can refuse an id before anybody waits: it becomes NaN in the loss, and is counted.
#[test]
fn unknown_ids_are_seen() {
    unknown_ids(&gpu());
}

pub(crate) fn unknown_ids(gpu: &Gpu) {
    let stream = gpu.device.stream();
    let ids = stream.clone_htod(&[2i64, -1, 3, 50, i64::MIN]).unwrap();
    let mut log_q = stream.clone_htod(&[POISON; 5]).unwrap();
    let mut frequency = FrequencyEstimator::new(&gpu.device, configs()[0]).unwrap();
    frequency.step(&ids, &mut log_q).unwrap();
    let nan = |values: Vec<f32>| values.into_iter().map(f32::is_nan).collect::<Vec<_>>();
    assert_eq!(nan(stream.clone_dtoh(&log_q).unwrap()), [false, true, false, true, true]);
    assert_eq!(frequency.unknown_ids().unwrap(), 3);
    let mut counter = FrequencyCounter::new(&gpu.device, 50).unwrap();
    counter.step(&ids, &mut log_q).unwrap();
    assert_eq!(nan(stream.clone_dtoh(&log_q).unwrap()), [false, true, false, true, true]);
    assert_eq!(counter.unknown_ids().unwrap(), 3);
    // The total is that of the two known ones: each has half of it, so one of two draws.
    counter.log_q(2, &ids, &mut log_q).unwrap();
    assert_eq!(stream.clone_dtoh(&log_q).unwrap()[0], 0.0);
}

#[test]
fn bad_calls() {
    let gpu = gpu();
    let device = &gpu.device;
    let mut frequency = FrequencyEstimator::new(device, configs()[0]).unwrap();
    let ids = device.stream().clone_htod(&[2i64, 1]).unwrap();
    let mut short = device.stream().clone_htod(&[POISON]).unwrap();
    assert!(matches!(frequency.step(&ids, &mut short), Err(Error::Length { what: "log_q", .. })));
    assert!(matches!(frequency.log_q(&ids, &mut short), Err(Error::Length { .. })));
    assert_eq!(frequency.steps().unwrap(), 0);
    frequency.set_steps(10).unwrap();
    assert!(matches!(frequency.set_steps(9), Err(Error::StepBackwards { given: 9, current: 10 })));
    let other = cpu::FrequencyEstimator::new(configs()[2]).unwrap().snapshot();
    assert!(matches!(frequency.restore(&other), Err(Error::Snapshot(_))));
    let mut counter = FrequencyCounter::new(device, 5).unwrap();
    assert!(matches!(counter.step(&ids, &mut short), Err(Error::Length { .. })));
    assert!(matches!(FrequencyCounter::new(device, 0), Err(Error::NoBuckets { .. })));
}

/// A captured step counts on: each replay sees later steps, and its log q goes into the loss on the device.
#[test]
fn replays_in_a_graph() {
    let _gpu = gpu();
    let context = CudaContext::new(0).unwrap();
    // SAFETY: each buffer below is used on one stream only.
    unsafe { context.disable_event_tracking() };
    let device = Device::on_stream(context.new_stream().unwrap()).unwrap();
    let stream = device.stream().clone();
    let case = Case::<f32>::random((3, 4, 0, 8, 0), 5);
    let inputs = OnDevice::new(&device, &case);
    let config = FrequencyConfig::hashed(31, 2, 0.2).unwrap();
    let mut frequency = FrequencyEstimator::new(&device, config).unwrap();
    let mut twin = cpu::FrequencyEstimator::new(config).unwrap();
    let mut loss = InBatchLoss::new(&device, LossConfig::new(0.3).unwrap()).unwrap();
    loss.reserve(&case.problem()).unwrap();
    let mut ids = stream.clone_htod(&[0i64; 4]).unwrap();
    let mut log_q = stream.clone_htod(&[POISON; 4]).unwrap();
    device.synchronize().unwrap();

    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    frequency.step(&ids, &mut log_q).unwrap();
    let batch = cuda::Batch::new(&inputs.users, &inputs.items, case.dim).log_q(&log_q);
    let output = loss.evaluate(&batch).unwrap();
    let row_losses_at = output.device_row_losses().device_pointer();
    let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().expect("a graph");

    let read = |pointer| {
        let mut values = vec![POISON; 3];
        // SAFETY: the loss object outlives the graph and has three rows.
        unsafe { result::memcpy_dtoh_async(&mut values, pointer, stream.cu_stream()) }.unwrap();
        device.synchronize().unwrap();
        values
    };
    let mut on_cpu = cpu::InBatchLoss::new(LossConfig::new(0.3).unwrap()).unwrap();
    for replay in 0..6 {
        let new = [replay, 1, 1, replay % 3];
        stream.memcpy_htod(&new, &mut ids).unwrap();
        graph.launch().unwrap();
        let mut expected = [POISON; 4];
        twin.step(&new, &mut expected).unwrap();
        assert_eq!(bits(&stream.clone_dtoh(&log_q).unwrap()), bits(&expected), "replay {replay}");
        assert_eq!(frequency.snapshot().unwrap(), twin.snapshot(), "replay {replay}");
        let batch = cpu::Batch::new(&case.users, &case.items, case.dim).log_q(&expected);
        let expected = on_cpu.evaluate(&batch).unwrap().row_losses().to_vec();
        for (got, expected) in read(row_losses_at).iter().zip(expected) {
            assert!(
                (got - expected).abs() <= 1e-5 * (1.0 + expected.abs()),
                "replay {replay}: {got} {expected}"
            );
        }
    }
}
