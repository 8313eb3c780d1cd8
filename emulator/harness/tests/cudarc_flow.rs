//! cudarc, unchanged, in a full flow: allocate, copy, launch, streams, events, graphs. Runs on a GPU where there is one.

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode, CUstreamCaptureStatus};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, DriverError, LaunchConfig, PushKernelArg};
use std::sync::Arc;

const PTX: &str = include_str!("ptx/flow.ptx");

fn context() -> Arc<CudaContext> {
    ptx_emulator_harness::device().expect("a device to test on");
    CudaContext::new(0).expect("device 0")
}

fn module(context: &Arc<CudaContext>) -> Arc<CudaModule> {
    context.load_module(cudarc::nvrtc::Ptx::from_src(PTX)).expect("the module loads")
}

fn function(context: &Arc<CudaContext>, name: &str) -> CudaFunction {
    module(context).load_function(name).expect("the kernel is in the module")
}

/// Numbers without a pattern that a wrong index would hit by chance.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 20) as f32 - 8.0
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn the_device_describes_itself() -> Result<(), DriverError> {
    let context = context();
    let (major, minor) = context.compute_capability()?;
    assert!(major >= 7, "{major}.{minor}");
    assert!(!context.name()?.is_empty());
    let (free, total) = context.mem_get_info()?;
    assert!(0 < free && free <= total);
    assert_eq!(CudaContext::device_count()?.max(1), CudaContext::device_count()?);
    context.uuid().map(drop)
}

#[test]
fn a_kernel_scales_numbers() -> Result<(), DriverError> {
    let context = context();
    let stream = context.default_stream();
    let scale = function(&context, "scale");
    for count in [1_usize, 31, 32, 33, 1000] {
        let input = numbers(count);
        let x = stream.clone_htod(&input)?;
        let mut y = stream.clone_htod(&vec![f32::NAN; count])?;
        let (factor, n) = (-2.5_f32, count as u32);
        let mut launch = stream.launch_builder(&scale);
        launch.arg(&mut y).arg(&x).arg(&factor).arg(&n);
        // SAFETY: the arguments are those of the kernel, and n is the length of both buffers.
        unsafe {
            launch.launch(LaunchConfig {
                grid_dim: (n.div_ceil(128), 1, 1),
                block_dim: (128, 1, 1),
                shared_mem_bytes: 0,
            })
        }?;
        let expected: Vec<f32> = input.iter().map(|value| factor * value).collect();
        assert_eq!(stream.clone_dtoh(&y)?, expected, "{count} numbers");
    }
    Ok(())
}

#[test]
fn copies_and_fills() -> Result<(), DriverError> {
    let context = context();
    let stream = context.new_stream()?;
    let input = numbers(257);
    let source = stream.clone_htod(&input)?;
    let mut target = stream.alloc_zeros::<f32>(300)?;
    stream.memcpy_dtod(&source, &mut target.slice_mut(40..297))?;
    let back = stream.clone_dtoh(&target)?;
    assert_eq!(back[40..297], input[..]);
    assert!(back[..40].iter().chain(&back[297..]).all(|value| *value == 0.0));
    stream.memset_zeros(&mut target)?;
    assert_eq!(stream.clone_dtoh(&target)?, vec![0.0; 300]);
    // SAFETY: written in full by the copy below before it is read.
    let mut pinned = unsafe { context.alloc_pinned::<f32>(257) }?;
    stream.memcpy_dtoh(&source, &mut pinned)?;
    assert_eq!(pinned.as_slice()?, &input[..]);
    stream.synchronize()
}

#[test]
fn streams_wait_for_events() -> Result<(), DriverError> {
    let context = context();
    let (one, two) = (context.new_stream()?, context.new_stream()?);
    let timed = Some(cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT);
    let start = one.record_event(timed)?;
    let increment = function(&context, "increment");
    let input = numbers(64);
    let mut x = one.clone_htod(&input)?;
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (64, 1, 1), shared_mem_bytes: 0 };
    for stream in [&one, &two, &one] {
        let mut launch = stream.launch_builder(&increment);
        launch.arg(&mut x);
        // SAFETY: the kernel takes one buffer of 64 numbers.
        unsafe { launch.launch(config) }?;
    }
    let end = one.record_event(timed)?;
    two.wait(&end)?;
    two.join(&one)?;
    two.synchronize()?;
    end.synchronize()?;
    assert!(end.is_complete());
    assert!(start.elapsed_ms(&end)? >= 0.0);
    let expected: Vec<f32> = input.iter().map(|value| value + 1.0 + 1.0 + 1.0).collect();
    assert_eq!(two.clone_dtoh(&x)?, expected);
    Ok(())
}

#[test]
fn a_graph_is_captured_once_and_replayed() -> Result<(), DriverError> {
    let context = context();
    let stream = context.new_stream()?;
    let increment = function(&context, "increment");
    let input = numbers(64);
    let mut x = stream.clone_htod(&input)?;
    stream.synchronize()?;
    // Events recorded before the capture may not be waited for inside it.
    // SAFETY: only one stream is used from here on.
    unsafe { context.disable_event_tracking() };
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    assert_eq!(stream.capture_status()?, CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
    let mut launch = stream.launch_builder(&increment);
    launch.arg(&mut x);
    // SAFETY: the kernel takes one buffer of 64 numbers.
    unsafe {
        launch.launch(LaunchConfig { grid_dim: (1, 1, 1), block_dim: (64, 1, 1), shared_mem_bytes: 0 })
    }?;
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags)?.expect("a graph");
    assert_eq!(stream.capture_status()?, CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
    assert_eq!(stream.clone_dtoh(&x)?, input, "capturing runs nothing");
    graph.upload()?;
    for replays in 1..=5 {
        graph.launch()?;
        let expected: Vec<f32> =
            input.iter().map(|value| (0..replays).fold(*value, |sum, _| sum + 1.0)).collect();
        assert_eq!(stream.clone_dtoh(&x)?, expected, "{replays} replays");
    }
    Ok(())
}

#[test]
fn a_module_has_variables_and_kernels() -> Result<(), DriverError> {
    let context = context();
    let stream = context.default_stream();
    let module = module(&context);
    let mut table = module.get_global("table", &stream)?;
    let bytes: Vec<u8> = (0..64_u8).map(|value| value.wrapping_mul(37)).collect();
    stream.memcpy_htod(&bytes, &mut table)?;
    assert_eq!(stream.clone_dtoh(&table)?, bytes);
    assert!(module.load_function("no_such_kernel").is_err());
    let increment = module.load_function("increment")?;
    let attribute = |attribute| increment.get_attribute(attribute);
    use cudarc::driver::sys::CUfunction_attribute_enum as Attribute;
    assert_eq!(attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?, 64);
    assert_eq!(attribute(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?, 0);
    assert!(increment.occupancy_max_active_blocks_per_multiprocessor(64, 0, None)? >= 1);
    Ok(())
}
