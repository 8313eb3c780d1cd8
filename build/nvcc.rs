//! Finding nvcc and running it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ptx::{self, Kernel};

/// The variables that decide which compiler is found. `PATH` does too, but it differs between a
/// shell and an editor: watching it would rebuild the crate whenever the two take turns.
pub(crate) const VARIABLES: [&str; 4] = ["INBATCH_NVCC", "NVCC", "CUDA_HOME", "CUDA_PATH"];

/// A compiler that was found.
pub(crate) struct Nvcc(PathBuf);

/// The first nvcc of `INBATCH_NVCC`, `NVCC`, `CUDA_HOME`, `CUDA_PATH`, `PATH`, `/usr/local/cuda`.
///
/// # Errors
/// `INBATCH_NVCC` names no file: it was set for this build, so passing over it would be a surprise.
pub(crate) fn find() -> Result<Option<Nvcc>, String> {
    let executable = format!("nvcc{}", env::consts::EXE_SUFFIX);
    if let Some(path) = variable("INBATCH_NVCC") {
        if !path.is_file() {
            return Err(format!("INBATCH_NVCC is {}, which is no file: correct or unset it", path.display()));
        }
        return Ok(Some(Nvcc(path)));
    }
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
    let on_path = env::var_os("PATH").unwrap_or_default();
    let found = variable("NVCC")
        .into_iter()
        .chain(toolkits.map(|home| home.join("bin").join(&executable)))
        .chain(env::split_paths(&on_path).map(|folder| folder.join(&executable)))
        .chain([Path::new("/usr/local/cuda/bin").join(&executable)])
        .find(|path| path.is_file());
    Ok(found.map(Nvcc))
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

impl Nvcc {
    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Compiles a kernel to PTX and returns the text. `scratch` is a folder to write in.
    pub(crate) fn compile(&self, kernel: &Kernel, scratch: &Path) -> Result<String, String> {
        // A failed nvcc leaves a broken output file: it goes under a name that nothing else reads.
        let output = scratch.join(format!("{}.nvcc", kernel.stem()));
        let result = Command::new(&self.0)
            .args(ptx::FLAGS)
            .arg(format!("-arch={}", kernel.target()))
            .arg("-o")
            .arg(&output)
            .arg(kernel.source())
            .output()
            .map_err(|e| format!("{} cannot be run: {e}", self.0.display()))?;
        if !result.status.success() {
            let said = String::from_utf8_lossy(&result.stderr);
            let said = if said.trim().is_empty() { String::from_utf8_lossy(&result.stdout) } else { said };
            return Err(format!("{}: {}\n{}", self.0.display(), result.status, said.trim()));
        }
        ptx::read(&output)
    }
}
