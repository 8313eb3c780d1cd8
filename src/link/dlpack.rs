//! DLPack: tensors of any library that speaks it, in both directions, by the crate [`dlpark`].
//!
//! ```
//! use inbatch::link::dlpack::{self, dlpark};
//! use inbatch::{LossConfig, cpu};
//! # fn main() -> inbatch::Result<()> {
//! # let tensor = || dlpack::export_cpu((0..32).map(|k| (k as f32).sin()).collect::<Vec<f32>>(), 8).unwrap();
//! # let (users, items): (dlpark::versioned::Dlpack, dlpark::versioned::Dlpack) = (tensor(), tensor());
//! // users, items: dlpark's owning handles, of what another library gave.
//! let dim = dlpack::dim(&users)?;
//! // SAFETY: the descriptors tell the truth, and nobody writes the tensors meanwhile.
//! let (u, v) = unsafe { (dlpack::cpu_view::<f32, _>(&users)?, dlpack::cpu_view::<f32, _>(&items)?) };
//! let mut loss = cpu::InBatchLoss::new(LossConfig::new(0.05)?)?;
//! let (mut d_users, mut d_items) = (vec![0.0f32; 32], vec![0.0f32; 32]);
//! loss.step(&cpu::Batch::new(u, v, dim), &mut cpu::Gradients::new(&mut d_users, &mut d_items))?;
//! let d_users = dlpack::export_cpu(d_users, dim)?; // into_raw() hands it over
//! # drop(d_users);
//! # Ok(())
//! # }
//! ```
//!
//! **Zero-copy**: both imports, as views that borrow the tensor, and both exports, which move the buffer that they are
//! given into the tensor. Nothing is ever copied: a tensor that cannot be used where it lies is an error.
//!
//! **Not so**: a tensor with gaps between its rows (strides other than compact row-major) is refused, not packed; host
//! memory is refused by the CUDA backend, device memory by the CPU backend, page-locked and managed memory by both.
//!
//! **Streams**: a DLPack tensor does not say when its data is ready. On CUDA the producer's work must come before the
//! loss by being on the stream of the [`Device`], or by [`Device::wait_for`]; an exported gradient is ready on
//! that stream, and whoever uses it on another one orders that the same way, and before its deleter is called.
//!
//! **Threads**: tensors may be handed to any thread and dropped on any.
//!
//! A view borrows its tensor:
//!
//! ```compile_fail,E0505
//! # use inbatch::link::dlpack;
//! # fn main() -> inbatch::Result<()> {
//! let tensor = dlpack::export_cpu(vec![0.0f32; 8], 4)?;
//! // SAFETY: the tensor was just made.
//! let view = unsafe { dlpack::cpu_view::<f32, _>(&tensor) }?;
//! drop(tensor);
//! drop(view);
//! # Ok(())
//! # }
//! ```
//!
//! [`Device`]: crate::cuda::Device
//! [`Device::wait_for`]: crate::cuda::Device::wait_for

use std::ffi::c_void;
use std::fmt;

/// The crate whose tensors this module takes and gives.
pub use dlpark;
use dlpark::ffi::{DLDevice, DLManagedTensorVersioned};
use dlpark::metadata::Fixed;
use dlpark::versioned::Dlpack;
use dlpark::{DlpackElement, DlpackFlags, Managed, ManagedTensorBase};

use crate::{Error, Result, cpu};

const WHAT: &str = "the DLPack tensor";

fn refused(why: impl fmt::Display) -> Error {
    Error::Foreign { what: WHAT, why: why.to_string() }
}

/// The length of a matrix's rows: the dimension of embeddings.
///
/// # Errors
/// [`Error::Foreign`] for a tensor that is no matrix.
pub fn dim<M: ManagedTensorBase>(tensor: &Managed<M>) -> Result<usize> {
    match *tensor.validate().map_err(refused)?.shape() {
        [_, dim] => usize::try_from(dim).map_err(refused),
        ref other => Err(refused(format!("embeddings are a matrix, its shape is {other:?}"))),
    }
}

