//! A machine without a CUDA driver, which is what this process is unless the machine has one: it does not load the
//! emulator.
#![cfg(feature = "cuda")]

use inbatch::Error;
use inbatch::cuda::Device;

#[test]
fn asking_for_a_device_is_an_error_not_a_panic() {
    match Device::new(0) {
        Err(error @ Error::NoDriver(_)) => {
            let message = error.to_string();
            assert!(message.contains("install the NVIDIA driver") && message.contains("CPU"), "{message}");
        }
        Err(error @ Error::NoDevice { count: 0, .. }) => println!("a driver without a device: {error}"),
        other => println!("SKIPPED: this machine has a CUDA driver ({other:?})"),
    }
}
