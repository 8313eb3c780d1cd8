//! The loaded emulator: its settings and its records, asked through the `ptxemu_*` functions of the shared library.

use crate::HarnessError;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;

/// The `ptxemu_*` interface that this crate speaks.
const INTERFACE: u32 = 2;

/// A handle on the emulator in this process. All copies mean the same emulator.
#[derive(Debug, Clone, Copy)]
pub struct Emulator {
    get: unsafe extern "C" fn(*const c_char, *mut c_void, usize) -> usize,
    set: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int,
    clear: unsafe extern "C" fn() -> c_int,
    fail_allocations: unsafe extern "C" fn(u32) -> c_int,
    substitute: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int,
}

/// The last defect that the emulator found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The stable name of its kind, such as `OutOfBounds` or `Race`.
    pub kind: String,
    /// The kernel; empty if a call of the host is to blame.
    pub kernel: String,
    /// The whole report.
    pub text: String,
}

/// The launches of one kernel that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRuns {
    /// The kernel's name.
    pub name: String,
    /// How often it was launched.
    pub launches: u64,
    /// Instructions in all launches, each counted once per warp.
    pub warp_instructions: u64,
}

/// A module that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedModule {
    /// SHA-256 of the PTX text, in hexadecimal.
    pub hash: String,
    /// Its kernels.
    pub kernels: Vec<String>,
}

impl Emulator {
    /// Loads the library for the rest of the process, so that `dlopen("libcuda.so")` finds it.
    pub(crate) fn load(path: &Path) -> Result<Emulator, HarnessError> {
        let unusable = |reason: String| HarnessError::LibraryUnusable { path: path.to_path_buf(), reason };
        // SAFETY: the emulator's library has no initialisers that could misbehave.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }
            .map_err(|error| unusable(error.to_string()))?;
        let emulator = Emulator::of(&library).map_err(unusable)?;
        // Function pointers into it are kept for the rest of the process.
        std::mem::forget(library);
        match Emulator::found_by_name() {
            Some(_) => Ok(emulator),
            None => Err(HarnessError::TooLate),
        }
    }

    /// The emulator, if the process holds it already (LD_PRELOAD).
    pub(crate) fn already_loaded() -> Option<Emulator> {
        Emulator::of(&Library::this()).ok()
    }

    /// The emulator, if it is what the name `libcuda.so` means in this process.
    fn found_by_name() -> Option<Emulator> {
        // SAFETY: at worst this loads the CUDA driver, which is what every CUDA program does.
        let library = unsafe { Library::open(Some("libcuda.so"), RTLD_NOW) }.ok()?;
        Emulator::of(&library).ok()
    }

    fn of(library: &Library) -> Result<Emulator, String> {
        let missing = |error: libloading::Error| error.to_string();
        // SAFETY: these are the types of the functions in every library whose interface number is the one checked.
        unsafe {
            let interface =
                library.get::<unsafe extern "C" fn() -> u32>(b"ptxemu_interface\0").map_err(missing)?;
            let found = interface();
            if found != INTERFACE {
                return Err(format!(
                    "it has interface {found}, this harness needs {INTERFACE}: use the same version of both packages"
                ));
            }
            Ok(Emulator {
                get: *library.get(b"ptxemu_get\0").map_err(missing)?,
                set: *library.get(b"ptxemu_set\0").map_err(missing)?,
                clear: *library.get(b"ptxemu_clear\0").map_err(missing)?,
                fail_allocations: *library.get(b"ptxemu_fail_allocations\0").map_err(missing)?,
                substitute: *library.get(b"ptxemu_substitute\0").map_err(missing)?,
            })
        }
    }