/// A tensor in host memory, to read: its elements, row by row. Any rank.
///
/// # Safety
/// - The descriptor is true: as many initialised elements as it says lie where it says.
/// - Nothing writes them for as long as `tensor` is borrowed.
///
/// # Errors
/// [`Error::Foreign`] for another type, device or layout.
pub unsafe fn cpu_view<T, M>(tensor: &Managed<M>) -> Result<cpu::View<'_, T>>
where
    T: DlpackElement + bytemuck::Pod,
    M: ManagedTensorBase,
{
    let (pointer, len) = elements::<T, M>(tensor, DLDevice::CPU)?;
    // SAFETY: the caller's promise; the tensor stays borrowed.
    let slice = if len == 0 { &[] } else { unsafe { std::slice::from_raw_parts(pointer, len) } };
    Ok(slice.into())
}

/// A tensor in host memory, to write: where gradients should go.
///
/// # Safety
/// As [`cpu_view`], and nothing else reads the elements either.
///
/// # Errors
/// As [`cpu_view`], and for a tensor that is read-only.
pub unsafe fn cpu_view_mut<T, M>(tensor: &mut Managed<M>) -> Result<cpu::ViewMut<'_, T>>
where
    T: DlpackElement + bytemuck::Pod,
    M: ManagedTensorBase,
{
    check_writable(tensor)?;
    let (pointer, len) = elements::<T, M>(tensor, DLDevice::CPU)?;
    let slice = if len == 0 {
        &mut []
    } else {
        // SAFETY: the caller's promise; the tensor stays borrowed, for this view alone.
        unsafe { std::slice::from_raw_parts_mut(pointer.cast_mut(), len) }
    };
    Ok(slice.into())
}

/// A tensor in the memory of a CUDA device, to read.
///
/// # Safety
/// - The descriptor is true: as many initialised elements as it says lie where it says.
/// - [`crate::link::raw::view`] with the tensor as the owner: its deleter gives the memory back after the enqueued work.
///
/// # Errors
/// [`Error::Foreign`] for another type, device or layout.
#[cfg(feature = "cuda")]
pub unsafe fn cuda_view<'a, T, M>(
    tensor: &'a Managed<M>,
    device: &crate::cuda::Device,
) -> Result<crate::cuda::View<'a, T>>
where
    T: DlpackElement,
    M: ManagedTensorBase,
{
    let (pointer, len) = elements::<T, M>(tensor, cuda(device)?)?;
    // SAFETY: the caller's promise.
    unsafe { super::raw::view(tensor, pointer.addr() as u64, len) }
}

/// A tensor in the memory of a CUDA device, to write.
///
/// # Safety
/// As [`cuda_view`], by the conditions of [`crate::link::raw::view_mut`].
///
/// # Errors
/// As [`cuda_view`], and for a tensor that is read-only.
#[cfg(feature = "cuda")]
pub unsafe fn cuda_view_mut<'a, T, M>(
    tensor: &'a mut Managed<M>,
    device: &crate::cuda::Device,
) -> Result<crate::cuda::ViewMut<'a, T>>
where
    T: DlpackElement,
    M: ManagedTensorBase,
{
    check_writable(tensor)?;
    let (pointer, len) = elements::<T, M>(tensor, cuda(device)?)?;
    // SAFETY: the caller's promise.
    unsafe { super::raw::view_mut(tensor, pointer.addr() as u64, len) }
}

/// A buffer in host memory as a tensor `[len / dim, dim]`, which owns it from now on.
///
/// # Errors
/// [`Error::NotRows`], [`Error::Foreign`].
pub fn export_cpu<T: DlpackElement + Send>(values: Vec<T>, dim: usize) -> Result<Dlpack> {
    let mut values = Box::new(values);
    let (pointer, len) = (values.as_mut_ptr().cast(), values.len());
    // SAFETY: the box that goes along owns these elements, and moving it leaves them where they are.
    unsafe { export(values, pointer, len, DLDevice::CPU, T::DTYPE, dim) }
}

