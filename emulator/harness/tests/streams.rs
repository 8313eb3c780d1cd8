//! Streams keep their order and nothing more: what forgot to wait sees the old data.

mod support;

use cudarc::driver::sys::{self, CUresult};
use std::ptr::null_mut;
use support::{Fresh, allocate, fresh_with, function, launch, load, synchronize};

const LAZY: &[(&str, &str)] = &[("streams", "lazy")];
const NON_BLOCKING: u32 = 1;

fn stream(flags: u32) -> sys::CUstream {
    let mut stream = null_mut();
    // SAFETY: the result is written to a local variable.
    ok(unsafe { sys::cuStreamCreate(&raw mut stream, flags) });
    stream
}

fn event(stream: sys::CUstream) -> sys::CUevent {
    let mut event = null_mut();
    // SAFETY: the result is written to a local variable; the stream is alive.
    unsafe {
        ok(sys::cuEventCreate(&raw mut event, 0));
        ok(sys::cuEventRecord(event, stream));
    }
    event
}

fn ok(code: CUresult) {
    assert_eq!(code, CUresult::CUDA_SUCCESS);
}

/// Page-locked host memory of 4 words: copies to and from it are truly asynchronous.
fn pinned() -> &'static mut [u32; 4] {
    let mut pointer = null_mut();
    // SAFETY: 16 bytes, aligned to a page, never freed by these tests.
    unsafe {
        ok(sys::cuMemHostAlloc(&raw mut pointer, 16, 0));
        let words: *mut [u32; 4] = pointer.cast();
        words.write([7; 4]);
        &mut *words
    }
}

fn fill(address: u64, value: u32, stream: sys::CUstream) {
    // SAFETY: buffers have 4 words.
    ok(unsafe { sys::cuMemsetD32Async(address, value, 4, stream) });
}

fn read(target: &mut [u32; 4], address: u64, stream: sys::CUstream) {
    // SAFETY: both sides have 4 words.
    ok(unsafe { sys::cuMemcpyDtoHAsync_v2(target.as_mut_ptr().cast(), address, 16, stream) });
}

fn buffer(test: &Fresh) -> u64 {
    test.context.bind_to_thread().expect("bound");
    let (code, address) = allocate(16);
    ok(code);
    fill(address, 1, null_mut());
    address
}

#[test]
fn a_missing_wait_between_streams_shows_the_old_data() {
    let test = fresh_with(LAZY);
    let address = buffer(&test);
    for waits in [false, true] {
        let (writer, reader) = (stream(NON_BLOCKING), stream(NON_BLOCKING));
        fill(address, 1, null_mut());
        fill(address, 2, writer);
        if waits {
            // SAFETY: stream and event are alive.
            ok(unsafe { sys::cuStreamWaitEvent(reader, event(writer), 0) });
        }
        let mut seen = [0; 4];
        read(&mut seen, address, reader);
        assert_eq!(seen, if waits { [2; 4] } else { [1; 4] });
        ok(synchronize());
    }
}

#[test]
fn a_missing_synchronisation_of_the_host_shows_the_old_data() {
    let test = fresh_with(LAZY);
    let address = buffer(&test);
    let (stream, seen) = (stream(NON_BLOCKING), pinned());
    fill(address, 3, stream);
    read(seen, address, stream);
    assert_eq!(*seen, [7; 4], "nobody waited yet");
    let recorded = event(stream);
    fill(address, 4, stream);
    // SAFETY: the event is alive.
    ok(unsafe { sys::cuEventSynchronize(recorded) });
    assert_eq!(*seen, [3; 4]);
    let mut now = [0; 4];
    // SAFETY: a non-blocking stream is not waited for by a synchronous copy.
    ok(unsafe { sys::cuMemcpyDtoH_v2(now.as_mut_ptr().cast(), address, 16) });
    assert_eq!(now, [3; 4], "the work behind the event is still to come");
    ok(synchronize());
    // SAFETY: as above.
    ok(unsafe { sys::cuMemcpyDtoH_v2(now.as_mut_ptr().cast(), address, 16) });
    assert_eq!(now, [4; 4]);
}

