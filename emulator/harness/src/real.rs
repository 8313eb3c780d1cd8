//! Is there a CUDA driver with a device on this machine?

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::ffi::{c_int, c_uint};

type Init = unsafe extern "C" fn(c_uint) -> c_int;
type GetCount = unsafe extern "C" fn(*mut c_int) -> c_int;

/// The number of devices of the machine's own driver (at least 1), or why there is none.
pub(crate) fn device_count() -> Result<i32, String> {
    // SAFETY: loading the CUDA driver runs its initialisers, which is what every CUDA program does.
    let library = unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|_| "libcuda.so.1 is not installed".to_owned())?;
    let mut count = 0;
    // SAFETY: the two symbols have these types in every CUDA driver; `count` outlives the calls.
    let status = unsafe {
        let init = library.get::<Init>(b"cuInit\0").map_err(|error| error.to_string())?;
        let get_count = library.get::<GetCount>(b"cuDeviceGetCount\0").map_err(|error| error.to_string())?;
        match init(0) {
            0 => get_count(&raw mut count),
            failed => failed,
        }
    };
    match (status, count) {
        (0, 1..) => {
            // The program is going to use it: keep it loaded.
            std::mem::forget(library);
            Ok(count)
        }
        (0, _) => Err("the driver has no device".to_owned()),
        (code, _) => Err(format!("the driver does not start (code {code})")),
    }
}
