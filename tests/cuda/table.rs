//! Losses over a class table on the device, against the oracle and the CPU.

use half::{bf16, f16};
use inbatch::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use inbatch::cuda::cudarc::driver::{CudaContext, result};
use inbatch::cuda::{self, Device, TableBatch, TableGradients, TableLoss};
use inbatch::sampling::SamplerConfig;
use inbatch::table::TableConfig;
use inbatch::{Error, Reduction, cpu};

use crate::common::table::{Case, Step, compare};
use crate::support::{Gpu, Real, Slice, bits, gpu};

/// A case in device memory; absent parts have one unused element.
struct OnDevice<T> {
    inputs: Slice<T>,
    weights: Slice<T>,
    biases: Slice<f32>,
    labels: Slice<i64>,
    sampled: Slice<i64>,
    label_log_q: Slice<f32>,
    sampled_log_q: Slice<f32>,
    row_weights: Slice<f32>,
}

impl<T: Real> OnDevice<T> {
    fn new(gpu: &Gpu, case: &Case) -> Self {
        let stream = gpu.device.stream();
        let store = |values: &[f32]| {
            stream.clone_htod(&values.iter().map(|x| T::from_f32(*x)).collect::<Vec<_>>()).unwrap()
        };
        let floats = |values: &[f32]| stream.clone_htod(values).unwrap();
        let optional = |values: &Option<Vec<f32>>| floats(values.as_deref().unwrap_or(&[0.0]));
        Self {
            inputs: store(&case.inputs),
            weights: store(&case.weights),
            biases: optional(&case.biases),
            labels: stream.clone_htod(&case.labels).unwrap(),
            sampled: stream.clone_htod(&case.sampled).unwrap(),
            label_log_q: floats(&case.label_log_q),
            sampled_log_q: floats(&case.sampled_log_q),
            row_weights: optional(&case.row_weights),
        }
    }

    fn batch(&self, case: &Case) -> TableBatch<'_, T> {
        let mut batch = TableBatch::new(
            &self.inputs,
            &self.weights,
            case.dim,
            &self.labels,
            case.num_true,
            &self.sampled,
        )
        .log_q(&self.label_log_q, &self.sampled_log_q);
        if case.biases.is_some() {
            batch = batch.biases(&self.biases);
        }
        if case.row_weights.is_some() {
            batch = batch.row_weights(&self.row_weights);
        }
        batch
    }
}

/// One step of a loss object, from poisoned buffers.
fn step<T: Real, G: Real>(gpu: &Gpu, loss: &mut TableLoss, case: &Case) -> Step {
    let stream = gpu.device.stream();
    let inputs = OnDevice::<T>::new(gpu, case);
    let named = case.labels.len() + case.sampled.len();
    let poison = |n: usize| stream.clone_htod(&vec![G::from_f32(f32::NAN); n]).unwrap();
    let (mut d_inputs, mut d_weights) = (poison(case.inputs.len()), poison(named * case.dim));
    let mut ids = stream.clone_htod(&vec![-7i64; named]).unwrap();
    let mut d_biases = stream.clone_htod(&vec![f32::NAN; named]).unwrap();
    let mut gradients = TableGradients::new(&mut d_inputs, &mut ids, &mut d_weights);
    if case.biases.is_some() {
        gradients = gradients.biases(&mut d_biases);
    }
    let output = loss.step(&inputs.batch(case), &mut gradients).unwrap();
    let wide = |values: &Slice<G>| -> Vec<f64> {
        stream.clone_dtoh(values).unwrap().iter().map(|x| f64::from(x.to_f32())).collect()
    };
    let floats = |values: Vec<f32>| -> Vec<f64> { values.into_iter().map(f64::from).collect() };
    Step {
        row_losses: floats(output.row_losses().unwrap()),
        unique: output.unique().unwrap(),
        d_inputs: wide(&d_inputs),
        d_weights: wide(&d_weights),
        ids: stream.clone_dtoh(&ids).unwrap(),
        d_biases: floats(stream.clone_dtoh(&d_biases).unwrap()),
    }
}

