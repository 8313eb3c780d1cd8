//! Which device the loss runs on. Only `auto` chooses, and it says what it found.

#[cfg(feature = "cuda")]
use anyhow::Context;
use anyhow::Result;
#[cfg(feature = "cuda")]
use inbatch::cuda;
use inbatch::table::TableConfig;

use crate::class_table::CpuClassStep;
#[cfg(feature = "cuda")]
use crate::class_table_cuda::CudaClassStep;
use crate::options::DeviceChoice;
use crate::step::{CpuStep, Step, StepConfig};
#[cfg(feature = "cuda")]
use crate::step_cuda::CudaStep;

/// A device that is there.
pub(crate) enum Device {
    /// The CPU.
    Cpu,
    /// A GPU.
    #[cfg(feature = "cuda")]
    Cuda(cuda::Device),
}

impl Device {
    /// Opens what was asked for, and tells in words what it is and, if it chose, why.
    #[cfg(feature = "cuda")]
    pub(crate) fn open(choice: DeviceChoice) -> Result<(Self, String)> {
        match choice {
            DeviceChoice::Cpu => Ok((Device::Cpu, cpu_name())),
            DeviceChoice::Cuda(ordinal) => {
                let device =
                    cuda::Device::new(ordinal).with_context(|| format!("--device cuda:{ordinal}"))?;
                let name = format!("cuda:{ordinal}, {}", device.name());
                Ok((Device::Cuda(device), name))
            }
            DeviceChoice::Auto => match cuda::Device::new(0) {
                Ok(device) => {
                    let name = format!("cuda:0, {} (auto: the first CUDA device)", device.name());
                    Ok((Device::Cuda(device), name))
                }
                Err(error) => Ok((Device::Cpu, format!("{} (auto: {error})", cpu_name()))),
            },
        }
    }

    /// The same where the CUDA backend is not compiled in.
    #[cfg(not(feature = "cuda"))]
    pub(crate) fn open(choice: DeviceChoice) -> Result<(Self, String)> {
        let reason = "built without the feature `cuda`";
        match choice {
            DeviceChoice::Cpu => Ok((Device::Cpu, cpu_name())),
            DeviceChoice::Auto => Ok((Device::Cpu, format!("{} (auto: {reason})", cpu_name()))),
            DeviceChoice::Cuda(ordinal) => anyhow::bail!("--device cuda:{ordinal}: {reason}"),
        }
    }

    /// The loss over the batch's items, and a memory bank if there is to be one, on this device.
    pub(crate) fn step(&self, config: StepConfig) -> Result<Box<dyn Step>> {
        Ok(match self {
            Device::Cpu => Box::new(CpuStep::new(config)?),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => Box::new(CudaStep::new(device, config)?),
        })
    }

    /// The loss over a class table on this device.
    pub(crate) fn class_step(&self, config: TableConfig) -> Result<Box<dyn Step>> {
        Ok(match self {
            Device::Cpu => Box::new(CpuClassStep::new(config)),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => Box::new(CudaClassStep::new(device, config)?),
        })
    }
}

fn cpu_name() -> String {
    format!("cpu, {} threads", rayon::current_num_threads())
}