    fn ask(&self, what: &str) -> String {
        let Ok(what) = CString::new(what) else {
            return String::new();
        };
        // SAFETY: the text is NUL-terminated; a capacity of 0 asks for the length alone.
        let mut needed = unsafe { (self.get)(what.as_ptr(), std::ptr::null_mut(), 0) };
        loop {
            let mut buffer = vec![0_u8; needed + 1];
            // SAFETY: the buffer is writable for its whole length.
            let length = unsafe { (self.get)(what.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
            if length <= needed {
                buffer.truncate(length);
                return String::from_utf8_lossy(&buffer).into_owned();
            }
            needed = length; // another thread made the answer longer in between
        }
    }

    /// Changes a setting: `cc`, `multiprocessors`, `seed`, `checks`, `workers`, `memory`, `instruction_limit`, `driver`, `quiet`. The values
    /// are those of the variables `PTX_EMULATOR_CC` and so on. Compute capability and memory hold for contexts made from now on.
    ///
    /// # Errors
    /// [`HarnessError::Setting`] for a name or a value that the emulator does not know.
    pub fn set(&self, name: &str, value: &str) -> Result<(), HarnessError> {
        let refused = || HarnessError::Setting { name: name.to_owned(), value: value.to_owned() };
        let (Ok(c_name), Ok(c_value)) = (CString::new(name), CString::new(value)) else {
            return Err(refused());
        };
        // SAFETY: both texts are NUL-terminated.
        let status = unsafe { (self.set)(c_name.as_ptr(), c_value.as_ptr()) };
        if status == 0 { Ok(()) } else { Err(refused()) }
    }

    /// The last defect found since [`Emulator::clear`].
    pub fn report(&self) -> Option<Report> {
        let kind = self.ask("report.kind");
        let report =
            || Report { kernel: self.ask("report.kernel"), text: self.ask("report"), kind: kind.clone() };
        (!kind.is_empty()).then(report)
    }

    /// The kernels that ran since [`Emulator::clear`], by name.
    pub fn kernels(&self) -> Vec<KernelRuns> {
        let row = |[name, launches, warp_instructions]: [&str; 3]| KernelRuns {
            name: name.to_owned(),
            launches: launches.parse().unwrap_or(0),
            warp_instructions: warp_instructions.parse().unwrap_or(0),
        };
        rows(&self.ask("kernels")).map(row).collect()
    }

    /// How often each opcode form ran, counted once per warp: kernel, form, count.
    pub fn opcodes(&self) -> Vec<(String, String, u64)> {
        let row = |[kernel, form, count]: [&str; 3]| {
            (kernel.to_owned(), form.to_owned(), count.parse().unwrap_or(0))
        };
        rows(&self.ask("opcodes")).map(row).collect()
    }

    /// The modules loaded since [`Emulator::clear`], oldest first.
    pub fn modules(&self) -> Vec<LoadedModule> {
        let row = |[hash, kernels]: [&str; 2]| LoadedModule {
            hash: hash.to_owned(),
            kernels: kernels.split_whitespace().map(str::to_owned).collect(),
        };
        rows(&self.ask("modules")).map(row).collect()
    }

    /// Allocations that outlived their context, a sentence each, since [`Emulator::clear`].
    pub fn leaks(&self) -> Vec<String> {
        self.ask("leaks").lines().map(str::to_owned).collect()
    }

    /// Allocations that are alive now, in all contexts, a sentence each.
    pub fn live(&self) -> Vec<String> {
        self.ask("live").lines().map(str::to_owned).collect()
    }

    /// Makes the next `count` allocations of device memory fail with `CUDA_ERROR_OUT_OF_MEMORY`.
    pub fn fail_allocations(&self, count: u32) {
        // SAFETY: takes a number, touches the emulator's own state.
        unsafe { (self.fail_allocations)(count) };
    }

    /// From now on a module whose PTX is `text` is loaded as `other`, so that a test can change a kernel behind the back of the host code
    /// that loads it; `None` takes that back. Modules that are loaded stay as they are. [`Emulator::clear`] changes nothing here.
    ///
    /// # Errors
    /// [`HarnessError::Text`] if one of them holds a zero byte.
    pub fn substitute(&self, text: &str, other: Option<&str>) -> Result<(), HarnessError> {
        let c_text = |text| CString::new(text).map_err(|_| HarnessError::Text);
        let (text, other) = (c_text(text)?, other.map(c_text).transpose()?);
        let other = other.as_ref().map_or(std::ptr::null(), |other| other.as_ptr());
        // SAFETY: both texts are NUL-terminated, the second one may be null.
        let status = unsafe { (self.substitute)(text.as_ptr(), other) };
        if status == 0 { Ok(()) } else { Err(HarnessError::Text) }
    }

    /// Forgets kernels, modules, the report, leaks and failures still to come.
    pub fn clear(&self) {
        // SAFETY: touches the emulator's own state.
        unsafe { (self.clear)() };
    }
}

/// Lines of `N` fields with tabs between; lines with another number are left out.
fn rows<const N: usize>(text: &str) -> impl Iterator<Item = [&str; N]> {
    text.lines().filter_map(|line| line.split('\t').collect::<Vec<_>>().try_into().ok())
}