fn check<T: Real, G: Real>(gpu: &Gpu, case: &Case, config: TableConfig, reduction: Reduction) {
    let mut loss = TableLoss::new(&gpu.device, config.reduction(reduction)).unwrap();
    let found = step::<T, G>(gpu, &mut loss, case);
    compare::<T, G>(case, &config, reduction, &found);
    // The loss alone, through the kernel that makes no O: the same up to the number of splits.
    let inputs = OnDevice::<T>::new(gpu, case);
    let alone = loss.evaluate(&inputs.batch(case)).unwrap();
    assert_eq!(alone.unique().unwrap(), 0);
    for (alone, found) in alone.row_losses().unwrap().iter().zip(&found.row_losses) {
        assert!((f64::from(*alone) - found).abs() <= 1e-5 * found.abs().max(1.0), "{alone} {found}");
    }
}

fn softmax() -> TableConfig {
    TableConfig::sampled_softmax()
}

/// Each kernel of table.cu in each of its types, against the oracle.
pub(crate) fn every_kernel(gpu: &Gpu) {
    let case = Case::random(20, 11, 40, 1, 70, 2);
    check::<f32, f32>(gpu, &case, softmax(), Reduction::Mean);
    check::<f16, f16>(gpu, &case, softmax(), Reduction::Sum);
    check::<bf16, bf16>(gpu, &case, softmax(), Reduction::Mean);
}

/// The largest width, with biases and without.
pub(crate) fn wide(gpu: &Gpu) {
    for (dim, seed) in [(1023, 1), (1024, 3), (99, 3)] {
        let case = Case::random(2, dim, 5, 1, 3, seed);
        check::<f32, f32>(gpu, &case, softmax(), Reduction::Mean);
        check::<f16, f16>(gpu, &case, softmax(), Reduction::Mean);
        check::<bf16, bf16>(gpu, &case, softmax(), Reduction::Mean);
    }
}

/// Every number of dimensions that a lane may sum in each of its registers: the compiler has unrolled them all.
pub(crate) fn every_width(gpu: &Gpu) {
    for dim in (17..1024).step_by(32) {
        let mut case = Case::random(2, dim, 5, 1, 3, 1);
        // Logits of moderate size in all dimensions: f32 rounds them by a share of themselves.
        case.inputs.iter_mut().for_each(|x| *x /= 8.0);
        check::<f32, f32>(gpu, &case, softmax(), Reduction::Sum);
        check::<f16, f16>(gpu, &case, softmax(), Reduction::Sum);
        check::<bf16, bf16>(gpu, &case, softmax(), Reduction::Sum);
    }
}

/// Several positives under either link.
pub(crate) fn several(gpu: &Gpu) {
    let case = Case::random(9, 7, 12, 5, 70, 2);
    check::<f32, f32>(gpu, &case, softmax().remove_accidental_hits(false), Reduction::Mean);
    check::<f16, f16>(gpu, &case, softmax().remove_accidental_hits(false), Reduction::Mean);
    check::<bf16, bf16>(gpu, &case, softmax().remove_accidental_hits(false), Reduction::Mean);
    check::<f32, f32>(gpu, &case, TableConfig::nce(), Reduction::Mean);
    let single = Case::random(9, 7, 12, 1, 70, 2);
    check::<f32, f32>(gpu, &single, TableConfig::nce(), Reduction::Mean);
}

/// Sampled classes that equal any of several true classes, where tiles are several on either side and in each of the
/// sweeps' kernels. Few classes: most pairs of a row and a column are hits of one label or another.
pub(crate) fn hits_of_several(gpu: &Gpu) {
    for (dim, num_true) in [(7, 3), (7, 2), (100, 3), (200, 4)] {
        let case = Case::random(70, dim, 11, num_true, 70, 2);
        check::<f32, f32>(gpu, &case, softmax(), Reduction::Sum);
    }
    let case = Case::random(9, 7, 12, 5, 70, 2);
    check::<f32, f32>(gpu, &case, TableConfig::nce().remove_accidental_hits(true), Reduction::Sum);
}

