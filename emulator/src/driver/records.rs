//! What tests ask about afterwards: kernels launched, modules loaded, the last report, leaks; and faults to inject.

use super::context::Context;
use crate::exec::LaunchStats;
use std::collections::BTreeMap;

/// What happened since the last `ptxemu_clear`.
#[derive(Default)]
pub(crate) struct Records {
    /// By kernel name.
    pub(crate) kernels: BTreeMap<String, KernelRecord>,
    pub(crate) modules: Vec<ModuleRecord>,
    pub(crate) report: Option<ReportRecord>,
    /// One line for each allocation that outlived its context.
    pub(crate) leaks: Vec<String>,
    /// How many of the next allocations fail.
    pub(crate) failing_allocations: u32,
}

/// All launches of one kernel.
#[derive(Default)]
pub(crate) struct KernelRecord {
    pub(crate) launches: u64,
    pub(crate) warp_instructions: u64,
    pub(crate) opcodes: BTreeMap<String, u64>,
}

/// One loaded module.
pub(crate) struct ModuleRecord {
    /// SHA-256 of the text, in hexadecimal.
    pub(crate) hash: String,
    pub(crate) kernels: Vec<String>,
}

/// One defect.
pub(crate) struct ReportRecord {
    pub(crate) kind: String,
    pub(crate) kernel: String,
    pub(crate) text: String,
}

impl Records {
    pub(crate) fn note_launch(&mut self, kernel: &str, stats: &LaunchStats) {
        let record = self.kernels.entry(kernel.to_owned()).or_default();
        record.launches += 1;
        record.warp_instructions += stats.warp_instructions;
        for (form, count) in &stats.opcodes {
            *record.opcodes.entry(form.clone()).or_default() += count;
        }
    }

    /// Keeps the report, and prints it: a plain error code would leave the user with nothing to act on.
    pub(crate) fn note_report(&mut self, kind: &str, kernel: &str, text: String, quiet: bool) {
        if !quiet {
            eprintln!("ptx-emulator: {text}");
        }
        self.report = Some(ReportRecord { kind: kind.to_owned(), kernel: kernel.to_owned(), text });
    }

    /// Notes what `context` still holds when it ends.
    pub(crate) fn note_leaks(&mut self, context: &Context, quiet: bool) {
        for leak in leaks(context) {
            if !quiet {
                eprintln!("ptx-emulator: Leak: {leak}");
            }
            self.leaks.push(leak);
        }
    }

    /// Whether the next allocation is to fail; counts down.
    pub(crate) fn take_failing_allocation(&mut self) -> bool {
        let fails = self.failing_allocations > 0;
        self.failing_allocations = self.failing_allocations.saturating_sub(1);
        fails
    }
}

/// One line for each live allocation of `context`.
pub(crate) fn leaks(context: &Context) -> Vec<String> {
    let line = |info: &crate::memory::AllocationInfo| {
        format!("{} bytes at {:#x} were never freed", info.bytes, info.base)
    };
    context.memory.live().iter().map(line).collect()
}
