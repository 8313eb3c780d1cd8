//! The kernels' PTX: embedded text, loaded once per context when first needed.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;

use cudarc::driver::sys::{CUfunction, CUfunction_attribute, CUmodule, CUresult};
use cudarc::driver::{CudaContext, DriverError, result};

use super::device::driver_error;
use crate::{Dtype, Error, Result};

/// The embedded text of one file of kernels.
#[derive(Clone, Copy, Debug)]
pub struct Ptx {
    /// The file's stem: `kernels/<name>.cu`.
    pub name: &'static str,
    /// The PTX, hash of its sources on line 1.
    pub text: &'static str,
}

macro_rules! embedded {
    ($($name:literal),*) => {
        [$(Ptx { name: $name, text: include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")) }),*]
    };
}

static FILES: [Ptx; 16] = embedded![
    "rows",
    "columns",
    "bank",
    "stream_simt_f32",
    "stream_simt_f16",
    "stream_simt_bf16",
    "scale",
    "stream_mma_f16",
    "stream_mma_bf16",
    "stream_mma_wide_f16",
    "stream_mma_wide_bf16",
    "frequency",
    "sampling",
    "table",
    "row_negatives",
    "hard_negatives"
];

/// Every file of kernels that this build embeds: the PTX that will run.
pub fn ptx() -> &'static [Ptx] {
    &FILES
}

/// A file of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum File {
    Rows,
    Columns,
    Bank,
    Scale,
    StreamSimt(usize),
    StreamMma(usize),
    StreamMmaWide(usize),
    Frequency,
    Sampling,
    Table,
    RowNegatives,
    HardNegatives,
}

impl File {
    /// The stream's plain kernels for one storage type.
    pub(super) fn stream_simt(dtype: Dtype) -> Self {
        Self::StreamSimt(dtype_index(dtype))
    }

    /// The stream's tensor-core kernels for a 16-bit type.
    pub(super) fn stream_mma(dtype: Dtype) -> Self {
        Self::StreamMma(dtype_index(dtype))
    }

    /// The same for more dimensions than a warp's registers hold.
    pub(super) fn stream_mma_wide(dtype: Dtype) -> Self {
        Self::StreamMmaWide(dtype_index(dtype))
    }

    fn ptx(self) -> &'static Ptx {
        &FILES[match self {
            Self::Rows => 0,
            Self::Columns => 1,
            Self::Bank => 2,
            Self::StreamSimt(dtype) => 3 + dtype,
            Self::Scale => 6,
            Self::StreamMma(dtype) => 6 + dtype.max(1),
            Self::StreamMmaWide(dtype) => 8 + dtype.max(1),
            Self::Frequency => 11,
            Self::Sampling => 12,
            Self::Table => 13,
            Self::RowNegatives => 14,
            Self::HardNegatives => 15,
        }]
    }
}

/// The place of a storage type in tables of kernel names.
pub(super) fn dtype_index(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::Bf16 => 2,
    }
}

/// Dynamic shared memory that a block gets without asking.
const SHARED_WITHOUT_ASKING: u32 = 48 << 10;
const DYNAMIC_SHARED: CUfunction_attribute =
    CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;

/// The modules of one context, with their kernels and how often each was launched.
pub(super) struct Modules {
    context: Arc<CudaContext>,
    loaded: BTreeMap<File, CUmodule>,
    kernels: BTreeMap<&'static str, Kernel>,
}

struct Kernel {
    function: CUfunction,
    launches: u64,
    /// Dynamic shared memory that a block may have, as far as the driver was asked.
    shared: u32,
}

// SAFETY: module and function handles may be used from any thread that binds their context; the
// maps themselves sit behind a mutex.
unsafe impl Send for Modules {}

impl Modules {
    pub(super) fn new(context: Arc<CudaContext>) -> Self {
        Self { context, loaded: BTreeMap::new(), kernels: BTreeMap::new() }
    }

    pub(super) fn is_loaded(&self, file: File) -> bool {
        self.loaded.contains_key(&file)
    }

    /// Gives a file to the driver, which compiles it for the device (and keeps the result on disk).
    pub(super) fn load(&mut self, file: File) -> Result<()> {
        if self.is_loaded(file) {
            return Ok(());
        }
        let ptx = file.ptx();
        let text = CString::new(ptx.text)
            .map_err(|_| Error::Ptx { module: ptx.name, reason: "it holds a zero byte".to_owned() })?;
        self.bind()?;
        // SAFETY: the text is a zero-terminated string that lives through the call.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) }
            .map_err(|error| load_error(ptx.name, error))?;
        self.loaded.insert(file, module);
        Ok(())
    }

    /// A kernel of a loaded file, counted as one launch with `shared` bytes of dynamic shared memory for each block.
    pub(super) fn kernel(&mut self, file: File, name: &'static str, shared: u32) -> Result<CUfunction> {
        if !self.kernels.contains_key(name) {
            let kernel =
                Kernel { function: self.find(file, name)?, launches: 0, shared: SHARED_WITHOUT_ASKING };
            self.kernels.insert(name, kernel);
        }
        let missing = || Error::Ptx { module: file.ptx().name, reason: format!("no kernel {name}") };
        let kernel = self.kernels.get_mut(name).ok_or_else(missing)?;
        if shared > kernel.shared {
            let bytes = i32::try_from(shared).unwrap_or(i32::MAX);
            // SAFETY: the function belongs to a module that is loaded while `self` lives.
            unsafe { result::function::set_function_attribute(kernel.function, DYNAMIC_SHARED, bytes) }
                .map_err(|error| Error::Launch { kernel: name, code: format!("{:?}", error.0) })?;
            kernel.shared = shared;
        }
        kernel.launches += 1;
        Ok(kernel.function)
    }

    fn find(&mut self, file: File, name: &'static str) -> Result<CUfunction> {
        self.load(file)?;
        let missing = |reason| Error::Ptx { module: file.ptx().name, reason };
        let module = *self.loaded.get(&file).ok_or_else(|| missing("it is not loaded".to_owned()))?;
        let symbol = CString::new(name).map_err(|_| missing(format!("{name:?} is no symbol")))?;
        self.bind()?;
        // SAFETY: the module is loaded and stays so while `self` lives.
        unsafe { result::module::get_function(module, symbol) }
            .map_err(|error| missing(format!("no kernel {name}: {:?}", error.0)))
    }

    pub(super) fn launches(&self) -> Vec<(&'static str, u64)> {
        self.kernels.iter().map(|(name, kernel)| (*name, kernel.launches)).collect()
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|e| driver_error("entering the context", e))
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        for module in self.loaded.values() {
            // SAFETY: loaded by this object, and its kernels are known to nobody else.
            self.context.record_err(unsafe { result::module::unload(*module) });
        }
    }
}

fn load_error(module: &'static str, error: DriverError) -> Error {
    let remedy = match error.0 {
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "the PTX is newer than the driver: update it to 525 or later"
        }
        CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU | CUresult::CUDA_ERROR_INVALID_PTX => {
            "the device may be older than compute capability 7.5, or the driver older than 525"
        }
        _ => "see the driver's error code",
    };
    Error::Ptx { module, reason: format!("{:?}; {remedy}", error.0) }
}
