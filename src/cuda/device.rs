//! The device: a context, the caller's stream, and what is loaded and counted once per context.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cudarc::driver::sys::{CUdevice_attribute_enum as Attribute, CUresult, CUstreamCaptureStatus};
use cudarc::driver::{CudaContext, CudaStream, DriverError};

use super::module::{File, Modules};
use super::plan::Hardware;
use crate::{Error, Result};

/// A CUDA device and the stream that all work is enqueued on. Cheap to clone.
#[derive(Clone)]
pub struct Device {
    shared: Arc<Shared>,
    stream: Arc<CudaStream>,
    /// What must outlive the stream; dropped after it.
    _keeper: Option<Arc<dyn Any + Send + Sync>>,
}

/// What all devices of one context share: compiled kernels, properties, counters.
struct Shared {
    context: Arc<CudaContext>,
    modules: Mutex<Modules>,
    name: String,
    hardware: Hardware,
    allocations: AtomicU64,
    allocated_bytes: AtomicU64,
}

/// What this crate has asked of a context so far; see [`Device::counters`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Device allocations made.
    pub allocations: u64,
    /// Bytes of device memory that this crate holds at the moment.
    pub allocated_bytes: u64,
    /// Launches of each kernel, by symbol, in alphabetical order.
    pub launches: Vec<(&'static str, u64)>,
}

/// One entry per live context. Weak: the context must be able to end.
static CONTEXTS: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

impl Device {
    /// The default stream of device `ordinal`, on its primary context, which other libraries share.
    ///
    /// # Errors
    /// [`Error::NoDriver`], [`Error::NoDevice`], [`Error::Driver`].
    pub fn new(ordinal: usize) -> Result<Self> {
        Self::on_stream(primary_context(ordinal)?.default_stream())
    }

