//! `ptxemu_*`: what a test sets and asks beside the driver's interface. Names and texts only, so that the interface stays the same when
//! the emulator learns more.

use super::boundary::{Host, Text, driver_api, fill_text};
use super::code::Code;
use super::records::{Records, leaks};
use super::state::driver;
use super::table::lock;
use std::fmt::Write;

/// The version of this interface; the harness refuses a library of another.
pub(crate) const INTERFACE: u32 = 2;

// SAFETY: the prefix is this crate's own.
#[unsafe(no_mangle)]
extern "C" fn ptxemu_interface() -> u32 {
    INTERFACE
}

/// Copies `text` out, cut to `capacity`, NUL-terminated; returns the bytes it needs without the NUL.
// SAFETY: the prefix is this crate's own.
#[unsafe(no_mangle)]
extern "C" fn ptxemu_get(what: Text, buffer: Host, capacity: usize) -> usize {
    let text = std::panic::catch_unwind(|| answer(what.str().unwrap_or_default())).unwrap_or_default();
    // A null buffer asks for the length alone.
    let _ = fill_text(buffer, capacity, text.as_bytes());
    text.len()
}

/// What `ptxemu_get` answers; lines, with tabs between fields. An unknown question has an empty answer.
fn answer(what: &str) -> String {
    let records = lock(&driver().records);
    match what {
        "report" => records.report.as_ref().map(|report| report.text.clone()).unwrap_or_default(),
        "report.kind" => records.report.as_ref().map(|report| report.kind.clone()).unwrap_or_default(),
        "report.kernel" => records.report.as_ref().map(|report| report.kernel.clone()).unwrap_or_default(),
        "kernels" => kernels(&records),
        "opcodes" => opcodes(&records),
        "modules" => modules(&records),
        "leaks" => records.leaks.join("\n"),
        "live" => {
            driver().contexts.live().iter().flat_map(|context| leaks(context)).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// `name, launches, warp instructions` a line.
fn kernels(records: &Records) -> String {
    records.kernels.iter().fold(String::new(), |mut text, (name, record)| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}\t{}\t{}", record.launches, record.warp_instructions);
        text
    })
}

/// `kernel, opcode form, count` a line.
fn opcodes(records: &Records) -> String {
    let mut text = String::new();
    for (name, record) in &records.kernels {
        for (form, count) in &record.opcodes {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}\t{form}\t{count}");
        }
    }
    text
}

/// `hash, kernel names` a line.
fn modules(records: &Records) -> String {
    records.modules.iter().fold(String::new(), |mut text, module| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}\t{}", module.hash, module.kernels.join(" "));
        text
    })
}

driver_api! {
    /// Changes a setting, by the names of the environment variables without their prefix, in lower case.
    fn ptxemu_set(name: Text, value: Text) {
        let (name, value) = (name.str()?, value.str()?);
        driver().configure(name, value).map_err(|message| {
            eprintln!("ptx-emulator: {name}: {message}");
            Code::INVALID_VALUE
        })
    }

    /// Forgets kernels, modules, the report, leaks and injected faults.
    fn ptxemu_clear() {
        *lock(&driver().records) = Records::default();
        Ok(())
    }

    /// Makes the next `count` allocations of device memory fail with `CUDA_ERROR_OUT_OF_MEMORY`.
    fn ptxemu_fail_allocations(count: u32) {
        lock(&driver().records).failing_allocations = count;
        Ok(())
    }

    /// From now on a module whose text is `text` is loaded as `other`; null takes that back. `ptxemu_clear` does not.
    fn ptxemu_substitute(text: Text, other: Text) {
        let other = if other.is_null() { None } else { Some(other.bytes()?) };
        lock(&driver().substitutes).set(text.bytes()?, other);
        Ok(())
    }
}
