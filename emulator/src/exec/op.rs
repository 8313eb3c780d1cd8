//! The resolved program: a flat list of instructions whose operands are register slots.
use super::forms::{Operands, Run};
use super::regs::Class;

/// Where the windows of the other spaces lie among generic addresses.
pub(crate) mod window {
    pub(crate) const SHARED: u64 = 0x7f00_0000_0000;
    pub(crate) const LOCAL: u64 = 0x7e00_0000_0000;
    pub(crate) const PARAM: u64 = 0x7d00_0000_0000;
    /// Bytes of each window.
    pub(crate) const BYTES: u64 = 1 << 32;
}

/// One instruction.
pub(crate) struct Instr {
    pub(crate) op: Op,
    pub(crate) guard: Guard,
    /// Line of the text, from 1.
    pub(crate) line: u32,
    /// Index of the opcode form in the program's list of names.
    pub(crate) name: u32,
}

/// The predicate before an instruction.
#[derive(Clone, Copy)]
pub(crate) enum Guard {
    Always,
    If(u32),
    Unless(u32),
}

/// The state space an access names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Param,
}

/// How an access takes part in the order of threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Strength {
    /// An ordinary access: it may race.
    Weak,
    /// Volatile and relaxed accesses: they race with weak ones only.
    Relaxed,
    Acquire,
    Release,
    AcquireRelease,
}

/// A register that holds an address, and what is added to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub(crate) class: Class,
    pub(crate) slot: u32,
    pub(crate) offset: i64,
}

/// A load or store of one to four elements per lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) space: Space,
    pub(crate) address: Address,
    /// Bytes of one element.
    pub(crate) bytes: u8,
    /// Elements.
    pub(crate) count: u8,
    /// Whether loaded elements are extended by their sign.
    pub(crate) signed: bool,
    pub(crate) strength: Strength,
    /// The file of the data registers.
    pub(crate) class: Class,
    /// The data registers.
    pub(crate) data: [u32; 4],
}

/// A read-modify-write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Atomic {
    pub(crate) space: Space,
    pub(crate) address: Address,
    pub(crate) kind: AtomicKind,
    pub(crate) ty: AtomicType,
    pub(crate) strength: Strength,
    /// Nothing for `red`.
    pub(crate) dst: Option<u32>,
    pub(crate) b: u32,
    pub(crate) c: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AtomicKind {
    Add,
    Min,
    Max,
    Exchange,
    CompareAndSwap,
    And,
    Or,
    Xor,
    Increment,
    Decrement,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AtomicType {
    B16,
    U32,
    S32,
    U64,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
}

impl AtomicType {
    pub(crate) fn bytes(self) -> u32 {
        match self {
            AtomicType::B16 | AtomicType::F16 | AtomicType::Bf16 => 2,
            AtomicType::U64 | AtomicType::S64 | AtomicType::F64 => 8,
            _ => 4,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BarrierKind {
    Sync,
    Arrive,
    /// `bar.red`: joins a predicate over all threads.
    Popc,
    And,
    Or,
}

/// `bar`, `barrier`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    pub(crate) kind: BarrierKind,
    /// Whether all threads of a warp must meet in the same instruction.
    pub(crate) aligned: bool,
    pub(crate) id: u32,
    /// Slot of the thread count; nothing for all threads of the block.
    pub(crate) count: Option<u32>,
    pub(crate) dst: u32,
    pub(crate) predicate: u32,
    pub(crate) negated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ShuffleMode {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VoteMode {
    All,
    Any,
    Uniform,
    Ballot,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReduxKind {
    AddU,
    MinU,
    MaxU,
    MinS,
    MaxS,
    And,
    Or,
    Xor,
}

/// Operations of a warp that wait for the lanes of a mask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WarpOp {
    pub(crate) kind: WarpKind,
    /// Slot of the member mask.
    pub(crate) members: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum WarpKind {
    /// `bar.warp.sync`.
    Sync,
    Shuffle {
        mode: ShuffleMode,
        dst: u32,
        found: u32,
        a: u32,
        b: u32,
        c: u32,
    },
    Vote {
        mode: VoteMode,
        dst: u32,
        predicate: u32,
        negated: bool,
    },
    Match {
        all: bool,
        class: Class,
        dst: u32,
        found: u32,
        a: u32,
    },
    Redux {
        kind: ReduxKind,
        dst: u32,
        a: u32,
    },
    Elect {
        leader: u32,
        elected: u32,
    },
    LoadMatrix {
        number: u8,
        transposed: bool,
        space: Space,
        address: Address,
        data: [u32; 4],
    },
    StoreMatrix {
        number: u8,
        transposed: bool,
        space: Space,
        address: Address,
        data: [u32; 4],
    },
    Multiply(Multiply),
}

/// The operand types of `mma.sync`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MultiplyType {
    F16,
    Bf16,
    Tf32,
}

/// `mma.sync` of shape m16n8k: registers start at the slots listed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Multiply {
    pub(crate) ty: MultiplyType,
    pub(crate) k: u8,
    /// Whether C and D are f16, two to a register.
    pub(crate) half_sum: bool,
    pub(crate) a: [u32; 4],
    pub(crate) b: [u32; 2],
    pub(crate) c: [u32; 4],
    pub(crate) d: [u32; 4],
}

/// `cp.async`: global to shared without registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyAsync {
    pub(crate) dst: Address,
    pub(crate) src: Address,
    pub(crate) bytes: u8,
    /// Slot of the bytes to read; the rest is zero filled.
    pub(crate) src_bytes: Option<u32>,
    /// A predicate: if true nothing is read and all is zero filled.
    pub(crate) ignore: Option<(u32, bool)>,
}

/// Clocks that change while a kernel runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Clock {
    Low,
    High,
    Wide,
    Timer,
    TimerLow,
    TimerHigh,
}

/// What an instruction does.
pub(crate) enum Op {
    Arithmetic(Run, Operands),
    Load(Access),
    Store(Access),
    Atomic(Box<Atomic>),
    Branch(u32),
    BranchTable {
        index: u32,
        targets: Box<[u32]>,
    },
    /// Jumps to a function and keeps the return address in a narrow register.
    Call {
        target: u32,
        link: u32,
    },
    /// Jumps to the address kept at the call.
    Return(u32),
    Exit,
    Barrier(Box<Barrier>),
    Warp(Box<WarpOp>),
    ActiveMask(u32),
    /// A fence; `true` reaches other blocks.
    Fence(bool),
    CopyAsync(Box<CopyAsync>),
    CommitGroup,
    /// Waits until at most that many groups are pending.
    WaitGroup(u32),
    /// Copies bytes within local memory: arguments of calls.
    CopyLocal {
        dst: u32,
        src: u32,
        bytes: u32,
    },
    ReadClock {
        clock: Clock,
        dst: u32,
    },
    Trap,
    /// Hints and fences that change nothing here.
    Nothing,
}
