//! Turns `kernels/*.cu` into the PTX that the crate embeds: `$OUT_DIR/<stem>.ptx`.
//!
//! The committed `kernels/ptx/<stem>.ptx` is taken once its hash has shown that it belongs to these sources:
//! the PTX that users run is the PTX that the tests ran, whatever nvcc a machine has. A kernel that was
//! edited is compiled with the nvcc at hand, and where there is none that is an error.
//!
//! Variables:
//! - `INBATCH_PTX`: `auto` (default, as above), `committed` (never run nvcc), `compile` (nvcc or
//!   fail), `update` (as `compile`, and rewrite the committed PTX; see `scripts/ptx.sh`), `check` (as
//!   `compile`, and fail unless the committed PTX is the same; see `scripts/compiler-gate.py`).
//! - `INBATCH_NVCC`, `NVCC`: the compiler; otherwise `CUDA_HOME`, `CUDA_PATH`, `PATH` and
//!   `/usr/local/cuda` are searched.
//!
//! The compiled crate sees `INBATCH_PTX_SOURCE`: `committed`, or the compiler's path.

#[path = "build/nvcc.rs"]
mod nvcc;
#[path = "build/ptx.rs"]
mod ptx;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{env, fs};

use ptx::Kernel;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    if let Err(message) = build() {
        // One `cargo::error` a line: Cargo shows each under the crate's name.
        message.lines().for_each(|line| println!("cargo::error={line}"));
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let root = PathBuf::from(required("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(required("OUT_DIR")?);
    let kernels = ptx::kernels(&root.join("kernels"))?;
    let committed = root.join("kernels/ptx");
    watch(&root, &kernels);

    let mode = Mode::from_env()?;
    let source = match mode {
        Mode::Committed => take_committed(&kernels, &committed, &out)?,
        Mode::Auto => take_committed_or_compile(&kernels, &committed, &out)?,
        Mode::Compile | Mode::Update | Mode::Check => compile(kernels.iter(), &out)?,
    };
    match mode {
        Mode::Update => update_committed(&kernels, &out, &committed)?,
        Mode::Check => compare_committed(&kernels, &out, &committed)?,
        Mode::Auto | Mode::Committed | Mode::Compile => {}
    }
    println!("cargo::rustc-env=INBATCH_PTX_SOURCE={source}");
    Ok(())
}

/// What `INBATCH_PTX` asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Auto,
    Committed,
    Compile,
    Update,
    Check,
}

impl Mode {
    fn from_env() -> Result<Self, String> {
        // docs.rs has no CUDA, and documentation needs no fresh PTX.
        if env::var_os("DOCS_RS").is_some() {
            return Ok(Self::Committed);
        }
        match env::var("INBATCH_PTX").as_deref() {
            Err(_) | Ok("" | "auto") => Ok(Self::Auto),
            Ok("committed") => Ok(Self::Committed),
            Ok("compile") => Ok(Self::Compile),
            Ok("update") => Ok(Self::Update),
            Ok("check") => Ok(Self::Check),
            Ok(other) => {
                Err(format!("INBATCH_PTX is {other:?}: use auto, committed, compile, update or check"))
            }
        }
    }
}

/// Tells Cargo when to run this again: sources, new files beside them, the committed PTX, variables.
fn watch(root: &Path, kernels: &[Kernel]) {
    // The folder, not only its files: a kernel that is added must be seen too.
    let folder = root.join("kernels");
    if folder.exists() {
        println!("cargo::rerun-if-changed={}", folder.display());
    }
    for file in kernels.iter().flat_map(Kernel::files) {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    for variable in ["INBATCH_PTX", "DOCS_RS"].iter().chain(&nvcc::VARIABLES) {
        println!("cargo::rerun-if-env-changed={variable}");
    }
}

/// Compiles kernels into `out`, as many at once as Cargo allows; the compiler's path.
fn compile<'a>(kernels: impl Iterator<Item = &'a Kernel> + Send, out: &Path) -> Result<String, String> {
    let nvcc = nvcc::find()?.ok_or("no nvcc was found: set INBATCH_NVCC")?;
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1usize).max(1);
    let queue = Mutex::new(kernels);
    let next = || queue.lock().ok().and_then(|mut kernels| kernels.next());
    let work = || {
        while let Some(kernel) = next() {
            let raw = nvcc.compile(kernel, out)?;
            ptx::write_atomically(&kernel.ptx_in(out), &ptx::finish(&raw, kernel.hash())?)?;
        }
        Ok::<(), String>(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|w| w.join().unwrap_or_else(|_| Err("a compilation panicked".into())))
    })?;
    Ok(nvcc.path().display().to_string())
}

