//! cust: its buffers and streams, as they are.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use cust::memory::DeviceBuffer;
//! use cust::stream::{Stream, StreamFlags};
//! use inbatch::LossConfig;
//! use inbatch::cuda::{Batch, Gradients, InBatchLoss};
//! use inbatch::link::cust::{device, view, view_mut};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let _context = cust::quick_init()?; // the primary context, which is shared
//! let device = device(0, Arc::new(Stream::new(StreamFlags::NON_BLOCKING, None)?))?;
//!
//! let users = DeviceBuffer::from_slice(&[0.5f32; 64 * 32])?;
//! let items = DeviceBuffer::from_slice(&[0.25f32; 64 * 32])?;
//! let mut d_users = DeviceBuffer::from_slice(&[0.0f32; 64 * 32])?;
//! let mut d_items = DeviceBuffer::from_slice(&[0.0f32; 64 * 32])?;
//! let mut loss = InBatchLoss::new(&device, LossConfig::new(0.05)?)?;
//! // SAFETY: these buffers are used on this stream alone.
//! let (batch, mut gradients) = unsafe {(
//!     Batch::new(view(&users)?, view(&items)?, 32),
//!     Gradients::new(view_mut(&mut d_users)?, view_mut(&mut d_items)?),
//! )};
//! println!("{}", loss.step(&batch, &mut gradients)?.loss()?); // the one explicit wait
//! # Ok(())
//! # }
//! ```
//!
//! Nothing is copied. cust's synchronous copies are ordered with its streams, and a buffer that is dropped is freed after
//! the work that uses it; docs/link-cust.md says what is not ordered by itself.

use std::sync::Arc;

use cust::memory::{DeviceCopy, DeviceSlice};
use cust::stream::Stream;

use super::raw;
use crate::Result;
use crate::cuda::{Device, View, ViewMut};

/// A [`Device`] on a stream of cust's, which lives as long as the device and what is made from it.
///
/// # Errors
/// [`crate::Error::Foreign`] for a stream that was created in another context than device `ordinal`'s primary one (such as
/// one of `cust::context::legacy`); those of [`raw::adopt_stream`].
pub fn device(ordinal: usize, stream: Arc<Stream>) -> Result<Device> {
    let handle = stream.as_inner().cast();
    // SAFETY: cust's stream object destroys the stream when it is dropped and not before, and it goes along.
    unsafe { raw::adopt_stream(ordinal, handle, stream) }
}

/// A buffer or slice of cust's, to read.
///
/// # Safety
/// Until the work enqueued with the view has run, the memory is not written, and not freed by
/// `DeviceBuffer::drop_async`, on another stream, unless [`Device::wait_for`] puts that afterwards. Dropping the buffer
/// is fine.
///
/// # Errors
/// As [`raw::view`].
pub unsafe fn view<T: DeviceCopy>(slice: &DeviceSlice<T>) -> Result<View<'_, T>> {
    // SAFETY: cust's slices are initialised device memory; the rest is the caller's promise.
    unsafe { raw::view(slice, slice.as_device_ptr().as_raw(), slice.len()) }
}

/// A buffer or slice of cust's, to write.
///
/// # Safety
/// As [`view`], and the memory is not read on another stream either.
///
/// # Errors
/// As [`raw::view`].
pub unsafe fn view_mut<T: DeviceCopy>(slice: &mut DeviceSlice<T>) -> Result<ViewMut<'_, T>> {
    let (pointer, len) = (slice.as_device_ptr().as_raw(), slice.len());
    // SAFETY: as in `view`.
    unsafe { raw::view_mut(slice, pointer, len) }
}
