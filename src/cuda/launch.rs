//! What all launchers share: checked lengths, grids, the launch itself.

use std::ffi::c_void;
use std::marker::PhantomData;

use cudarc::driver::result;

use super::arguments::Arguments;
use super::buffer::Buffer;
use super::device::{Device, driver_error};
use super::module::File;
use crate::{Error, Result};

/// A pointer with its length, as launchers check it. Null means: not there.
#[derive(Debug)]
pub(super) struct Span<T> {
    pub(super) pointer: u64,
    pub(super) len: usize,
    element: PhantomData<T>,
}

impl<T> Clone for Span<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Span<T> {}

impl<T> Span<T> {
    pub(super) const NULL: Self = Self { pointer: 0, len: 0, element: PhantomData };

    pub(super) fn new(pointer: u64, len: usize) -> Self {
        Self { pointer, len, element: PhantomData }
    }

    /// This span, or null unless `wanted`.
    pub(super) fn only_if(self, wanted: bool) -> Self {
        if wanted { self } else { Self::NULL }
    }

    pub(super) fn is_null(&self) -> bool {
        self.pointer == 0
    }

    /// The pointer, once it is certain that `len` elements follow it.
    pub(super) fn holds(&self, len: usize, what: &'static str) -> Result<u64> {
        if self.len < len {
            return Err(Error::Length { what, got: self.len, expected: len, why: "a kernel's argument" });
        }
        Ok(self.pointer)
    }

    /// The same for an argument that may be null.
    pub(super) fn holds_or_null(&self, len: usize, what: &'static str) -> Result<u64> {
        if self.is_null() { Ok(0) } else { self.holds(len, what) }
    }
}

impl<T: bytemuck::Pod> From<&Buffer<T>> for Span<T> {
    fn from(buffer: &Buffer<T>) -> Self {
        Self::new(buffer.pointer(), buffer.len())
    }
}

/// Blocks and threads of one launch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) blocks: [usize; 3],
    pub(super) threads: u32,
    /// Bytes of dynamic shared memory for each block.
    pub(super) shared: u32,
}

/// Warps in a block of the kernels that give a warp to each row or column.
pub(super) const WARPS_PER_BLOCK: usize = 8;

/// Threads in a block of every kernel but the stream's, which has as many.
pub(super) const BLOCK: u32 = 256;

impl Grid {
    /// A warp for each of `count` things.
    pub(super) fn warps(count: usize) -> Self {
        Self { blocks: [count.div_ceil(WARPS_PER_BLOCK), 1, 1], threads: BLOCK, shared: 0 }
    }

    /// A thread for each of `count` things.
    pub(super) fn threads(count: usize) -> Self {
        Self { blocks: [count.div_ceil(BLOCK as usize), 1, 1], threads: BLOCK, shared: 0 }
    }

    /// One block.
    pub(super) fn one_block() -> Self {
        Self { blocks: [1, 1, 1], threads: BLOCK, shared: 0 }
    }
}

/// What the hardware takes in each direction of a grid.
const MAX_BLOCKS: [usize; 3] = [i32::MAX as usize, 65_535, 65_535];

/// Enqueues a kernel.
///
/// # Safety
/// `arguments` is the struct that `kernel` declares, and every pointer in it is valid for what the kernel does
/// with it under the sizes beside it.
pub(super) unsafe fn launch<A: Arguments>(
    device: &Device,
    file: File,
    kernel: &'static str,
    grid: Grid,
    arguments: &A,
) -> Result<()> {
    for (blocks, max) in grid.blocks.into_iter().zip(MAX_BLOCKS) {
        if blocks > max {
            return Err(Error::TooLarge { what: "a kernel's grid", size: blocks as u128, max: max as u128 });
        }
    }
    let [x, y, z] = grid.blocks.map(|blocks| blocks as u32);
    let function = {
        let mut modules = device.modules();
        if !modules.is_loaded(file) {
            device.check_not_capturing("loading kernels")?;
        }
        modules.kernel(file, kernel, grid.shared)?
    };
    device.context().bind_to_thread().map_err(|e| driver_error("entering the context", e))?;
    let stream = device.stream().cu_stream();
    let pointer: *const A = arguments;
    let mut parameters = [pointer.cast_mut().cast::<c_void>()];
    // SAFETY: the caller vouches for the arguments; the driver copies them before this returns.
    unsafe {
        result::launch_kernel(function, (x, y, z), (grid.threads, 1, 1), grid.shared, stream, &mut parameters)
    }
    .map_err(|error| Error::Launch { kernel, code: format!("{:?}", error.0) })
}

/// The three names `<stem>_{f32,f16,bf16}`, in the order of `dtype_index`; those of each stem if there are several.
macro_rules! per_dtype {
    ($stem:literal) => {
        [concat!($stem, "_f32"), concat!($stem, "_f16"), concat!($stem, "_bf16")]
    };
    ($($stem:literal),+ $(,)?) => {
        [$(per_dtype!($stem)),+]
    };
}

pub(super) use per_dtype;

/// A size that [`crate::Problem`] has checked against 32 bits.
pub(super) fn int(size: usize) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}
