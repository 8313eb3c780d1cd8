//! A training step in a CUDA graph: captured once, replayed past the bank's wrap-around.

use half::{bf16, f16};
use inbatch::bank::BankConfig;
use inbatch::cuda::cudarc::driver::CudaContext;
use inbatch::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use inbatch::cuda::{Device, InBatchLoss, MemoryBank};
use inbatch::{LearnedTemperature, LossConfig, Objective};

use crate::gathered::{self, Rows};
use crate::support::{Case, Grads, OnDevice, Real, bits, gpu};

const CAPACITY: usize = 10;

/// Everything that a captured step needs, at addresses that stay.
struct Trainer<T: Real> {
    device: Device,
    inputs: OnDevice<T>,
    loss: InBatchLoss,
    bank: MemoryBank<T>,
    gradients: Grads<f32>,
}

impl<T: Real> Trainer<T> {
    fn new(device: &Device, case: &Case<T>) -> Self {
        let config = LossConfig::new(0.1).unwrap().normalize(true).exclude_same_item(true);
        // From the second push on the bank is read, and never items older than three pushes.
        let bank_config = BankConfig::new(CAPACITY, case.dim).unwrap().warm_up(2).max_age(3);
        let mut trainer = Self {
            device: device.clone(),
            inputs: OnDevice::new(device, case),
            loss: InBatchLoss::new(device, config).unwrap(),
            bank: MemoryBank::new(device, bank_config).unwrap(),
            gradients: Grads::poisoned(device, case),
        };
        let problem = inbatch::Problem { bank_columns: CAPACITY, ..case.problem() };
        trainer.loss.reserve(&problem).unwrap();
        trainer
    }

    fn step(&mut self) {
        let batch = self.inputs.batch(true, true).bank(&self.bank);
        self.loss.step(&batch, &mut self.gradients.view(true)).unwrap();
        self.bank.push(&self.inputs.pushed()).unwrap();
    }

    /// Gradients, and what the bank then makes of the next loss.
    fn read(&mut self) -> ([Vec<f32>; 3], Vec<u32>) {
        let gradients = self.gradients.read(&self.device, true);
        let batch = self.inputs.batch(true, true).bank(&self.bank);
        let output = self.loss.evaluate(&batch).unwrap();
        (gradients, bits(&output.log_sum_exp().unwrap()))
    }
}

#[test]
fn replays_equal_eager_steps_past_the_wrap_around() {
    replays_equal_eager_steps::<f32>(20);
}

/// The same on tensor cores, at a dimension of either shape.
#[test]
fn replays_on_tensor_cores_equal_eager_steps() {
    replays_equal_eager_steps::<bf16>(64);
    replays_equal_eager_steps::<f16>(272);
}

fn replays_equal_eager_steps<T: Real>(dim: usize) {
    let _gpu = gpu();
    let context = CudaContext::new(0).unwrap();
    // SAFETY: each buffer below is used on one stream only.
    unsafe { context.disable_event_tracking() };
    let device = Device::on_stream(context.new_stream().unwrap()).unwrap();
    let cases: Vec<_> = (0..8).map(|seed| Case::<T>::random((3, 4, 2, dim, 1), 100 + seed)).collect();

    let mut eager = Trainer::new(&device, &cases[0]);
    let mut captured = Trainer::new(&device, &cases[0]);
    device.synchronize().unwrap();
    let stream = captured.device.stream().clone();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    captured.step();
    let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().expect("a graph");

    for (replay, case) in cases.iter().enumerate() {
        if replay == 5 {
            // The temperature lives on the device: the graph sees a new one.
            eager.loss.set_temperature(0.25).unwrap();
            captured.loss.set_temperature(0.25).unwrap();
        }
        eager.inputs.refill(&device, case);
        captured.inputs.refill(&device, case);
        eager.step();
        graph.launch().unwrap();
        assert_eq!(captured.read(), eager.read(), "replay {replay}");
        assert_eq!(captured.bank.len().unwrap(), eager.bank.len().unwrap());
        assert_eq!(captured.bank.step().unwrap(), replay as u64 + 1);
    }
    assert_eq!(captured.bank.len().unwrap(), CAPACITY, "the ring has wrapped around");
    drop(graph);
}

