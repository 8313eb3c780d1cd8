//! A defect as the executor sees it, before it knows the names for the report.
use super::op::Instr;
use super::resolve::Code;
use super::special::coordinates;
use super::{FaultKind, Report};
use crate::memory::AllocationInfo;

/// What went wrong, and for which lane.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) lane: usize,
    pub(crate) address: Option<u64>,
    pub(crate) allocation: Option<AllocationInfo>,
    pub(crate) message: String,
    /// The instruction to blame, if it is not the one that runs.
    pub(crate) at: Option<u32>,
}

/// Faults are rare: a box keeps results small.
pub(crate) type Outcome<T> = Result<T, Box<Fault>>;

impl Fault {
    pub(crate) fn new(kind: FaultKind, lane: usize, message: String) -> Box<Fault> {
        Box::new(Fault { kind, lane, address: None, allocation: None, message, at: None })
    }

    pub(crate) fn address(mut self: Box<Self>, address: u64) -> Box<Self> {
        self.address = Some(address);
        self
    }

    pub(crate) fn allocation(mut self: Box<Self>, allocation: Option<AllocationInfo>) -> Box<Self> {
        self.allocation = allocation;
        self
    }

    pub(crate) fn at(mut self: Box<Self>, instruction: u32) -> Box<Self> {
        self.at = Some(instruction);
        self
    }
}

/// Where a fault happened.
pub(crate) struct Place<'a> {
    pub(crate) kernel: &'a str,
    pub(crate) code: &'a Code,
    pub(crate) block: [u32; 3],
    pub(crate) block_size: [u32; 3],
    pub(crate) warp: u32,
    /// The instruction that ran.
    pub(crate) at: u32,
}

impl Place<'_> {
    pub(crate) fn report(&self, fault: Fault) -> Report {
        let instruction: Option<&Instr> = self.code.instructions.get(fault.at.unwrap_or(self.at) as usize);
        let line = instruction.map_or(0, |instruction| instruction.line);
        Report {
            kind: fault.kind,
            kernel: self.kernel.to_string(),
            line,
            text: self.code.texts.get(&line).cloned().unwrap_or_default(),
            block: self.block,
            thread: coordinates(self.warp * 32 + fault.lane as u32, self.block_size),
            address: fault.address,
            allocation: fault.allocation,
            message: fault.message,
        }
    }
}
