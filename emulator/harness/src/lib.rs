//! Run the same CUDA tests on a GPU where there is one, and on `ptx-emulator` where there is none.
//!
//! ```
//! let device = ptx_emulator_harness::device()?; // before the first CUDA call
//! // ... cudarc, cust or any other user of libcuda, unchanged ...
//! if let Some(emulator) = device.emulator() {
//!     assert!(emulator.report().is_none());
//! }
//! # Ok::<(), ptx_emulator_harness::HarnessError>(())
//! ```
//!
//! The emulator is a shared library with the CUDA driver's C interface. Loading it first makes every later `dlopen("libcuda.so")` of the
//! process find it. A real driver with a device always wins unless `PTX_EMULATOR=force`.
//!
//! | `PTX_EMULATOR` | the tests run on |
//! |---|---|
//! | `auto`, or not set | the real driver if it has a device, else the emulator |
//! | `force` | the emulator |
//! | `never` | the real driver; an error if it has no device |

mod emulator;
mod error;
mod locate;
mod real;

pub use emulator::{Emulator, KernelRuns, LoadedModule, Report};
pub use error::HarnessError;

use std::sync::OnceLock;

/// What CUDA calls of this process reach.
#[derive(Debug, Clone, Copy)]
pub enum Choice {
    /// The machine's own driver.
    RealDriver,
    /// The emulator.
    Emulator(Emulator),
}

impl Choice {
    /// The emulator, if it is the choice.
    pub fn emulator(&self) -> Option<Emulator> {
        match self {
            Choice::RealDriver => None,
            Choice::Emulator(emulator) => Some(*emulator),
        }
    }
}

static CHOICE: OnceLock<Result<Choice, HarnessError>> = OnceLock::new();

/// Decides, once in a process, what CUDA calls reach, loads the emulator if it is the choice, and says so on standard error.
///
/// Call it before the first CUDA call.
///
/// # Errors
/// [`HarnessError`]; its text says what to do.
pub fn device() -> Result<Choice, HarnessError> {
    CHOICE.get_or_init(choose).clone()
}

/// The emulator, whatever `PTX_EMULATOR` says: for tests that are about the emulator, or about what only it can see.
///
/// # Errors
/// [`HarnessError::TooLate`] if this process uses the real driver already; else as [`device`].
pub fn emulator() -> Result<Emulator, HarnessError> {
    let choice = CHOICE.get_or_init(|| {
        Emulator::already_loaded().map_or_else(load, |emulator| Ok(Choice::Emulator(emulator)))
    });
    choice.clone()?.emulator().ok_or(HarnessError::TooLate)
}

fn choose() -> Result<Choice, HarnessError> {
    let wish = std::env::var("PTX_EMULATOR").unwrap_or_default();
    let forced = match wish.as_str() {
        "" | "auto" => false,
        "force" => true,
        "never" => {
            let count = real::device_count().map_err(HarnessError::NoRealDevice)?;
            eprintln!("ptx-emulator: not used; CUDA tests run on the real driver ({count} devices)");
            return Ok(Choice::RealDriver);
        }
        _ => return Err(HarnessError::BadChoice(wish)),
    };
    if let Some(emulator) = Emulator::already_loaded() {
        eprintln!("ptx-emulator: CUDA tests run on the emulator, which was loaded before");
        return Ok(Choice::Emulator(emulator));
    }
    if !forced && let Ok(count) = real::device_count() {
        eprintln!("ptx-emulator: not used; CUDA tests run on the real driver ({count} devices)");
        return Ok(Choice::RealDriver);
    }
    load()
}

fn load() -> Result<Choice, HarnessError> {
    let path = locate::library()?;
    let emulator = Emulator::load(&path)?;
    eprintln!("ptx-emulator: CUDA tests run on the emulator ({})", path.display());
    Ok(Choice::Emulator(emulator))
}