#[test]
fn host_memory_that_is_not_page_locked_is_read_at_once() {
    let test = fresh_with(LAZY);
    let address = buffer(&test);
    let (stream, locked) = (stream(NON_BLOCKING), pinned());
    let mut ordinary = [5_u32; 4];
    let mut seen = [0; 4];
    // SAFETY: all sides have 4 words.
    unsafe {
        ok(sys::cuMemcpyHtoDAsync_v2(address, ordinary.as_ptr().cast(), 16, stream));
        ordinary.fill(6);
        read(&mut seen, address, stream);
        assert_eq!(seen, [5; 4], "taken when the copy was enqueued");
        ok(sys::cuMemcpyHtoDAsync_v2(address, locked.as_ptr().cast(), 16, stream));
    }
    locked.fill(8);
    read(&mut seen, address, stream);
    assert_eq!(seen, [8; 4], "page-locked memory is read when the copy runs");
    assert_eq!(ordinary, [6; 4]);
}

#[test]
fn the_legacy_stream_and_blocking_streams_wait_for_each_other() {
    let test = fresh_with(LAZY);
    let address = buffer(&test);
    let blocking = stream(0);
    fill(address, 9, blocking);
    let mut seen = [0; 4];
    // SAFETY: both sides have 4 words.
    ok(unsafe { sys::cuMemcpyDtoH_v2(seen.as_mut_ptr().cast(), address, 16) });
    assert_eq!(seen, [9; 4]);
}

#[test]
fn polling_makes_progress() {
    let test = fresh_with(LAZY);
    let address = buffer(&test);
    let stream = stream(NON_BLOCKING);
    fill(address, 1, stream);
    fill(address, 2, stream);
    let recorded = event(stream);
    let mut polls = 0;
    // SAFETY: stream and event are alive.
    while unsafe { sys::cuEventQuery(recorded) } == CUresult::CUDA_ERROR_NOT_READY {
        polls += 1;
        assert!(polls < 10);
    }
    assert_eq!(polls, 3);
    // SAFETY: the stream is alive.
    ok(unsafe { sys::cuStreamQuery(stream) });
}

#[test]
fn a_late_fault_is_found_by_whoever_waits() {
    let test = fresh_with(LAZY);
    let (_, module) = load(include_str!("ptx/flow.ptx"));
    let one = [1, 1, 1];
    ok(launch(function(module, "roomy"), one, one, 0, &mut []));
    let stream = stream(NON_BLOCKING);
    // SAFETY: the kernel takes no parameters.
    ok(unsafe {
        let stops = function(module, "stops");
        sys::cuLaunchKernel(stops, 1, 1, 1, 1, 1, 1, 0, stream, null_mut(), null_mut())
    });
    assert!(test.emulator.report().is_none());
    ok(allocate(4).0);
    // SAFETY: the stream is alive.
    assert_eq!(unsafe { sys::cuStreamSynchronize(stream) }, CUresult::CUDA_ERROR_LAUNCH_FAILED);
    assert_eq!(allocate(4).0, CUresult::CUDA_ERROR_LAUNCH_FAILED);
}

#[test]
fn memory_freed_in_stream_order_is_still_there_for_earlier_work() {
    let test = fresh_with(LAZY);
    let address = buffer(&test);
    let (stream, seen) = (stream(NON_BLOCKING), pinned());
    fill(address, 11, stream);
    read(seen, address, stream);
    // SAFETY: the address is alive, and freed once.
    ok(unsafe { sys::cuMemFreeAsync(address, stream) });
    // SAFETY: the stream is alive.
    ok(unsafe { sys::cuStreamSynchronize(stream) });
    assert_eq!(*seen, [11; 4]);
    assert!(test.emulator.live().is_empty());
}
