//! Streams: the legacy default one, one default per thread, and those that are created.

use super::boundary::{Handle, Host, Out, driver_api, handle, id};
use super::code::{Code, Outcome};
use super::context::{Context, current};
use super::event;
use super::graph::{self, Capture};
use super::queue::{self, Queue};
use super::state::ready;
use super::table::{InContext, fresh_id, lock};
use super::work::{HostFunction, Work, enqueue};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

/// The most urgent priority; 0 is the least.
pub(crate) const GREATEST_PRIORITY: i32 = -5;

const LEGACY: u64 = 1;
const PER_THREAD: u64 = 2;
const NON_BLOCKING: u32 = 1;

/// One stream.
pub(crate) struct Stream {
    pub(crate) context: Arc<Context>,
    /// Identity within a capture.
    pub(crate) key: u64,
    pub(crate) legacy: bool,
    flags: u32,
    priority: i32,
    pub(crate) capture: Mutex<Option<Arc<Capture>>>,
    pub(crate) queue: Queue,
}

impl InContext for Stream {
    fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

impl Stream {
    fn new(context: Arc<Context>, flags: u32, priority: i32) -> Stream {
        Stream {
            context,
            key: fresh_id(),
            legacy: false,
            flags,
            priority,
            capture: Mutex::default(),
            queue: Queue::default(),
        }
    }

    /// Whether the legacy default stream waits for it.
    pub(crate) fn is_blocking(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }

    /// `CUstreamCaptureStatus`: 0 none, 1 active, 2 invalidated.
    pub(crate) fn capture_status(&self) -> u32 {
        let capture = lock(&self.capture).clone();
        capture.map_or(0, |capture| if capture.is_invalid() { 2 } else { 1 })
    }
}

/// The per-thread default streams, by context and thread.
#[derive(Default)]
pub(crate) struct ThreadStreams(Mutex<HashMap<(usize, ThreadId), Arc<Stream>>>);

impl ThreadStreams {
    fn of(&self, context: Arc<Context>) -> Arc<Stream> {
        let key = (Arc::as_ptr(&context).addr(), thread::current().id());
        let mut streams = lock(&self.0);
        Arc::clone(streams.entry(key).or_insert_with(|| Arc::new(Stream::new(context, 0, 0))))
    }

    pub(crate) fn all_of(&self, context: &Arc<Context>) -> Vec<Arc<Stream>> {
        lock(&self.0).values().filter(|stream| Arc::ptr_eq(&stream.context, context)).cloned().collect()
    }

    pub(crate) fn purge(&self, context: &Arc<Context>) {
        lock(&self.0).retain(|_, stream| !Arc::ptr_eq(&stream.context, context));
    }
}

/// The stream that a handle means: null and 1 are the legacy default stream, 2 is the calling thread's.
pub(crate) fn resolve(stream: Handle) -> Outcome<Arc<Stream>> {
    let driver = ready()?;
    match id(stream) {
        0 | LEGACY => Ok(Arc::new(Stream { legacy: true, ..Stream::new(current()?, 0, 0) })),
        PER_THREAD => Ok(driver.thread_streams.of(current()?)),
        _ => driver.streams.get(stream),
    }
}

fn create(out: &Out<Handle>, flags: u32, priority: i32) -> Outcome {
    let context = current()?;
    if out.is_null() || flags & !NON_BLOCKING != 0 {
        return Err(Code::INVALID_VALUE);
    }
    let stream = Stream::new(context, flags, priority.clamp(GREATEST_PRIORITY, 0));
    out.set(ready()?.streams.insert(Arc::new(stream)))
}

driver_api! {
    fn cuStreamCreate(out: Out<Handle>, flags: u32) {
        create(&out, flags, 0)
    }

    fn cuStreamCreateWithPriority(out: Out<Handle>, flags: u32, priority: i32) {
        create(&out, flags, priority)
    }

    fn cuStreamDestroy_v2(stream: Handle) {
        if id(stream) <= PER_THREAD {
            return Err(Code::INVALID_HANDLE);
        }
        queue::finish(&ready()?.streams.remove(stream)?)
    }

    fn cuStreamSynchronize(stream: Handle) {
        let stream = resolve(stream)?;
        graph::refuse_if_capturing(&stream)?;
        queue::finish(&stream)
    }

    fn cuStreamQuery(stream: Handle) {
        let stream = resolve(stream)?;
        graph::refuse_if_capturing(&stream)?;
        if stream.legacy { queue::finish(&stream) } else { queue::poll(&stream) }
    }

    fn cuStreamWaitEvent(stream: Handle, event: Handle, _flags: u32) {
        let event = ready()?.events.get(event)?;
        event::wait(&resolve(stream)?, &event)
    }

    fn cuStreamGetCtx(stream: Handle, out: Out<Handle>) {
        let stream = resolve(stream)?;
        out.set(handle(ready()?.contexts.id_of(&stream.context)?))
    }

    fn cuStreamGetFlags(stream: Handle, out: Out<u32>) {
        out.set(resolve(stream)?.flags)
    }

    fn cuStreamGetPriority(stream: Handle, out: Out<i32>) {
        out.set(resolve(stream)?.priority)
    }

    fn cuStreamGetId(stream: Handle, out: Out<u64>) {
        out.set(resolve(stream)?.key)
    }

    fn cuLaunchHostFunc(stream: Handle, function: Option<HostFunction>, argument: Host) {
        let function = function.ok_or(Code::INVALID_VALUE)?;
        enqueue(&resolve(stream)?, Work::Call { function, argument })
    }
}
