//! Every error of the CUDA backend, provoked.

use inbatch::bank::BankConfig;
use inbatch::cuda::cudarc::driver::CudaContext;
use inbatch::cuda::{self, Device, InBatchLoss, MemoryBank};
use inbatch::link::raw;
use inbatch::{Error, LossConfig, Reduction};

use crate::support::{Case, Grads, OnDevice, gpu};

fn config() -> LossConfig {
    LossConfig::new(0.1).unwrap()
}

#[test]
fn no_such_device() {
    let gpu = gpu();
    let error = Device::new(99).unwrap_err();
    assert!(matches!(error, Error::NoDevice { ordinal: 99, count } if count > 0), "{error}");
    drop(gpu);
}

#[test]
fn misaligned_and_null_pointers() {
    // SAFETY: these pointers are refused, or belong to views of no elements.
    unsafe {
        let error = raw::view::<f32, _>(&(), 0x1002, 4).unwrap_err();
        assert!(matches!(error, Error::Misaligned { address: 0x1002, len: 4, align: 4 }), "{error}");
        assert!(matches!(raw::view::<i64, _>(&(), 0, 1), Err(Error::Misaligned { .. })));
        let error = raw::view_mut::<half::f16, _>(&mut (), 0x1001, 1).unwrap_err();
        assert!(matches!(error, Error::Misaligned { .. }), "{error}");
        assert!(raw::view::<f32, _>(&(), 0, 0).is_ok());
    }
}

#[test]
fn out_of_memory() {
    let gpu = gpu();
    let case = Case::<f32>::random((5, 6, 0, 8, 0), 1);
    let mut loss = InBatchLoss::new(&gpu.device, config()).unwrap();
    // More than any device has.
    let huge = inbatch::Problem { batch_columns: i32::MAX as usize, dim: 1024, ..case.problem() };
    let asked = loss.workspace_bytes(&huge);
    let error = loss.reserve(&huge).unwrap_err();
    assert!(
        matches!(error, Error::OutOfDeviceMemory { bytes, free, .. } if bytes > free && bytes <= asked),
        "{error}"
    );
    assert!(error.to_string().contains("smaller batch"), "{error}");

    if let Some(emulator) = gpu.emulator {
        let inputs = OnDevice::new(&gpu.device, &case);
        let mut gradients = Grads::<f32>::poisoned(&gpu.device, &case);
        let mut loss = InBatchLoss::new(&gpu.device, config()).unwrap();
        emulator.fail_allocations(1);
        let error = loss.step(&inputs.batch(false, false), &mut gradients.view(false)).unwrap_err();
        assert!(matches!(error, Error::OutOfDeviceMemory { .. }), "{error}");
        emulator.fail_allocations(1);
        let bank = MemoryBank::<f32>::new(&gpu.device, BankConfig::new(8, 8).unwrap());
        assert!(matches!(bank.unwrap_err(), Error::OutOfDeviceMemory { what: "the memory bank", .. }));
        emulator.fail_allocations(0);
        loss.step(&inputs.batch(false, false), &mut gradients.view(false)).unwrap().loss().unwrap();
    }
}

#[test]
fn a_bank_or_buffer_of_another_stream_or_device() {
    let gpu = gpu();
    let case = Case::<f32>::random((5, 6, 0, 8, 0), 2);
    let inputs = OnDevice::new(&gpu.device, &case);
    let mut loss = InBatchLoss::new(&gpu.device, config()).unwrap();
    let stream = gpu.device.stream().context().new_stream().unwrap();
    let other = Device::on_stream(stream).unwrap();
    let bank = MemoryBank::new(&other, BankConfig::new(8, 8).unwrap()).unwrap();
    let error = loss.evaluate(&inputs.batch(false, false).bank(&bank)).unwrap_err();
    assert!(matches!(error, Error::Elsewhere { what: "the memory bank", place: "stream" }), "{error}");

    let context = CudaContext::new_non_primary(0, 0).unwrap();
    let foreign = context.default_stream().clone_htod(&case.users).unwrap();
    let batch = cuda::Batch::new(&foreign, &inputs.items, case.dim);
    let error = loss.evaluate(&batch).unwrap_err();
    assert!(matches!(error, Error::Elsewhere { what: "users", place: "device" }), "{error}");
    let other = Device::on_stream(context.default_stream()).unwrap();
    let bank = MemoryBank::new(&other, BankConfig::new(8, 8).unwrap()).unwrap();
    let error = loss.evaluate(&inputs.batch(false, false).bank(&bank)).unwrap_err();
    assert!(matches!(error, Error::Elsewhere { what: "the memory bank", place: "device" }), "{error}");
}

