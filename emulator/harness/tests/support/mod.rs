//! What tests about the emulator itself share: one test at a time on a fresh context, and raw driver calls.
#![allow(dead_code)] // each test program uses a part

use cudarc::driver::CudaContext;
use cudarc::driver::sys::{self, CUresult};
use ptx_emulator_harness::Emulator;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The emulator with nothing of earlier tests left in it. A fault poisons the primary context, which all tests of a process share: so they
/// take turns.
pub(crate) struct Fresh {
    pub(crate) emulator: Emulator,
    pub(crate) context: Arc<CudaContext>,
    _turn: MutexGuard<'static, ()>,
}

/// Waits for its turn, then resets settings, records and context.
pub(crate) fn fresh() -> Fresh {
    fresh_with(&[])
}

/// As [`fresh`], with settings.
pub(crate) fn fresh_with(settings: &[(&str, &str)]) -> Fresh {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let emulator = ptx_emulator_harness::emulator().expect("the emulator's library is built");
    let defaults = [
        ("cc", "8.0"),
        ("seed", "0"),
        ("checks", "all"),
        ("memory", "1g"),
        ("driver", "13.0"),
        ("streams", "lazy"),
        ("quiet", "1"),
        ("instruction_limit", "2000000"),
    ];
    for (name, value) in defaults.iter().chain(settings) {
        emulator.set(name, value).expect("a known setting");
    }
    // SAFETY: no other test of the process uses the device during this turn.
    unsafe {
        assert_eq!(sys::cuInit(0), CUresult::CUDA_SUCCESS);
        assert_eq!(reset(), CUresult::CUDA_SUCCESS);
    }
    emulator.clear();
    Fresh { emulator, context: CudaContext::new(0).expect("device 0"), _turn: turn }
}

/// Resets the primary context.
pub(crate) fn reset() -> CUresult {
    type Reset = unsafe extern "C" fn(i32) -> CUresult;
    // SAFETY: the library is the emulator, loaded for good, and the function has this type.
    unsafe {
        let library = libloading::os::unix::Library::open(Some("libcuda.so"), libloading::os::unix::RTLD_NOW)
            .expect("loaded");
        let reset = library.get::<Reset>(b"cuDevicePrimaryCtxReset_v2\0").expect("exported");
        reset(0)
    }
}

/// Loads PTX text and gives back the code, and the module if there is one.
pub(crate) fn load(text: &str) -> (CUresult, sys::CUmodule) {
    let image = std::ffi::CString::new(text).expect("no NUL in PTX");
    let mut module = std::ptr::null_mut();
    // SAFETY: the image is NUL-terminated.
    let code = unsafe { sys::cuModuleLoadData(&raw mut module, image.as_ptr().cast()) };
    (code, module)
}

/// A kernel of a module.
pub(crate) fn function(module: sys::CUmodule, name: &str) -> sys::CUfunction {
    let name = std::ffi::CString::new(name).expect("no NUL in a name");
    let mut function = std::ptr::null_mut();
    // SAFETY: the module is loaded, the name NUL-terminated.
    let code = unsafe { sys::cuModuleGetFunction(&raw mut function, module, name.as_ptr()) };
    assert_eq!(code, CUresult::CUDA_SUCCESS, "{name:?}");
    function
}

/// Launches with parameters of 8 bytes each on the legacy default stream.
pub(crate) fn launch(
    function: sys::CUfunction,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    parameters: &mut [u64],
) -> CUresult {
    let mut pointers: Vec<*mut std::ffi::c_void> =
        parameters.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
    // SAFETY: one pointer for each parameter, each to 8 bytes.
    unsafe {
        sys::cuLaunchKernel(
            function,
            grid[0],
            grid[1],
            grid[2],
            block[0],
            block[1],
            block[2],
            shared,
            std::ptr::null_mut(),
            pointers.as_mut_ptr(),
            std::ptr::null_mut(),
        )
    }
}

/// Waits for all work.
pub(crate) fn synchronize() -> CUresult {
    // SAFETY: no arguments.
    unsafe { sys::cuCtxSynchronize() }
}

/// Allocates device memory.
pub(crate) fn allocate(bytes: usize) -> (CUresult, u64) {
    let mut address = 0;
    // SAFETY: the result is written to a local variable.
    let code = unsafe { sys::cuMemAlloc_v2(&raw mut address, bytes) };
    (code, address)
}
