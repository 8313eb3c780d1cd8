//! A module loaded in the place of another: what a test of tests needs.

mod support;

use cudarc::driver::sys::{self, CUresult};
use support::{allocate, fresh, function, launch, load, synchronize};

const PTX: &str = include_str!("ptx/flow.ptx");

/// Adds the kernel's increment to 5.0.
fn increment() -> f32 {
    let (code, module) = load(PTX);
    assert_eq!(code, CUresult::CUDA_SUCCESS);
    let (_, buffer) = allocate(4);
    let mut value = f32::NAN;
    // SAFETY: the buffer holds one word, as does `value`.
    unsafe {
        assert_eq!(sys::cuMemsetD32_v2(buffer, 5.0f32.to_bits(), 1), CUresult::CUDA_SUCCESS);
        let kernel = function(module, "increment");
        assert_eq!(launch(kernel, [1, 1, 1], [1, 1, 1], 0, &mut [buffer]), CUresult::CUDA_SUCCESS);
        assert_eq!(synchronize(), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemcpyDtoH_v2((&raw mut value).cast(), buffer, 4), CUresult::CUDA_SUCCESS);
    }
    value
}

#[test]
fn another_module_is_loaded_until_that_is_taken_back() {
    let test = fresh();
    assert_eq!(increment(), 6.0);
    let original = test.emulator.modules()[0].hash.clone();
    let other = PTX.replace("0f3F800000", "0f40000000");
    assert_ne!(other, PTX, "the increment of 1 is in the text");

    test.emulator.substitute(PTX, Some(&other)).expect("a text");
    test.emulator.clear();
    assert_eq!(increment(), 7.0, "clearing the records changes nothing");
    assert_ne!(test.emulator.modules()[0].hash, original, "the record names what was loaded");

    test.emulator.substitute(PTX, None).expect("a text");
    assert_eq!(increment(), 6.0);
    assert!(test.emulator.substitute(PTX, Some("zero \0 byte")).is_err());
}