/// Five times as many names as a block has threads, and many classes among them.
pub(crate) fn many(gpu: &Gpu) {
    let case = Case::random(3, 2, 3000, 1, 1277, 2);
    check::<f32, f32>(gpu, &case, softmax(), Reduction::Mean);
}

/// Ids outside the table: one count each, and a loss that is no number.
pub(crate) fn unknown_classes(gpu: &Gpu) {
    fn check<T: Real>(gpu: &Gpu) {
        let mut case = Case::random(4, 5, 9, 1, 6, 2);
        (case.labels[1], case.sampled[2], case.sampled[5]) = (9, -1, i64::MAX);
        let inputs = OnDevice::<T>::new(gpu, &case);
        let mut loss = TableLoss::new(&gpu.device, softmax()).unwrap();
        assert!(loss.evaluate(&inputs.batch(&case)).unwrap().loss().unwrap().is_nan());
        assert_eq!(loss.unknown_ids().unwrap(), 3);
    }
    check::<f32>(gpu);
    check::<f16>(gpu);
    check::<bf16>(gpu);
}

#[test]
fn softmax_with_one_true_class() {
    let gpu = gpu();
    for (seed, (rows, dim, classes, sampled)) in (1..).zip([
        (1, 1, 2, 1),
        (3, 5, 9, 4),
        (70, 33, 40, 130),
        (65, 4, 300, 64),
        (5, 129, 12, 66),
        (2, 1023, 5, 3),
    ]) {
        for seed in [seed, seed + 10, seed + 21] {
            let case = Case::random(rows, dim, classes, 1, sampled, seed);
            check::<f32, f32>(&gpu, &case, softmax(), Reduction::None);
            check::<f16, f32>(&gpu, &case, softmax().subtract_log_q(false), Reduction::Mean);
        }
    }
}

#[test]
fn hits_of_several_true_classes() {
    hits_of_several(&gpu());
}

#[test]
fn several_true_classes_and_the_sigmoid_link() {
    let gpu = gpu();
    let configs = [
        softmax(),
        softmax().remove_accidental_hits(false),
        TableConfig::nce(),
        TableConfig::nce().remove_accidental_hits(true),
        TableConfig::negative_sampling(),
    ];
    for (seed, (rows, dim, classes, num_true, sampled)) in
        (1..).zip([(1, 2, 4, 2, 3), (9, 7, 12, 5, 70), (66, 12, 80, 3, 40), (4, 6, 6, 6, 5)])
    {
        for config in configs {
            let case = Case::random(rows, dim, classes, num_true, sampled, seed);
            check::<f32, f32>(&gpu, &case, config, Reduction::Mean);
            let case = Case::random(rows, dim, classes, 1, sampled, seed + 5);
            check::<bf16, f32>(&gpu, &case, config, Reduction::Sum);
        }
    }
    let case = Case::random(30, 8, 50, 1, 20, 4);
    check::<f32, f32>(&gpu, &case, TableConfig::nce().remove_accidental_hits(true), Reduction::WeightedMean);
}

/// Equal calls give equal bits, whatever an earlier call has left; a smaller call does not see a larger one's rest.
#[test]
fn the_same_bits_again() {
    let gpu = gpu();
    let (large, small) = (Case::random(40, 10, 60, 1, 90, 2), Case::random(7, 10, 30, 1, 12, 4));
    let mut loss = TableLoss::new(&gpu.device, softmax()).unwrap();
    let first = step::<f32, f32>(&gpu, &mut loss, &small);
    step::<f32, f32>(&gpu, &mut loss, &large);
    let again = step::<f32, f32>(&gpu, &mut loss, &small);
    let all = |step: &Step| {
        let parts = [&step.row_losses, &step.d_inputs, &step.d_weights, &step.d_biases];
        parts.map(|part| bits(&part.iter().map(|x| *x as f32).collect::<Vec<_>>()))
    };
    assert_eq!((all(&first), first.ids), (all(&again), again.ids));
}

