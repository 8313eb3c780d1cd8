use std::path::PathBuf;
use thiserror::Error;

/// Why there is no device to test on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// `PTX_EMULATOR` has a value that means nothing.
    #[error("PTX_EMULATOR is `{0}`; use auto, force or never")]
    BadChoice(String),
    /// `PTX_EMULATOR=never`, and no driver with a device.
    #[error(
        "PTX_EMULATOR is `never` and there is no CUDA driver with a device: {0}; unset it to test on the emulator"
    )]
    NoRealDevice(String),
    /// The emulator's shared library was not built, or is somewhere else.
    #[error("no libptx_emulator library in {}; build it (cargo build -p ptx-emulator) or name its file in PTX_EMULATOR_LIBRARY", list(.0))]
    LibraryNotFound(Vec<PathBuf>),
    /// The library is there but cannot be used.
    #[error("{} cannot be used as the emulator: {reason}", path.display())]
    LibraryUnusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something loaded a libcuda before the harness was called.
    #[error(
        "another libcuda.so was loaded before the emulator: call ptx_emulator_harness::device() before the first CUDA call of the process"
    )]
    TooLate,
    /// A module's text cannot be handed to the emulator.
    #[error("PTX with a zero byte in it cannot be loaded")]
    Text,
    /// The emulator does not take a setting.
    #[error("the emulator refuses the setting {name} = {value}; its standard error says why")]
    Setting {
        /// The setting.
        name: String,
        /// The value.
        value: String,
    },
}

fn list(places: &[PathBuf]) -> String {
    let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    places.join(", ")
}
