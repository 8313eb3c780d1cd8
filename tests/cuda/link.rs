//! Streams and memory of another library, which is the driver's own interface here.

use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use inbatch::cuda::cudarc::driver::sys::{self, CUresult, CUstream};
use inbatch::cuda::cudarc::driver::{CudaContext, CudaStream};
use inbatch::cuda::{self, Device, InBatchLoss, View};
use inbatch::link::raw;
use inbatch::{Error, LossConfig};

use crate::support::{Case, Gpu, Grads, OnDevice, Results, Shape, Slice, bits, gpu, results, step};

const SHAPE: Shape = (20, 30, 0, 33, 2);

fn config() -> LossConfig {
    LossConfig::new(0.1).unwrap().normalize(true).exclude_same_item(true)
}

fn ok(code: CUresult) {
    assert_eq!(code, CUresult::CUDA_SUCCESS);
}

/// A stream as another library owns it.
struct Stream(CUstream);

// SAFETY: a stream's handle may be used on any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    fn new() -> Self {
        CudaContext::new(0).unwrap().bind_to_thread().unwrap();
        let mut stream = null_mut();
        // SAFETY: the context is current; the handle goes to a local variable.
        ok(unsafe {
            sys::cuStreamCreate(&raw mut stream, sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32)
        });
        Self(stream)
    }

    fn adopt(self) -> Device {
        // SAFETY: the stream belongs to the primary context and is destroyed with its owner.
        unsafe { raw::adopt_stream(0, self.0, self) }.unwrap()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        CudaContext::new(0).unwrap().bind_to_thread().unwrap();
        // SAFETY: created by `new`, destroyed once.
        ok(unsafe { sys::cuStreamDestroy_v2(self.0) });
    }
}

/// Device memory as another library owns it: f32 in whole-context allocations.
struct Memory {
    pointer: u64,
    len: usize,
}

impl Memory {
    fn new(values: &[f32]) -> Self {
        CudaContext::new(0).unwrap().bind_to_thread().unwrap();
        let mut pointer = 0;
        // SAFETY: the allocation holds what is copied; both sides are alive.
        unsafe {
            ok(sys::cuMemAlloc_v2(&raw mut pointer, 4 * values.len().max(1)));
            if !values.is_empty() {
                ok(sys::cuMemcpyHtoD_v2(pointer, values.as_ptr().cast(), 4 * values.len()));
            }
        }
        Self { pointer, len: values.len() }
    }

    fn poisoned(len: usize) -> Self {
        Self::new(&vec![f32::NAN; len])
    }

    fn read(&self) -> Vec<f32> {
        let mut values = vec![0.0f32; self.len];
        // SAFETY: as many values as were allocated.
        ok(unsafe { sys::cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), self.pointer, 4 * self.len) });
        values
    }

    fn fill(&self, value: f32, stream: &Device) {
        // SAFETY: as many words as were allocated.
        ok(unsafe {
            sys::cuMemsetD32Async(self.pointer, value.to_bits(), self.len, stream.stream().cu_stream())
        });
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        CudaContext::new(0).unwrap().bind_to_thread().unwrap();
        // SAFETY: allocated by `new`, freed once.
        ok(unsafe { sys::cuMemFree_v2(self.pointer) });
    }
}

/// A step on memory of another library, from element `offset` on.
fn foreign_step(gpu: &Gpu, device: &Device, case: &Case<f32>, offset: usize) -> Results<f32> {
    let shifted = |values: &[f32]| Memory::new(&[&vec![9.0; offset], values].concat());
    let (users, items) = (shifted(&case.users), shifted(&case.items));
    let mut d_users = Memory::poisoned(offset + case.users.len());
    let mut d_items = Memory::poisoned(offset + case.items.len());
    let at = 4 * offset as u64;
    // The inputs that are no embeddings come from the test's usual stream.
    let inputs = OnDevice::new(&gpu.device, case);
    gpu.device.synchronize().unwrap();
    let mut loss = InBatchLoss::new(device, config()).unwrap();
    let (p_users, p_items) = (d_users.pointer + at, d_items.pointer + at);
    // SAFETY: each pointer is followed by as many elements as the case has, of memory that `cuMemFree` gives back.
    let (users, items, g_users, g_items) = unsafe {
        (
            raw::view::<f32, _>(&users, users.pointer + at, case.users.len()).unwrap(),
            raw::view::<f32, _>(&items, items.pointer + at, case.items.len()).unwrap(),
            raw::view_mut::<f32, _>(&mut d_users, p_users, case.users.len()).unwrap(),
            raw::view_mut::<f32, _>(&mut d_items, p_items, case.items.len()).unwrap(),
        )
    };
    let batch = cuda::Batch::new(users, items, case.dim).offset(case.offset);
    let batch = batch.log_q(&inputs.log_q).item_ids(&inputs.item_ids).user_ids(&inputs.user_ids);
    let output = loss.step(&batch, &mut cuda::Gradients::new(g_users, g_items)).unwrap();
    Results {
        loss: output.loss().ok().map(f32::to_bits),
        row_losses: bits(&output.row_losses().unwrap()),
        log_sum_exp: bits(&output.log_sum_exp().unwrap()),
        d_inverse_temperature: output.d_inverse_temperature().unwrap().to_bits(),
        d_users: d_users.read()[offset..].to_vec(),
        d_items: d_items.read()[offset..].to_vec(),
        d_extra: Vec::new(),
    }
}

