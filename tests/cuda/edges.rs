//! The ends of the number line and of the shapes.

use inbatch::cuda::InBatchLoss;
use inbatch::{Error, LossConfig, Reduction};

use crate::support::{Case, Grads, OnDevice, Results, bits, gpu, results, step};

fn float(bits: u32) -> f32 {
    f32::from_bits(bits)
}

#[test]
fn a_row_without_negatives_costs_nothing() {
    let gpu = gpu();
    let case = Case::<f32>::random((1, 1, 0, 7, 0), 1);
    let got: Results<f32> = step(&gpu, LossConfig::new(0.1).unwrap(), &case, false);
    assert_eq!(float(got.loss.unwrap()), 0.0);
    assert_eq!(float(got.log_sum_exp[0]), f32::NEG_INFINITY);
    assert!(got.d_users.iter().chain(&got.d_items).all(|&x| x == 0.0));
    // The same with every column excluded: all items have the positive's id.
    let mut case = Case::<f32>::random((4, 9, 5, 7, 2), 2);
    case.item_ids.fill(3);
    case.extra_item_ids.fill(3);
    let config = LossConfig::new(0.1).unwrap().exclude_same_item(true);
    let got: Results<f32> = step(&gpu, config, &case, false);
    assert_eq!(float(got.loss.unwrap()), 0.0);
    assert!(got.d_users.iter().chain(&got.d_items).chain(&got.d_extra).all(|&x| x == 0.0));
}

#[test]
fn infinite_logits() {
    let gpu = gpu();
    let dim = 4;
    let mut case = Case::<f32>::random((3, 5, 0, dim, 0), 3);
    // <u_0, v_4> overflows to +inf, <u_1, v_4> to -inf.
    case.users[..2 * dim].fill(0.0);
    case.users[0] = 1e30;
    case.users[dim] = -1e30;
    case.users[2 * dim..].fill(0.25);
    case.items[4 * dim..].fill(0.0);
    case.items[4 * dim] = 1e30;
    case.users[2 * dim] = 0.0;
    let config = LossConfig::new(1.0).unwrap().reduction(Reduction::None);
    let got: Results<f32> = step(&gpu, config, &case, false);
    assert_eq!(float(got.row_losses[0]), f32::INFINITY);
    assert_eq!(float(got.log_sum_exp[0]), f32::INFINITY);
    assert!(got.d_users[..dim].iter().any(|x| x.is_nan()));
    assert!(got.d_items[4 * dim..].iter().any(|x| x.is_nan()));
    // A logit of -inf is a negative that counts for nothing.
    assert!(float(got.row_losses[1]).is_finite() && float(got.row_losses[2]).is_finite());
    assert!(got.d_users[dim..].iter().all(|x| x.is_finite()));
    assert!(got.d_items[..dim].iter().all(|x| x.is_finite()));
}

#[test]
fn norms_of_any_size() {
    let gpu = gpu();
    let config = LossConfig::new(0.1).unwrap().normalize(true);
    let case = Case::<f32>::random((9, 12, 3, 33, 1), 4);
    let expected: Results<f32> = step(&gpu, config, &case, false);
    // Powers of two change no bit of the unit vectors; squares of these numbers would overflow and underflow.
    for exponent in [-100, 100] {
        let scale = 2f32.powi(exponent);
        let mut scaled = case.clone();
        scaled.users.iter_mut().for_each(|x| *x *= scale);
        scaled.items.iter_mut().for_each(|x| *x *= scale);
        let got: Results<f32> = step(&gpu, config, &scaled, false);
        assert_eq!(got.row_losses, expected.row_losses);
        assert_eq!(got.log_sum_exp, expected.log_sum_exp);
        let back: Vec<f32> = got.d_users.iter().map(|x| x * scale).collect();
        assert_eq!(back, expected.d_users, "the gradient scales with the inverse of the norm");
    }
    let mut zero = case.clone();
    zero.users[..33].fill(0.0);
    zero.items[33 * 5..33 * 6].fill(0.0);
    let got: Results<f32> = step(&gpu, config, &zero, false);
    assert!(float(got.loss.unwrap()).is_finite());
    assert!(got.d_users[..33].iter().chain(&got.d_items[33 * 5..33 * 6]).all(|&x| x == 0.0));
    assert!(got.d_users.iter().chain(&got.d_items).all(|x| x.is_finite()));
}

#[test]
fn gradients_of_a_part_and_the_largest_dimension() {
    let gpu = gpu();
    let device = &gpu.device;
    let case = Case::<f32>::random((3, 4, 5, 1024, 0), 5);
    let config = LossConfig::new(0.1).unwrap().normalize(true);
    let all: Results<f32> = step(&gpu, config, &case, false);
    // Extra negatives as constants: the other gradients are the same.
    let inputs = OnDevice::new(device, &case);
    let mut gradients = Grads::<f32>::poisoned(device, &case);
    let mut loss = InBatchLoss::new(device, config).unwrap();
    let output = loss.step(&inputs.batch(true, false), &mut gradients.view(false)).unwrap();
    let part = results(device, &output, &gradients, false);
    assert_eq!((part.d_users, part.d_items, part.loss), (all.d_users, all.d_items, all.loss));
    let untouched = device.stream().clone_dtoh(&gradients.extra).unwrap();
    assert!(untouched.iter().all(|x| x.is_nan()));

    // The loss alone has the same bits.
    let output = loss.evaluate(&inputs.batch(true, false)).unwrap();
    assert_eq!(output.loss().unwrap().to_bits(), all.loss.unwrap());
    assert_eq!(bits(&output.row_losses().unwrap()), all.row_losses);
}

#[test]
fn shapes_that_do_not_fit_are_refused_before_the_device_sees_them() {
    let gpu = gpu();
    let device = &gpu.device;
    let case = Case::<f32>::random((3, 4, 2, 8, 0), 6);
    let inputs = OnDevice::new(device, &case);
    let before = device.counters();
    let mut loss = InBatchLoss::new(device, LossConfig::new(0.1).unwrap()).unwrap();
    let mut gradients = Grads::<f32>::poisoned(device, &case);
    let batch = inbatch::cuda::Batch::new(&inputs.users, &inputs.items, 7);
    assert!(matches!(loss.evaluate(&batch), Err(Error::NotRows { .. })));
    let batch = inbatch::cuda::Batch::new(&inputs.users, &inputs.items, 8).offset(2);
    assert!(matches!(loss.evaluate(&batch), Err(Error::PositivesOutside { .. })));
    let batch = inbatch::cuda::Batch::new(&inputs.users, &inputs.items, 8).log_q(&inputs.weights);
    assert!(matches!(loss.evaluate(&batch), Err(Error::Length { what: "log_q", .. })));
    let mut short = inbatch::cuda::Gradients::new(gradients.users.slice_mut(1..), &mut gradients.items);
    let error = loss.step(&inputs.batch(false, false), &mut short).map(drop).unwrap_err();
    assert!(matches!(error, Error::Length { what: "the gradient of users", .. }), "{error}");
    loss.forward(&inputs.batch(false, false)).unwrap();
    let upstream = inbatch::cuda::View::from(&inputs.weights);
    let error = loss
        .backward(&inputs.batch(false, false), Some(upstream), &mut gradients.view(false))
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, Error::Length { what: "upstream", expected: 1, .. }), "{error}");
    let launched = |counters: &inbatch::cuda::Counters| counters.launches.iter().map(|(_, n)| n).sum::<u64>();
    assert_eq!(launched(&device.counters()) - launched(&before), 6, "the forward alone");
}
