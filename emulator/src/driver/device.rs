//! The one device: what it is called and what it can do.

use super::attributes;
use super::boundary::{Host, Out, Text, driver_api, fill_text};
use super::code::{Code, Outcome};
use super::config::Config;
use super::limits::{
    MAX_BLOCK_DIM, MAX_GRID_DIM, MAX_THREADS_PER_BLOCK, REGISTERS, SHARED_PER_BLOCK, WARP_SIZE,
};
use super::state::{driver, ready};
use std::ffi::c_char;

/// The name that `cuDeviceGetName` gives: nobody should take a test run for a run on a GPU.
pub(crate) const NAME: &str = "PTX emulator";
const PCI_BUS_ID: &str = "0000:00:00.0";
const UUID: [u8; 16] = *b"ptx-emulator-000";

fn device(ordinal: i32) -> Outcome<Config> {
    let driver = ready()?;
    if ordinal == 0 { Ok(driver.config()) } else { Err(Code::INVALID_DEVICE) }
}

/// Writes `text` into the caller's buffer, cut to fit.
fn name(buffer: Host, capacity: i32, text: &str) -> Outcome {
    let capacity =
        usize::try_from(capacity).ok().filter(|capacity| *capacity > 0).ok_or(Code::INVALID_VALUE)?;
    fill_text(buffer, capacity, text.as_bytes()).map(drop)
}

/// `CUdevprop`, which old code asks for.
#[repr(C)]
#[derive(Clone, Copy)]
struct Properties {
    max_threads_per_block: i32,
    max_threads_dim: [i32; 3],
    max_grid_size: [i32; 3],
    shared_mem_per_block: i32,
    total_constant_memory: i32,
    simd_width: i32,
    mem_pitch: i32,
    regs_per_block: i32,
    clock_rate: i32,
    texture_align: i32,
}

driver_api! {
    fn cuInit(flags: u32) {
        if flags != 0 {
            return Err(Code::INVALID_VALUE);
        }
        driver().initialise();
        Ok(())
    }

    fn cuDriverGetVersion(out: Out<i32>) {
        out.set(driver().config().driver_version as i32)
    }

    fn cuGetErrorName(code: u32, out: Out<*const c_char>) {
        let name = Code(code).name();
        out.set(name.map_or(std::ptr::null(), |name| name.as_ptr().cast()))?;
        name.map(drop).ok_or(Code::INVALID_VALUE)
    }

    fn cuGetErrorString(code: u32, out: Out<*const c_char>) {
        let text = Code(code).text();
        out.set(text.map_or(std::ptr::null(), |text| text.as_ptr().cast()))?;
        text.map(drop).ok_or(Code::INVALID_VALUE)
    }

    fn cuDeviceGetCount(out: Out<i32>) {
        ready()?;
        out.set(1)
    }

    fn cuDeviceGet(out: Out<i32>, ordinal: i32) {
        device(ordinal)?;
        out.set(ordinal)
    }

    fn cuDeviceGetName(buffer: Host, capacity: i32, ordinal: i32) {
        device(ordinal)?;
        name(buffer, capacity, NAME)
    }

    fn cuDeviceGetUuid(out: Out<[u8; 16]>, ordinal: i32) {
        device(ordinal)?;
        out.set(UUID)
    }

    fn cuDeviceGetUuid_v2(out: Out<[u8; 16]>, ordinal: i32) {
        device(ordinal)?;
        out.set(UUID)
    }

    fn cuDeviceGetPCIBusId(buffer: Host, capacity: i32, ordinal: i32) {
        device(ordinal)?;
        name(buffer, capacity, PCI_BUS_ID)
    }

    fn cuDeviceGetByPCIBusId(out: Out<i32>, text: Text) {
        ready()?;
        if text.bytes()? == PCI_BUS_ID.as_bytes() { out.set(0) } else { Err(Code::INVALID_DEVICE) }
    }

    fn cuDeviceTotalMem_v2(out: Out<usize>, ordinal: i32) {
        out.set(device(ordinal)?.memory_bytes as usize)
    }

    fn cuDeviceGetAttribute(out: Out<i32>, attribute: u32, ordinal: i32) {
        out.set(attributes::value(attribute, &device(ordinal)?)?)
    }

    fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, ordinal: i32) {
        let capability = device(ordinal)?.settings.compute_capability;
        major.set(capability.0 as i32)?;
        minor.set(capability.1 as i32)
    }

    fn cuDeviceGetProperties(out: Out<Properties>, ordinal: i32) {
        device(ordinal)?;
        out.set(Properties {
            max_threads_per_block: MAX_THREADS_PER_BLOCK as i32,
            max_threads_dim: MAX_BLOCK_DIM.map(|size| size as i32),
            max_grid_size: MAX_GRID_DIM.map(|size| size as i32),
            shared_mem_per_block: SHARED_PER_BLOCK as i32,
            total_constant_memory: 65_536,
            simd_width: WARP_SIZE as i32,
            mem_pitch: i32::MAX,
            regs_per_block: REGISTERS as i32,
            clock_rate: 1_410_000,
            texture_align: 512,
        })
    }

    fn cuDeviceCanAccessPeer(out: Out<i32>, ordinal: i32, _peer: i32) {
        device(ordinal)?;
        out.set(0)
    }

    fn cuProfilerStart() {
        ready().map(drop)
    }

    fn cuProfilerStop() {
        ready().map(drop)
    }
}
