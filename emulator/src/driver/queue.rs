//! When the work of a stream runs.
//!
//! A stream promises an order, not a time. With the setting `streams=lazy` work runs as late as the promises allow: when something waits for
//! it. Code that forgot to make one stream wait for another, or the host for a stream, then sees the old data every time, and not once in
//! a thousand runs. With `streams=eager` work runs when it is enqueued.

use super::code::{Code, Outcome};
use super::config::Streams;
use super::context::Context;
use super::state::driver;
use super::stream::Stream;
use super::table::lock;
use super::work::Work;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Instant;

/// What waits on a stream.
pub(crate) enum Item {
    Work(Work),
    /// An event's record.
    Record(Arc<Mark>),
    /// A wait for an event, as it was recorded when the wait was enqueued.
    Wait(Arc<Mark>),
}

/// Work on one stream, oldest first.
pub(crate) type Queue = Mutex<VecDeque<Item>>;

/// One record of an event.
pub(crate) struct Mark {
    stream: Weak<Stream>,
    reached: OnceLock<Instant>,
}

impl Mark {
    pub(crate) fn on(stream: &Arc<Stream>) -> Arc<Mark> {
        Arc::new(Mark { stream: Arc::downgrade(stream), reached: OnceLock::new() })
    }

    /// When the stream came past the record; `None` before.
    pub(crate) fn reached(&self) -> Option<Instant> {
        self.reached.get().copied()
    }
}

/// Puts an item on a stream. With eager streams, and on the legacy default stream, it runs at once.
pub(crate) fn push(stream: &Arc<Stream>, item: Item) -> Outcome {
    if stream.legacy {
        finish_blocking(&stream.context)?;
    }
    lock(&stream.queue).push_back(item);
    if stream.legacy || driver().config().streams == Streams::Eager {
        let _turn = lock(&stream.context.engine);
        return drain(stream, None);
    }
    Ok(())
}

/// Runs all work of a stream.
pub(crate) fn finish(stream: &Arc<Stream>) -> Outcome {
    if stream.legacy {
        return finish_blocking(&stream.context);
    }
    let _turn = lock(&stream.context.engine);
    settle(&stream.context, drain(stream, None))
}

/// Runs the work of all streams that the legacy default stream waits for.
pub(crate) fn finish_blocking(context: &Arc<Context>) -> Outcome {
    finish_all(context, Stream::is_blocking)
}

/// Runs the work of all streams of a context.
pub(crate) fn finish_context(context: &Arc<Context>) -> Outcome {
    finish_all(context, |_| true)
}

fn finish_all(context: &Arc<Context>, which: impl Fn(&Stream) -> bool) -> Outcome {
    let streams = driver().streams_of(context);
    let _turn = lock(&context.engine);
    let drained = streams.iter().filter(|stream| which(stream)).try_for_each(|stream| drain(stream, None));
    settle(context, drained)
}

/// Runs a stream up to a record.
pub(crate) fn finish_mark(context: &Context, mark: &Arc<Mark>) -> Outcome {
    let _turn = lock(&context.engine);
    settle(context, reach(mark))
}

/// Runs one item of a stream, if there is one: a host that polls must see progress, but not at once.
pub(crate) fn poll(stream: &Arc<Stream>) -> Outcome {
    let _turn = lock(&stream.context.engine);
    let next = lock(&stream.queue).pop_front();
    match next {
        Some(item) => {
            settle(&stream.context, run(item, &stream.context))?;
            Err(Code::NOT_READY)
        }
        None => Ok(()),
    }
}

/// As [`poll`], for a record.
pub(crate) fn poll_mark(mark: &Arc<Mark>) -> Outcome {
    match (mark.reached(), mark.stream.upgrade()) {
        (None, Some(stream)) => poll(&stream),
        _ => Ok(()),
    }
}

/// Late work that fails has no call of its own left to fail: it is a fault of the context.
fn settle(context: &Context, drained: Outcome) -> Outcome {
    if drained.is_err() {
        context.poison(Code::ILLEGAL_ADDRESS);
    }
    context.healthy()
}

/// Runs a stream's items in order, all of them or up to a record. The caller holds the context's engine.
fn drain(stream: &Stream, until: Option<&Arc<Mark>>) -> Outcome {
    loop {
        if until.is_some_and(|mark| mark.reached().is_some()) {
            return Ok(());
        }
        let next = lock(&stream.queue).pop_front();
        let Some(item) = next else {
            return Ok(());
        };
        run(item, &stream.context)?;
    }
}

fn run(item: Item, context: &Context) -> Outcome {
    match item {
        Item::Work(work) => work.run(context),
        Item::Record(mark) => {
            // A record is on one queue once, so that nothing can have set the time before.
            let _ = mark.reached.set(Instant::now());
            Ok(())
        }
        Item::Wait(mark) => reach(&mark),
    }
}

/// Runs what is needed to come past a record. Waits go back in time only, so this ends.
fn reach(mark: &Arc<Mark>) -> Outcome {
    match mark.stream.upgrade() {
        Some(stream) => drain(&stream, Some(mark)),
        None => Ok(()),
    }
}
