//! What a step costs beside time: allocations, bytes, launches.

use std::collections::BTreeMap;

use half::{bf16, f16};
use inbatch::LossConfig;
use inbatch::cuda::{Device, InBatchLoss, TableBatch, TableGradients, TableLoss};
use inbatch::table::{TableConfig, TableShape};

use crate::support::{Case, Grads, OnDevice, Real, Results, gpu, step, step_with};

fn config() -> LossConfig {
    LossConfig::new(0.1).unwrap().normalize(true).exclude_same_item(true)
}

fn launches(device: &Device) -> BTreeMap<&'static str, u64> {
    device.counters().launches.into_iter().collect()
}

/// Launches since `before`, by kernel.
fn since(device: &Device, before: &BTreeMap<&'static str, u64>) -> Vec<(String, u64)> {
    let news =
        launches(device).into_iter().map(|(name, n)| (name.to_owned(), n - before.get(name).unwrap_or(&0)));
    news.filter(|(_, n)| *n > 0).collect()
}

#[test]
fn a_step_allocates_what_was_announced_and_then_nothing() {
    announced_bytes::<f32>(40);
    announced_bytes::<f16>(48);
    announced_bytes::<bf16>(272);
}

fn announced_bytes<T: Real>(dim: usize) {
    let gpu = gpu();
    let case = Case::<T>::random((70, 90, 11, dim, 3), 1);
    let before = gpu.device.counters();
    let mut loss = InBatchLoss::new(&gpu.device, config()).unwrap();
    let announced = loss.workspace_bytes(&case.problem()) as u64;
    loss.reserve(&case.problem()).unwrap();
    let reserved = gpu.device.counters();
    assert_eq!(reserved.allocated_bytes - before.allocated_bytes, announced);
    for weighted in [false, true] {
        let _: Results<f32> = step_with(&gpu, &mut loss, &case, weighted);
    }
    let inputs = OnDevice::new(&gpu.device, &case);
    loss.evaluate(&inputs.batch(true, false)).unwrap();
    loss.forward(&inputs.batch(false, false)).unwrap();
    let mut gradients = Grads::<f32>::poisoned(&gpu.device, &case);
    loss.backward(&inputs.batch(false, false), None, &mut gradients.view(false))
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(gpu.device.counters().allocations, reserved.allocations, "no call allocated");
    drop(loss);
    assert_eq!(gpu.device.counters().allocated_bytes, before.allocated_bytes, "everything is given back");
}

#[test]
fn a_table_step_allocates_what_was_announced_and_then_nothing() {
    let gpu = gpu();
    let stream = gpu.device.stream();
    let floats = |n: usize| stream.clone_htod(&vec![0.5f32; n]).unwrap();
    let (inputs, weights, biases) = (floats(70 * 5), floats(40 * 5), floats(40));
    let labels = stream.clone_htod(&(0..140i64).map(|k| k % 40).collect::<Vec<_>>()).unwrap();
    let sampled = stream.clone_htod(&(0..90i64).map(|k| k % 40).collect::<Vec<_>>()).unwrap();
    let batch = || TableBatch::new(&inputs, &weights, 5, &labels, 2, &sampled).biases(&biases);
    for config in [TableConfig::sampled_softmax(), TableConfig::nce()] {
        let config = config.subtract_log_q(false);
        let before = gpu.device.counters();
        let mut loss = TableLoss::new(&gpu.device, config).unwrap();
        let shape = TableShape::new(&batch(), &config).unwrap();
        let announced = loss.workspace_bytes(&shape) as u64;
        loss.reserve(&shape).unwrap();
        let reserved = gpu.device.counters();
        assert_eq!(reserved.allocated_bytes - before.allocated_bytes, announced);
        let (mut d_inputs, mut d_weights) = (floats(70 * 5), floats(230 * 5));
        let mut ids = stream.clone_htod(&vec![0i64; 230]).unwrap();
        loss.evaluate(&batch()).unwrap();
        let mut gradients = TableGradients::new(&mut d_inputs, &mut ids, &mut d_weights);
        loss.step(&batch(), &mut gradients).unwrap();
        assert_eq!(gpu.device.counters().allocations, reserved.allocations, "no call allocated");
        drop(loss);
        assert_eq!(gpu.device.counters().allocated_bytes, before.allocated_bytes, "everything is given back");
    }
}

