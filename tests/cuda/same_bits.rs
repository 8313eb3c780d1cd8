//! What must not change a single bit: how a call is made, what ran before it, in which order blocks run.

use inbatch::cuda::{self, InBatchLoss, View};
use inbatch::{LossConfig, Reduction};

use crate::support::{Case, Grads, OnDevice, Results, gpu, results, step, step_with};

const SHAPE: crate::support::Shape = (37, 80, 21, 48, 9);

fn config() -> LossConfig {
    LossConfig::new(0.1).unwrap().normalize(true).exclude_same_item(true)
}

#[test]
fn repeated_steps_and_any_workspace_contents() {
    let gpu = gpu();
    let case = Case::<f32>::random(SHAPE, 1);
    let first: Results<f32> = step(&gpu, config(), &case, true);
    let mut loss = InBatchLoss::new(&gpu.device, config()).unwrap();
    // A larger problem leaves a larger workspace, then poison fills it.
    let larger = Case::<f32>::random((70, 140, 30, 64, 0), 2);
    let _: Results<f32> = step_with(&gpu, &mut loss, &larger, false);
    assert_eq!(step_with(&gpu, &mut loss, &case, true), first, "after a larger problem");
    loss.poison_workspace().unwrap();
    assert_eq!(step_with(&gpu, &mut loss, &case, true), first, "after poison");
}

#[test]
fn any_order_of_blocks_and_warps() {
    let gpu = gpu();
    let Some(emulator) = gpu.emulator else {
        println!("SKIPPED: only the emulator can choose the order");
        return;
    };
    let case = Case::<f32>::random(SHAPE, 3);
    let first: Results<f32> = step(&gpu, config(), &case, true);
    for seed in ["1", "2", "3"] {
        emulator.set("seed", seed).unwrap();
        assert_eq!(step(&gpu, config(), &case, true), first, "order {seed}");
    }
    emulator.set("seed", "0").unwrap();
}

#[test]
fn forward_then_backward_is_a_step_even_with_a_push_between() {
    let gpu = gpu();
    let device = &gpu.device;
    let case = Case::<f32>::random(SHAPE, 4);
    let inputs = OnDevice::new(device, &case);
    let bank_config = inbatch::bank::BankConfig::new(100, case.dim).unwrap();
    let mut bank = cuda::MemoryBank::new(device, bank_config).unwrap();
    bank.push(&inputs.pushed()).unwrap();

    let mut loss = InBatchLoss::new(device, config()).unwrap();
    let mut gradients = Grads::<f32>::poisoned(device, &case);
    let output = loss.step(&inputs.batch(true, true).bank(&bank), &mut gradients.view(true)).unwrap();
    let expected = results(device, &output, &gradients, true);

    loss.poison_workspace().unwrap();
    let mut gradients = Grads::<f32>::poisoned(device, &case);
    loss.forward(&inputs.batch(true, true).bank(&bank)).unwrap();
    bank.push(&inputs.pushed()).unwrap();
    for _ in 0..2 {
        let batch = inputs.batch(true, true).bank(&bank);
        let output = loss.backward(&batch, None, &mut gradients.view(true)).unwrap();
        assert_eq!(results(device, &output, &gradients, true), expected);
    }
}

#[test]
fn an_upstream_of_ones_is_none_and_a_power_of_two_scales_exactly() {
    let gpu = gpu();
    let device = &gpu.device;
    let case = Case::<f32>::random(SHAPE, 5);
    let inputs = OnDevice::new(device, &case);
    for reduction in [Reduction::Mean, Reduction::None] {
        let mut loss = InBatchLoss::new(device, config().reduction(reduction)).unwrap();
        let n = if reduction == Reduction::None { case.rows() } else { 1 };
        let mut gradients: Vec<[Vec<f32>; 3]> = Vec::new();
        for upstream in [None, Some(1.0f32), Some(-4.0)] {
            let values = upstream.map(|value| device.stream().clone_htod(&vec![value; n]).unwrap());
            let mut buffers = Grads::<f32>::poisoned(device, &case);
            loss.forward(&inputs.batch(true, false)).unwrap();
            let view = values.as_ref().map(View::from);
            loss.backward(&inputs.batch(true, false), view, &mut buffers.view(true)).unwrap();
            gradients.push(buffers.read(device, true));
        }
        assert_eq!(gradients[0], gradients[1]);
        let scaled = gradients[0].clone().map(|part| part.iter().map(|x| x * -4.0).collect::<Vec<_>>());
        assert_eq!(scaled, gradients[2]);
    }
}

#[test]
fn unaligned_rows_give_the_same_bits() {
    let gpu = gpu();
    let device = &gpu.device;
    let case = Case::<half::f16>::random((20, 30, 0, 32, 2), 7);
    let expected: Results<f32> = step(&gpu, config(), &case, false);
    // One element of room in front: rows no longer start at multiples of 16 bytes.
    let shifted = |values: &[half::f16]| {
        let values = [&[half::f16::ONE], values].concat();
        device.stream().clone_htod(&values).unwrap()
    };
    let (users, items) = (shifted(&case.users), shifted(&case.items));
    let inputs = OnDevice::new(device, &case);
    let mut gradients = Grads::<f32>::poisoned(device, &case);
    let batch = cuda::Batch::new(users.slice(1..), items.slice(1..), case.dim).offset(case.offset);
    let batch = batch.log_q(&inputs.log_q).item_ids(&inputs.item_ids);
    let mut loss = InBatchLoss::new(device, config()).unwrap();
    let output = loss.step(&batch, &mut gradients.view(false)).unwrap();
    assert_eq!(results(device, &output, &gradients, false), expected);
}

#[test]
fn nan_and_weightless_rows_stay_alone() {
    let gpu = gpu();
    let config = LossConfig::new(0.1).unwrap().normalize(true).reduction(Reduction::None);
    let clean = Case::<f32>::random(SHAPE, 8);
    let expected: Results<f32> = step(&gpu, config, &clean, true);
    let dim = clean.dim;
    let bad = 11;

    let mut case = clean.clone();
    case.users[bad * dim + 3] = f32::NAN;
    let got: Results<f32> = step(&gpu, config, &case, true);
    for row in (0..clean.rows()).filter(|&row| row != bad) {
        assert_eq!(got.row_losses[row], expected.row_losses[row]);
        assert_eq!(got.d_users[row * dim..][..dim], expected.d_users[row * dim..][..dim]);
    }
    assert!(f32::from_bits(got.row_losses[bad]).is_nan());
    assert!(got.d_items.iter().any(|x| x.is_nan()));

    // With weight 0 it is as if the row had never been there: the NaN has no way out.
    let mut without = clean;
    without.weights[bad] = 0.0;
    let expected: Results<f32> = step(&gpu, config, &without, true);
    case.weights[bad] = 0.0;
    let got: Results<f32> = step(&gpu, config, &case, true);
    assert_eq!(got.d_users, expected.d_users);
    assert_eq!(got.d_items, expected.d_items);
    assert_eq!(got.d_extra, expected.d_extra);
    assert_eq!(got.row_losses, expected.row_losses);
    assert_eq!(got.d_inverse_temperature, expected.d_inverse_temperature);
    assert!(got.d_users[bad * dim..][..dim].iter().all(|x| x.to_bits() == 0));
}
