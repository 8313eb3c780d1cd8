//! Learnt temperature and bias, changed on the device.

use inbatch::cuda::{InBatchLoss, View};
use inbatch::{Error, LearnedTemperature, LossConfig, Objective};

use crate::support::{Case, Gpu, Grads, OnDevice, gpu};

fn close(a: f32, b: f32) -> bool {
    (a - b).abs() <= 4e-6 * b.abs()
}

#[test]
fn descent_on_the_device_is_descent_on_the_host() {
    descent(&gpu());
}

/// Descending on the device is descending on the host, step for step.
pub(crate) fn descent(gpu: &Gpu) {
    let case = Case::<f32>::random((40, 40, 0, 12, 0), 3);
    let inputs = OnDevice::new(&gpu.device, &case);
    let mut gradients = Grads::<f32>::poisoned(&gpu.device, &case);
    // 1/tau is far from a power of two, where a logarithm shows all of its terms.
    let config = LossConfig::new(0.36).unwrap().normalize(true);
    let mut bias = -2.0;
    let config = config.objective(Objective::Sigmoid { bias }).unwrap();
    let mut learned = LearnedTemperature::new(0.36).unwrap().within(0.3, 0.6).unwrap();
    let mut device = InBatchLoss::new(&gpu.device, config).unwrap();
    let mut host = InBatchLoss::new(&gpu.device, config).unwrap();
    let start = learned.temperature();
    for _ in 0..6 {
        let output = host.step(&inputs.batch(false, false), &mut gradients.view(false)).unwrap();
        let (d_inverse, d_bias) = (output.d_inverse_temperature().unwrap(), output.d_bias().unwrap());
        learned.descend(0.02, d_inverse).unwrap();
        bias -= 0.1 * d_bias;
        let next = config.with_temperature(learned.temperature()).unwrap();
        host.set_config(next.objective(Objective::Sigmoid { bias }).unwrap()).unwrap();

        device.step(&inputs.batch(false, false), &mut gradients.view(false)).unwrap();
        device.descend_temperature(&learned, 0.02).unwrap();
        device.descend_bias(0.1).unwrap();
        let (tau, found) = (device.temperature().unwrap(), device.bias().unwrap());
        assert!(close(tau, learned.temperature()), "{tau} is not {}", learned.temperature());
        assert!(close(found, bias), "{found} is not {bias}");
    }
    assert!((0.31..0.59).contains(&learned.temperature()), "at a bound: {}", learned.temperature());
    assert!((learned.temperature() - start).abs() > 0.002 && (bias + 2.0).abs() > 0.01, "nothing was learnt");
}

#[test]
fn the_callers_own_parameters_are_taken_and_clamped() {
    own_parameters(&gpu());
}

pub(crate) fn own_parameters(gpu: &Gpu) {
    let stream = gpu.device.stream();
    let config = LossConfig::new(0.5).unwrap().objective(Objective::Sigmoid { bias: -2.0 }).unwrap();
    let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
    let learned = LearnedTemperature::new(0.5).unwrap().within(0.1, 1.0).unwrap();
    for (parameter, temperature) in [(4f32.ln(), 0.25), (9.0, 0.1), (-9.0, 1.0)] {
        let parameter = stream.clone_htod(&[parameter]).unwrap();
        loss.set_temperature_from(&View::from(&parameter), &learned).unwrap();
        assert!(close(loss.temperature().unwrap(), temperature), "{temperature}");
    }
    let own = stream.clone_htod(&[-7.5f32]).unwrap();
    loss.set_bias_from(&View::from(&own)).unwrap();
    assert_eq!(loss.bias().unwrap(), -7.5);
    // A step uses them: as a loss that was built with them.
    let case = Case::<f32>::random((9, 9, 0, 5, 0), 4);
    let inputs = OnDevice::new(&gpu.device, &case);
    let found = loss.evaluate(&inputs.batch(false, false)).unwrap().loss().unwrap();
    let built = LossConfig::new(loss.temperature().unwrap()).unwrap();
    let built = built.objective(Objective::Sigmoid { bias: -7.5 }).unwrap();
    let mut built = InBatchLoss::new(&gpu.device, built).unwrap();
    let expected = built.evaluate(&inputs.batch(false, false)).unwrap().loss().unwrap();
    assert!(close(found, expected), "{found} is not {expected}");
    let nan = stream.clone_htod(&[f32::NAN]).unwrap();
    loss.set_temperature_from(&View::from(&nan), &learned).unwrap();
    assert!(loss.temperature().unwrap().is_nan(), "a NaN was hidden");
}

