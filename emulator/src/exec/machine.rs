//! The state of the block that runs, apart from its warps, and the loop that runs one warp.
use super::barrier::Barriers;
use super::fault::{Fault, Outcome};
use super::forms;
use super::op::{Clock, Guard, Op};
use super::program::LaunchConfig;
use super::regs::{lanes, put};
use super::resolve::Code;
use super::warp::{FAR, Warp};
use super::{FaultKind, Settings};
use crate::memory::race::{BlockClock, Shadow, SyncTable};
use crate::memory::{Allocation, SharedMemory, View};

/// What all blocks of a launch share.
pub(crate) struct Launch<'a> {
    pub(crate) kernel: &'a str,
    pub(crate) code: &'a Code,
    pub(crate) params: &'a [u8],
    pub(crate) view: &'a View,
    pub(crate) settings: &'a Settings,
    pub(crate) config: &'a LaunchConfig,
    /// Tells this launch from others on the same memory.
    pub(crate) number: u64,
    pub(crate) blocks: u32,
    /// What blocks tell each other by fences and strong accesses.
    pub(crate) order: SyncTable,
}

/// Why a warp stopped running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pause {
    /// Its slice is over.
    Slice,
    /// It arrived at a barrier and has to wait, or completed one: others may go on.
    Barrier,
    /// All its lanes have exited.
    Done,
}

