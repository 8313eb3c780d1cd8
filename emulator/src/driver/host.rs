//! Page-locked host memory. Ordinary memory serves; what is kept is which ranges are page-locked.

use super::boundary::{Host, Out, driver_api};
use super::code::{Code, Outcome};
use super::context::current;
use super::graph::refuse_unsafe;
use super::queue;
use super::state::ready;
use super::table::lock;
use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Mutex;

/// Page-locked memory starts on a page.
const PAGE: usize = 4096;

/// Ranges by start address.
#[derive(Default)]
pub(crate) struct HostBlocks(Mutex<BTreeMap<usize, Block>>);

#[derive(Clone, Copy)]
struct Block {
    bytes: usize,
    flags: u32,
    /// From `cuMemHostAlloc`, as opposed to `cuMemHostRegister`.
    ours: bool,
}

impl HostBlocks {
    /// Start and length of the range that holds `address`.
    pub(crate) fn holding(&self, address: usize) -> Option<(u64, u64)> {
        let (start, block) = self.find(address)?;
        Some((start as u64, block.bytes as u64))
    }

    fn find(&self, address: usize) -> Option<(usize, Block)> {
        let blocks = lock(&self.0);
        let (start, block) = blocks.range(..=address).next_back()?;
        (address - start < block.bytes).then_some((*start, *block))
    }
}

fn layout(bytes: usize) -> Outcome<Layout> {
    Layout::from_size_align(bytes, PAGE).map_err(|_| Code::OUT_OF_MEMORY)
}

fn allocate(out: &Out<*mut c_void>, bytes: usize, flags: u32) -> Outcome {
    refuse_unsafe(&*current()?)?;
    if out.is_null() || bytes == 0 {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: the layout is not of size zero.
    let pointer = unsafe { alloc(layout(bytes)?) };
    if pointer.is_null() {
        return Err(Code::OUT_OF_MEMORY);
    }
    lock(&ready()?.host.0).insert(pointer.addr(), Block { bytes, flags, ours: true });
    out.set(pointer.cast())
}

/// Takes the range that starts at `address` out of the list.
fn take(address: usize, ours: bool, missing: Code) -> Outcome<Block> {
    let mut blocks = lock(&ready()?.host.0);
    match blocks.get(&address) {
        Some(block) if block.ours == ours => blocks.remove(&address).ok_or(missing),
        _ => Err(missing),
    }
}

driver_api! {
    fn cuMemHostAlloc(out: Out<*mut c_void>, bytes: usize, flags: u32) {
        allocate(&out, bytes, flags)
    }

    fn cuMemAllocHost_v2(out: Out<*mut c_void>, bytes: usize) {
        allocate(&out, bytes, 0)
    }

    fn cuMemFreeHost(pointer: Host) {
        queue::finish_context(&current()?)?;
        let block = take(pointer.address(), true, Code::INVALID_VALUE)?;
        // SAFETY: the list held the pointer, so it came from `allocate` with this layout and was not freed since.
        unsafe { dealloc(pointer.pointer().cast(), layout(block.bytes)?) };
        Ok(())
    }

    fn cuMemHostRegister_v2(pointer: Host, bytes: usize, flags: u32) {
        current()?;
        let driver = ready()?;
        if pointer.address() == 0 || bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        if driver.host.find(pointer.address()).is_some() || driver.host.find(pointer.address() + (bytes - 1)).is_some() {
            return Err(Code::HOST_MEMORY_ALREADY_REGISTERED);
        }
        lock(&driver.host.0).insert(pointer.address(), Block { bytes, flags, ours: false });
        Ok(())
    }

    fn cuMemHostUnregister(pointer: Host) {
        queue::finish_context(&current()?)?;
        take(pointer.address(), false, Code::HOST_MEMORY_NOT_REGISTERED).map(drop)
    }

    fn cuMemHostGetFlags(out: Out<u32>, pointer: Host) {
        current()?;
        let (_, block) = ready()?.host.find(pointer.address()).ok_or(Code::INVALID_VALUE)?;
        out.set(block.flags)
    }

    fn cuMemHostGetDevicePointer_v2(out: Out<u64>, _pointer: Host, _flags: u32) {
        // Kernels here reach device memory only (CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY is 0).
        out.set(0)?;
        Err(Code::NOT_SUPPORTED)
    }
}
