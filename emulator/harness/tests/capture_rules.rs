//! What stream capture refuses, with the driver's codes.

mod support;

use cudarc::driver::sys::{self, CUresult, CUstreamCaptureMode_enum as Mode};
use std::ptr::null_mut;
use support::{allocate, fresh, synchronize};

const BLOCKING: u32 = 0;
const NON_BLOCKING: u32 = 1;

fn stream(flags: u32) -> sys::CUstream {
    let mut stream = null_mut();
    // SAFETY: the result is written to a local variable.
    assert_eq!(unsafe { sys::cuStreamCreate(&raw mut stream, flags) }, CUresult::CUDA_SUCCESS);
    stream
}

fn event() -> sys::CUevent {
    let mut event = null_mut();
    // SAFETY: the result is written to a local variable.
    assert_eq!(unsafe { sys::cuEventCreate(&raw mut event, 2) }, CUresult::CUDA_SUCCESS);
    event
}

fn begin(stream: sys::CUstream, mode: Mode) -> CUresult {
    // SAFETY: the stream is alive.
    unsafe { sys::cuStreamBeginCapture_v2(stream, mode) }
}

fn end(stream: sys::CUstream) -> (CUresult, sys::CUgraph) {
    let mut graph = null_mut();
    // SAFETY: the stream is alive, the result is written to a local variable.
    let code = unsafe { sys::cuStreamEndCapture(stream, &raw mut graph) };
    (code, graph)
}

#[test]
fn allocation_breaks_a_global_capture_and_not_a_relaxed_one() {
    let _test = fresh();
    let stream = stream(NON_BLOCKING);
    assert_eq!(begin(stream, Mode::CU_STREAM_CAPTURE_MODE_GLOBAL), CUresult::CUDA_SUCCESS);
    assert_eq!(allocate(4).0, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    let (code, graph) = end(stream);
    assert_eq!((code, graph.is_null()), (CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, true));
    assert_eq!(begin(stream, Mode::CU_STREAM_CAPTURE_MODE_RELAXED), CUresult::CUDA_SUCCESS);
    assert_eq!(allocate(4).0, CUresult::CUDA_SUCCESS);
    assert_eq!(end(stream).0, CUresult::CUDA_SUCCESS);
}

#[test]
fn waiting_breaks_a_capture() {
    let _test = fresh();
    let stream = stream(NON_BLOCKING);
    begin(stream, Mode::CU_STREAM_CAPTURE_MODE_RELAXED);
    // SAFETY: the stream is alive.
    assert_eq!(unsafe { sys::cuStreamSynchronize(stream) }, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(end(stream).0, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    begin(stream, Mode::CU_STREAM_CAPTURE_MODE_RELAXED);
    assert_eq!(synchronize(), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(end(stream).0, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_eq!(synchronize(), CUresult::CUDA_SUCCESS);
}

#[test]
fn the_legacy_stream_may_not_depend_on_a_capture() {
    let _test = fresh();
    let (_, buffer) = allocate(16);
    let blocking = stream(BLOCKING);
    assert_eq!(
        begin(null_mut(), Mode::CU_STREAM_CAPTURE_MODE_RELAXED),
        CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
    );
    begin(blocking, Mode::CU_STREAM_CAPTURE_MODE_RELAXED);
    // SAFETY: the buffer has 16 bytes.
    let code = unsafe { sys::cuMemsetD8Async(buffer, 1, 16, null_mut()) };
    assert_eq!(code, CUresult::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    assert_eq!(end(blocking).0, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

#[test]
fn forked_streams_must_join() {
    let _test = fresh();
    let (_, buffer) = allocate(16);
    let (origin, side, fork, join) = (stream(NON_BLOCKING), stream(NON_BLOCKING), event(), event());
    for joins in [true, false] {
        begin(origin, Mode::CU_STREAM_CAPTURE_MODE_RELAXED);
        // SAFETY: streams and events are alive, the buffer has 16 bytes.
        unsafe {
            assert_eq!(sys::cuMemsetD8Async(buffer, 1, 16, origin), CUresult::CUDA_SUCCESS);
            assert_eq!(sys::cuEventRecord(fork, origin), CUresult::CUDA_SUCCESS);
            assert_eq!(sys::cuStreamWaitEvent(side, fork, 0), CUresult::CUDA_SUCCESS);
            assert_eq!(sys::cuMemsetD8Async(buffer, 2, 16, side), CUresult::CUDA_SUCCESS);
            assert_eq!(sys::cuEventRecord(join, side), CUresult::CUDA_SUCCESS);
            assert_eq!(sys::cuEventQuery(join), CUresult::CUDA_ERROR_CAPTURED_EVENT);
            if joins {
                assert_eq!(sys::cuStreamWaitEvent(origin, join, 0), CUresult::CUDA_SUCCESS);
            }
        }
        let expected =
            if joins { CUresult::CUDA_SUCCESS } else { CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED };
        assert_eq!(end(origin).0, expected);
        assert_eq!(end(side).0, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    }
}

#[test]
fn events_from_outside_stay_outside() {
    let _test = fresh();
    let (origin, other, before) = (stream(NON_BLOCKING), stream(NON_BLOCKING), event());
    // SAFETY: streams and events are alive.
    unsafe {
        sys::cuEventRecord(before, other);
        begin(origin, Mode::CU_STREAM_CAPTURE_MODE_RELAXED);
        assert_eq!(sys::cuStreamWaitEvent(origin, before, 0), CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
        sys::cuEventRecord(before, origin);
        end(origin);
        assert_eq!(sys::cuStreamWaitEvent(other, before, 0), CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    }
}

#[test]
fn only_the_thread_that_began_may_end() {
    let test = fresh();
    let stream = stream(NON_BLOCKING);
    begin(stream, Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    let address = stream.addr();
    let context = &test.context;
    let code = std::thread::scope(|scope| {
        let other = scope.spawn(move || {
            context.bind_to_thread().expect("bound");
            end(std::ptr::without_provenance_mut(address)).0
        });
        other.join().expect("ends")
    });
    assert_eq!(code, CUresult::CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    assert_eq!(end(stream).0, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}
