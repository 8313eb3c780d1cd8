//! Borrowed device buffers: cudarc slices, or pointers of other libraries.

use std::marker::PhantomData;

use cudarc::driver::{CudaSlice, CudaView, CudaViewMut, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop};

use super::device::Device;
use crate::{Error, Length, Result};

/// Device memory to read: from `&CudaSlice`, `CudaView`, or a pointer of another library ([`crate::link::raw::view`]).
#[derive(Debug)]
pub struct View<'a, T>(Source<'a, T>);

/// Device memory to write: from `&mut CudaSlice`, `CudaViewMut`, or a pointer of another library
/// ([`crate::link::raw::view_mut`]).
#[derive(Debug)]
pub struct ViewMut<'a, T>(SourceMut<'a, T>);

#[derive(Debug)]
enum Source<'a, T> {
    Tracked(CudaView<'a, T>),
    Raw(Raw<'a, T>),
}

#[derive(Debug)]
enum SourceMut<'a, T> {
    Tracked(CudaViewMut<'a, T>),
    Raw(Raw<'a, T>),
}

#[derive(Debug)]
struct Raw<'a, T> {
    pointer: u64,
    len: usize,
    element: PhantomData<&'a [T]>,
}

/// A pointer that is in use on a stream; its reader or writer is recorded when this drops.
pub(super) struct Bound<'a> {
    pub(super) pointer: u64,
    _guard: Option<SyncOnDrop<'a>>,
}

impl<T> View<'_, T> {
    /// Memory that another library owns; [`crate::link::raw::view`] has the conditions.
    ///
    /// # Safety
    /// As [`crate::link::raw::view`], for an owner that is borrowed for `'a`.
    pub(crate) unsafe fn from_raw(pointer: u64, len: usize) -> Result<Self> {
        Ok(Self(Source::Raw(Raw::new(pointer, len)?)))
    }

    /// The device address, for the caller's own kernels on the same stream.
    pub fn device_pointer(&self) -> u64 {
        match &self.0 {
            Source::Tracked(view) => {
                let (pointer, guard) = view.device_ptr(view.stream());
                // An address is no use of the memory: nothing to record.
                std::mem::forget(guard);
                pointer
            }
            Source::Raw(raw) => raw.pointer,
        }
    }

    pub(super) fn bind<'s>(&'s self, device: &'s Device, what: &'static str) -> Result<Bound<'s>> {
        match &self.0 {
            Source::Tracked(view) => {
                check_context(view.stream(), device, what)?;
                let (pointer, guard) = view.device_ptr(device.stream());
                Ok(Bound { pointer, _guard: Some(guard) })
            }
            Source::Raw(raw) => Ok(Bound { pointer: raw.pointer, _guard: None }),
        }
    }
}

impl<T> ViewMut<'_, T> {
    /// Memory that another library owns; [`crate::link::raw::view_mut`] has the conditions.
    ///
    /// # Safety
    /// As [`crate::link::raw::view_mut`], for an owner that is borrowed for `'a`.
    pub(crate) unsafe fn from_raw(pointer: u64, len: usize) -> Result<Self> {
        Ok(Self(SourceMut::Raw(Raw::new(pointer, len)?)))
    }

    pub(super) fn bind<'s>(&'s mut self, device: &'s Device, what: &'static str) -> Result<Bound<'s>> {
        match &mut self.0 {
            SourceMut::Tracked(view) => {
                check_context(view.stream(), device, what)?;
                let (pointer, guard) = view.device_ptr_mut(device.stream());
                Ok(Bound { pointer, _guard: Some(guard) })
            }
            SourceMut::Raw(raw) => Ok(Bound { pointer: raw.pointer, _guard: None }),
        }
    }
}

impl<T> Raw<'_, T> {
    fn new(pointer: u64, len: usize) -> Result<Self> {
        let align = align_of::<T>();
        if len > 0 && (pointer == 0 || !pointer.is_multiple_of(align as u64)) {
            return Err(Error::Misaligned { address: pointer, len, align });
        }
        Ok(Self { pointer, len, element: PhantomData })
    }
}

/// A view of this crate's own memory.
pub(super) fn view_of<'a, T>(pointer: u64, len: usize) -> View<'a, T> {
    View(Source::Raw(Raw { pointer, len, element: PhantomData }))
}

fn check_context(stream: &cudarc::driver::CudaStream, device: &Device, what: &'static str) -> Result<()> {
    if stream.context().cu_ctx() != device.context().cu_ctx() {
        return Err(Error::Elsewhere { what, place: "device" });
    }
    Ok(())
}

impl<T> Length for View<'_, T> {
    fn length(&self) -> usize {
        match &self.0 {
            Source::Tracked(view) => view.len(),
            Source::Raw(raw) => raw.len,
        }
    }
}

impl<T> Length for ViewMut<'_, T> {
    fn length(&self) -> usize {
        match &self.0 {
            SourceMut::Tracked(view) => view.len(),
            SourceMut::Raw(raw) => raw.len,
        }
    }
}

impl<'a, T> From<&'a CudaSlice<T>> for View<'a, T> {
    fn from(slice: &'a CudaSlice<T>) -> Self {
        Self(Source::Tracked(slice.as_view()))
    }
}

impl<'a, T> From<CudaView<'a, T>> for View<'a, T> {
    fn from(view: CudaView<'a, T>) -> Self {
        Self(Source::Tracked(view))
    }
}

impl<'a, T> From<&'a mut CudaSlice<T>> for ViewMut<'a, T> {
    fn from(slice: &'a mut CudaSlice<T>) -> Self {
        Self(SourceMut::Tracked(slice.as_view_mut()))
    }
}

impl<'a, T> From<CudaViewMut<'a, T>> for ViewMut<'a, T> {
    fn from(view: CudaViewMut<'a, T>) -> Self {
        Self(SourceMut::Tracked(view))
    }
}
