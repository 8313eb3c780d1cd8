//! What a step costs beside time: allocations, bytes, launches.

use std::collections::BTreeMap;

use half::{bf16, f16};
use inbatch::LossConfig;
use inbatch::cuda::{Device, InBatchLoss, TableBatch, TableGradients, TableLoss};
use inbatch::table::{TableConfig, TableShape};

use crate::gathered::{self, Rows};
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

/// Of their own, out of a pool, and the hardest of all.
fn gathering() -> [(LossConfig, Rows<f32>); 3] {
    let case = |per_row, pool| Rows::random([70, 40, per_row, 11], pool, 1);
    let hardest = config().hard_negatives(20).unwrap();
    [(config(), case(9, None)), (config(), case(9, Some(33))), (hardest, case(0, None))]
}

#[test]
fn a_step_of_gathered_negatives_allocates_what_was_announced_and_then_nothing() {
    let gpu = gpu();
    for (config, data) in gathering() {
        let before = gpu.device.counters();
        let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
        let announced = loss.workspace_bytes(&data.problem()) as u64;
        assert_eq!(loss.plan(&data.problem()).workspace_bytes() as u64, announced);
        loss.reserve(&data.problem()).unwrap();
        let reserved = gpu.device.counters();
        assert_eq!(reserved.allocated_bytes - before.allocated_bytes, announced);
        gathered::step::<f32, f32>(&gpu.device, &mut loss, &data);
        let inputs = gathered::OnDevice::new(&gpu.device, &data);
        loss.evaluate(&inputs.batch(&data)).unwrap();
        loss.forward(&inputs.batch(&data)).unwrap();
        let mut gradients = gathered::Grads::<f32>::poisoned(&gpu.device, &data);
        loss.backward(&inputs.batch(&data), None, &mut gradients.view()).unwrap();
        assert_eq!(gpu.device.counters().allocations, reserved.allocations, "no call allocated");
        drop(loss);
        assert_eq!(gpu.device.counters().allocated_bytes, before.allocated_bytes, "everything is given back");
    }
}

/// A float or an id for each row negative, no float for each of their dimensions; and D floats for each row of a pool.
#[test]
fn bytes_of_gathered_negatives_grow_linearly() {
    let gpu = gpu();
    let mut loss = InBatchLoss::new(&gpu.device, config()).unwrap();
    let base = Rows::<f32>::random([1, 64, 1, 0], None, 1).problem();
    let bytes = |loss: &InBatchLoss, n: usize, row_negatives: usize, pool: Option<usize>| {
        let problem = inbatch::Problem { rows: n, batch_columns: n + 2, row_negatives, pool, ..base };
        loss.workspace_bytes(&problem)
    };
    let n = 1 << 17;
    let none = bytes(&loss, n, 0, None);
    let each = |per_row, pool| bytes(&loss, n, per_row, pool) - none;
    // z, bias, id and norm of each negative; m, l and O of each row.
    assert_eq!(each(50, None), n * (50 * (4 + 4 + 8 + 8) + 4 + 4 + 64 * 4));
    // z and place of each; bias, id, norm and sums of each row of the pool.
    let pool = 1 << 18;
    let rows = n * (50 * (4 + 4) + 4 + 4 + 64 * 4);
    assert_eq!(each(50, Some(pool)), rows + pool * (4 + 8 + 8 + 4 + 64 * 4));
    // Both sweeps are replaced: z, place and what mining keeps of each split.
    loss.set_config(config().hard_negatives(50).unwrap()).unwrap();
    let (a, b) = (bytes(&loss, n, 0, None), bytes(&loss, 2 * n, 0, None));
    assert!((b as f64 / a as f64 - 2.0).abs() < 0.01 && a < none + n * 50 * (4 + 4 + 8) + n, "{a} {b}");
}

#[test]
fn every_kernel_of_gathered_negatives_by_name() {
    let gpu = gpu();
    let stream = ["stream_forward_64_f32", "stream_backward_64_f32"];
    let row_negatives = ["row_negative_logits_f32", "row_negative_partial_f32"];
    let own = ["prepare_columns_f32", "row_negative_gradients_f32_f32"];
    let pool = [
        "prepare_columns_f32",
        "row_negative_places",
        "row_negative_backward_f32",
        "column_gradients_f32_f32",
    ];
    let hardest = [
        "hard_negatives_f32",
        "hard_negatives_merge",
        "row_negative_partial_f32",
        "row_negative_backward_f32",
    ];
    let expected = [
        [&stream[..], &row_negatives, &own].concat(),
        [&stream[..], &row_negatives, &pool].concat(),
        hardest.to_vec(),
    ];
    for ((config, data), expected) in gathering().into_iter().zip(expected) {
        let always = [
            "column_gradients_f32_f32",
            "merge_partials",
            "objective_rows",
            "prepare_columns_f32",
            "prepare_rows_f32",
            "reduce_losses",
            "reduce_terms",
            "row_gradients_f32_f32",
        ];
        let mut counts = BTreeMap::new();
        always.into_iter().chain(expected).for_each(|name| *counts.entry(name.to_owned()).or_insert(0) += 1);
        let before = launches(&gpu.device);
        let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
        gathered::step::<f32, f32>(&gpu.device, &mut loss, &data);
        assert_eq!(since(&gpu.device, &before), counts.into_iter().collect::<Vec<_>>());
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