    /// A stream of the caller's. [`crate::link::raw::adopt_stream`] takes one of another library.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn on_stream(stream: Arc<CudaStream>) -> Result<Self> {
        Ok(Self { shared: Shared::of(stream.context())?, stream, _keeper: None })
    }

    /// As [`Device::on_stream`]; `keeper` lives as long as this device, its clones and whatever is made from them.
    pub(crate) fn on_kept_stream(
        stream: Arc<CudaStream>,
        keeper: Arc<dyn Any + Send + Sync>,
    ) -> Result<Self> {
        Ok(Self { _keeper: Some(keeper), ..Self::on_stream(stream)? })
    }

    /// Orders what is enqueued on this stream from now on after what `other`'s stream holds now: an event is recorded
    /// there and waited for here. The host waits for nothing, and no other stream is touched.
    ///
    /// # Errors
    /// [`Error::Driver`].
    pub fn wait_for(&self, other: &Self) -> Result<()> {
        self.stream.join(&other.stream).map_err(|e| driver_error("ordering two streams", e))
    }

    /// The stream.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The name that the driver gives the device, for programs to print.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What of the device decides which kernels run; see [`super::Plan`].
    pub fn hardware(&self) -> Hardware {
        self.shared.hardware
    }

    /// What this crate did on the context so far: launches by kernel, allocations.
    pub fn counters(&self) -> Counters {
        Counters {
            allocations: self.shared.allocations.load(Ordering::Relaxed),
            allocated_bytes: self.shared.allocated_bytes.load(Ordering::Relaxed),
            launches: self.modules().launches(),
        }
    }

    /// Waits for everything enqueued on the stream.
    ///
    /// # Errors
    /// [`Error::Driver`], of an earlier launch too.
    pub fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().map_err(|e| driver_error("waiting for the stream", e))
    }

    pub(crate) fn context(&self) -> &Arc<CudaContext> {
        &self.shared.context
    }

    pub(super) fn modules(&self) -> MutexGuard<'_, Modules> {
        self.shared.modules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads files of kernels, so that no later launch does.
    pub(super) fn load_kernels(&self, files: &[File]) -> Result<()> {
        let mut modules = self.modules();
        for file in files {
            if !modules.is_loaded(*file) {
                self.check_not_capturing("loading kernels")?;
                modules.load(*file)?;
            }
        }
        Ok(())
    }

    pub(super) fn count_allocation(&self, bytes: usize) {
        self.shared.allocations.fetch_add(1, Ordering::Relaxed);
        self.shared.allocated_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_release(&self, bytes: usize) {
        self.shared.allocated_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Whether two devices are one context and one stream.
    pub(super) fn check_same(&self, other: &Self, what: &'static str) -> Result<()> {
        if !Arc::ptr_eq(&self.shared, &other.shared) {
            return Err(Error::Elsewhere { what, place: "device" });
        }
        if self.stream.cu_stream() != other.stream.cu_stream() {
            return Err(Error::Elsewhere { what, place: "stream" });
        }
        Ok(())
    }

    /// An error if the stream is being captured: `what` would invalidate the graph.
    pub(super) fn check_not_capturing(&self, what: &'static str) -> Result<()> {
        match self.stream.capture_status() {
            Ok(CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE) => Ok(()),
            Ok(_) => Err(Error::Capturing { what }),
            Err(e) => Err(driver_error("asking whether the stream is captured", e)),
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("name", &self.name())
            .field("stream", &self.stream.cu_stream())
            .finish()
    }
}

impl Shared {
    fn of(context: &Arc<CudaContext>) -> Result<Arc<Self>> {
        let mut contexts = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
        contexts.retain(|known| known.strong_count() > 0);
        let known =
            contexts.iter().filter_map(Weak::upgrade).find(|c| c.context.cu_ctx() == context.cu_ctx());
        if let Some(shared) = known {
            return Ok(shared);
        }
        let property = |attribute, what| -> Result<u32> {
            let value = context.attribute(attribute).map_err(|e| driver_error(what, e))?;
            Ok(u32::try_from(value).unwrap_or(0))
        };
        let capability = "asking for the compute capability";
        let major = property(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, capability)?;
        let minor = property(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, capability)?;
        let multiprocessors =
            property(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, "counting the multiprocessors")?;
        let shared = Arc::new(Self {
            context: context.clone(),
            modules: Mutex::new(Modules::new(context.clone())),
            name: context.name().map_err(|e| driver_error("asking for the device's name", e))?,
            hardware: Hardware::new((major, minor), multiprocessors.max(1) as usize),
            allocations: AtomicU64::new(0),
            allocated_bytes: AtomicU64::new(0),
        });
        contexts.push(Arc::downgrade(&shared));
        Ok(shared)
    }
}

/// The primary context of a device, once it is certain that cudarc will not panic.
pub(crate) fn primary_context(ordinal: usize) -> Result<Arc<CudaContext>> {
    probe_driver()?;
    let count = match CudaContext::device_count() {
        Ok(count) => usize::try_from(count).unwrap_or(0),
        Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
        Err(e) => return Err(driver_error("starting the CUDA driver", e)),
    };
    if ordinal >= count {
        return Err(Error::NoDevice { ordinal, count });
    }
    CudaContext::new(ordinal).map_err(|e| driver_error("opening the device", e))
}

#[cfg(windows)]
const DRIVER_NAMES: &[&str] = &["nvcuda.dll"];
#[cfg(not(windows))]
const DRIVER_NAMES: &[&str] = &["libcuda.so", "libcuda.so.1"];

/// An error if no CUDA driver can be opened. The library stays open: a driver does not like to be unloaded.
fn probe_driver() -> Result<()> {
    let mut reason = String::new();
    for name in DRIVER_NAMES {
        // SAFETY: loading the driver runs its initialisers, which are made for being loaded at run time.
        match unsafe { libloading::Library::new(*name) } {
            Ok(library) => {
                std::mem::forget(library);
                return Ok(());
            }
            Err(error) => reason = error.to_string(),
        }
    }
    Err(Error::NoDriver(reason))
}

pub(crate) fn driver_error(what: &'static str, error: DriverError) -> Error {
    Error::Driver { what, code: format!("{:?}", error.0) }
}
