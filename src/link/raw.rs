//! Streams and device memory of any other library, as the driver knows them: a `CUstream`, a `CUdeviceptr`.
//!
//! ```no_run
//! use inbatch::cuda::{Batch, Gradients, InBatchLoss};
//! use inbatch::link::raw;
//! use inbatch::{LossConfig, Result};
//! # use inbatch::cuda::cudarc::driver::sys::CUstream;
//! # struct OtherStream(CUstream);
//! # // SAFETY: a stream's handle may be used on any thread.
//! # unsafe impl Send for OtherStream {}
//! # struct OtherTensor { pointer: u64, len: usize }
//!
//! fn step(stream: OtherStream, users: &OtherTensor, items: &OtherTensor,
//!         d_users: &mut OtherTensor, d_items: &mut OtherTensor) -> Result<f32> {
//!     // SAFETY: the stream's library destroys it when it is dropped, and not before.
//!     let device = unsafe { raw::adopt_stream(0, stream.0, stream) }?;
//!     // SAFETY: these tensors lie on that device, and their library frees in the order of that stream.
//!     let (users, items, d_users, d_items) = unsafe {(
//!         raw::view::<f32, _>(users, users.pointer, users.len)?,
//!         raw::view::<f32, _>(items, items.pointer, items.len)?,
//!         raw::view_mut::<f32, _>(d_users, d_users.pointer, d_users.len)?,
//!         raw::view_mut::<f32, _>(d_items, d_items.pointer, d_items.len)?,
//!     )};
//!     let mut loss = InBatchLoss::new(&device, LossConfig::new(0.05)?)?;
//!     loss.step(&Batch::new(users, items, 128), &mut Gradients::new(d_users, d_items))?.loss()
//! }
//! ```
//!
//! A view borrows its owner: what could be dropped too early does not compile.
//!
//! ```
//! # use inbatch::link::raw;
//! # fn main() -> Result<(), inbatch::Error> {
//! let owner = vec![0u8; 0];
//! // SAFETY: a view of no elements.
//! let view = unsafe { raw::view::<f32, _>(&owner, 0, 0) }?;
//! drop(view);
//! drop(owner);
//! # Ok(())
//! # }
//! ```
//! ```compile_fail,E0505
//! # use inbatch::link::raw;
//! # fn main() -> Result<(), inbatch::Error> {
//! let owner = vec![0u8; 0];
//! // SAFETY: a view of no elements.
//! let view = unsafe { raw::view::<f32, _>(&owner, 0, 0) }?;
//! drop(owner);
//! drop(view);
//! # Ok(())
//! # }
//! ```
//! Gradients take their owner for themselves:
//!
//! ```compile_fail,E0502
//! # use inbatch::link::raw;
//! # fn main() -> Result<(), inbatch::Error> {
//! let mut owner = vec![0u8; 0];
//! // SAFETY: a view of no elements.
//! let gradient = unsafe { raw::view_mut::<f32, _>(&mut owner, 0, 0) }?;
//! println!("{}", owner.len());
//! drop(gradient);
//! # Ok(())
//! # }
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::CudaStream;
use cudarc::driver::sys::{self, CUstream};

use crate::cuda::{Device, View, ViewMut, driver_error, primary_context};
use crate::{Error, Result};