#[test]
fn bad_input() {
    let gpu = gpu();
    let mut case = Case { biases: None, row_weights: None, ..Case::random(3, 4, 9, 2, 5, 3) };
    let mut loss = TableLoss::new(&gpu.device, softmax()).unwrap();
    let inputs = OnDevice::<f32>::new(&gpu, &case);
    loss.evaluate(&inputs.batch(&case)).unwrap().loss().unwrap();

    let plain = TableBatch::new(&inputs.inputs, &inputs.weights, 4, &inputs.labels, 2, &inputs.sampled);
    assert!(matches!(loss.evaluate(&plain), Err(Error::MissingExpectedCounts)));
    let ragged = TableBatch::new(&inputs.inputs, &inputs.weights, 4, &inputs.labels, 3, &inputs.sampled);
    assert!(matches!(loss.evaluate(&ragged), Err(Error::Length { what: "labels", .. })));
    let stream = gpu.device.stream();
    let (mut floats, mut ids) =
        (stream.clone_htod(&[0.0f32; 12]).unwrap(), stream.clone_htod(&[0i64; 11]).unwrap());
    let mut short = stream.clone_htod(&[0.0f32; 43]).unwrap();
    let mut gradients = TableGradients::new(&mut floats, &mut ids, &mut short);
    let error = loss.step(&inputs.batch(&case), &mut gradients).unwrap_err();
    assert!(matches!(error, Error::Length { what: "the gradient of weights", .. }), "{error}");

    // What nobody can refuse before somebody waits shows in the loss, and is counted.
    assert_eq!(loss.unknown_ids().unwrap(), 0);
    case.labels[0] = 9;
    case.sampled[2] = -1;
    let inputs = OnDevice::<f32>::new(&gpu, &case);
    assert!(loss.evaluate(&inputs.batch(&case)).unwrap().loss().unwrap().is_nan());
    assert_eq!(loss.unknown_ids().unwrap(), 2);
    let mut none = TableLoss::new(&gpu.device, softmax().reduction(Reduction::None)).unwrap();
    assert!(matches!(none.evaluate(&inputs.batch(&case)).unwrap().loss(), Err(Error::NoScalarLoss)));
}

/// A row without negatives, a row of weight 0 that holds NaN.
#[test]
fn edges() {
    let gpu = gpu();
    let mut case = Case::random(6, 4, 30, 1, 10, 2);
    let mut loss = TableLoss::new(&gpu.device, softmax().reduction(Reduction::Sum)).unwrap();
    case.sampled.fill(case.labels[3]);
    let found = step::<f32, f32>(&gpu, &mut loss, &case);
    assert_eq!((found.row_losses[3], &found.d_inputs[12..16]), (0.0, &[0.0; 4][..]));
    compare::<f32, f32>(&case, &softmax(), Reduction::Sum, &found);
    case.row_weights.as_mut().unwrap()[1] = 0.0;
    case.inputs[4..8].fill(f32::NAN);
    let found = step::<f32, f32>(&gpu, &mut loss, &case);
    assert_eq!((found.row_losses[1], &found.d_inputs[4..8]), (0.0, &[0.0; 4][..]));
    assert!(found.d_weights[..found.unique * 4].iter().all(|x| x.is_finite()));
}

