//! Events: places in a stream's work. Their time is the host's clock when the stream comes past.

use super::boundary::{Handle, Out, driver_api};
use super::code::{Code, Outcome};
use super::context::{Context, current};
use super::graph::{self, Capture, Clock};
use super::queue::{self, Item, Mark};
use super::state::ready;
use super::stream::{self, Stream};
use super::table::{InContext, lock};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const DISABLE_TIMING: u32 = 2;
const ALL_FLAGS: u32 = 7;

/// One event.
pub(crate) struct Event {
    context: Arc<Context>,
    flags: u32,
    last: Mutex<Recorded>,
}

/// Where the event was last recorded.
#[derive(Clone)]
enum Recorded {
    Never,
    On(Arc<Mark>),
    In(Arc<Capture>, Clock),
}

impl InContext for Event {
    fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

impl Event {
    /// The last record; an event that lives in a capture has none.
    fn mark(&self) -> Outcome<Option<Arc<Mark>>> {
        match &*lock(&self.last) {
            Recorded::Never => Ok(None),
            Recorded::On(mark) => Ok(Some(Arc::clone(mark))),
            Recorded::In(..) => Err(Code::CAPTURED_EVENT),
        }
    }

    /// When the stream came past the last record.
    fn time(&self) -> Outcome<Instant> {
        let mark = self.mark()?.ok_or(Code::INVALID_HANDLE)?;
        mark.reached().ok_or(Code::NOT_READY)
    }
}

fn record(event: &Event, stream: &Arc<Stream>) -> Outcome {
    if !Arc::ptr_eq(&event.context, &stream.context) {
        return Err(Code::INVALID_HANDLE);
    }
    let capture = lock(&stream.capture).clone();
    match capture {
        Some(capture) if capture.is_invalid() => Err(Code::STREAM_CAPTURE_INVALIDATED),
        Some(capture) => {
            let clock = capture.clock(stream.key);
            *lock(&event.last) = Recorded::In(capture, clock);
            Ok(())
        }
        None => {
            let mark = Mark::on(stream);
            *lock(&event.last) = Recorded::On(Arc::clone(&mark));
            queue::push(stream, Item::Record(mark))
        }
    }
}

/// Makes later work on `stream` wait for `event`. An event from a capture pulls the stream into it.
pub(crate) fn wait(stream: &Arc<Stream>, event: &Event) -> Outcome {
    let capturing = lock(&stream.capture).clone();
    let last = lock(&event.last).clone();
    match (last, capturing) {
        (Recorded::In(capture, clock), capturing) => {
            if capture.has_ended() {
                return Err(Code::STREAM_CAPTURE_ISOLATION);
            }
            if capturing.is_some_and(|own| !Arc::ptr_eq(&own, &capture)) {
                return Err(Code::STREAM_CAPTURE_MERGE);
            }
            if stream.legacy {
                return Err(Code::STREAM_CAPTURE_IMPLICIT);
            }
            capture.join(stream, &clock);
            Ok(())
        }
        (Recorded::On(_), Some(_)) => Err(Code::STREAM_CAPTURE_ISOLATION),
        (Recorded::On(mark), None) => queue::push(stream, Item::Wait(mark)),
        (Recorded::Never, _) => Ok(()),
    }
}

fn elapsed(out: &Out<f32>, start: Handle, end: Handle) -> Outcome {
    let events = &ready()?.events;
    let (start, end) = (events.get(start)?, events.get(end)?);
    if (start.flags | end.flags) & DISABLE_TIMING != 0 {
        return Err(Code::INVALID_HANDLE);
    }
    let (start, end) = (start.time()?, end.time()?);
    let milliseconds =
        |later: Instant, earlier: Instant| later.saturating_duration_since(earlier).as_secs_f32() * 1e3;
    out.set(if end >= start { milliseconds(end, start) } else { -milliseconds(start, end) })
}

driver_api! {
    fn cuEventCreate(out: Out<Handle>, flags: u32) {
        let context = current()?;
        if out.is_null() || flags & !ALL_FLAGS != 0 {
            return Err(Code::INVALID_VALUE);
        }
        let event = Event { context, flags, last: Mutex::new(Recorded::Never) };
        out.set(ready()?.events.insert(Arc::new(event)))
    }

    fn cuEventDestroy_v2(event: Handle) {
        ready()?.events.remove(event).map(drop)
    }

    fn cuEventRecord(event: Handle, stream: Handle) {
        record(&*ready()?.events.get(event)?, &stream::resolve(stream)?)
    }

    fn cuEventRecordWithFlags(event: Handle, stream: Handle, _flags: u32) {
        record(&*ready()?.events.get(event)?, &stream::resolve(stream)?)
    }

    fn cuEventQuery(event: Handle) {
        let event = ready()?.events.get(event)?;
        let mark = event.mark()?;
        graph::refuse_unsafe(&event.context)?;
        mark.map_or(Ok(()), |mark| queue::poll_mark(&mark))
    }

    fn cuEventSynchronize(event: Handle) {
        let event = ready()?.events.get(event)?;
        event.mark()?.map_or(Ok(()), |mark| queue::finish_mark(&event.context, &mark))
    }

    fn cuEventElapsedTime(out: Out<f32>, start: Handle, end: Handle) {
        elapsed(&out, start, end)
    }

    fn cuEventElapsedTime_v2(out: Out<f32>, start: Handle, end: Handle) {
        elapsed(&out, start, end)
    }
}
