//! The driver's error codes: faults and their stickiness, launch limits, out of memory, modules that do not load.

mod support;

use cudarc::driver::sys::{self, CUresult};
use support::{allocate, fresh, fresh_with, function, launch, load, reset, synchronize};

const PTX: &str = include_str!("ptx/flow.ptx");
const ONE: [u32; 3] = [1, 1, 1];

#[test]
fn a_fault_sticks_until_the_context_is_reset() {
    let test = fresh();
    let (code, module) = load(PTX);
    assert_eq!(code, CUresult::CUDA_SUCCESS);
    let increment = function(module, "increment");
    let (_, buffer) = allocate(64 * 4);
    // SAFETY: the buffer has 64 words.
    assert_eq!(unsafe { sys::cuMemsetD32_v2(buffer, 0x3F80_0000, 64) }, CUresult::CUDA_SUCCESS);
    let (_, spare) = allocate(4);
    // One thread past the end of the buffer's last word.
    assert_eq!(
        launch(increment, ONE, [64, 1, 1], 0, &mut [buffer + 4]),
        CUresult::CUDA_SUCCESS,
        "a launch is asynchronous"
    );
    let fault = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;
    assert_eq!(synchronize(), fault);
    assert_eq!(synchronize(), fault);
    assert_eq!(allocate(4).0, fault);
    assert_eq!(load(PTX).0, fault);
    assert_eq!(launch(increment, ONE, ONE, 0, &mut [spare]), fault);
    // SAFETY: a value and a live address.
    assert_eq!(unsafe { sys::cuMemsetD32_v2(spare, 0, 1) }, fault);
    assert!(test.context.synchronize().is_err());
    let report = test.emulator.report().expect("a report");
    assert_eq!((report.kind.as_str(), report.kernel.as_str()), ("OutOfBounds", "increment"));
    assert!(report.text.contains("ld.global.f32") && report.text.contains("256 bytes"), "{}", report.text);

    assert_eq!(reset(), CUresult::CUDA_SUCCESS);
    assert_eq!(synchronize(), CUresult::CUDA_SUCCESS);
    assert_eq!(allocate(4).0, CUresult::CUDA_SUCCESS);
    assert_eq!(
        launch(increment, ONE, ONE, 0, &mut [spare]),
        CUresult::CUDA_ERROR_INVALID_HANDLE,
        "the reset took the module along"
    );
    let leaks = test.emulator.leaks();
    assert_eq!(leaks.len(), 2, "{leaks:?}");
}

#[test]
fn a_trap_is_a_launch_failure() {
    let test = fresh();
    let (_, module) = load(PTX);
    assert_eq!(launch(function(module, "stops"), ONE, ONE, 0, &mut []), CUresult::CUDA_SUCCESS);
    assert_eq!(synchronize(), CUresult::CUDA_ERROR_LAUNCH_FAILED);
    assert_eq!(test.emulator.report().map(|report| report.kind), Some("Trap".to_owned()));
}

