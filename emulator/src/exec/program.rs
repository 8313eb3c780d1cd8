//! A loaded module and the launch of its kernels.
use super::Settings;
use super::resolve::{Code, resolve};
use crate::memory::DeviceMemory;
use crate::ptx;
use std::collections::BTreeMap;
use thiserror::Error;

/// Why a module was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("PTX line {line}: {message}\n  {text}")]
#[non_exhaustive]
pub struct LoadError {
    /// The line, counted from 1.
    pub line: u32,
    /// That line.
    pub text: String,
    /// What is wrong and what would be accepted.
    pub message: String,
}

/// One parameter of a kernel in its parameter buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamInfo {
    /// Byte offset.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// An entry function.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Kernel {
    /// Its name in the module.
    pub name: String,
    /// Its parameters in order.
    pub params: Vec<ParamInfo>,
    /// Bytes of statically declared shared memory.
    pub static_shared: u32,
    /// Bytes of local memory per thread.
    pub local_bytes: u32,
    /// The largest block it was compiled for (`.maxntid`), or 1024.
    pub max_threads: u32,
    /// The block it must be launched with (`.reqntid`), if any.
    pub required_block: Option<[u32; 3]>,
    /// An estimate of the registers per thread: those declared, capped at 255.
    pub registers: u32,
}

/// A module: parsed, resolved, its variables placed.
pub struct Program {
    kernels: BTreeMap<String, Kernel>,
    codes: BTreeMap<String, Code>,
    globals: BTreeMap<String, (u64, u64)>,
}

impl Program {
    /// Parses and resolves PTX text and places its `.global` and `.const` variables in `memory`.
    ///
    /// # Errors
    /// [`LoadError`] for text that is no PTX, for any directive, opcode or form that is not executed, for a module
    /// that needs a newer device than `settings` has, and when the variables do not fit.
    pub fn load(text: &str, settings: &Settings, memory: &DeviceMemory) -> Result<Program, LoadError> {
        let module = ptx::parse(text).map_err(|error| LoadError {
            line: error.line,
            text: error.text.clone(),
            message: error.message.clone(),
        })?;
        let (major, minor) = settings.compute_capability;
        if module.target.sm > major * 10 + minor {
            let message =
                format!("the module needs sm_{}, the device is sm_{major}{minor}", module.target.sm);
            return Err(LoadError { line: 0, text: ".target".into(), message });
        }
        let (resolved, globals) = resolve(&module, memory)?;
        let (mut kernels, mut codes) = (BTreeMap::new(), BTreeMap::new());
        for kernel in resolved {
            codes.insert(kernel.kernel.name.clone(), kernel.code);
            kernels.insert(kernel.kernel.name.clone(), kernel.kernel);
        }
        Ok(Program { kernels, codes, globals: globals.placed.into_iter().collect() })
    }

    pub(crate) fn code(&self, kernel: &str) -> Option<&Code> {
        self.codes.get(kernel)
    }

    /// The entry functions, by name.
    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        self.kernels.values()
    }

    /// The entry function of that name.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.get(name)
    }

    /// Address and bytes of a `.global` or `.const` variable.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        self.globals.get(name).copied()
    }

    /// Whether it has `.global` or `.const` variables: then it belongs to the memory they were placed in.
    pub fn has_variables(&self) -> bool {
        !self.globals.is_empty()
    }

    /// Frees the module's variables. Nothing of it may run any more.
    pub fn unload(&self, memory: &DeviceMemory) {
        for (address, _) in self.globals.values() {
            // The program placed it and nobody else knows to free it; memory that is gone altogether is fine too.
            let _ = memory.free(*address);
        }
    }
}

/// The shape of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaunchConfig {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads per block in x, y, z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory per block.
    pub dynamic_shared: u32,
}

/// What a launch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaunchStats {
    /// Instructions executed, each counted once per warp.
    pub warp_instructions: u64,
    /// The same by opcode form, such as `fma.rn.f32`.
    pub opcodes: BTreeMap<String, u64>,
}
