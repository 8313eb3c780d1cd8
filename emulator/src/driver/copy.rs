//! Copies and fills, synchronous and on a stream.

use super::boundary::{Handle, Host, In, driver_api};
use super::code::{Code, Outcome};
use super::context::current;
use super::graph::refuse_synchronous;
use super::queue;
use super::stream;
use super::table::lock;
use super::work::{Work, enqueue};

/// Synchronous: on the legacy default stream, done when the call returns.
fn now(work: Work) -> Outcome {
    let context = current()?;
    refuse_synchronous(&context)?;
    queue::finish_blocking(&context)?;
    let _turn = lock(&context.engine);
    work.run(&context)
}

fn on(stream: Handle, work: Work) -> Outcome {
    enqueue(&stream::resolve(stream)?, work)
}

fn fill(to: u64, value: u32, width: u8, count: usize) -> Outcome<Work> {
    if !to.is_multiple_of(u64::from(width)) {
        return Err(Code::INVALID_VALUE);
    }
    Ok(Work::Fill { to, value, width, count: count as u64 })
}

/// Rows of `pitch` bytes, `width` of which are filled.
fn fill_rows(
    to: u64,
    pitch: usize,
    value: u32,
    width_bytes: u8,
    width: usize,
    height: usize,
) -> Outcome<Vec<Work>> {
    if width.saturating_mul(usize::from(width_bytes)) > pitch && height > 1 {
        return Err(Code::INVALID_VALUE);
    }
    (0..height as u64)
        .map(|row| fill(to.wrapping_add(row.wrapping_mul(pitch as u64)), value, width_bytes, width))
        .collect()
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Copy2D {
    source: Side,
    target: Side,
    width: usize,
    height: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Side {
    x_bytes: usize,
    y: usize,
    memory_type: u32,
    host: Host,
    device: u64,
    array: Handle,
    pitch: usize,
}

/// `CUmemorytype`.
const HOST: u32 = 1;
const DEVICE: u32 = 2;

impl Side {
    fn offset(&self, row: usize) -> usize {
        (self.y + row).wrapping_mul(self.pitch).wrapping_add(self.x_bytes)
    }

    fn host_row(&self, row: usize) -> Host {
        self.host.offset(self.offset(row))
    }

    fn device_row(&self, row: usize) -> u64 {
        self.device.wrapping_add(self.offset(row) as u64)
    }
}

fn rows(copy: &Copy2D) -> Outcome<Vec<Work>> {
    let (source, target, bytes) = (&copy.source, &copy.target, copy.width);
    let row = |row| match (source.memory_type, target.memory_type) {
        (HOST, DEVICE) => Ok(Work::CopyIn { to: target.device_row(row), from: source.host_row(row), bytes }),
        (DEVICE, HOST) => Ok(Work::CopyOut { to: target.host_row(row), from: source.device_row(row), bytes }),
        (DEVICE, DEVICE) => {
            Ok(Work::Copy { to: target.device_row(row), from: source.device_row(row), bytes: bytes as u64 })
        }
        _ => Err(Code::NOT_SUPPORTED),
    };
    (0..copy.height).map(row).collect()
}

driver_api! {
    fn cuMemcpyHtoD_v2(to: u64, from: Host, bytes: usize) {
        now(Work::CopyIn { to, from, bytes })
    }

    fn cuMemcpyDtoH_v2(to: Host, from: u64, bytes: usize) {
        now(Work::CopyOut { to, from, bytes })
    }

    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) {
        now(Work::Copy { to, from, bytes: bytes as u64 })
    }

    fn cuMemcpyHtoDAsync_v2(to: u64, from: Host, bytes: usize, stream: Handle) {
        on(stream, Work::CopyIn { to, from, bytes })
    }

    fn cuMemcpyDtoHAsync_v2(to: Host, from: u64, bytes: usize, stream: Handle) {
        on(stream, Work::CopyOut { to, from, bytes })
    }

    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) {
        on(stream, Work::Copy { to, from, bytes: bytes as u64 })
    }

    fn cuMemcpyPeerAsync(to: u64, _to_context: Handle, from: u64, _from_context: Handle, bytes: usize, stream: Handle) {
        // One device: a copy to its peer is a copy within it.
        on(stream, Work::Copy { to, from, bytes: bytes as u64 })
    }

    fn cuMemcpy2D_v2(copy: In<Copy2D>) {
        rows(&copy.at(0)?)?.into_iter().try_for_each(now)
    }

    fn cuMemcpy2DAsync_v2(copy: In<Copy2D>, stream: Handle) {
        rows(&copy.at(0)?)?.into_iter().try_for_each(|work| on(stream, work))
    }

    fn cuMemsetD8_v2(to: u64, value: u8, count: usize) {
        now(fill(to, value.into(), 1, count)?)
    }

    fn cuMemsetD16_v2(to: u64, value: u16, count: usize) {
        now(fill(to, value.into(), 2, count)?)
    }

    fn cuMemsetD32_v2(to: u64, value: u32, count: usize) {
        now(fill(to, value, 4, count)?)
    }

    fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: Handle) {
        on(stream, fill(to, value.into(), 1, count)?)
    }

    fn cuMemsetD16Async(to: u64, value: u16, count: usize, stream: Handle) {
        on(stream, fill(to, value.into(), 2, count)?)
    }

    fn cuMemsetD32Async(to: u64, value: u32, count: usize, stream: Handle) {
        on(stream, fill(to, value, 4, count)?)
    }

    fn cuMemsetD2D8_v2(to: u64, pitch: usize, value: u8, width: usize, height: usize) {
        fill_rows(to, pitch, value.into(), 1, width, height)?.into_iter().try_for_each(now)
    }

    fn cuMemsetD2D32_v2(to: u64, pitch: usize, value: u32, width: usize, height: usize) {
        fill_rows(to, pitch, value, 4, width, height)?.into_iter().try_for_each(now)
    }
}