#[test]
fn backward_without_its_forward() {
    let gpu = gpu();
    let case = Case::<f32>::random((5, 6, 0, 8, 0), 3);
    let other = Case::<f32>::random((4, 6, 0, 8, 0), 3);
    let inputs = OnDevice::new(&gpu.device, &case);
    let other_inputs = OnDevice::new(&gpu.device, &other);
    let mut gradients = Grads::<f32>::poisoned(&gpu.device, &case);
    let mut loss = InBatchLoss::new(&gpu.device, config()).unwrap();
    let mut refused = |loss: &mut InBatchLoss, word: &str| {
        let error = loss.backward(&inputs.batch(false, false), None, &mut gradients.view(false)).unwrap_err();
        assert!(matches!(error, Error::NoForward(_)), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    refused(&mut loss, "none");
    loss.forward(&other_inputs.batch(false, false)).unwrap();
    refused(&mut loss, "shape");
    loss.forward(&inputs.batch(false, false)).unwrap();
    loss.set_temperature(0.2).unwrap();
    refused(&mut loss, "configuration");
    loss.forward(&inputs.batch(false, false)).unwrap();
    loss.evaluate(&inputs.batch(false, false)).unwrap();
    refused(&mut loss, "evaluation");
}

#[test]
fn reads_that_have_no_answer() {
    let gpu = gpu();
    let case = Case::<f32>::random((5, 6, 0, 8, 0), 4);
    let inputs = OnDevice::new(&gpu.device, &case);
    let mut loss = InBatchLoss::new(&gpu.device, config().reduction(Reduction::None)).unwrap();
    let output = loss.evaluate(&inputs.batch(false, false)).unwrap();
    assert!(matches!(output.loss(), Err(Error::NoScalarLoss)));
    assert!(matches!(output.device_loss(), Err(Error::NoScalarLoss)));
    assert!(matches!(output.d_inverse_temperature(), Err(Error::NoTemperatureGradient)));
    assert!(matches!(output.device_d_inverse_temperature(), Err(Error::NoTemperatureGradient)));
}

#[test]
fn weights_without_a_sum() {
    let gpu = gpu();
    let mut case = Case::<f32>::random((4, 6, 3, 8, 0), 5);
    let config = config().reduction(Reduction::WeightedMean);
    for weights in [[1.0, -1.0, 2.0, -2.0], [1.0, f32::NAN, 2.0, 3.0]] {
        case.weights = weights.to_vec();
        let inputs = OnDevice::new(&gpu.device, &case);
        let mut gradients = Grads::<f32>::poisoned(&gpu.device, &case);
        let mut loss = InBatchLoss::new(&gpu.device, config).unwrap();
        let output = loss.step(&inputs.batch(true, true), &mut gradients.view(true)).unwrap();
        assert!(matches!(output.loss(), Err(Error::WeightSum(_))));
        let pointer = output.device_loss().unwrap().device_pointer();
        assert_ne!(pointer, 0);
        let read = gradients.read(&gpu.device, true);
        if weights[1].is_finite() {
            assert!(read.iter().flatten().all(|&x| x == 0.0), "gradients are 0");
        }
    }
}

#[test]
fn a_driver_that_is_too_old_for_the_ptx() {
    let gpu = gpu();
    let Some(emulator) = gpu.emulator else {
        println!("SKIPPED: a real driver has the version that it has");
        return;
    };
    emulator.set("driver", "11.8").unwrap();
    // A context of its own: kernels are loaded once per context.
    let context = CudaContext::new_non_primary(0, 0).unwrap();
    let device = Device::on_stream(context.default_stream()).unwrap();
    let error = MemoryBank::<f32>::new(&device, BankConfig::new(8, 8).unwrap()).unwrap_err();
    emulator.set("driver", "13.0").unwrap();
    // The emulator reports what it refused; here that is the point.
    emulator.clear();
    assert!(matches!(error, Error::Ptx { module: "bank", .. }), "{error}");
    assert!(error.to_string().contains("525"), "{error}");
}

#[test]
fn launches_on_a_stream_that_is_gone() {
    let gpu = gpu();
    if gpu.emulator.is_none() {
        println!("SKIPPED: a real driver may do anything with a destroyed stream");
        return;
    }
    let case = Case::<f32>::random((5, 6, 0, 8, 0), 6);
    let inputs = OnDevice::new(&gpu.device, &case);
    let owner = gpu.device.stream().context().new_stream().unwrap();
    // SAFETY: the stream is destroyed too early on purpose; the emulator refuses its handle.
    let device = unsafe { raw::adopt_stream(0, owner.cu_stream(), ()) }.unwrap();
    let mut loss = InBatchLoss::new(&device, config()).unwrap();
    loss.reserve(&case.problem()).unwrap();
    device.synchronize().unwrap();
    drop(owner);
    let error = loss.evaluate(&inputs.batch(false, false)).unwrap_err();
    assert!(matches!(error, Error::Launch { kernel: "prepare_columns_f32", .. }), "{error}");
    let error = device.synchronize().unwrap_err();
    assert!(matches!(error, Error::Driver { what: "waiting for the stream", .. }), "{error}");
    // Giving memory back on that stream fails too; cudarc keeps such an error for the next call.
    drop(loss);
    assert!(gpu.device.stream().context().check_err().is_err());
}
