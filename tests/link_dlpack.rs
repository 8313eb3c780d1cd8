//! DLPack in and out: where the memory lies, what is refused, and the bits of the native call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use inbatch::link::dlpack::dlpark::ffi::{DLDevice, DLManagedTensorVersioned};
use inbatch::link::dlpack::dlpark::metadata::Fixed;
use inbatch::link::dlpack::dlpark::versioned::Dlpack;
use inbatch::link::dlpack::dlpark::{DlpackElement, DlpackFlags};
use inbatch::link::dlpack::{cpu_view, cpu_view_mut, dim, export_cpu};
use inbatch::{Error, Length, LossConfig, cpu};

const ROWS: usize = 5;
const COLUMNS: usize = 7;
const DIM: usize = 12;

fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..n).map(|_| random.f32() * 2.0 - 1.0).collect()
}

fn config() -> LossConfig {
    LossConfig::new(0.1).unwrap().normalize(true)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Loss and gradients of the native call on the same numbers.
fn native() -> [Vec<u32>; 3] {
    let (users, items, log_q) = (random(1, ROWS * DIM), random(2, COLUMNS * DIM), random(3, COLUMNS));
    let (mut d_users, mut d_items) = (vec![f32::NAN; ROWS * DIM], vec![f32::NAN; COLUMNS * DIM]);
    let mut loss = cpu::InBatchLoss::new(config()).unwrap();
    let batch = cpu::Batch::new(&users, &items, DIM).log_q(&log_q);
    let output = loss.step(&batch, &mut cpu::Gradients::new(&mut d_users, &mut d_items)).unwrap();
    [bits(&[output.loss().unwrap()]), bits(&d_users), bits(&d_items)]
}

/// Counts its drops, and owns what a tensor points to.
struct Owned<T>(Vec<T>, Arc<AtomicUsize>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

/// A tensor as another library would make it.
struct Foreign<const N: usize> {
    shape: [i64; N],
    strides: [i64; N],
    byte_offset: u64,
    device: DLDevice,
    flags: DlpackFlags,
}

impl<const N: usize> Foreign<N> {
    fn new(shape: [i64; N], strides: [i64; N]) -> Self {
        Self { shape, strides, byte_offset: 0, device: DLDevice::CPU, flags: DlpackFlags::empty() }
    }

    fn tensor<T: DlpackElement + Send>(self, values: Vec<T>, drops: &Arc<AtomicUsize>) -> Dlpack {
        let mut owner = Box::new(Owned(values, drops.clone()));
        let pointer = owner.0.as_mut_ptr();
        let layout = Fixed::new(self.shape, self.strides);
        let mut tensor = layout.prepare_as::<DLManagedTensorVersioned>().unwrap().initialize(owner);
        tensor.set_data(pointer.cast()).set_device(self.device).set_dtype(T::DTYPE);
        tensor.set_byte_offset(self.byte_offset);
        tensor.set_flags(self.flags).unwrap();
        // SAFETY: every test keeps shape and offset within the values.
        unsafe { tensor.finish() }
    }
}

#[test]
fn imported_tensors_give_the_native_bits_without_a_copy() {
    let drops = Arc::new(AtomicUsize::new(0));
    let matrix = |rows: usize| Foreign::new([rows as i64, DIM as i64], [DIM as i64, 1]);
    let users = matrix(ROWS).tensor(random(1, ROWS * DIM), &drops);
    // The items lie behind three other values.
    let values = [vec![9.0; 3], random(2, COLUMNS * DIM)].concat();
    let items = Foreign { byte_offset: 12, ..matrix(COLUMNS) }.tensor(values, &drops);
    let log_q = Foreign::new([COLUMNS as i64], [1]).tensor(random(3, COLUMNS), &drops);
    let mut d_users = matrix(ROWS).tensor(vec![f32::NAN; ROWS * DIM], &drops);
    let mut d_items = vec![f32::NAN; COLUMNS * DIM];
    let gradient_at = d_items.as_ptr();

    let loss_bits = {
        assert_eq!(dim(&users).unwrap(), DIM);
        // SAFETY: the tensors were made above, and nobody else holds them.
        let (u, v, q, du) = unsafe {
            (
                cpu_view::<f32, _>(&users).unwrap(),
                cpu_view::<f32, _>(&items).unwrap(),
                cpu_view::<f32, _>(&log_q).unwrap(),
                cpu_view_mut::<f32, _>(&mut d_users).unwrap(),
            )
        };
        let mut loss = cpu::InBatchLoss::new(config()).unwrap();
        let batch = cpu::Batch::new(u, v, DIM).log_q(q);
        let output = loss.step(&batch, &mut cpu::Gradients::new(du, &mut d_items)).unwrap();
        bits(&[output.loss().unwrap()])
    };
    // Handed over as a raw pointer and taken back, as between two libraries.
    let exported = export_cpu(d_items, DIM).unwrap();
    assert_eq!(exported.validate().unwrap().shape(), [COLUMNS as i64, DIM as i64]);
    // SAFETY: the pointer was just given away.
    let exported = unsafe { Dlpack::from_raw(exported.into_raw()) }.unwrap();
    assert_eq!(exported.validate().unwrap().data_ptr().addr(), gradient_at.addr(), "the same memory");
    // SAFETY: these tensors hold what the step has written.
    let (d_users, d_items) = unsafe {
        (
            bits(d_users.validate().unwrap().cpu_slice::<f32>().unwrap()),
            bits(exported.validate().unwrap().cpu_slice::<f32>().unwrap()),
        )
    };
    assert_eq!([loss_bits, d_users, d_items], native());

    drop((users, items, log_q, exported));
    assert_eq!(drops.load(Ordering::Relaxed), 3, "each owner is dropped once, with its tensor");
}

/// The refusal's words.
fn refusal<T>(result: inbatch::Result<T>) -> String {
    match result.err().expect("refused") {
        error @ Error::Foreign { what: "the DLPack tensor", .. } => error.to_string(),
        other => panic!("another error: {other}"),
    }
}

#[test]
fn what_cannot_be_used_where_it_lies_is_refused() {
    let drops = Arc::default();
    let values = || vec![0.5f32; 24];
    let matrix = || Foreign::new([4, 6], [6, 1]);
    let view = |tensor: &Dlpack| {
        // SAFETY: refused.
        refusal(unsafe { cpu_view::<f32, _>(tensor) })
    };
    let integers = matrix().tensor(vec![1i32; 24], &drops);
    assert!(view(&integers).contains("convert it"));
    let halves = matrix().tensor(vec![half::f16::ONE; 24], &drops);
    assert!(view(&halves).contains("convert it"));
    let on_cuda = Foreign { device: DLDevice::cuda(1), ..matrix() }.tensor(values(), &drops);
    assert!(view(&on_cuda).contains("move it there"));
    // Columns first, every other row, backwards.
    for (shape, strides) in [([6, 4], [1, 6]), ([2, 6], [12, 1]), ([4, 6], [6, -1])] {
        let tensor = Foreign::new(shape, strides).tensor(values(), &drops);
        assert!(view(&tensor).contains("contiguous"), "{strides:?}");
    }
    let odd = Foreign { byte_offset: 2, ..Foreign::new([3, 6], [6, 1]) }.tensor(values(), &drops);
    assert!(view(&odd).contains("align"), "{}", view(&odd));
    let mut read_only = Foreign { flags: DlpackFlags::READ_ONLY, ..matrix() }.tensor(values(), &drops);
    // SAFETY: refused, and then read alone.
    unsafe {
        assert!(refusal(cpu_view_mut::<f32, _>(&mut read_only)).contains("read-only"));
        assert_eq!(cpu_view::<f32, _>(&read_only).unwrap().length(), 24);
    }
    let cube = Foreign::new([2, 3, 4], [12, 4, 1]).tensor(values(), &drops);
    assert!(refusal(dim(&cube)).contains("matrix"));
    assert!(matches!(export_cpu(values(), 7), Err(Error::NotRows { len: 24, dim: 7, .. })));
    assert!(matches!(export_cpu(values(), 0), Err(Error::NotRows { dim: 0, .. })));
}

#[test]
fn tensors_of_no_elements() {
    let empty = export_cpu(Vec::<f32>::new(), DIM).unwrap();
    assert!(empty.validate().unwrap().data_ptr().is_null());
    assert_eq!(dim(&empty).unwrap(), DIM);
    let items = random(2, COLUMNS * DIM);
    // SAFETY: a view of no elements.
    let users = unsafe { cpu_view::<f32, _>(&empty) }.unwrap();
    let batch = cpu::Batch::new(users, &items, DIM);
    let error = cpu::InBatchLoss::new(config()).unwrap().evaluate(&batch).unwrap_err();
    assert!(matches!(error, Error::NoRows), "{error}");
}

#[cfg(feature = "cuda")]
mod cuda {
    use inbatch::cuda::cudarc::driver::CudaSlice;
    use inbatch::cuda::{Batch, Device, Gradients, InBatchLoss};
    use inbatch::link::dlpack::{cuda_view, cuda_view_mut, export_cuda};

    use super::*;

    fn exported(device: &Device, values: &[f32]) -> Dlpack {
        export_cuda(device.stream().clone_htod(values).unwrap(), DIM).unwrap()
    }

    #[test]
    fn device_memory_goes_both_ways_without_a_copy() {
        let choice = ptx_emulator_harness::device().unwrap();
        let device = Device::new(0).unwrap();
        println!("device: {}", device.name());
        let (users, items) = (random(1, ROWS * DIM), random(2, COLUMNS * DIM));
        let log_q = device.stream().clone_htod(&random(3, COLUMNS)).unwrap();
        let upload = |values: &[f32]| -> CudaSlice<f32> { device.stream().clone_htod(values).unwrap() };

        let (u, v) = (upload(&users), upload(&items));
        let (mut du, mut dv) = (upload(&vec![f32::NAN; users.len()]), upload(&vec![f32::NAN; items.len()]));
        let mut loss = InBatchLoss::new(&device, config()).unwrap();
        let batch = Batch::new(&u, &v, DIM).log_q(&log_q);
        let value = loss.step(&batch, &mut Gradients::new(&mut du, &mut dv)).unwrap().loss().unwrap();
        let expected = [du, dv].map(|slice| bits(&device.stream().clone_dtoh(&slice).unwrap()));

        let (u, v) = (exported(&device, &users), exported(&device, &items));
        let mut du = exported(&device, &vec![f32::NAN; users.len()]);
        let mut dv = upload(&vec![f32::NAN; items.len()]);
        // SAFETY: all of these are ready on the device's stream and are used there alone.
        let got = unsafe {
            let batch =
                Batch::new(cuda_view::<f32, _>(&u, &device).unwrap(), cuda_view(&v, &device).unwrap(), DIM);
            let d_users = cuda_view_mut::<f32, _>(&mut du, &device).unwrap();
            let mut gradients = Gradients::new(d_users, &mut dv);
            loss.step(&batch.log_q(&log_q), &mut gradients).unwrap().loss().unwrap()
        };
        assert_eq!(got.to_bits(), value.to_bits());
        let dv = export_cuda(dv, DIM).unwrap();
        for (tensor, expected) in [(du, &expected[0]), (dv, &expected[1])] {
            let mut values = vec![0.0f32; expected.len()];
            let address = tensor.validate().unwrap().data_ptr().addr() as u64;
            // SAFETY: the tensor has as many elements.
            unsafe { cudarc::driver::result::memcpy_dtoh_sync(&mut values, address) }.unwrap();
            assert_eq!(bits(&values), *expected);
        }
        let report = choice.emulator().and_then(|emulator| emulator.report());
        assert!(report.is_none(), "the emulator found a defect: {}", report.unwrap().text);
    }

    #[test]
    fn another_device_and_another_type_are_refused() {
        ptx_emulator_harness::device().unwrap();
        let device = Device::new(0).unwrap();
        let drops = Arc::default();
        let matrix = |place| Foreign { device: place, ..Foreign::new([4, 6], [6, 1]) };
        // SAFETY: refused.
        unsafe {
            for place in [DLDevice::CPU, DLDevice::cuda(1), DLDevice::metal(0)] {
                let mut tensor = matrix(place).tensor(vec![0.5f32; 24], &drops);
                assert!(refusal(cuda_view::<f32, _>(&tensor, &device)).contains("move it there"));
                assert!(refusal(cuda_view_mut::<f32, _>(&mut tensor, &device)).contains("move it there"));
            }
            let tensor = matrix(DLDevice::cuda(0)).tensor(vec![1i64; 24], &drops);
            assert!(refusal(cuda_view::<f32, _>(&tensor, &device)).contains("convert it"));
        }
        let empty = Foreign { device: DLDevice::cuda(0), ..Foreign::new([0, 6], [6, 1]) };
        let empty = empty.tensor(Vec::<f32>::new(), &drops);
        // SAFETY: a view of no elements.
        assert_eq!(unsafe { cuda_view::<f32, _>(&empty, &device) }.unwrap().length(), 0);
    }
}
