//! What a launch reports when a kernel goes wrong.
use crate::memory::AllocationInfo;
use std::fmt;

/// The kinds of defect. Each has a short stable name, see [`FaultKind::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// An access outside every allocation or window.
    OutOfBounds,
    /// An address that is not a multiple of the access size.
    Misaligned,
    /// A read of bytes nobody wrote.
    Uninitialised,
    /// An access to memory that was freed.
    UseAfterFree,
    /// Two accesses, at least one a write, that nothing orders.
    Race,
    /// Several lanes write one value to one place by one instruction.
    RedundantStore,
    /// A read of the destination of an asynchronous copy before a wait that covers it.
    AsyncNotWaited,
    /// A barrier that some threads of a warp or block do not reach.
    DivergentBarrier,
    /// A shuffle, vote or other warp operation whose mask names lanes that do not take part.
    ShuffleMask,
    /// No thread of a block can go on.
    Deadlock,
    /// The launch ran more instructions than allowed.
    InstructionLimit,
    /// An address of one state space used in another.
    InvalidAddressSpace,
    /// The kernel executed `trap`.
    Trap,
    /// An instruction with operand values that it does not allow.
    InvalidOperand,
    /// The launch itself is not possible: block size, shared memory, parameters.
    InvalidLaunch,
}

impl FaultKind {
    /// The short stable name of the kind, such as `OutOfBounds`.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::OutOfBounds => "OutOfBounds",
            FaultKind::Misaligned => "Misaligned",
            FaultKind::Uninitialised => "Uninitialised",
            FaultKind::UseAfterFree => "UseAfterFree",
            FaultKind::Race => "Race",
            FaultKind::RedundantStore => "RedundantStore",
            FaultKind::AsyncNotWaited => "AsyncNotWaited",
            FaultKind::DivergentBarrier => "DivergentBarrier",
            FaultKind::ShuffleMask => "ShuffleMask",
            FaultKind::Deadlock => "Deadlock",
            FaultKind::InstructionLimit => "InstructionLimit",
            FaultKind::InvalidAddressSpace => "InvalidAddressSpace",
            FaultKind::Trap => "Trap",
            FaultKind::InvalidOperand => "InvalidOperand",
            FaultKind::InvalidLaunch => "InvalidLaunch",
        }
    }
}

/// A defect found while a kernel ran: what, where and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// What went wrong.
    pub kind: FaultKind,
    /// The kernel's name.
    pub kernel: String,
    /// The line of the PTX text, counted from 1; 0 if no instruction is to blame.
    pub line: u32,
    /// That line.
    pub text: String,
    /// The block, by its coordinates in the grid.
    pub block: [u32; 3],
    /// The thread, by its coordinates in the block.
    pub thread: [u32; 3],
    /// The address accessed.
    pub address: Option<u64>,
    /// The allocation meant, or the one nearest to the address.
    pub allocation: Option<AllocationInfo>,
    /// What happened and what was expected.
    pub message: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { kernel, line, text, block: b, thread: t, .. } = self;
        write!(f, "{}: {}", self.kind.name(), self.message)?;
        write!(
            f,
            "\n  in kernel {kernel}, block ({}, {}, {}), thread ({}, {}, {})",
            b[0], b[1], b[2], t[0], t[1], t[2]
        )?;
        if *line > 0 {
            write!(f, "\n  at PTX line {line}: {}", text.trim())?;
        }
        if let Some(AllocationInfo { base, bytes, name }) = &self.allocation {
            write!(f, "\n  allocation of {bytes} bytes at {base:#x}")?;
            if let Some(name) = name {
                write!(f, " (variable {name})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Report {}
