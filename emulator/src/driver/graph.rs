//! Stream capture and graphs. A graph is the captured work in the order it was enqueued, which is one valid order of its nodes.

use super::boundary::{Handle, Host, Out, driver_api, handle};
use super::code::{Code, Outcome};
use super::context::{Context, current};
use super::queue::{self, Item};
use super::state::ready;
use super::stream::{self, Stream};
use super::table::{InContext, lock};
use super::work::Work;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

/// For each stream of a capture: how many of its nodes are known to come before.
pub(crate) type Clock = HashMap<u64, usize>;

/// A capture under way: the stream it began on, and those that joined it through events.
pub(crate) struct Capture {
    origin: u64,
    mode: u32,
    thread: ThreadId,
    state: Mutex<CaptureState>,
}

#[derive(Default)]
struct CaptureState {
    works: Vec<Work>,
    clocks: HashMap<u64, Clock>,
    members: Vec<Arc<Stream>>,
    invalid: bool,
    ended: bool,
}

const MODE_GLOBAL: u32 = 0;
const MODE_RELAXED: u32 = 2;

impl Capture {
    fn add(&self, stream: u64, work: &Work) -> Outcome {
        let mut state = lock(&self.state);
        if state.invalid {
            return Err(Code::STREAM_CAPTURE_INVALIDATED);
        }
        state.works.push(work.clone());
        let clock = state.clocks.entry(stream).or_default();
        *clock.entry(stream).or_default() += 1;
        Ok(())
    }

    fn invalidate(&self) {
        lock(&self.state).invalid = true;
    }

    pub(crate) fn is_invalid(&self) -> bool {
        lock(&self.state).invalid
    }

    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.state).ended
    }

    /// What an event recorded now on `stream` stands for.
    pub(crate) fn clock(&self, stream: u64) -> Clock {
        lock(&self.state).clocks.get(&stream).cloned().unwrap_or_default()
    }

    /// Makes `stream` wait for what `clock` stands for; a stream outside the capture joins it.
    pub(crate) fn join(self: &Arc<Self>, stream: &Arc<Stream>, clock: &Clock) {
        let mut state = lock(&self.state);
        let known = state.clocks.entry(stream.key).or_default();
        for (key, count) in clock {
            let entry = known.entry(*key).or_default();
            *entry = (*entry).max(*count);
        }
        let mut captured = lock(&stream.capture);
        if captured.is_none() {
            *captured = Some(Arc::clone(self));
            state.members.push(Arc::clone(stream));
        }
    }

    fn has_blocking_member(&self) -> bool {
        lock(&self.state).members.iter().any(|stream| stream.is_blocking())
    }

    /// Whether this capture forbids the calling thread calls that could break it.
    fn forbids_unsafe_calls(&self) -> bool {
        match self.mode {
            MODE_GLOBAL => true,
            MODE_RELAXED => false,
            _ => self.thread == thread::current().id(),
        }
    }
}

/// If `stream` is capturing, keeps `work` for the graph and says true.
pub(crate) fn capture(stream: &Arc<Stream>, work: &Work) -> Outcome<bool> {
    let capture = lock(&stream.capture).clone();
    if let Some(capture) = capture {
        capture.add(stream.key, work)?;
        return Ok(true);
    }
    if stream.legacy {
        refuse_implicit(&stream.context)?;
    }
    Ok(false)
}

fn active(context: &Context) -> Vec<Arc<Capture>> {
    lock(&context.captures).clone()
}

/// The legacy default stream waits for all blocking streams: not while one of them captures.
fn refuse_implicit(context: &Context) -> Outcome {
    refuse_if(context, Capture::has_blocking_member, Code::STREAM_CAPTURE_IMPLICIT)
}

/// Calls that wait for the whole context: never during a capture.
pub(crate) fn refuse_during_capture(context: &Context) -> Outcome {
    refuse_if(context, |_| true, Code::STREAM_CAPTURE_UNSUPPORTED)
}

/// Calls that may synchronise behind the scenes (allocation, module loading, queries): by the capture's mode.
pub(crate) fn refuse_unsafe(context: &Context) -> Outcome {
    refuse_if(context, Capture::forbids_unsafe_calls, Code::STREAM_CAPTURE_UNSUPPORTED)
}

/// Synchronous copies and fills go through the legacy default stream.
pub(crate) fn refuse_synchronous(context: &Context) -> Outcome {
    refuse_implicit(context)?;
    refuse_unsafe(context)
}

fn refuse_if(context: &Context, breaks: impl Fn(&Capture) -> bool, code: Code) -> Outcome {
    let mut outcome = Ok(());
    for capture in active(context).iter().filter(|capture| breaks(capture)) {
        capture.invalidate();
        outcome = Err(code);
    }
    outcome
}

/// Refuses to wait for a stream that captures.
pub(crate) fn refuse_if_capturing(stream: &Stream) -> Outcome {
    let Some(capture) = lock(&stream.capture).clone() else {
        return Ok(());
    };
    capture.invalidate();
    Err(Code::STREAM_CAPTURE_UNSUPPORTED)
}

fn begin(stream: &Arc<Stream>, mode: u32) -> Outcome {
    stream.context.healthy()?;
    if mode > MODE_RELAXED {
        return Err(Code::INVALID_VALUE);
    }
    let mut slot = lock(&stream.capture);
    if stream.legacy {
        return Err(Code::STREAM_CAPTURE_UNSUPPORTED);
    }
    if slot.is_some() {
        return Err(Code::STREAM_CAPTURE_UNSUPPORTED);
    }
    let state = CaptureState { members: vec![Arc::clone(stream)], ..CaptureState::default() };
    let capture = Arc::new(Capture {
        origin: stream.key,
        mode,
        thread: thread::current().id(),
        state: Mutex::new(state),
    });
    lock(&stream.context.captures).push(Arc::clone(&capture));
    *slot = Some(capture);
    Ok(())
}

