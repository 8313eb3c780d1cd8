//! What the driver knows in one process: settings, contexts, objects, records.

use super::code::{Code, Outcome};
use super::config::Config;
use super::context::{Context, Contexts};
use super::event::Event;
use super::function::Function;
use super::graph::{Executable, Graph};
use super::host::HostBlocks;
use super::module::Module;
use super::programs::Programs;
use super::queue;
use super::records::Records;
use super::stream::{Stream, ThreadStreams};
use super::substitutes::Substitutes;
use super::table::{Table, lock};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

/// The one driver of the process.
#[derive(Default)]
pub(crate) struct Driver {
    initialised: AtomicBool,
    config: Mutex<Config>,
    pub(crate) contexts: Contexts,
    pub(crate) streams: Table<Stream>,
    pub(crate) thread_streams: ThreadStreams,
    pub(crate) events: Table<Event>,
    pub(crate) modules: Table<Module>,
    pub(crate) functions: Table<Function>,
    pub(crate) graphs: Table<Graph>,
    pub(crate) executables: Table<Executable>,
    pub(crate) host: HostBlocks,
    pub(crate) records: Mutex<Records>,
    pub(crate) substitutes: Mutex<Substitutes>,
    pub(crate) programs: Programs,
}

static DRIVER: LazyLock<Driver> =
    LazyLock::new(|| Driver { config: Mutex::new(Config::from_environment()), ..Driver::default() });

/// The driver, initialised or not.
pub(crate) fn driver() -> &'static Driver {
    &DRIVER
}

/// The driver after `cuInit`; before it, `CUDA_ERROR_NOT_INITIALIZED`.
pub(crate) fn ready() -> Outcome<&'static Driver> {
    if DRIVER.initialised.load(Ordering::Acquire) { Ok(&DRIVER) } else { Err(Code::NOT_INITIALIZED) }
}

impl Driver {
    pub(crate) fn initialise(&self) {
        self.initialised.store(true, Ordering::Release);
    }

    /// The settings as they are now.
    pub(crate) fn config(&self) -> Config {
        lock(&self.config).clone()
    }

    pub(crate) fn configure(&self, name: &str, value: &str) -> Result<(), String> {
        lock(&self.config).set(name, value)
    }

    /// The streams of a context, the legacy default one left out: its work never waits.
    pub(crate) fn streams_of(&self, context: &Arc<Context>) -> Vec<Arc<Stream>> {
        let mut streams = self.streams.of(context);
        streams.extend(self.thread_streams.all_of(context));
        streams
    }

    /// Ends `context`: what was not freed is a leak, and every object in it becomes an invalid handle.
    pub(crate) fn retire(&self, context: &Arc<Context>) {
        // Whether the work still enqueued goes well is in the reports; the context ends either way.
        let _ = queue::finish_context(context);
        lock(&self.records).note_leaks(context, self.config().quiet);
        self.streams.purge(context);
        self.thread_streams.purge(context);
        self.events.purge(context);
        self.functions.purge(context);
        self.modules.purge(context);
        self.graphs.purge(context);
        self.executables.purge(context);
    }
}
