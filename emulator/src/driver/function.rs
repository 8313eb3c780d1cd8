//! Kernels as the driver's functions: their attributes.

use super::boundary::{Handle, Out, driver_api};
use super::code::{Code, Outcome};
use super::context::Context;
use super::limits::{Limits, REGISTERS, SHARED_PER_BLOCK};
use super::module::Module;
use super::state::ready;
use super::table::InContext;
use crate::exec::Kernel;
use std::ffi::{CString, c_char};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// One `CUfunction` (or `CUkernel`).
pub(crate) struct Function {
    pub(crate) module: Arc<Module>,
    pub(crate) name: String,
    c_name: CString,
    /// What `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES` was set to.
    max_dynamic_shared: AtomicU32,
    carveout: AtomicI32,
}

impl InContext for Function {
    fn context(&self) -> &Arc<Context> {
        &self.module.context
    }
}

const MAX_DYNAMIC_SHARED: u32 = 8;
const CARVEOUT: u32 = 9;

impl Function {
    pub(crate) fn new(module: Arc<Module>, kernel: &Kernel) -> Function {
        Function {
            module,
            name: kernel.name.clone(),
            c_name: CString::new(kernel.name.as_str()).unwrap_or_default(),
            max_dynamic_shared: AtomicU32::new(SHARED_PER_BLOCK.saturating_sub(kernel.static_shared)),
            carveout: AtomicI32::new(-1),
        }
    }

    pub(crate) fn kernel(&self) -> Outcome<&Kernel> {
        self.module.program.kernel(&self.name).ok_or(Code::NOT_FOUND)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits::of(self.module.context.config.settings.compute_capability)
    }

    /// Dynamic shared memory that a launch may ask for, bytes.
    pub(crate) fn max_dynamic_shared(&self) -> u32 {
        self.max_dynamic_shared.load(Ordering::Relaxed)
    }

    /// Registers of a thread. The compiler to machine code would decide; what it may never do is use so many that the
    /// largest block the kernel declares does not fit.
    pub(crate) fn registers(&self) -> Outcome<u32> {
        let kernel = self.kernel()?;
        let ceiling = (REGISTERS / kernel.max_threads.max(1)).min(255) & !7;
        Ok(kernel.registers.clamp(16, ceiling.max(16)))
    }

    fn attribute(&self, attribute: u32) -> Outcome<i32> {
        let kernel = self.kernel()?;
        let (major, minor) = self.module.context.config.settings.compute_capability;
        let value = match attribute {
            0 => kernel.max_threads,
            1 => kernel.static_shared,
            2 => 0, // constant memory of the kernel's own
            3 => kernel.local_bytes,
            4 => self.registers()?,
            5 | 6 => major * 10 + minor, // PTX and binary version: compiled for this device
            7 => 0,
            MAX_DYNAMIC_SHARED => self.max_dynamic_shared(),
            CARVEOUT => return Ok(self.carveout.load(Ordering::Relaxed)),
            10..=15 => 0, // clusters: none required, none allowed
            _ => return Err(Code::INVALID_VALUE),
        };
        Ok(value as i32)
    }

    fn set_attribute(&self, attribute: u32, value: i32) -> Outcome {
        match attribute {
            MAX_DYNAMIC_SHARED => {
                let most = self.limits().shared_opt_in.saturating_sub(self.kernel()?.static_shared);
                let value =
                    u32::try_from(value).ok().filter(|value| *value <= most).ok_or(Code::INVALID_VALUE)?;
                self.max_dynamic_shared.store(value, Ordering::Relaxed);
                Ok(())
            }
            CARVEOUT if (-1..=100).contains(&value) => {
                self.carveout.store(value, Ordering::Relaxed);
                Ok(())
            }
            11..=15 => Err(Code::NOT_SUPPORTED),
            _ => Err(Code::INVALID_VALUE),
        }
    }
}

driver_api! {
    fn cuFuncGetAttribute(out: Out<i32>, attribute: u32, function: Handle) {
        out.set(ready()?.functions.get(function)?.attribute(attribute)?)
    }

    fn cuFuncSetAttribute(function: Handle, attribute: u32, value: i32) {
        ready()?.functions.get(function)?.set_attribute(attribute, value)
    }

    fn cuKernelGetAttribute(out: Out<i32>, attribute: u32, kernel: Handle, _device: i32) {
        out.set(ready()?.functions.get(kernel)?.attribute(attribute)?)
    }

    fn cuKernelSetAttribute(attribute: u32, value: i32, kernel: Handle, _device: i32) {
        ready()?.functions.get(kernel)?.set_attribute(attribute, value)
    }

    fn cuFuncSetCacheConfig(function: Handle, _preference: u32) {
        ready()?.functions.get(function).map(drop)
    }

    fn cuFuncSetSharedMemConfig(function: Handle, _bank_size: u32) {
        ready()?.functions.get(function).map(drop)
    }

    fn cuFuncGetName(out: Out<*const c_char>, function: Handle) {
        // The name lives as long as the function's module stays loaded.
        out.set(ready()?.functions.get(function)?.c_name.as_ptr())
    }

    fn cuFuncGetParamInfo(function: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        let function = ready()?.functions.get(function)?;
        let info = function.kernel()?.params.get(index).ok_or(Code::INVALID_VALUE)?;
        offset.set(info.offset as usize)?;
        size.set_if_wanted(info.size as usize);
        Ok(())
    }
}