#[test]
fn launch_limits_are_those_of_the_device() {
    let test = fresh_with(&[("cc", "8.0")]);
    let (_, module) = load(PTX);
    let roomy = function(module, "roomy");
    let refused = CUresult::CUDA_ERROR_INVALID_VALUE;
    let fine = CUresult::CUDA_SUCCESS;
    let cases: [([u32; 3], [u32; 3], u32, CUresult); 12] = [
        (ONE, [1024, 1, 1], 0, fine),
        (ONE, [1025, 1, 1], 0, refused),
        (ONE, [512, 2, 2], 0, refused),
        (ONE, [1, 1, 64], 0, fine),
        (ONE, [1, 1, 65], 0, refused),
        (ONE, [0, 1, 1], 0, refused),
        ([0, 1, 1], ONE, 0, refused),
        ([1, 65_535, 1], ONE, 0, fine),
        ([1, 65_536, 1], ONE, 0, refused),
        ([1, 1, 65_536], ONE, 0, refused),
        (ONE, ONE, 48 << 10, fine),
        (ONE, ONE, (48 << 10) + 1, refused),
    ];
    for (grid, block, shared, expected) in cases {
        assert_eq!(launch(roomy, grid, block, shared, &mut []), expected, "{grid:?} {block:?} {shared}");
    }
    let opt_in = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    for (bytes, expected) in [(163 << 10, fine), ((163 << 10) + 1, refused), (-1, refused)] {
        // SAFETY: the function is alive.
        assert_eq!(unsafe { sys::cuFuncSetAttribute(roomy, opt_in, bytes) }, expected, "{bytes}");
    }
    assert_eq!(launch(roomy, ONE, ONE, 163 << 10, &mut []), fine);
    assert_eq!(launch(roomy, ONE, ONE, (163 << 10) + 1, &mut []), refused);
    let increment = function(module, "increment");
    assert_eq!(launch(increment, ONE, [65, 1, 1], 0, &mut [0]), refused, ".maxntid is 64");
    assert_eq!(synchronize(), fine, "a refused launch leaves the context alone");
    assert!(test.emulator.report().is_none());
}

