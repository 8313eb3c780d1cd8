//! Device memory: allocation, release, and what a pointer is.

use super::boundary::{Handle, Host, In, Out, driver_api, handle};
use super::code::{Code, Outcome};
use super::context::{Context, current};
use super::graph::{refuse_if_capturing, refuse_unsafe};
use super::queue;
use super::state::{driver, ready};
use super::stream::{self, Stream};
use super::table::lock;
use super::work::{Work, done, enqueue};
use std::sync::Arc;

fn allocate(context: &Context, out: &Out<u64>, bytes: usize) -> Outcome {
    if out.is_null() || bytes == 0 {
        return Err(Code::INVALID_VALUE);
    }
    if lock(&driver().records).take_failing_allocation() {
        return Err(Code::OUT_OF_MEMORY);
    }
    out.set(done(context.memory.alloc(bytes as u64))?)
}

/// The stream of a stream-ordered call. In a capture such calls would become nodes, which graphs here lack.
fn ordered(stream: Handle) -> Outcome<Arc<Stream>> {
    let stream = stream::resolve(stream)?;
    refuse_if_capturing(&stream)?;
    Ok(stream)
}

/// `CUpointer_attribute` numbers that have an answer.
const CONTEXT: u32 = 1;
const MEMORY_TYPE: u32 = 2;
const DEVICE_POINTER: u32 = 3;
const HOST_POINTER: u32 = 4;
const BUFFER_ID: u32 = 7;
const IS_MANAGED: u32 = 8;
const DEVICE_ORDINAL: u32 = 9;
const RANGE_START: u32 = 11;
const RANGE_SIZE: u32 = 12;
const MAPPED: u32 = 13;

/// Writes attribute `number` of `pointer` into `data`, whose type the attribute decides.
fn pointer_attribute(data: Host, number: u32, pointer: u64) -> Outcome {
    let context = current()?;
    let id = ready()?.contexts.id_of(&context)?;
    let info = context.memory.allocation_of(pointer);
    let host = ready()?.host.holding(pointer as usize);
    let put = |bytes: &[u8]| data.write(bytes.len()).map(|target| target.copy_from_slice(bytes));
    if info.is_none() && host.is_none() {
        return Err(Code::INVALID_VALUE);
    }
    let (base, bytes) = info.as_ref().map(|info| (info.base, info.bytes)).or(host).unwrap_or_default();
    match number {
        CONTEXT => put(&id.to_ne_bytes()),
        MEMORY_TYPE => put(&if info.is_some() { 2_u32 } else { 1 }.to_ne_bytes()),
        DEVICE_POINTER if info.is_some() => put(&pointer.to_ne_bytes()),
        HOST_POINTER if info.is_none() => put(&pointer.to_ne_bytes()),
        BUFFER_ID | RANGE_START => put(&base.to_ne_bytes()),
        RANGE_SIZE => put(&bytes.to_ne_bytes()),
        IS_MANAGED => put(&0_u32.to_ne_bytes()),
        DEVICE_ORDINAL => put(&0_i32.to_ne_bytes()),
        MAPPED => put(&1_u32.to_ne_bytes()),
        _ => Err(Code::INVALID_VALUE),
    }
}

driver_api! {
    fn cuMemAlloc_v2(out: Out<u64>, bytes: usize) {
        let context = current()?;
        refuse_unsafe(&context)?;
        allocate(&context, &out, bytes)
    }

    fn cuMemAllocPitch_v2(out: Out<u64>, pitch: Out<usize>, width: usize, height: usize, _element: u32) {
        let context = current()?;
        refuse_unsafe(&context)?;
        let row = width.checked_next_multiple_of(512).ok_or(Code::INVALID_VALUE)?;
        allocate(&context, &out, row.checked_mul(height).ok_or(Code::OUT_OF_MEMORY)?)?;
        pitch.set(row)
    }

    fn cuMemFree_v2(address: u64) {
        let context = current()?;
        refuse_unsafe(&context)?;
        queue::finish_context(&context)?;
        // A module's variable goes with its module.
        let variable = context.memory.allocation_of(address).is_some_and(|info| info.name.is_some());
        match address {
            0 => Ok(()),
            _ if variable => Err(Code::INVALID_VALUE),
            _ => done(context.memory.free(address)),
        }
    }

    fn cuMemAllocAsync(out: Out<u64>, bytes: usize, stream: Handle) {
        allocate(&ordered(stream)?.context, &out, bytes)
    }

    fn cuMemFreeAsync(address: u64, stream: Handle) {
        let stream = ordered(stream)?;
        if address == 0 { Ok(()) } else { enqueue(&stream, Work::Free(address)) }
    }

    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let context = current()?;
        free.set(context.memory.free_bytes() as usize)?;
        total.set(context.memory.total_bytes() as usize)
    }

    fn cuMemGetAddressRange_v2(base: Out<u64>, bytes: Out<usize>, address: u64) {
        let info = current()?.memory.allocation_of(address).ok_or(Code::NOT_FOUND)?;
        base.set_if_wanted(info.base);
        bytes.set_if_wanted(info.bytes as usize);
        Ok(())
    }

    fn cuPointerGetAttribute(data: Host, attribute: u32, pointer: u64) {
        pointer_attribute(data, attribute, pointer)
    }

    fn cuPointerGetAttributes(count: u32, attributes: In<u32>, data: In<Host>, pointer: u64) {
        for index in 0..count as usize {
            let (attribute, place) = (attributes.at(index)?, data.at(index)?);
            // As the driver: an attribute without an answer leaves its place as it is.
            let _ = pointer_attribute(place, attribute, pointer);
        }
        Ok(())
    }

    fn cuDeviceGetDefaultMemPool(out: Out<Handle>, _device: i32) {
        ready()?;
        out.set(handle(0))?;
        Err(Code::NOT_SUPPORTED)
    }
}
