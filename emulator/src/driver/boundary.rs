//! The C boundary: no panic crosses it, no null pointer is followed, no opaque handle is ever dereferenced.

use super::code::{Code, Outcome};
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a driver function's body; a panic inside becomes `CUDA_ERROR_UNKNOWN`.
pub(crate) fn guard(body: impl FnOnce() -> Outcome) -> Code {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Code::SUCCESS,
        Ok(Err(code)) => code,
        Err(_) => Code::UNKNOWN,
    }
}

/// Declares exported driver functions. Each body returns [`Outcome`].
macro_rules! driver_api {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        // SAFETY: the name is the CUDA driver's own; this library takes the driver's place, and nothing else in it uses the name.
        #[unsafe(no_mangle)]
        extern "C" fn $name($($arg: $ty),*) -> $crate::driver::code::Code {
            $crate::driver::boundary::guard(move || $body)
        }
    )*};
}
pub(crate) use driver_api;

/// An opaque handle (`CUcontext`, `CUstream`, ...): a number dressed as a pointer.
pub(crate) type Handle = *mut c_void;

/// Turns a number into the pointer-sized handle the caller holds on to.
pub(crate) fn handle(id: u64) -> Handle {
    std::ptr::without_provenance_mut(id as usize)
}

/// The number in a handle.
pub(crate) fn id(handle: Handle) -> u64 {
    handle.addr() as u64
}

/// Where a driver function writes one result. Only a C caller makes one, and by the driver's contract it is null or writable.
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    pub(crate) fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// Writes the result; a null pointer is `CUDA_ERROR_INVALID_VALUE`.
    pub(crate) fn set(&self, value: T) -> Outcome {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: non-null, and writable by the contract of the type.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// The place of item `index` of an array.
    pub(crate) fn at(&self, index: usize) -> Out<T> {
        Out(if self.0.is_null() { self.0 } else { self.0.wrapping_add(index) })
    }

    /// As [`Out::set`], where the driver accepts null for "not wanted".
    pub(crate) fn set_if_wanted(&self, value: T) {
        // A null pointer is the caller's way to say "not wanted".
        let _ = self.set(value);
    }

    /// Reads what the caller left there (for arguments that go both ways).
    pub(crate) fn get(&self) -> Outcome<T>
    where
        T: Copy,
    {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: non-null, and readable where the driver's contract says that the argument is also an input.
        Ok(unsafe { self.0.read_unaligned() })
    }
}

/// An array (or one struct) the caller lends for reading: null, or valid for as many items as the driver's contract says.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct In<T>(*const T);

impl<T: Copy> In<T> {
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Item `index`; null is `CUDA_ERROR_INVALID_VALUE`.
    pub(crate) fn at(self, index: usize) -> Outcome<T> {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: non-null, and the caller lends at least `index + 1` items by the driver's contract.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }
}

/// A NUL-terminated string lent by the caller.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Text(*const c_char);

impl Text {
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub(crate) fn bytes<'a>(self) -> Outcome<&'a [u8]> {
        if self.0.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: non-null and NUL-terminated by the driver's contract; used only during the call.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_bytes())
    }

    pub(crate) fn str<'a>(self) -> Outcome<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Code::INVALID_VALUE)
    }
}

/// A stretch of host memory the caller names in a copy. It may be read or written later than the call (a graph's replay):
/// the driver's contract makes the caller keep it alive until then.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Host(*mut c_void);

// SAFETY: only an address; each access states its own contract.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Host {
    /// A number dressed as a pointer, as the driver passes sizes in arrays of options.
    pub(crate) fn from_number(number: usize) -> Host {
        Host(std::ptr::without_provenance_mut(number))
    }

    pub(crate) fn address(self) -> usize {
        self.0.addr()
    }

    pub(crate) fn pointer(self) -> *mut c_void {
        self.0
    }

    pub(crate) fn offset(self, bytes: usize) -> Host {
        Host(self.0.wrapping_byte_add(bytes))
    }

    /// The bytes to copy from.
    pub(crate) fn read<'a>(self, bytes: usize) -> Outcome<&'a [u8]> {
        match (bytes, self.0.is_null()) {
            (0, _) => Ok(&[]),
            (_, true) => Err(Code::INVALID_VALUE),
            // SAFETY: non-null, readable for `bytes` until the copy is done, by the contract of the copy functions.
            _ => Ok(unsafe { std::slice::from_raw_parts(self.0.cast(), bytes) }),
        }
    }

    /// The bytes to copy into.
    pub(crate) fn write<'a>(self, bytes: usize) -> Outcome<&'a mut [u8]> {
        match (bytes, self.0.is_null()) {
            (0, _) => Ok(&mut []),
            (_, true) => Err(Code::INVALID_VALUE),
            // SAFETY: non-null, writable for `bytes` and not used by others until the copy is done, by the contract of the copy functions.
            _ => Ok(unsafe { std::slice::from_raw_parts_mut(self.0.cast(), bytes) }),
        }
    }
}

/// Copies `text` into the caller's buffer of `capacity` bytes, cut to fit and NUL-terminated.
pub(crate) fn fill_text(buffer: Host, capacity: usize, text: &[u8]) -> Outcome<usize> {
    let Some(room) = capacity.checked_sub(1) else {
        return Ok(0);
    };
    let length = text.len().min(room);
    let target = buffer.write(length + 1)?;
    target[..length].copy_from_slice(&text[..length]);
    target[length] = 0;
    Ok(length)
}
