//! Modules (and libraries, which are the same here): PTX text in, kernels and variables out.

use super::boundary::{Handle, Host, In, Out, Text, driver_api, fill_text, handle, id};
use super::code::{Code, Outcome};
use super::config::Config;
use super::context::{Context, current};
use super::function::Function;
use super::graph::refuse_unsafe;
use super::limits::newest_ptx;
use super::records::ModuleRecord;
use super::state::{driver, ready};
use super::table::{InContext, lock};
use crate::exec::{LoadError, Program};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// One loaded module.
pub(crate) struct Module {
    pub(crate) context: Arc<Context>,
    pub(crate) program: Arc<Program>,
    /// Handles given out, by kernel name: asking twice gives the same handle.
    functions: Mutex<HashMap<String, u64>>,
}

impl InContext for Module {
    fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

impl Drop for Module {
    /// After the last launch and graph that use it, as each holds on to it.
    fn drop(&mut self) {
        self.program.unload(&self.context.memory);
    }
}

/// Why a module was refused: the code for the caller, the sentence for the log.
struct Refused {
    code: Code,
    message: String,
}

/// SHA-256 of a module's text, in hexadecimal.
fn hash(text: &[u8]) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The words after `directive` (`.version`, `.target`) on its line.
fn directive<'a>(text: &'a str, directive: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.trim_start().strip_prefix(directive)).map(str::trim)
}

/// `8.0` -> (8, 0)
fn ptx_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = directive(text, ".version")?.split_once('.')?;
    let digits = |word: &str| word.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((digits(major)?, digits(minor)?))
}

/// `sm_90a, debug` -> (90, true): the number, and whether only that very architecture may run it.
fn target(text: &str) -> Option<(u32, bool)> {
    let rest = directive(text, ".target")?.strip_prefix("sm_")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, rest[digits.len()..].starts_with('a')))
}

/// What the driver checks before it compiles anything.
fn check_header(text: &str, config: &Config) -> Result<(), Refused> {
    let newest = newest_ptx(config.driver_version);
    if let Some(version) = ptx_version(text)
        && version > newest
    {
        let message = format!(
            "PTX .version {}.{} is newer than the {}.{} that this driver takes",
            version.0, version.1, newest.0, newest.1
        );
        return Err(Refused { code: Code::UNSUPPORTED_PTX_VERSION, message });
    }
    let (major, minor) = config.settings.compute_capability;
    let device = major * 10 + minor;
    if let Some((needed, exact)) = target(text)
        && (needed > device || exact && needed != device)
    {
        let suffix = if exact { "a" } else { "" };
        let message = format!(
            "PTX .target sm_{needed}{suffix} does not run on a device of compute capability {major}.{minor}"
        );
        return Err(Refused { code: Code::NO_BINARY_FOR_GPU, message });
    }
    Ok(())
}

fn compile(image: &[u8], hash: &str, context: &Context) -> Result<Arc<Program>, Refused> {
    if image.starts_with(b"\x7fELF") || image.starts_with(b"\x50\xed\x55\xba") {
        let message =
            "the image is machine code (cubin or fatbin): give the module's PTX text instead".to_owned();
        return Err(Refused { code: Code::NO_BINARY_FOR_GPU, message });
    }
    let text = std::str::from_utf8(image).map_err(|_| Refused {
        code: Code::INVALID_IMAGE,
        message: "the image is neither PTX text nor known machine code".to_owned(),
    })?;
    check_header(text, &context.config)?;
    let settings = &context.config.settings;
    let source = (hash.to_owned(), settings.compute_capability);
    let load = || Program::load(text, settings, &context.memory);
    driver().programs.get(source, load).map_err(|error: LoadError| Refused {
        code: Code::INVALID_PTX,
        message: format!("line {}: {}\n  {}", error.line, error.message, error.text.trim()),
    })
}

/// Loads `image` into the current context; `log` gets the compiler's words when it is refused.
fn load(out: &Out<Handle>, image: &[u8], log: impl FnOnce(&str)) -> Outcome {
    let context = current()?;
    if out.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    refuse_unsafe(&context)?;
    let image = &lock(&driver().substitutes).of(image);
    let hash = hash(image);
    let program = compile(image, &hash, &context).map_err(|refused| {
        log(&refused.message);
        lock(&driver().records).note_report(
            "LoadError",
            "",
            format!("module not loaded: {}", refused.message),
            driver().config().quiet,
        );
        refused.code
    })?;
    let kernels = program.kernels().map(|kernel| kernel.name.clone()).collect();
    lock(&driver().records).modules.push(ModuleRecord { hash, kernels });
    let module = Module { context, program, functions: Mutex::default() };
    out.set(ready()?.modules.insert(Arc::new(module)))
}

fn load_file(out: &Out<Handle>, path: Text) -> Outcome {
    current()?;
    let image = std::fs::read(path.str()?).map_err(|_| Code::FILE_NOT_FOUND)?;
    load(out, image.split(|byte| *byte == 0).next().unwrap_or(&[]), |_| {})
}