/// Sampling, expected counts of the labels and the whole step in one graph: each replay draws new classes, and the loss
/// is that of the CPU on the same draws.
#[test]
fn replays_in_a_graph() {
    let _gpu = gpu();
    let context = CudaContext::new(0).unwrap();
    // SAFETY: each buffer below is used on one stream only.
    unsafe { context.disable_event_tracking() };
    let device = Device::on_stream(context.new_stream().unwrap()).unwrap();
    let stream = device.stream().clone();
    let case = Case { biases: None, row_weights: None, ..Case::random(9, 6, 60, 1, 20, 1) };
    let law = SamplerConfig::log_uniform(60).unwrap().without_replacement().seed(3);
    let mut sampler = cuda::Sampler::new(&device, law.clone(), 20).unwrap();
    let mut twin = cpu::Sampler::new(law, 20).unwrap();
    let mut loss = TableLoss::new(&device, softmax()).unwrap();
    let floats = |n: usize| stream.clone_htod(&vec![f32::NAN; n]).unwrap();
    let (inputs, weights) =
        (stream.clone_htod(&case.inputs).unwrap(), stream.clone_htod(&case.weights).unwrap());
    let labels = stream.clone_htod(&case.labels).unwrap();
    let (mut sampled, mut ids) =
        (stream.clone_htod(&[0i64; 20]).unwrap(), stream.clone_htod(&[0i64; 29]).unwrap());
    let (mut label_log_q, mut sampled_log_q) = (floats(9), floats(20));
    let (mut d_inputs, mut d_weights) = (floats(54), floats(174));
    let mut step = || {
        sampler.sample(&mut sampled, &mut sampled_log_q).unwrap();
        sampler.log_q(&labels, &mut label_log_q).unwrap();
        let batch =
            TableBatch::new(&inputs, &weights, 6, &labels, 1, &sampled).log_q(&label_log_q, &sampled_log_q);
        let mut gradients = TableGradients::new(&mut d_inputs, &mut ids, &mut d_weights);
        loss.step(&batch, &mut gradients).unwrap().device_row_losses().device_pointer()
    };
    step(); // The workspace grows and the kernels are loaded.
    device.synchronize().unwrap();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    let row_losses = step();
    let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().expect("a graph");

    let mut on_cpu = cpu::TableLoss::new(softmax());
    let (mut sampled_h, mut sampled_log_q_h, mut label_log_q_h) = ([0; 20], [0.0; 20], [0.0; 9]);
    twin.sample(&mut sampled_h, &mut sampled_log_q_h).unwrap(); // the call before the capture
    for replay in 0..3 {
        graph.launch().unwrap();
        twin.sample(&mut sampled_h, &mut sampled_log_q_h).unwrap();
        twin.log_q(&case.labels, &mut label_log_q_h).unwrap();
        let batch = cpu::TableBatch::new(&case.inputs, &case.weights, 6, &case.labels, 1, &sampled_h)
            .log_q(&label_log_q_h, &sampled_log_q_h);
        let (mut d_inputs_h, mut ids_h, mut d_weights_h) = ([0.0f32; 54], [0; 29], [0.0f32; 174]);
        let mut gradients = cpu::TableGradients::new(&mut d_inputs_h, &mut ids_h, &mut d_weights_h);
        let expected = on_cpu.step(&batch, &mut gradients).unwrap();
        let (losses, unique) = (expected.row_losses().to_vec(), expected.unique());
        assert_eq!(stream.clone_dtoh(&sampled).unwrap(), sampled_h, "replay {replay}");
        assert_eq!(stream.clone_dtoh(&ids).unwrap(), ids_h, "replay {replay}");
        let mut found = [f32::NAN; 9];
        // SAFETY: the loss object outlives the graph and has nine rows.
        unsafe { result::memcpy_dtoh_async(&mut found, row_losses, stream.cu_stream()) }.unwrap();
        device.synchronize().unwrap();
        let d_weights_d = stream.clone_dtoh(&d_weights).unwrap();
        let pairs = found.iter().zip(&losses).chain(d_weights_d.iter().zip(&d_weights_h).take(unique * 6));
        for (found, expected) in pairs {
            assert!(
                (found - expected).abs() <= 1e-5 * expected.abs().max(0.1),
                "replay {replay}: {found} {expected}"
            );
        }
    }
}
