//! Device memory of this crate's own: workspace and bank.
//!
//! Not a `CudaSlice`: these buffers are used on one stream only, so events would be pure cost, and waiting for
//! one would break graph capture.

use std::marker::PhantomData;

use bytemuck::Pod;
use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{DriverError, result};

use super::device::{Device, driver_error};
use crate::{Error, Result};

/// Elements in device memory, uninitialised until something is written.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    device: Device,
    pointer: u64,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// No memory yet.
    pub(super) fn empty(device: &Device) -> Self {
        Self { device: device.clone(), pointer: 0, len: 0, element: PhantomData }
    }

    /// Room for `len` elements. `what` is for the error message.
    pub(super) fn new(device: &Device, len: usize, what: &'static str) -> Result<Self> {
        let mut buffer = Self::empty(device);
        buffer.ensure(len, what)?;
        Ok(buffer)
    }

    /// Room for at least `len` elements; what was stored is lost if it has to grow.
    pub(super) fn ensure(&mut self, len: usize, what: &'static str) -> Result<()> {
        if len <= self.len {
            return Ok(());
        }
        let bytes = len.checked_mul(size_of::<T>()).filter(|&bytes| bytes <= isize::MAX as usize);
        let bytes = bytes.ok_or(Error::TooLarge {
            what,
            size: len as u128 * size_of::<T>() as u128,
            max: isize::MAX as u128,
        })?;
        self.device.check_not_capturing("allocating memory")?;
        self.release();
        self.pointer = allocate(&self.device, bytes, what)?;
        self.len = len;
        self.device.count_allocation(bytes);
        Ok(())
    }

    /// Elements that fit.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The device address; 0 while empty.
    pub(super) fn pointer(&self) -> u64 {
        self.pointer
    }

    /// Enqueues filling the whole buffer with one byte value.
    pub(super) fn fill(&mut self, byte: u8) -> Result<()> {
        if self.len == 0 {
            return Ok(());
        }
        self.bind()?;
        let stream = self.device.stream().cu_stream();
        // SAFETY: the buffer owns that many bytes; the stream is the one that it is used on.
        unsafe { result::memset_d8_async(self.pointer, byte, self.len * size_of::<T>(), stream) }
            .map_err(|e| driver_error("filling a buffer", e))
    }

    /// Enqueues writing one 32-bit word to every element.
    pub(super) fn set_words(&mut self, word: u32) -> Result<()> {
        if size_of::<T>() != 4 || self.len == 0 {
            return Err(Error::Length {
                what: "words",
                got: self.len,
                expected: 1,
                why: "elements of 4 bytes",
            });
        }
        self.bind()?;
        let stream = self.device.stream().cu_stream();
        // SAFETY: elements are 4 bytes, and as many as the buffer has.
        unsafe { sys::cuMemsetD32Async(self.pointer, word, self.len, stream).result() }
            .map_err(|e| driver_error("filling a buffer", e))
    }

    /// Enqueues writing one 32-bit word at element `index`. Unlike a copy from the host it can be captured.
    pub(super) fn write_word(&mut self, index: usize, word: u32) -> Result<()> {
        let expected = index + 1;
        if size_of::<T>() != 4 || index >= self.len {
            return Err(Error::Length { what: "a word", got: self.len, expected, why: "its place" });
        }
        self.bind()?;
        let stream = self.device.stream().cu_stream();
        // SAFETY: elements are 4 bytes, and `index` is below the length.
        unsafe { sys::cuMemsetD32Async(self.pointer + 4 * index as u64, word, 1, stream).result() }
            .map_err(|e| driver_error("writing a word", e))
    }

    /// Copies `values` to the front and waits, so that they need not outlive the call.
    pub(super) fn write(&mut self, values: &[T]) -> Result<()> {
        check_fits(values.len(), self.len)?;
        if values.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the copy stays inside the buffer, and the host slice lives until the wait below.
        unsafe { result::memcpy_htod_async(self.pointer, values, self.device.stream().cu_stream()) }
            .map_err(|e| driver_error("copying to the device", e))?;
        self.device.synchronize()
    }

    /// Waits, then returns the first `len` elements.
    pub(super) fn read(&self, len: usize) -> Result<Vec<T>> {
        check_fits(len, self.len)?;
        let mut values = vec![T::zeroed(); len];
        if len > 0 {
            self.bind()?;
            // SAFETY: the copy stays inside the buffer, and the host memory lives until the wait below.
            unsafe { result::memcpy_dtoh_async(&mut values, self.pointer, self.device.stream().cu_stream()) }
                .map_err(|e| driver_error("copying from the device", e))?;
        }
        self.device.synchronize()?;
        Ok(values)
    }

    fn bind(&self) -> Result<()> {
        self.device.context().bind_to_thread().map_err(|e| driver_error("entering the context", e))
    }
}

impl<T> Buffer<T> {
    fn release(&mut self) {
        if self.len == 0 {
            return;
        }
        let context = self.device.context();
        let stream = self.device.stream();
        context.record_err(context.bind_to_thread());
        let freed = if context.has_async_alloc() {
            // SAFETY: allocated by `allocate` under the same condition; work that uses it was enqueued on
            // this stream, so it comes first.
            unsafe { result::free_async(self.pointer, stream.cu_stream()) }
        } else {
            context.record_err(stream.synchronize());
            // SAFETY: allocated by `allocate` under the same condition; nothing uses it any more.
            unsafe { result::free_sync(self.pointer) }
        };
        context.record_err(freed);
        self.device.count_release(self.len * size_of::<T>());
        self.pointer = 0;
        self.len = 0;
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        self.release();
    }
}

fn check_fits(len: usize, room: usize) -> Result<()> {
    if len > room {
        return Err(Error::Length { what: "a copy", got: room, expected: len, why: "the device buffer" });
    }
    Ok(())
}

/// Stream-ordered where the device can, as the caller's other buffers are.
fn allocate(device: &Device, bytes: usize, what: &'static str) -> Result<u64> {
    let context = device.context();
    context.bind_to_thread().map_err(|e| driver_error("entering the context", e))?;
    let allocated = if context.has_async_alloc() {
        // SAFETY: the stream is alive: the device holds it.
        unsafe { result::malloc_async(device.stream().cu_stream(), bytes) }
    } else {
        // SAFETY: plain allocation; the context is bound to this thread.
        unsafe { result::malloc_sync(bytes) }
    };
    allocated.map_err(|error| match error {
        DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY) => {
            let free = context.mem_get_info().map_or(0, |(free, _)| free);
            Error::OutOfDeviceMemory { what, bytes, free }
        }
        other => driver_error("allocating device memory", other),
    })
}