fn end(stream: &Arc<Stream>) -> Outcome<Vec<Work>> {
    let capture = lock(&stream.capture).clone().ok_or(Code::STREAM_CAPTURE_UNMATCHED)?;
    if capture.origin != stream.key {
        return Err(Code::STREAM_CAPTURE_UNMATCHED);
    }
    if capture.mode != MODE_RELAXED && capture.thread != thread::current().id() {
        capture.invalidate();
        return Err(Code::STREAM_CAPTURE_WRONG_THREAD);
    }
    lock(&stream.context.captures).retain(|other| !Arc::ptr_eq(other, &capture));
    let mut state = std::mem::replace(
        &mut *lock(&capture.state),
        CaptureState { ended: true, ..CaptureState::default() },
    );
    for member in state.members.drain(..) {
        *lock(&member.capture) = None;
    }
    if state.invalid {
        return Err(Code::STREAM_CAPTURE_INVALIDATED);
    }
    let seen = state.clocks.get(&stream.key).cloned().unwrap_or_default();
    let own_count = |key: &u64| state.clocks.get(key).and_then(|clock| clock.get(key)).copied().unwrap_or(0);
    let unjoined = state.clocks.keys().any(|key| own_count(key) > seen.get(key).copied().unwrap_or(0));
    if unjoined { Err(Code::STREAM_CAPTURE_UNJOINED) } else { Ok(state.works) }
}

/// A `CUgraph`.
pub(crate) struct Graph {
    context: Arc<Context>,
    works: Vec<Work>,
}

/// A `CUgraphExec`.
pub(crate) struct Executable {
    context: Arc<Context>,
    works: Vec<Work>,
}

impl InContext for Graph {
    fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

impl InContext for Executable {
    fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

fn instantiate(out: &Out<Handle>, graph: Handle) -> Outcome {
    let driver = ready()?;
    if out.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    let graph = driver.graphs.get(graph)?;
    let executable = Executable { context: Arc::clone(&graph.context), works: graph.works.clone() };
    out.set(driver.executables.insert(Arc::new(executable)))
}

/// Replays a graph.
fn replay(executable: &Executable, stream: &Arc<Stream>) -> Outcome {
    for work in &executable.works {
        if capture(stream, work)? {
            continue;
        }
        queue::push(stream, Item::Work(work.clone()))?;
    }
    Ok(())
}

driver_api! {
    fn cuStreamBeginCapture_v2(stream: Handle, mode: u32) {
        begin(&stream::resolve(stream)?, mode)
    }

    fn cuStreamEndCapture(stream: Handle, out: Out<Handle>) {
        let driver = ready()?;
        out.set(handle(0))?;
        let stream = stream::resolve(stream)?;
        let works = end(&stream)?;
        let graph = Graph { context: Arc::clone(&stream.context), works };
        out.set(driver.graphs.insert(Arc::new(graph)))
    }

    fn cuStreamIsCapturing(stream: Handle, out: Out<u32>) {
        out.set(stream::resolve(stream)?.capture_status())
    }

    fn cuStreamGetCaptureInfo_v2(stream: Handle, status: Out<u32>, id: Out<u64>, graph: Out<Handle>, _dependencies: Out<Handle>, count: Out<usize>) {
        let stream = stream::resolve(stream)?;
        status.set(stream.capture_status())?;
        let capture = lock(&stream.capture).clone();
        id.set_if_wanted(capture.map_or(0, |capture| capture.origin));
        graph.set_if_wanted(handle(0));
        count.set_if_wanted(0);
        Ok(())
    }

    fn cuThreadExchangeStreamCaptureMode(mode: Out<u32>) {
        ready()?;
        // Captures carry their own mode here; a thread's default stays global.
        mode.get()?;
        mode.set(MODE_GLOBAL)
    }

    fn cuGraphCreate(out: Out<Handle>, _flags: u32) {
        let context = current()?;
        let graph = Graph { context, works: Vec::new() };
        out.set(ready()?.graphs.insert(Arc::new(graph)))
    }

    fn cuGraphDestroy(graph: Handle) {
        ready()?.graphs.remove(graph).map(drop)
    }

    fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        let graph = ready()?.graphs.get(graph)?;
        // Nodes are not objects here: only their number can be asked for.
        if nodes.is_null() { count.set(graph.works.len()) } else { Err(Code::NOT_SUPPORTED) }
    }

    fn cuGraphInstantiateWithFlags(out: Out<Handle>, graph: Handle, _flags: u64) {
        instantiate(&out, graph)
    }

    fn cuGraphInstantiate_v2(out: Out<Handle>, graph: Handle, _error_node: Out<Handle>, _log: Host, _log_bytes: usize) {
        instantiate(&out, graph)
    }

    fn cuGraphUpload(executable: Handle, stream: Handle) {
        ready()?.executables.get(executable)?;
        stream::resolve(stream).map(drop)
    }

    fn cuGraphLaunch(executable: Handle, stream: Handle) {
        let executable = ready()?.executables.get(executable)?;
        replay(&executable, &stream::resolve(stream)?)
    }

    fn cuGraphExecDestroy(executable: Handle) {
        ready()?.executables.remove(executable).map(drop)
    }
}