/// A [`Device`] on a stream of another library, on the primary context of device `ordinal`. Nothing is created, and the
/// stream is never destroyed here.
///
/// `owner` is what keeps the stream alive, such as the other library's stream object or an `Arc` of it. It is dropped
/// with the last of the device, its clones and everything made from them. If a clone of [`Device::stream`] outlives
/// those, the owner waits for it, and is dropped when next a stream is adopted or given back.
///
/// # Safety
/// - `stream` is a stream of device `ordinal`'s primary context, or one of the driver's default streams.
/// - It is alive, and stays so at least until `owner` is dropped. Whatever else can destroy it (or reset the
///   context) is not called before.
/// - The per-thread default stream (handle 2) means another stream on each thread: the device and what is made
///   from it then stay on this thread.
///
/// # Errors
/// [`Error::NoDriver`], [`Error::NoDevice`], [`Error::Foreign`] for a stream of another context, [`Error::Driver`].
pub unsafe fn adopt_stream<O: Send + 'static>(ordinal: usize, stream: CUstream, owner: O) -> Result<Device> {
    sweep();
    let context = primary_context(ordinal)?;
    context.bind_to_thread().map_err(|e| driver_error("entering the context", e))?;
    let mut found = std::ptr::null_mut();
    // SAFETY: the caller vouches for the stream; the context is written to a local variable.
    unsafe { sys::cuStreamGetCtx(stream, &raw mut found) }
        .result()
        .map_err(|e| driver_error("asking for the stream's context", e))?;
    if found != context.cu_ctx() {
        let why = format!(
            "it belongs to another context than the primary one of device {ordinal}: give the stream's own \
             device, and let the other library use the primary context (cuDevicePrimaryCtxRetain)"
        );
        return Err(Error::Foreign { what: "the stream", why });
    }
    // SAFETY: as above; the wrapper does not destroy the stream.
    let stream = unsafe { context.wrap_borrowed_stream(stream) };
    let adopted = Adopted { stream: stream.clone(), owner: Some(Mutex::new(Box::new(owner))) };
    Device::on_kept_stream(stream, Arc::new(adopted))
}

/// Device memory of another library, to read: `len` elements at `pointer`, borrowed from `owner`.
///
/// # Safety
/// - `pointer` addresses `len` initialised elements in memory that the device of the loss can read.
/// - The memory stays where it is for as long as `owner` is borrowed, and when `owner` gives it back later, it does so
///   after the work that was enqueued with this view: `cuMemFree` does, `cuMemFreeAsync` on the stream
///   of the loss does, and so does a pool that reuses memory in the order of that stream.
/// - What wrote the memory comes before that work, what overwrites it comes after: by being on the same stream, or by
///   [`Device::wait_for`].
///
/// # Errors
/// [`Error::Misaligned`] for a null pointer to something, or one that no element can have.
pub unsafe fn view<T, O: ?Sized>(_owner: &O, pointer: u64, len: usize) -> Result<View<'_, T>> {
    // SAFETY: the caller's promise; the view borrows the owner.
    unsafe { View::from_raw(pointer, len) }
}

/// Device memory of another library, to write.
///
/// # Safety
/// As [`view`], but the memory need not be initialised, and nothing else reads or writes it between what comes before the
/// enqueued work and what comes after it.
///
/// # Errors
/// As [`view`].
pub unsafe fn view_mut<T, O: ?Sized>(_owner: &mut O, pointer: u64, len: usize) -> Result<ViewMut<'_, T>> {
    // SAFETY: the caller's promise; the view borrows the owner for itself.
    unsafe { ViewMut::from_raw(pointer, len) }
}

/// An owner of any type. Locked by nobody: the mutex lets a device be shared whose owner cannot be.
type Owner = Mutex<Box<dyn Send>>;

/// A stream and its owner, held by all clones of a device.
struct Adopted {
    stream: Arc<CudaStream>,
    /// Taken only by `drop`.
    owner: Option<Owner>,
}

/// Owners whose device is gone while clones of its stream, or slices on it, are still about.
static PARKED: Mutex<Vec<(Arc<CudaStream>, Owner)>> = Mutex::new(Vec::new());

impl Drop for Adopted {
    fn drop(&mut self) {
        if Arc::get_mut(&mut self.stream).is_none()
            && let Some(owner) = self.owner.take()
        {
            PARKED.lock().unwrap_or_else(PoisonError::into_inner).push((self.stream.clone(), owner));
        }
        sweep();
    }
}

/// Drops the parked owners whose stream nobody holds any more.
fn sweep() {
    let mut parked = PARKED.lock().unwrap_or_else(PoisonError::into_inner);
    let free: Vec<_> = parked.extract_if(.., |(stream, _)| Arc::get_mut(stream).is_some()).collect();
    // An owner's drop may adopt or give back another stream.
    drop(parked);
    drop(free);
}
