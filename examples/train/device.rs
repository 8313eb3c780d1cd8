//! Which device the loss runs on. Only `auto` chooses, and it says what it found.

use anyhow::{Result, bail};
use inbatch::LossConfig;
use inbatch::bank::BankConfig;

use crate::options::DeviceChoice;
use crate::step::{CpuStep, Step};

/// A device that is there.
pub(crate) enum Device {
    /// The CPU.
    Cpu,
}

impl Device {
    /// Opens what was asked for and prints what it is.
    pub(crate) fn open(choice: DeviceChoice) -> Result<Self> {
        match choice {
            DeviceChoice::Cpu => println!("device: {}", cpu_name()),
            DeviceChoice::Auto => println!("device: {} (auto: no CUDA backend in this build)", cpu_name()),
            DeviceChoice::Cuda(ordinal) => {
                bail!("cuda:{ordinal} was asked for, but this build has no CUDA backend")
            }
        }
        Ok(Device::Cpu)
    }

    /// The loss, and a memory bank if there is to be one, on this device.
    pub(crate) fn step(&self, config: LossConfig, bank: Option<BankConfig>) -> Result<Box<dyn Step>> {
        match self {
            Device::Cpu => Ok(Box::new(CpuStep::new(config, bank)?)),
        }
    }
}

fn cpu_name() -> String {
    format!("cpu, {} threads", rayon::current_num_threads())
}