#[test]
fn foreign_memory_on_a_foreign_stream_gives_the_native_bits() {
    let gpu = gpu();
    let case = Case::<f32>::random(SHAPE, 6);
    let expected: Results<f32> = step(&gpu, config(), &case, false);
    for offset in [0, 1, 4, 7] {
        assert_eq!(foreign_step(&gpu, &Stream::new().adopt(), &case, offset), expected, "offset {offset}");
    }
}

#[test]
fn a_second_library_holds_the_primary_context() {
    let gpu = gpu();
    let case = Case::<f32>::random(SHAPE, 7);
    let expected: Results<f32> = step(&gpu, config(), &case, false);
    let mut context = null_mut();
    // SAFETY: retained here, released at the end of the test.
    ok(unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut context, 0) });
    // SAFETY: the context was retained above.
    ok(unsafe { sys::cuCtxSetCurrent(context) });
    let memory = Memory::new(&[1.0, 2.0, 3.0]);
    // On a thread of its own, where no context is current yet.
    let got = std::thread::scope(|scope| {
        scope.spawn(|| foreign_step(&gpu, &Stream::new().adopt(), &case, 0)).join().unwrap()
    });
    assert_eq!(got, expected);
    // The other library's memory and its current context are as they were.
    let mut current = null_mut();
    // SAFETY: the handle goes to a local variable.
    ok(unsafe { sys::cuCtxGetCurrent(&raw mut current) });
    assert_eq!(current, context);
    assert_eq!(memory.read(), [1.0, 2.0, 3.0]);
    drop(memory);
    // SAFETY: as often as retained.
    ok(unsafe { sys::cuDevicePrimaryCtxRelease_v2(0) });
}

#[test]
fn streams_are_ordered_by_events_alone() {
    let gpu = gpu();
    let case = Case::<f32>::random((6, 8, 0, 16, 0), 8);
    let inputs = OnDevice::new(&gpu.device, &case);
    gpu.device.synchronize().unwrap();
    let (writer, reader) = (Stream::new().adopt(), Stream::new().adopt());
    let mut loss = InBatchLoss::new(&reader, config()).unwrap();
    let users = Memory::new(&case.users);
    let mut evaluate = |ordered: bool| {
        users.fill(0.25, &reader);
        reader.synchronize().unwrap();
        users.fill(-1.5, &writer);
        if ordered {
            reader.wait_for(&writer).unwrap();
            // Only the emulator runs late for certain. It makes progress when asked, so it is not asked otherwise.
            if gpu.emulator.is_some() {
                // SAFETY: the stream is alive.
                let state = unsafe { sys::cuStreamQuery(writer.stream().cu_stream()) };
                assert_eq!(state, CUresult::CUDA_ERROR_NOT_READY, "the host did not wait");
            }
        }
        // SAFETY: the memory outlives the step, which is waited for.
        let view = unsafe { raw::view::<f32, _>(&users, users.pointer, users.len) }.unwrap();
        let batch = cuda::Batch::new(view, &inputs.items, case.dim).item_ids(&inputs.item_ids);
        let rows = bits(&loss.evaluate(&batch).unwrap().log_sum_exp().unwrap());
        // What overwrites the memory next comes after the step.
        writer.wait_for(&reader).unwrap();
        writer.synchronize().unwrap();
        rows
    };
    let ordered = evaluate(true);
    let unordered = evaluate(false);
    assert_eq!(evaluate(true), ordered);

    let expected = Case { users: vec![-1.5; case.users.len()], ..case.clone() };
    let expected = evaluate_natively(&gpu, &expected);
    assert_eq!(ordered, expected);
    if gpu.emulator.is_some() {
        assert_ne!(unordered, expected, "without the event the old users are read");
    }
}