/// Counting, both links, both directions, and a step of descent on the parameters that the next replay then uses.
#[test]
fn learnt_parameters_move_in_replays() {
    let _gpu = gpu();
    let context = CudaContext::new(0).unwrap();
    // SAFETY: each buffer below is used on one stream only.
    unsafe { context.disable_event_tracking() };
    let device = Device::on_stream(context.new_stream().unwrap()).unwrap();
    let case = Case::<f32>::random((7, 7, 0, 12, 0), 40);
    let inputs = OnDevice::new(&device, &case);
    let learned = LearnedTemperature::new(0.5).unwrap();
    let plain = LossConfig::new(0.5).unwrap().normalize(true).metrics(true);
    let sigmoid = plain.objective(Objective::Sigmoid { bias: -2.0 }).unwrap();
    for config in [sigmoid, plain.symmetric(true)] {
        let has_bias = config == sigmoid;
        let mut gradients = Grads::<f32>::poisoned(&device, &case);
        let mut step = |loss: &mut InBatchLoss| {
            loss.step(&inputs.batch(false, true), &mut gradients.view(false)).unwrap();
            loss.descend_temperature(&learned, 0.1).unwrap();
            if has_bias {
                loss.descend_bias(0.1).unwrap();
            }
        };
        let [mut eager, mut captured] = [(); 2].map(|()| {
            let mut loss = InBatchLoss::new(&device, config).unwrap();
            loss.reserve(&case.problem()).unwrap();
            loss
        });
        device.synchronize().unwrap();
        device.stream().begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        step(&mut captured);
        let graph = device.stream().end_capture(CUgraphInstantiate_flags(0)).unwrap().expect("a graph");
        let mut last = 0.5;
        for _ in 0..4 {
            step(&mut eager);
            graph.launch().unwrap();
            let (temperature, bias) = (captured.temperature().unwrap(), captured.bias().unwrap());
            assert_eq!((temperature, bias), (eager.temperature().unwrap(), eager.bias().unwrap()));
            assert_ne!(temperature, last, "nothing was learnt");
            last = temperature;
        }
        drop(graph);
    }
}

/// Row negatives of either kind and the hardest negatives: what is gathered is gathered anew in each replay.
#[test]
fn gathered_negatives_are_found_anew_in_replays() {
    let gpu = gpu();
    let context = CudaContext::new(0).unwrap();
    // SAFETY: each buffer below is used on one stream only.
    unsafe { context.disable_event_tracking() };
    let device = Device::on_stream(context.new_stream().unwrap()).unwrap();
    let plain = LossConfig::new(0.2).unwrap().normalize(true);
    for (config, pool, per_row) in
        [(plain, None, 4), (plain, Some(9), 4), (plain.hard_negatives(3).unwrap(), None, 0)]
    {
        let case = |seed| Rows::<f32>::random([7, 12, per_row, 3], pool, seed);
        let mut inputs = gathered::OnDevice::new(&device, &case(1));
        let mut gradients = gathered::Grads::<f32>::poisoned(&device, &case(1));
        let mut loss = InBatchLoss::new(&device, config).unwrap();
        loss.reserve(&case(1).problem()).unwrap();
        device.synchronize().unwrap();
        device.stream().begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        loss.step(&inputs.batch(&case(1)), &mut gradients.view()).unwrap();
        let graph = device.stream().end_capture(CUgraphInstantiate_flags(0)).unwrap().expect("a graph");
        for seed in 1..4 {
            inputs.refill(&device, &case(seed));
            graph.launch().unwrap();
            let mut eager = InBatchLoss::new(&device, config).unwrap();
            let expected = gathered::step::<f32, f32>(&device, &mut eager, &case(seed));
            assert_eq!(gradients.read(&device).0[0], expected.d_users, "{config:?}, replay {seed}");
            assert_eq!(gradients.read(&device).0[3], expected.d_negatives, "{config:?}, replay {seed}");
        }
        drop(graph);
    }
    drop(gpu);
}

#[test]
fn a_capture_that_would_allocate_is_refused() {
    let _gpu = gpu();
    let context = CudaContext::new(0).unwrap();
    // SAFETY: each buffer below is used on one stream only.
    unsafe { context.disable_event_tracking() };
    let device = Device::on_stream(context.new_stream().unwrap()).unwrap();
    let case = Case::<f32>::random((3, 4, 0, 8, 0), 1);
    let inputs = OnDevice::new(&device, &case);
    let mut gradients = Grads::<f32>::poisoned(&device, &case);
    let mut loss = InBatchLoss::new(&device, LossConfig::new(0.1).unwrap()).unwrap();
    device.synchronize().unwrap();
    device.stream().begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    let error = loss.step(&inputs.batch(false, false), &mut gradients.view(false)).unwrap_err();
    assert!(matches!(error, inbatch::Error::Capturing { .. }), "{error}");
    assert!(error.to_string().contains("reserve"), "{error}");
    device.stream().end_capture(CUgraphInstantiate_flags(0)).unwrap();
    // Nothing is lost: the same object works once the capture is over.
    loss.step(&inputs.batch(false, false), &mut gradients.view(false)).unwrap().loss().unwrap();
}