/// Copies the committed PTX of every kernel into `out`, if it is that of these sources.
fn take_committed(kernels: &[Kernel], committed: &Path, out: &Path) -> Result<String, String> {
    kernels.iter().try_for_each(|kernel| take(kernel, committed, out))?;
    Ok("committed".to_owned())
}

/// The committed PTX of the kernels that have it, the others compiled: those that were edited since.
fn take_committed_or_compile(kernels: &[Kernel], committed: &Path, out: &Path) -> Result<String, String> {
    let mut edited = Vec::new();
    let mut reasons = Vec::new();
    for kernel in kernels {
        if let Err(why) = take(kernel, committed, out) {
            edited.push(kernel);
            reasons.push(why);
        }
    }
    if edited.is_empty() {
        return Ok("committed".to_owned());
    }
    // What an earlier build has compiled of the same sources is kept.
    edited.retain(|kernel| {
        ptx::read(&kernel.ptx_in(out)).and_then(|text| ptx::check_hash(&text, kernel.hash())).is_err()
    });
    // Should one not compile either, both reasons count.
    compile(edited.into_iter(), out).map_err(|why| format!("{why}\n{}", reasons.join("\n")))
}

fn take(kernel: &Kernel, committed: &Path, out: &Path) -> Result<(), String> {
    let path = kernel.ptx_in(committed);
    let text =
        fs::read_to_string(&path).map_err(|e| stale(kernel, &path, &format!("cannot be read: {e}")))?;
    ptx::check_hash(&text, kernel.hash()).map_err(|why| stale(kernel, &path, &why))?;
    ptx::write_atomically(&kernel.ptx_in(out), &text)
}

/// The one error a contributor meets who edits a kernel on a machine without nvcc.
fn stale(kernel: &Kernel, path: &Path, why: &str) -> String {
    format!(
        "{}: {why}\nkernels/{}.cu must be compiled: run scripts/ptx.sh (it installs the compiler from PyPI \
         into a virtual environment if need be), or set INBATCH_NVCC to an nvcc of CUDA 12 or later",
        path.display(),
        kernel.stem()
    )
}

fn update_committed(kernels: &[Kernel], out: &Path, committed: &Path) -> Result<(), String> {
    fs::create_dir_all(committed).map_err(|e| format!("{}: {e}", committed.display()))?;
    for kernel in kernels {
        let fresh = ptx::read(&kernel.ptx_in(out))?;
        let path = kernel.ptx_in(committed);
        // An unchanged file keeps its time, so that Cargo does not build again.
        if fs::read_to_string(&path).ok().as_deref() != Some(&fresh) {
            ptx::write_atomically(&path, &fresh)?;
        }
    }
    for orphan in ptx::orphans(committed, kernels)? {
        fs::remove_file(&orphan).map_err(|e| format!("{}: {e}", orphan.display()))?;
    }
    Ok(())
}

fn compare_committed(kernels: &[Kernel], out: &Path, committed: &Path) -> Result<(), String> {
    let differing = kernels
        .iter()
        .filter(|kernel| fs::read(kernel.ptx_in(committed)).ok() != fs::read(kernel.ptx_in(out)).ok())
        .map(|kernel| kernel.ptx_in(committed));
    let wrong: Vec<_> = differing.chain(ptx::orphans(committed, kernels)?).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("not what nvcc makes of the sources: {wrong:?}; run scripts/ptx.sh and commit the result"))
}

fn required(variable: &str) -> Result<String, String> {
    env::var(variable).map_err(|e| format!("{variable}: {e}; build through Cargo"))
}