/// A buffer in device memory as a tensor `[len / dim, dim]`, which owns it from now on. It is ready on the buffer's own
/// stream, where it is also freed.
///
/// # Errors
/// [`Error::NotRows`], [`Error::Foreign`].
#[cfg(feature = "cuda")]
pub fn export_cuda<T: DlpackElement + Send>(
    values: cudarc::driver::CudaSlice<T>,
    dim: usize,
) -> Result<Dlpack> {
    use cudarc::driver::DevicePtr;
    let stream = values.stream().clone();
    let place = DLDevice::cuda(i32::try_from(values.ordinal()).map_err(refused)?);
    let (len, values) = (values.len(), Box::new(values));
    let (pointer, guard) = values.device_ptr(&stream);
    let pointer = std::ptr::without_provenance_mut(usize::try_from(pointer).map_err(refused)?);
    drop(guard);
    // SAFETY: the slice that goes along owns these elements.
    unsafe { export(values, pointer, len, place, T::DTYPE, dim) }
}

/// # Safety
/// `owner` owns `len` elements of the type at `pointer`, wherever it is moved.
unsafe fn export<O: Send>(
    owner: Box<O>,
    pointer: *mut c_void,
    len: usize,
    device: DLDevice,
    dtype: dlpark::ffi::DLDataType,
    dim: usize,
) -> Result<Dlpack> {
    if dim == 0 || !len.is_multiple_of(dim) {
        return Err(Error::NotRows { what: "the buffer to export", len, dim });
    }
    let size = |n: usize| i64::try_from(n).map_err(refused);
    let layout = Fixed::new([size(len / dim)?, size(dim)?], [size(dim)?, 1]);
    let mut tensor = layout.prepare_as::<DLManagedTensorVersioned>().map_err(refused)?.initialize(owner);
    // DLPack wants null where there is nothing.
    tensor.set_data(if len == 0 { std::ptr::null_mut() } else { pointer });
    tensor.set_device(device).set_dtype(dtype);
    // SAFETY: shape, strides, pointer, device and type are those of the owner's elements, all set above.
    Ok(unsafe { tensor.finish() })
}

/// Where a tensor's elements begin and how many there are, if it can be used as it lies.
fn elements<T: DlpackElement, M: ManagedTensorBase>(
    tensor: &Managed<M>,
    device: DLDevice,
) -> Result<(*const T, usize)> {
    let tensor = tensor.validate().map_err(refused)?;
    let found = tensor.device();
    if found != device {
        return Err(refused(format!("it is on {found:?}, the loss on {device:?}: move it there")));
    }
    if !tensor.dtype().is::<T>() {
        let (found, wanted) = (tensor.dtype(), T::DTYPE);
        return Err(refused(format!("it holds {found:?}, {wanted:?} was asked for: convert it")));
    }
    if !tensor.is_compact().map_err(refused)? {
        return Err(refused("there are gaps between its rows, or they are not in order: make it contiguous"));
    }
    if tensor.num_elements() == 0 {
        return Ok((std::ptr::null(), 0));
    }
    // SAFETY: the descriptor's pointer is moved by its own offset, in address arithmetic that is checked.
    let pointer = unsafe { tensor.offset_data_ptr::<T>() }.map_err(refused)?;
    Ok((pointer, tensor.num_elements()))
}

fn check_writable<M: ManagedTensorBase>(tensor: &Managed<M>) -> Result<()> {
    if tensor.flags().contains(DlpackFlags::READ_ONLY) {
        return Err(refused("it is read-only: gradients need memory that may be written"));
    }
    Ok(())
}

#[cfg(feature = "cuda")]
fn cuda(device: &crate::cuda::Device) -> Result<DLDevice> {
    Ok(DLDevice::cuda(i32::try_from(device.stream().context().ordinal()).map_err(refused)?))
}