#[test]
fn parameters_without_gradients() {
    let gpu = gpu();
    let config = LossConfig::new(0.5).unwrap();
    let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
    let learned = LearnedTemperature::new(0.5).unwrap();
    assert!(matches!(loss.descend_temperature(&learned, 1.0), Err(Error::NoTemperatureGradient)));
    assert!(matches!(loss.descend_bias(1.0), Err(Error::NoBiasGradient)));
    let two = gpu.device.stream().clone_htod(&[0.0f32; 2]).unwrap();
    let error = loss.set_temperature_from(&View::from(&two), &learned).unwrap_err();
    assert!(matches!(error, Error::Length { what: "a learnt parameter", .. }), "{error}");
    assert!(matches!(loss.set_bias_from(&View::from(&two)), Err(Error::NoBiasGradient)));
    let case = Case::<f32>::random((3, 3, 0, 5, 0), 4);
    let inputs = OnDevice::new(&gpu.device, &case);
    let mut gradients = Grads::<f32>::poisoned(&gpu.device, &case);
    let output = loss.step(&inputs.batch(false, false), &mut gradients.view(false)).unwrap();
    assert!(matches!(output.d_bias(), Err(Error::NoBiasGradient)));
    assert!(matches!(output.device_d_bias(), Err(Error::NoBiasGradient)));
    assert!(matches!(output.metrics(), Err(Error::NoMetrics)));
    assert!(matches!(output.device_ranks(), Err(Error::NoMetrics)));
}

/// The device's own views hold what the host reads.
#[test]
fn device_views_are_what_the_host_reads() {
    let gpu = gpu();
    let case = Case::<f32>::random((20, 24, 0, 7, 2), 8);
    let inputs = OnDevice::new(&gpu.device, &case);
    let mut gradients = Grads::<f32>::poisoned(&gpu.device, &case);
    let config = LossConfig::new(0.25).unwrap().metrics(true).exclude_same_item(true);
    let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
    let output = loss.step(&inputs.batch(false, false), &mut gradients.view(false)).unwrap();
    let metrics = output.metrics().unwrap();
    let read = |view: View<'_, u32>| {
        // SAFETY: the view addresses 20 counts of the workspace, which lives through the copy.
        let slice = unsafe { gpu.device.stream().upgrade_device_ptr::<u32>(view.device_pointer(), 20) };
        let values = gpu.device.stream().clone_dtoh(&slice).unwrap();
        // The memory belongs to the workspace.
        let _ = slice.leak();
        values
    };
    assert_eq!(read(output.device_ranks().unwrap()), metrics.ranks);
    assert_eq!(read(output.device_negatives().unwrap()), metrics.negatives);
    assert_eq!(read(output.device_excluded().unwrap()), metrics.excluded);
    assert!(metrics.excluded_pairs() > 0 && metrics.ranks.iter().any(|rank| *rank > 0));
    let d_log = output.device_d_log_inverse_temperature().unwrap();
    // SAFETY: one f32 of the workspace.
    let slice = unsafe { gpu.device.stream().upgrade_device_ptr::<f32>(d_log.device_pointer(), 1) };
    let d_log = gpu.device.stream().clone_dtoh(&slice).unwrap()[0];
    let _ = slice.leak();
    assert!(close(d_log, output.d_inverse_temperature().unwrap() * 4.0));
}
