//! One piece of work on a stream. Capture keeps it for a graph; otherwise it goes to the stream's queue.

use super::boundary::Host;
use super::code::{Code, Outcome};
use super::context::Context;
use super::function::Function;
use super::graph;
use super::queue::{self, Item};
use super::state::driver;
use super::stream::Stream;
use super::table::lock;
use crate::exec::{self, FaultKind, LaunchConfig, Report};
use crate::memory::MemoryError;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A host callback, `CUhostFn`.
pub(crate) type HostFunction = unsafe extern "C" fn(*mut c_void);

/// What a stream can be asked to do.
#[derive(Clone)]
pub(crate) enum Work {
    CopyIn {
        to: u64,
        from: Host,
        bytes: usize,
    },
    /// As `CopyIn`, with the bytes as they were when the copy was enqueued.
    BytesIn {
        to: u64,
        bytes: Arc<[u8]>,
    },
    CopyOut {
        to: Host,
        from: u64,
        bytes: usize,
    },
    Copy {
        to: u64,
        from: u64,
        bytes: u64,
    },
    /// `count` values of `width` bytes (1, 2 or 4).
    Fill {
        to: u64,
        value: u32,
        width: u8,
        count: u64,
    },
    Free(u64),
    Launch(Arc<Launch>),
    Call {
        function: HostFunction,
        argument: Host,
    },
}

/// A kernel launch whose shape was checked and whose parameters were copied.
pub(crate) struct Launch {
    pub(crate) function: Arc<Function>,
    pub(crate) config: LaunchConfig,
    pub(crate) parameters: Vec<u8>,
}

/// Puts work on a stream: into the graph that the stream captures, or into its queue.
pub(crate) fn enqueue(stream: &Arc<Stream>, work: Work) -> Outcome {
    let context = &stream.context;
    context.healthy()?;
    if graph::capture(stream, &work)? {
        return Ok(());
    }
    if !work.is_plausible(context) {
        return work.run(context); // which says what is wrong
    }
    let lent = |host: Host| driver().host.holding(host.address()).is_none();
    match work {
        // Ordinary host memory is the caller's again when the call returns: what goes in is taken now, what comes out is waited for.
        Work::CopyIn { to, from, bytes } if lent(from) => {
            let bytes = from.read(bytes)?.into();
            queue::push(stream, Item::Work(Work::BytesIn { to, bytes }))
        }
        Work::CopyOut { to, .. } if lent(to) => {
            queue::push(stream, Item::Work(work))?;
            queue::finish(stream)
        }
        _ => queue::push(stream, Item::Work(work)),
    }
}

impl Work {
    /// Whether the device addresses are those of live allocations.
    fn is_plausible(&self, context: &Context) -> bool {
        let holds = |address: u64, bytes: u64| {
            let info = context.memory.allocation_of(address);
            bytes == 0 || info.is_some_and(|info| bytes <= info.base + info.bytes - address)
        };
        match *self {
            Work::CopyIn { to, bytes, .. } => holds(to, bytes as u64),
            Work::CopyOut { from, bytes, .. } => holds(from, bytes as u64),
            Work::Copy { to, from, bytes } => holds(to, bytes) && holds(from, bytes),
            Work::Fill { to, width, count, .. } => holds(to, count.saturating_mul(width.into())),
            Work::Free(address) => {
                context.memory.allocation_of(address).is_some_and(|info| info.base == address)
            }
            Work::BytesIn { .. } | Work::Launch(_) | Work::Call { .. } => true,
        }
    }

    /// Does the work; the caller holds the context's engine. A kernel's fault is not returned: as on a device, the next call finds it.
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let memory = &context.memory;
        match *self {
            Work::CopyIn { to, from, bytes } => done(memory.copy_from_host(to, from.read(bytes)?)),
            Work::BytesIn { to, ref bytes } => done(memory.copy_from_host(to, bytes)),
            Work::Free(address) => done(memory.free(address)),
            Work::CopyOut { to, from, bytes } => done(memory.copy_to_host(to.write(bytes)?, from)),
            Work::Copy { to, from, bytes } => done(memory.copy(to, from, bytes)),
            Work::Fill { to, value, width: 1, count } => done(memory.fill8(to, value as u8, count)),
            Work::Fill { to, value, width: 2, count } => done(memory.fill16(to, value as u16, count)),
            Work::Fill { to, value, count, .. } => done(memory.fill32(to, value, count)),
            Work::Launch(ref launch) => {
                launch.run(context);
                Ok(())
            }
            Work::Call { function, argument } => {
                // SAFETY: the caller of cuLaunchHostFunc vouches for the function and its argument until the stream has run it.
                unsafe { function(argument.pointer()) };
                Ok(())
            }
        }
    }
}

/// The driver's code for a host-side memory error, with the sentence kept for whoever asks.
pub(crate) fn done<T>(result: Result<T, MemoryError>) -> Outcome<T> {
    result.map_err(|error| {
        let kind = match error {
            MemoryError::OutOfMemory { .. } => return Code::OUT_OF_MEMORY,
            MemoryError::UseAfterFree { .. } => "UseAfterFree",
            MemoryError::OutOfBounds { .. } => "OutOfBounds",
            MemoryError::NotAnAllocation { .. } => "NotAnAllocation",
            MemoryError::Misaligned { .. } => "Misaligned",
            _ => "InvalidValue",
        };
        let driver = driver();
        lock(&driver.records).note_report(kind, "", error.to_string(), driver.config().quiet);
        Code::INVALID_VALUE
    })
}

impl Launch {
    fn run(&self, context: &Context) {
        if context.healthy().is_err() {
            return; // the kernel queued behind a faulting one never starts
        }
        let driver = driver();
        let config = driver.config();
        let mut settings = config.settings;
        settings.compute_capability = context.config.settings.compute_capability;
        let program = &self.function.module.program;
        let Some(kernel) = program.kernel(&self.function.name) else {
            return context.poison(Code::NOT_FOUND);
        };
        let launch = || {
            exec::launch(program, kernel, &self.config, &self.parameters, &context.memory, &settings)
                .map_err(Box::new)
        };
        let note = |kind: &str, text: String| {
            lock(&driver.records).note_report(kind, &kernel.name, text, config.quiet)
        };
        match catch_unwind(AssertUnwindSafe(launch)) {
            Ok(Ok(stats)) => lock(&driver.records).note_launch(&kernel.name, &stats),
            Ok(Err(report)) => {
                note(report.kind.name(), report.to_string());
                context.poison(fault_code(&report));
            }
            Err(_) => {
                note(
                    "Internal",
                    format!(
                        "the emulator itself failed in kernel {}: please report it with the PTX",
                        kernel.name
                    ),
                );
                context.poison(Code::UNKNOWN);
            }
        }
    }
}

/// What a GPU would say to the same defect; what a GPU does not notice is an unspecified launch failure here.
fn fault_code(report: &Report) -> Code {
    match report.kind {
        FaultKind::OutOfBounds | FaultKind::UseAfterFree => Code::ILLEGAL_ADDRESS,
        FaultKind::Misaligned => Code::MISALIGNED_ADDRESS,
        FaultKind::InvalidAddressSpace => Code::INVALID_ADDRESS_SPACE,
        FaultKind::InstructionLimit | FaultKind::Deadlock => Code::LAUNCH_TIMEOUT,
        FaultKind::InvalidOperand => Code::ILLEGAL_INSTRUCTION,
        _ => Code::LAUNCH_FAILED,
    }
}