fn evaluate_natively(gpu: &Gpu, case: &Case<f32>) -> Vec<u32> {
    let inputs = OnDevice::new(&gpu.device, case);
    let mut loss = InBatchLoss::new(&gpu.device, config()).unwrap();
    let batch = cuda::Batch::new(&inputs.users, &inputs.items, case.dim).item_ids(&inputs.item_ids);
    bits(&loss.evaluate(&batch).unwrap().log_sum_exp().unwrap())
}

#[test]
fn a_stream_is_kept_until_nothing_uses_it() {
    let gpu = gpu();
    /// Counts its drops.
    struct Owner(#[expect(dead_code, reason = "held")] Stream, Arc<AtomicUsize>);
    impl Drop for Owner {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let adopt = || {
        let stream = Stream::new();
        // SAFETY: the stream belongs to the primary context and is destroyed with its owner.
        unsafe { raw::adopt_stream(0, stream.0, Owner(stream, drops.clone())) }.unwrap()
    };
    let count = || drops.load(Ordering::Relaxed);

    drop(adopt());
    assert_eq!(count(), 1, "nothing used it");

    let device = adopt();
    let loss = InBatchLoss::new(&device, config()).unwrap();
    drop(device);
    assert_eq!(count(), 1, "the loss uses it");
    drop(loss);
    assert_eq!(count(), 2);

    let device = adopt();
    let stream: Arc<CudaStream> = device.stream().clone();
    let slice: Slice<f32> = stream.clone_htod(&[1.0f32, 2.0]).unwrap();
    drop(device);
    drop(stream);
    drop(Stream::new().adopt());
    assert_eq!(count(), 2, "a slice of cudarc's is freed on it");
    drop(slice);
    drop(Stream::new().adopt());
    assert_eq!(count(), 3);
    drop(gpu);
}

#[test]
fn streams_of_elsewhere_are_refused() {
    let gpu = gpu();
    let stream = Stream::new();
    // SAFETY: refused, or given back at once.
    unsafe {
        let error = raw::adopt_stream(99, stream.0, ()).unwrap_err();
        assert!(matches!(error, Error::NoDevice { ordinal: 99, .. }), "{error}");
        let other = CudaContext::new_non_primary(0, 0).unwrap();
        let foreign = other.new_stream().unwrap();
        let error = raw::adopt_stream(0, foreign.cu_stream(), ()).unwrap_err();
        assert!(matches!(error, Error::Foreign { what: "the stream", .. }), "{error}");
        assert!(error.to_string().contains("primary"), "{error}");
        raw::adopt_stream(0, null_mut(), ()).expect("the default stream is of the current context");
    }
    drop(gpu);
}

#[test]
fn tensors_of_no_elements() {
    let gpu = gpu();
    let case = Case::<f32>::random((5, 6, 0, 8, 0), 9);
    let expected: Results<f32> = step(&gpu, config(), &case, false);
    let inputs = OnDevice::new(&gpu.device, &case);
    let mut loss = InBatchLoss::new(&gpu.device, config()).unwrap();
    // SAFETY: views of no elements.
    let nothing = || unsafe { raw::view::<f32, _>(&(), 0, 0) }.unwrap();
    let evaluate = |loss: &mut InBatchLoss, users, items| {
        loss.evaluate(&cuda::Batch::<f32>::new(users, items, 8).item_ids(&inputs.item_ids)).unwrap_err()
    };
    let error = evaluate(&mut loss, nothing(), View::from(&inputs.items));
    assert!(matches!(error, Error::NoRows), "{error}");
    let error = evaluate(&mut loss, View::from(&inputs.users), nothing());
    assert!(matches!(error, Error::PositivesOutside { columns: 0, rows: 5, .. }), "{error}");

    // Extra negatives may be none.
    // SAFETY: a view of no elements.
    let no_ids = unsafe { raw::view::<i64, _>(&(), 0, 0) }.unwrap();
    let extra = cuda::Items::new(nothing()).log_q(nothing()).item_ids(no_ids);
    let mut gradients = Grads::<f32>::poisoned(&gpu.device, &case);
    let batch = inputs.batch(false, false).extra(extra);
    let output = loss.step(&batch, &mut gradients.view(false)).unwrap();
    assert_eq!(results(&gpu.device, &output, &gradients, false), expected);
}
