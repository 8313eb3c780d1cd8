//! Every function of the driver that cudarc 0.19 and cust 0.3 call is there, and none of them crashes on null pointers and wild handles.

use libloading::os::unix::{Library, RTLD_NOW};
use std::ffi::c_int;

/// One name a line.
const NAMES: &str = include_str!("symbols.txt");

/// Any driver function, called with as many arguments as the longest of them takes: the caller clears them away.
type Any = unsafe extern "C" fn(
    usize,
    usize,
    usize,
    usize,
    usize,
    usize,
    usize,
    usize,
    usize,
    usize,
    usize,
    usize,
) -> c_int;

fn library() -> Library {
    ptx_emulator_harness::emulator().expect("the emulator's library is built");
    // SAFETY: the emulator is loaded, and has no initialisers that could misbehave.
    unsafe { Library::open(Some("libcuda.so"), RTLD_NOW) }.expect("found by name")
}

fn call(library: &Library, name: &str, argument: usize) -> c_int {
    // SAFETY: the functions take integers and pointers only; a pointer argument is null unless `argument` is a handle, and handles are looked
    // up, never followed. That this holds is what the test is about.
    unsafe {
        let function = library.get::<Any>(name.as_bytes()).unwrap_or_else(|_| panic!("{name} is missing"));
        let a = argument;
        function(a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    }
}

/// Calls every function with nulls; the names of those that succeed.
fn accepting_nulls(library: &Library, context: Option<usize>) -> Vec<&'static str> {
    let skipped = |name: &&str| *name == "cuInit" || name.contains("PrimaryCtx");
    let accepts = |name: &&str| {
        // A function may have taken the context off the thread.
        let _ = context.map(|context| call(library, "cuCtxSetCurrent", context));
        call(library, name, 0) == 0
    };
    NAMES.lines().filter(|name| !skipped(name)).filter(accepts).collect()
}

fn primary_context(library: &Library) -> usize {
    let mut context = 0_usize;
    // SAFETY: the first argument is where the context's handle goes, the second is the device.
    let code = unsafe {
        let retain = library
            .get::<unsafe extern "C" fn(*mut usize, c_int) -> c_int>(b"cuDevicePrimaryCtxRetain")
            .expect("exported");
        retain(&raw mut context, 0)
    };
    assert_eq!(code, 0);
    context
}

#[test]
fn all_are_exported_and_survive_nulls() {
    let library = library();
    assert_eq!(accepting_nulls(&library, None), [""; 0], "before cuInit");
    assert_eq!(call(&library, "cuInit", 0), 0);
    assert_eq!(
        accepting_nulls(&library, None),
        ["cuCtxSetCurrent", "cuProfilerStart", "cuProfilerStop"],
        "without a context"
    );
    let context = primary_context(&library);
    let expected = [
        // waits, and settings whose null is a value
        "cuCtxGetStreamPriorityRange",
        "cuCtxPopCurrent_v2",
        "cuCtxSetCacheConfig",
        "cuCtxSetCurrent",
        "cuCtxSetFlags",
        "cuCtxSetSharedMemConfig",
        "cuCtxSynchronize",
        // nothing to free
        "cuMemFreeAsync",
        "cuMemFree_v2",
        // nothing to copy or fill
        "cuMemcpyDtoDAsync_v2",
    ];
    let accepted = accepting_nulls(&library, Some(context));
    for name in expected {
        assert!(accepted.contains(&name), "{name} refuses null, accepted: {accepted:?}");
    }
    for name in [
        "cuMemAlloc_v2",
        "cuModuleLoadData",
        "cuLaunchKernel",
        "cuEventRecord",
        "cuGraphLaunch",
        "cuDeviceGetName",
    ] {
        assert!(!accepted.contains(&name), "{name} accepts null");
    }
    handles_of_nothing_are_refused(&library);
    unsupported_functions_say_so(&library);
}

fn handles_of_nothing_are_refused(library: &Library) {
    for name in [
        "cuStreamDestroy_v2",
        "cuEventDestroy_v2",
        "cuModuleUnload",
        "cuGraphDestroy",
        "cuGraphExecDestroy",
        "cuStreamSynchronize",
    ] {
        assert_eq!(call(library, name, 0xDEAD_BEE0), 400, "{name}: CUDA_ERROR_INVALID_HANDLE");
    }
    assert_eq!(call(library, "cuCtxSetCurrent", 0xDEAD_BEE0), 201, "CUDA_ERROR_INVALID_CONTEXT");
}

fn unsupported_functions_say_so(library: &Library) {
    for name in [
        "cuMemAllocManaged",
        "cuLaunchCooperativeKernel",
        "cuTexObjectCreate",
        "cuMemPoolCreate",
        "cuTensorMapEncodeTiled",
    ] {
        assert_eq!(call(library, name, 0), 801, "{name}: CUDA_ERROR_NOT_SUPPORTED");
    }
}