#[test]
fn memory_runs_out() {
    let test = fresh_with(&[("memory", "1m")]);
    assert_eq!(allocate(0).0, CUresult::CUDA_ERROR_INVALID_VALUE);
    let (code, half) = allocate(1 << 19);
    assert_eq!(code, CUresult::CUDA_SUCCESS);
    assert_eq!(allocate((1 << 19) + 1).0, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    // SAFETY: the address came from an allocation.
    assert_eq!(unsafe { sys::cuMemFree_v2(half) }, CUresult::CUDA_SUCCESS);
    // SAFETY: a stale address is an error, not undefined.
    assert_eq!(unsafe { sys::cuMemFree_v2(half) }, CUresult::CUDA_ERROR_INVALID_VALUE);
    assert_eq!(test.emulator.report().map(|report| report.kind), Some("UseAfterFree".to_owned()));
    let (code, most) = allocate((1 << 19) + 1);
    assert_eq!(code, CUresult::CUDA_SUCCESS);
    // SAFETY: the address came from an allocation.
    assert_eq!(unsafe { sys::cuMemFree_v2(most) }, CUresult::CUDA_SUCCESS);
    test.emulator.fail_allocations(2);
    let codes = [allocate(4).0, allocate(4).0, allocate(4).0];
    assert_eq!(
        codes,
        [CUresult::CUDA_ERROR_OUT_OF_MEMORY, CUresult::CUDA_ERROR_OUT_OF_MEMORY, CUresult::CUDA_SUCCESS]
    );
    assert_eq!(test.emulator.live().len(), 1);
}

#[test]
fn modules_that_do_not_load_say_why() {
    let test = fresh_with(&[("driver", "12.0"), ("cc", "8.0")]);
    let changed = |from: &str, to: &str| {
        assert!(PTX.contains(from), "{from}");
        PTX.replacen(from, to, 1)
    };
    let cases = [
        (changed(".version 8.0", ".version 8.1"), CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "8.1"),
        (changed("sm_75", "sm_90"), CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU, "sm_90"),
        (changed("sm_75", "sm_75a"), CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU, "sm_75a"),
        (changed("mul.f32", "frobnicate.f32"), CUresult::CUDA_ERROR_INVALID_PTX, "frobnicate"),
        (changed("ret;", "ret"), CUresult::CUDA_ERROR_INVALID_PTX, "line"),
        (changed("%f3, %f1, %f2", "%f3, %f1, %f9"), CUresult::CUDA_ERROR_INVALID_PTX, "%f9"),
        ("\x7fELF".to_owned(), CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU, "PTX text"),
    ];
    for (text, expected, word) in cases {
        test.emulator.clear();
        assert_eq!(load(&text).0, expected, "{word}");
        let report = test.emulator.report().expect("a report");
        assert_eq!(report.kind, "LoadError");
        assert!(report.text.contains(word), "{} lacks {word}", report.text);
    }
    assert_eq!(load(PTX).0, CUresult::CUDA_SUCCESS, "a refused module leaves the context alone");
}

#[test]
fn unloading_frees_the_variables() {
    let _test = fresh_with(&[("memory", "100")]);
    for _ in 0..3 {
        let (code, module) = load(PTX);
        assert_eq!(code, CUresult::CUDA_SUCCESS, "the variable has 64 of the 100 bytes");
        let (mut address, mut bytes) = (0, 0);
        // SAFETY: results are written to local variables; the module is loaded; a variable cannot be freed by hand.
        unsafe {
            let name = c"table".as_ptr();
            assert_eq!(
                sys::cuModuleGetGlobal_v2(&raw mut address, &raw mut bytes, module, name),
                CUresult::CUDA_SUCCESS
            );
            assert_eq!(bytes, 64);
            assert_eq!(sys::cuMemFree_v2(address), CUresult::CUDA_ERROR_INVALID_VALUE);
            assert_eq!(sys::cuModuleUnload(module), CUresult::CUDA_SUCCESS);
            assert_eq!(sys::cuMemsetD8_v2(address, 0, 64), CUresult::CUDA_ERROR_INVALID_VALUE);
        }
    }
}

#[test]
fn the_compiler_log_names_line_and_text() {
    let _test = fresh();
    let text = std::ffi::CString::new(PTX.replacen("mul.f32", "frobnicate.f32", 1)).expect("no NUL");
    let mut log = [0x7F_u8; 200];
    use sys::CUjit_option_enum::{
        CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES,
    };
    let mut options =
        [CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES];
    let mut values = [
        log.as_mut_ptr().cast(),
        std::ptr::without_provenance_mut(log.len()),
        std::ptr::without_provenance_mut(9),
    ];
    let mut module = std::ptr::null_mut();
    // SAFETY: three options with their values; the log has the stated size.
    let code = unsafe {
        let image = text.as_ptr().cast();
        sys::cuModuleLoadDataEx(&raw mut module, image, 3, options.as_mut_ptr(), values.as_mut_ptr())
    };
    assert_eq!(code, CUresult::CUDA_ERROR_INVALID_PTX);
    let written = values[1].addr();
    assert!(0 < written && written < log.len());
    assert_eq!(values[2].addr(), 0);
    let message = std::str::from_utf8(&log[..written]).expect("text");
    let line = 1 + PTX.lines().position(|line| line.contains("mul.f32")).expect("the line");
    assert!(
        message.contains(&format!("line {line}")) && message.contains("frobnicate.f32 %f3, %f1, %f2"),
        "{message}"
    );
}

#[test]
fn what_ran_is_recorded() {
    let test = fresh();
    let (_, module) = load(PTX);
    let increment = function(module, "increment");
    let (_, buffer) = allocate(64 * 4);
    // SAFETY: the buffer has 64 words.
    unsafe { sys::cuMemsetD32_v2(buffer, 0, 64) };
    for _ in 0..3 {
        launch(increment, ONE, [64, 1, 1], 0, &mut [buffer]);
    }
    assert_eq!(synchronize(), CUresult::CUDA_SUCCESS);
    let kernels = test.emulator.kernels();
    assert_eq!(kernels.len(), 1);
    assert_eq!((kernels[0].name.as_str(), kernels[0].launches), ("increment", 3));
    assert_eq!(kernels[0].warp_instructions, 3 * 2 * 9, "nine instructions, two warps, three launches");
    let adds = test.emulator.opcodes().into_iter().find(|(_, form, _)| form == "add.f32");
    assert_eq!(adds, Some(("increment".to_owned(), "add.f32".to_owned(), 6)));
    let modules = test.emulator.modules();
    assert_eq!(modules.len(), 1);
    assert_eq!(modules[0].kernels, ["increment", "roomy", "scale", "stops"]);
    assert_eq!(modules[0].hash.len(), 64);
}
