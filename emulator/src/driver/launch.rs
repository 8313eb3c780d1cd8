//! Kernel launches: the shape is checked against the device's limits, the parameters are copied, the work is enqueued.

use super::boundary::{Handle, Host, In, driver_api};
use super::code::{Code, Outcome};
use super::function::Function;
use super::limits::{MAX_BLOCK_DIM, MAX_GRID_DIM, MAX_THREADS_PER_BLOCK};
use super::state::ready;
use super::stream;
use super::work::{Launch, Work, enqueue};
use crate::exec::{Kernel, LaunchConfig};
use std::sync::Arc;

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Clone, Copy)]
struct ExtendedConfig {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: Handle,
    attributes: In<LaunchAttribute>,
    attribute_count: u32,
}

/// `CUlaunchAttribute`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LaunchAttribute {
    id: u32,
    padding: u32,
    value: [u32; 16],
}

const COOPERATIVE: u32 = 2;
const CLUSTER_DIMENSION: u32 = 4;

/// Whether each of three sizes is at least 1 and at most its limit.
fn within(sizes: [u32; 3], limits: [u32; 3]) -> bool {
    sizes.iter().zip(limits).all(|(size, limit)| (1..=limit).contains(size))
}

/// Refuses what the device cannot launch.
fn check_shape(function: &Function, config: &LaunchConfig) -> Outcome {
    let kernel = function.kernel()?;
    let threads: u64 = config.block.iter().map(|size| u64::from(*size)).product();
    let fits = within(config.grid, MAX_GRID_DIM)
        && within(config.block, MAX_BLOCK_DIM)
        && threads <= u64::from(MAX_THREADS_PER_BLOCK.min(kernel.max_threads))
        && kernel.required_block.is_none_or(|block| block == config.block)
        && config.dynamic_shared <= function.max_dynamic_shared();
    if !fits {
        return Err(Code::INVALID_VALUE);
    }
    let shared = u64::from(kernel.static_shared) + u64::from(config.dynamic_shared);
    let registers = u64::from(function.registers()?) * threads;
    let limits = function.limits();
    if shared > u64::from(limits.shared_opt_in)
        || registers > u64::from(super::limits::REGISTERS)
        || parameter_bytes(kernel) > limits.parameter_bytes
    {
        return Err(Code::LAUNCH_OUT_OF_RESOURCES);
    }
    Ok(())
}

fn parameter_bytes(kernel: &Kernel) -> usize {
    kernel.params.iter().map(|param| param.offset as usize + param.size as usize).max().unwrap_or(0)
}

/// Copies the parameters out of an array of pointers to them.
fn gather(kernel: &Kernel, pointers: In<Host>) -> Outcome<Vec<u8>> {
    let mut buffer = vec![0; parameter_bytes(kernel)];
    for (index, param) in kernel.params.iter().enumerate() {
        let (start, size) = (param.offset as usize, param.size as usize);
        let target = buffer.get_mut(start..start + size).ok_or(Code::INVALID_VALUE)?;
        target.copy_from_slice(pointers.at(index)?.read(size)?);
    }
    Ok(buffer)
}

/// The keys of the `extra` array.
const EXTRA_END: usize = 0;
const EXTRA_POINTER: usize = 1;
const EXTRA_SIZE: usize = 2;

/// Copies the parameters out of the one buffer that `extra` describes.
fn unpack(kernel: &Kernel, extra: In<Host>) -> Outcome<Vec<u8>> {
    let (mut buffer, mut size) = (None, None);
    for pair in 0.. {
        let value = || extra.at(2 * pair + 1);
        match extra.at(2 * pair)?.address() {
            EXTRA_END => break,
            EXTRA_POINTER => buffer = Some(value()?),
            EXTRA_SIZE => size = value()?.read(size_of::<usize>())?.try_into().ok().map(usize::from_ne_bytes),
            _ => return Err(Code::INVALID_VALUE),
        }
    }
    let (Some(buffer), Some(size)) = (buffer, size) else {
        return Err(Code::INVALID_VALUE);
    };
    if size < parameter_bytes(kernel) {
        return Err(Code::INVALID_VALUE);
    }
    Ok(buffer.read(size)?.to_vec())
}

fn launch(
    function: Handle,
    config: LaunchConfig,
    stream: Handle,
    pointers: In<Host>,
    extra: In<Host>,
) -> Outcome {
    let function = ready()?.functions.get(function)?;
    let stream = stream::resolve(stream)?;
    if !Arc::ptr_eq(&stream.context, &function.module.context) {
        return Err(Code::INVALID_HANDLE);
    }
    check_shape(&function, &config)?;
    let kernel = function.kernel()?;
    let parameters = match (pointers.is_null(), extra.is_null()) {
        (false, false) => return Err(Code::INVALID_VALUE),
        (true, false) => unpack(kernel, extra)?,
        _ => gather(kernel, pointers)?,
    };
    enqueue(&stream, Work::Launch(Arc::new(Launch { function, config, parameters })))
}

/// Refuses launch attributes that would change what the kernel may do.
fn check_attributes(config: &ExtendedConfig) -> Outcome {
    for index in 0..config.attribute_count as usize {
        let attribute = config.attributes.at(index)?;
        let [x, y, z, ..] = attribute.value;
        match attribute.id {
            COOPERATIVE if x != 0 => return Err(Code::NOT_SUPPORTED),
            CLUSTER_DIMENSION if [x, y, z] != [1, 1, 1] => return Err(Code::NOT_SUPPORTED),
            _ => {}
        }
    }
    Ok(())
}

driver_api! {
    fn cuLaunchKernel(
        function: Handle,
        grid_x: u32, grid_y: u32, grid_z: u32,
        block_x: u32, block_y: u32, block_z: u32,
        shared: u32, stream: Handle, parameters: In<Host>, extra: In<Host>,
    ) {
        let config = LaunchConfig { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], dynamic_shared: shared };
        launch(function, config, stream, parameters, extra)
    }

    fn cuLaunchKernelEx(config: In<ExtendedConfig>, function: Handle, parameters: In<Host>, extra: In<Host>) {
        let extended = config.at(0)?;
        check_attributes(&extended)?;
        let config = LaunchConfig { grid: extended.grid, block: extended.block, dynamic_shared: extended.shared_bytes };
        launch(function, config, extended.stream, parameters, extra)
    }
}