#[test]
fn bytes_grow_linearly() {
    linear_bytes::<f32>(1.5);
    // Tensor cores read copies of what is to be normalised, 2 bytes for each element of users and all columns.
    linear_bytes::<bf16>(2.0);
}

fn linear_bytes<T: Real>(most: f64) {
    let gpu = gpu();
    let loss = InBatchLoss::new(&gpu.device, config()).unwrap();
    let case = Case::<T>::random((1, 1, 0, 64, 0), 1);
    let bytes = |n: usize| {
        let problem = inbatch::Problem { rows: n, batch_columns: n, bank_columns: n, ..case.problem() };
        loss.workspace_bytes(&problem) as f64
    };
    // Large enough that the sweeps are not split.
    let (a, b, c) = (bytes(1 << 17), bytes(1 << 18), bytes(1 << 19));
    assert!((b / a - 2.0).abs() < 0.01 && (c / b - 2.0).abs() < 0.01, "{a} {b} {c}");
    let inputs_and_outputs = (1 << 19) as f64 * 64.0 * 4.0 * 2.0;
    assert!(c < most * inputs_and_outputs, "{c}");
}

#[test]
fn every_kernel_of_a_step_by_name() {
    let gpu = gpu();
    let simt = [(20, "64"), (65, "128"), (129, "256")];
    let mma = [(32, "mma_64"), (80, "mma_128"), (256, "mma_256"), (272, "mma_1024")];
    for (dim, stream) in simt.into_iter().chain(mma) {
        let case = Case::<bf16>::random((5, 9, 4, dim, 2), dim as u64);
        let before = launches(&gpu.device);
        if let Some(emulator) = gpu.emulator {
            emulator.clear();
        }
        let _: Results<f16> = step(&gpu, config(), &case, false);
        let (mma, chunk) = stream.strip_prefix("mma_").map_or(("", stream), |chunk| ("mma_", chunk));
        let mut expected: Vec<(String, u64)> = [
            "column_gradients_bf16_f16".to_owned(),
            "merge_partials".to_owned(),
            "objective_rows".to_owned(),
            "prepare_columns_bf16".to_owned(),
            "prepare_rows_bf16".to_owned(),
            "reduce_losses".to_owned(),
            "reduce_terms".to_owned(),
            "row_gradients_bf16_f16".to_owned(),
            format!("stream_{mma}backward_{chunk}_bf16"),
            format!("stream_{mma}forward_{chunk}_bf16"),
        ]
        .map(|name| (name, 1))
        .to_vec();
        if !mma.is_empty() {
            // Users and columns, because they are normalised.
            expected.push(("scale_embeddings_bf16".to_owned(), 2));
        }
        expected.sort();
        assert_eq!(since(&gpu.device, &before), expected);
        if let Some(emulator) = gpu.emulator {
            let mut ran: Vec<_> =
                emulator.kernels().into_iter().map(|kernel| (kernel.name, kernel.launches)).collect();
            ran.sort();
            assert_eq!(ran, expected, "what the emulator ran");
        }
    }
}

/// Four sweeps: log-sum-exps of rows and of columns (2 B N D flop each), a gradient sweep for each side (4 B N D each).
#[test]
fn a_symmetric_step_is_four_sweeps() {
    let gpu = gpu();
    let case = Case::<f32>::random((20, 20, 0, 8, 0), 2);
    let before = launches(&gpu.device);
    let symmetric = config().symmetric(true);
    let allocated = gpu.device.counters().allocated_bytes;
    let mut loss = InBatchLoss::new(&gpu.device, symmetric).unwrap();
    let announced = loss.workspace_bytes(&case.problem()) as u64;
    loss.reserve(&case.problem()).unwrap();
    assert_eq!(gpu.device.counters().allocated_bytes - allocated, announced);
    let _: Results<f32> = step_with(&gpu, &mut loss, &case, false);
    let sweeps: Vec<_> =
        since(&gpu.device, &before).into_iter().filter(|(name, _)| name.starts_with("stream")).collect();
    assert_eq!(sweeps, [("stream_backward_64_f32".to_owned(), 2), ("stream_loss_f32".to_owned(), 2)]);
}