/// The options of `cuModuleLoadDataEx` that concern logs (`CUjit_option`).
const INFO_LOG_BYTES: u32 = 4;
const ERROR_LOG: u32 = 5;
const ERROR_LOG_BYTES: u32 = 6;

/// Writes the error log where the options say, and the lengths where they say. A caller who lends no proper buffer gets no log.
fn write_log(message: &str, count: u32, options: In<u32>, values: &Out<Host>) {
    // The load has failed already: its code matters more than that of a bad log buffer.
    let _ = try_write_log(message, count, options, values);
}

fn try_write_log(message: &str, count: u32, options: In<u32>, values: &Out<Host>) -> Outcome {
    let find = |wanted| (0..count as usize).find(|index| options.at(*index) == Ok(wanted));
    if let Some(at) = find(INFO_LOG_BYTES) {
        values.at(at).set(Host::from_number(0))?;
    }
    if let (Some(buffer), Some(size)) = (find(ERROR_LOG), find(ERROR_LOG_BYTES)) {
        let capacity = values.at(size).get()?.address();
        let written = fill_text(values.at(buffer).get()?, capacity, message.as_bytes())?;
        values.at(size).set(Host::from_number(written))?;
    }
    Ok(())
}

fn unload(module: Handle) -> Outcome {
    let driver = ready()?;
    let module = driver.modules.remove(module)?;
    for function in lock(&module.functions).values() {
        // A function of a live module is in the table; nothing else removes it.
        let _ = driver.functions.remove(handle(*function));
    }
    Ok(())
}

fn function(out: &Out<Handle>, module: Handle, name: Text) -> Outcome {
    let driver = ready()?;
    let module = driver.modules.get(module)?;
    let kernel = module.program.kernel(name.str()?).ok_or(Code::NOT_FOUND)?;
    let mut known = lock(&module.functions);
    let found = match known.get(&kernel.name) {
        Some(id) => handle(*id),
        None => {
            let made = driver.functions.insert(Arc::new(Function::new(Arc::clone(&module), kernel)));
            known.insert(kernel.name.clone(), id(made));
            made
        }
    };
    out.set(found)
}

fn global(address: &Out<u64>, bytes: &Out<usize>, module: Handle, name: Text) -> Outcome {
    let module = ready()?.modules.get(module)?;
    let found = module.program.global(name.str()?).ok_or(Code::NOT_FOUND)?;
    address.set_if_wanted(found.0);
    bytes.set_if_wanted(found.1 as usize);
    Ok(())
}

driver_api! {
    fn cuModuleLoadData(out: Out<Handle>, image: Text) {
        load(&out, image.bytes()?, |_| {})
    }

    fn cuModuleLoadDataEx(out: Out<Handle>, image: Text, count: u32, options: In<u32>, values: Out<Host>) {
        load(&out, image.bytes()?, |message| write_log(message, count, options, &values))
    }

    fn cuModuleLoadFatBinary(out: Out<Handle>, image: Text) {
        load(&out, image.bytes()?, |_| {})
    }

    fn cuModuleLoad(out: Out<Handle>, path: Text) {
        load_file(&out, path)
    }

    fn cuModuleUnload(module: Handle) {
        unload(module)
    }

    fn cuModuleGetFunction(out: Out<Handle>, module: Handle, name: Text) {
        function(&out, module, name)
    }

    fn cuModuleGetGlobal_v2(address: Out<u64>, bytes: Out<usize>, module: Handle, name: Text) {
        global(&address, &bytes, module, name)
    }

    fn cuModuleGetFunctionCount(out: Out<u32>, module: Handle) {
        out.set(ready()?.modules.get(module)?.program.kernels().count() as u32)
    }

    fn cuModuleGetLoadingMode(out: Out<u32>) {
        ready()?;
        out.set(1) // eager
    }

    fn cuLibraryLoadData(out: Out<Handle>, image: Text, jit_options: In<u32>, jit_values: Out<Host>, jit_count: u32, _options: In<u32>, _values: Out<Host>, _count: u32) {
        load(&out, image.bytes()?, |message| write_log(message, jit_count, jit_options, &jit_values))
    }

    fn cuLibraryLoadFromFile(out: Out<Handle>, path: Text, _jit_options: In<u32>, _jit_values: Out<Host>, _jit_count: u32, _options: In<u32>, _values: Out<Host>, _count: u32) {
        load_file(&out, path)
    }

    fn cuLibraryUnload(library: Handle) {
        unload(library)
    }

    fn cuLibraryGetKernel(out: Out<Handle>, library: Handle, name: Text) {
        function(&out, library, name)
    }

    fn cuLibraryGetModule(out: Out<Handle>, library: Handle) {
        ready()?.modules.get(library)?;
        out.set(library)
    }

    fn cuLibraryGetGlobal(address: Out<u64>, bytes: Out<usize>, library: Handle, name: Text) {
        global(&address, &bytes, library, name)
    }

    fn cuKernelGetFunction(out: Out<Handle>, kernel: Handle) {
        ready()?.functions.get(kernel)?;
        out.set(kernel)
    }
}