/// One block: everything but its warps.
pub(crate) struct Machine<'a> {
    pub(crate) launch: &'a Launch<'a>,
    pub(crate) shared: SharedMemory,
    pub(crate) barriers: Barriers,
    /// How often each instruction ran.
    pub(crate) counts: Vec<u64>,
    /// Warp instructions of this block.
    pub(crate) steps: u64,
    /// The allocation that the last access went to.
    pub(crate) recent: Option<&'a Allocation>,
    /// The block's index in the grid.
    pub(crate) index: u32,
    pub(crate) clock: BlockClock,
    pub(crate) shadow: Shadow<true>,
    /// What warps tell each other through shared memory.
    pub(crate) order: SyncTable,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(launch: &'a Launch<'a>) -> Self {
        let bytes = launch.code.shared.dynamic_at.saturating_add(launch.config.dynamic_shared);
        let bytes = if launch.config.dynamic_shared == 0 { launch.code.shared.static_bytes } else { bytes };
        Machine {
            launch,
            shared: SharedMemory::new(bytes),
            barriers: Barriers::default(),
            counts: vec![0; launch.code.instructions.len()],
            steps: 0,
            recent: None,
            index: 0,
            clock: BlockClock::default(),
            shadow: Shadow::new(if launch.settings.checks.race { bytes.div_ceil(4) as usize } else { 0 }),
            order: SyncTable::default(),
        }
    }

    /// Makes it ready for another block.
    pub(crate) fn reset(&mut self, index: u32, warps: usize) {
        self.index = index;
        self.clock.start(warps);
        self.shadow.forget_asides();
        self.order.clear();
        self.shared.reset();
        self.barriers = Barriers::default();
        self.steps = 0;
    }

    /// Runs a warp for at most `budget` instructions.
    pub(crate) fn run(&mut self, w: &mut Warp, budget: u32) -> Outcome<Pause> {
        #[cfg(target_arch = "x86_64")]
        if forms::has_vectors() {
            // SAFETY: this CPU has the features that the function is built for.
            return unsafe { self.run_with_vectors(w, budget) };
        }
        self.run_loop(w, budget)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
    fn run_with_vectors(&mut self, w: &mut Warp, budget: u32) -> Outcome<Pause> {
        self.run_loop(w, budget)
    }

    #[inline(always)]
    fn run_loop(&mut self, w: &mut Warp, budget: u32) -> Outcome<Pause> {
        let code = self.launch.code;
        for done in 0..budget {
            if w.pc >= w.rejoin || w.active == 0 {
                if w.active != 0 {
                    w.spread();
                }
                w.regroup();
                if w.active == 0 {
                    self.steps += u64::from(done);
                    if let Some(pause) = self.stuck(w)? {
                        return Ok(pause);
                    }
                    continue;
                }
            }
            let at = w.pc as usize;
            let instruction = &code.instructions[at];
            self.counts[at] += 1;
            let mask = match instruction.guard {
                Guard::Always => w.active,
                Guard::If(slot) => w.active & w.regs.preds[slot as usize],
                Guard::Unless(slot) => w.active & !w.regs.preds[slot as usize],
            };
            match &instruction.op {
                Op::Arithmetic(run, operands) => {
                    if mask != 0 {
                        // SAFETY: the form gave the variant for the features that this CPU was found to have.
                        unsafe { run(&mut w.regs, operands, mask) };
                    }
                    w.pc += 1;
                }
                Op::Branch(target) => branch(w, mask, *target),
                _ if mask == 0 => w.pc += 1,
                Op::Load(access) => {
                    self.load(w, access, mask)?;
                    w.pc += 1;
                }
                Op::Store(access) => {
                    self.store(w, access, mask)?;
                    w.pc += 1;
                }
                op => {
                    if let Some(pause) = self.rare(w, op, mask)? {
                        self.steps += u64::from(done) + 1;
                        return Ok(pause);
                    }
                }
            }
        }
        self.steps += u64::from(budget);
        Ok(Pause::Slice)
    }

    /// Instructions other than arithmetic, branches, loads and stores.
    #[inline(never)]
    fn rare(&mut self, w: &mut Warp, op: &Op, mask: u32) -> Outcome<Option<Pause>> {
        let first = mask.trailing_zeros() as usize;
        match op {
            Op::Atomic(atomic) => self.atomic(w, atomic, mask)?,
            Op::BranchTable { index, targets } => {
                return branch_table(w, mask, *index, targets).map(|()| None);
            }
            Op::Call { target, link } => {
                put(&mut w.regs.narrow[*link as usize], [w.pc + 1; 32], mask);
                branch(w, mask, *target);
                return Ok(None);
            }
            Op::Return(link) => {
                w.spread();
                w.send(w.active & !mask, w.pc + 1);
                for lane in lanes(mask) {
                    w.pcs[lane] = w.regs.narrow[*link as usize][lane];
                }
                w.regroup();
                return Ok(None);
            }
            Op::Exit => {
                w.live &= !mask;
                w.spread();
                w.send(w.active & !mask, w.pc + 1);
                w.active = 0;
                return Ok(None);
            }
            Op::Barrier(barrier) => return self.barrier(w, barrier, mask),
            Op::Warp(operation) => return self.warp_operation(w, operation, mask).map(|()| None),
            Op::ActiveMask(dst) => put(&mut w.regs.narrow[*dst as usize], [mask; 32], mask),
            Op::Fence(wide) => {
                if self.checks().race {
                    self.clock.fence(w.index, self.index, *wide);
                }
            }
            Op::Nothing => {}
            Op::CopyAsync(copy) => self.copy_async(w, copy, mask)?,
            Op::CommitGroup => w.copies.commit(mask),
            Op::WaitGroup(most) => self.wait_group(w, *most, mask)?,
            Op::CopyLocal { dst, src, bytes } => {
                for lane in lanes(mask) {
                    w.local.copy(lane, *dst, *src, *bytes);
                }
            }
            Op::ReadClock { clock, dst } => self.read_clock(w, *clock, *dst, mask),
            Op::Trap => {
                return Err(Fault::new(
                    FaultKind::Trap,
                    first,
                    "the kernel executed a trap or a failed assertion".into(),
                ));
            }
            Op::Arithmetic(..) | Op::Branch(_) | Op::Load(_) | Op::Store(_) => {}
        }
        w.pc += 1;
        Ok(None)
    }

    /// Clocks count the instructions of the block: time means nothing here, but it must pass.
    fn read_clock(&self, w: &mut Warp, clock: Clock, dst: u32, mask: u32) {
        let now: u64 = self.counts.iter().sum();
        match clock {
            Clock::Wide | Clock::Timer => put(&mut w.regs.wide[dst as usize], [now; 32], mask),
            Clock::Low | Clock::TimerLow => put(&mut w.regs.narrow[dst as usize], [now as u32; 32], mask),
            Clock::High | Clock::TimerHigh => {
                put(&mut w.regs.narrow[dst as usize], [(now >> 32) as u32; 32], mask)
            }
        }
    }

    /// No lane of the warp can run alone: it has exited, or what its lanes wait for must be complete now.
    fn stuck(&mut self, w: &mut Warp) -> Outcome<Option<Pause>> {
        if w.live == 0 {
            return Ok(Some(Pause::Done));
        }
        let places = lanes(w.live & w.waiting).map(|lane| w.pcs[lane]);
        let first = places.min().unwrap_or(FAR);
        let Some(instruction) = self.launch.code.instructions.get(first as usize) else {
            return Ok(Some(Pause::Done));
        };
        match &instruction.op {
            Op::Barrier(barrier) => self.barrier_when_stuck(w, barrier, first),
            _ => self.warp_operations_when_stuck(w).map(|()| None),
        }
    }
}

/// Sends the lanes of `mask` to `target` and the other active ones on.
fn branch(w: &mut Warp, mask: u32, target: u32) {
    if mask == w.active {
        w.pc = target;
    } else if mask == 0 {
        w.pc += 1;
    } else {
        w.spread();
        w.send(mask, target);
        w.send(w.active & !mask, w.pc + 1);
        w.regroup();
    }
}

fn branch_table(w: &mut Warp, mask: u32, index: u32, targets: &[u32]) -> Outcome<()> {
    let indices = w.regs.narrow[index as usize];
    w.spread();
    w.send(w.active & !mask, w.pc + 1);
    for lane in lanes(mask) {
        let Some(target) = targets.get(indices[lane] as usize) else {
            let message = format!("index {} of a table of {} branch targets", indices[lane], targets.len());
            return Err(Fault::new(FaultKind::InvalidOperand, lane, message));
        };
        w.pcs[lane] = *target;
    }
    w.regroup();
    Ok(())
}
