//! Barriers of a block: `bar.sync`, `bar.arrive`, `bar.red`, named and counted.
use super::FaultKind;
use super::fault::{Fault, Outcome};
use super::machine::{Machine, Pause};
use super::op::{Barrier, BarrierKind, Op};
use super::regs::{lanes, put, put_pred};
use super::warp::Warp;

/// Barriers per block.
const COUNT: usize = 16;

/// All barriers of a block.
#[derive(Default)]
pub(crate) struct Barriers {
    list: [State; COUNT],
    /// Barriers that completed: their waiting warps can go on.
    completed: Vec<Completion>,
}

/// One barrier between two completions.
#[derive(Default, Clone)]
struct State {
    /// Threads that arrived, whole warps counted.
    arrived: u32,
    /// Threads expected, as the first arrival said; 0 for all threads of the block.
    expected: u32,
    /// Every warp that arrived, whether it waits or not, and its time then.
    warps: Vec<(u32, u32)>,
    /// Those that wait, and the instruction they wait in.
    waiting: Vec<(u32, u32)>,
    reduction: Reduction,
}

#[derive(Clone, Copy)]
struct Reduction {
    popc: u32,
    all: bool,
    any: bool,
}

impl Default for Reduction {
    fn default() -> Self {
        Reduction { popc: 0, all: true, any: false }
    }
}

/// A barrier that all expected threads reached.
pub(crate) struct Completion {
    waiting: Vec<(u32, u32)>,
    reduction: Reduction,
}

impl Barriers {
    /// Takes a completed barrier, if there is one.
    pub(crate) fn completed(&mut self) -> Option<Completion> {
        self.completed.pop()
    }

    /// The barriers at which warps wait: number, warps, instruction.
    pub(crate) fn stalled(&self) -> impl Iterator<Item = (usize, Vec<u32>, u32)> {
        let waiting = self.list.iter().enumerate().filter(|(_, state)| !state.waiting.is_empty());
        waiting.map(|(id, state)| {
            let warps = state.warps.iter().map(|(warp, _)| *warp).collect();
            (id, warps, state.waiting.first().map_or(0, |(_, at)| *at))
        })
    }
}

impl Completion {
    /// The warps that waited.
    pub(crate) fn woken(&self) -> impl Iterator<Item = u32> {
        self.waiting.iter().map(|(warp, _)| *warp)
    }

    /// Writes the result of a reduction to one of the warps that waited.
    pub(crate) fn finish(&self, w: &mut Warp, instructions: &[super::op::Instr]) {
        let at = self.waiting.iter().find(|(warp, _)| *warp == w.index).map(|(_, at)| *at as usize);
        let Some(Op::Barrier(barrier)) = at.and_then(|at| instructions.get(at)).map(|i| &i.op) else {
            return;
        };
        let bits = |value: bool| if value { u32::MAX } else { 0 };
        match barrier.kind {
            BarrierKind::Popc => {
                put(&mut w.regs.narrow[barrier.dst as usize], [self.reduction.popc; 32], w.live)
            }
            BarrierKind::And => {
                put_pred(&mut w.regs.preds[barrier.dst as usize], bits(self.reduction.all), w.live)
            }
            BarrierKind::Or => {
                put_pred(&mut w.regs.preds[barrier.dst as usize], bits(self.reduction.any), w.live)
            }
            BarrierKind::Sync | BarrierKind::Arrive => {}
        }
    }
}

impl Machine<'_> {
    /// Executes a barrier instruction for the lanes of `mask`. The warp arrives once all its lanes are there.
    pub(crate) fn barrier(&mut self, w: &mut Warp, b: &Barrier, mask: u32) -> Outcome<Option<Pause>> {
        if mask == w.live {
            let at = w.pc;
            w.pc += 1;
            return self.arrive(w, b, at);
        }
        // The others may still come: they run until they are here or can go no further.
        w.spread();
        w.send(w.active & !mask, w.pc + 1);
        w.waiting |= mask;
        w.regroup();
        Ok(None)
    }

    /// Decides about lanes that wait at a barrier when no lane of the warp can run.
    pub(crate) fn barrier_when_stuck(
        &mut self,
        w: &mut Warp,
        b: &Barrier,
        at: u32,
    ) -> Outcome<Option<Pause>> {
        let instructions = &self.launch.code.instructions;
        for lane in lanes(w.live) {
            let there = w.pcs[lane];
            let same = there == at
                || (!b.aligned
                    && matches!(&instructions[there as usize].op, Op::Barrier(other) if !other.aligned && other.id == b.id));
            if !same {
                let line = instructions[there as usize].line;
                let message = format!(
                    "some threads of warp {} wait at this barrier, others at line {line}; all threads of a warp must \
                     reach the same barrier",
                    w.index
                );
                return Err(Fault::new(FaultKind::DivergentBarrier, lane, message).at(at));
            }
        }
        w.waiting &= !w.live;
        for lane in lanes(w.live) {
            w.pcs[lane] += 1;
        }
        w.regroup();
        self.arrive(w, b, at)
    }

    /// A whole warp arrives.
    fn arrive(&mut self, w: &mut Warp, b: &Barrier, at: u32) -> Outcome<Option<Pause>> {
        let lane = w.live.trailing_zeros() as usize;
        if self.checks().barrier && w.live != w.exists {
            let gone = (w.exists & !w.live).trailing_zeros() as usize;
            let message = format!(
                "warp {} reaches this barrier without {} of its threads, which have exited; every thread must reach it",
                w.index,
                (w.exists & !w.live).count_ones()
            );
            return Err(Fault::new(FaultKind::DivergentBarrier, gone, message).at(at));
        }
        let id = self.uniform(w, b.id, "the barrier's number", at)?;
        if id as usize >= COUNT {
            let message = format!("barrier {id} does not exist; a block has {COUNT}");
            return Err(Fault::new(FaultKind::InvalidOperand, lane, message).at(at));
        }
        let expected = match b.count {
            Some(slot) => self.uniform(w, slot, "the barrier's thread count", at)?,
            None => 0,
        };
        if b.count.is_some() && (expected == 0 || !expected.is_multiple_of(32)) {
            let message = format!("a barrier of {expected} threads; the count must be a multiple of 32");
            return Err(Fault::new(FaultKind::InvalidOperand, lane, message).at(at));
        }
        let state = &mut self.barriers.list[id as usize];
        if state.warps.is_empty() {
            state.expected = expected;
        } else if state.expected != expected {
            let message = format!(
                "barrier {id} is used with {expected} threads here and with {} by another warp at the same time",
                state.expected
            );
            return Err(Fault::new(FaultKind::DivergentBarrier, lane, message).at(at));
        }
        if state.warps.iter().any(|(warp, _)| *warp == w.index) {
            let message = format!("warp {} arrives twice at barrier {id} before it completes", w.index);
            return Err(Fault::new(FaultKind::DivergentBarrier, lane, message).at(at));
        }
        state.arrived += 32;
        let time = if self.launch.settings.checks.race { self.clock.arrive(w.index) } else { 0 };
        state.warps.push((w.index, time));
        if b.kind != BarrierKind::Arrive {
            state.waiting.push((w.index, at));
            w.parked = true;
        }
        if !matches!(b.kind, BarrierKind::Sync | BarrierKind::Arrive) {
            let truth = w.regs.preds[b.predicate as usize] ^ if b.negated { u32::MAX } else { 0 };
            state.reduction.popc += (truth & w.live).count_ones();
            state.reduction.all &= !truth & w.live == 0;
            state.reduction.any |= truth & w.live != 0;
        }
        let threads: u32 = self.launch.config.block.iter().product();
        let needed = if expected == 0 { threads.next_multiple_of(32) } else { expected };
        if state.arrived >= needed {
            self.complete(id as usize);
        }
        Ok(Some(Pause::Barrier))
    }

    fn complete(&mut self, id: usize) {
        let state = std::mem::take(&mut self.barriers.list[id]);
        let State { warps, waiting, reduction, .. } = state;
        if self.checks().race {
            self.clock.complete(&warps, waiting.iter().map(|(warp, _)| *warp));
        }
        self.barriers.completed.push(Completion { waiting, reduction });
    }

    /// Completes the barriers that wait for no one but warps that have exited; false if there are none. Only where
    /// barriers are not checked.
    pub(crate) fn complete_without_exited(&mut self, live: u32) -> bool {
        let ready = self.barriers.list.iter().position(|state| {
            state.expected == 0 && !state.waiting.is_empty() && state.warps.len() as u32 >= live
        });
        match ready {
            Some(id) => {
                self.complete(id);
                true
            }
            None => false,
        }
    }

    /// A value that must be the same in all lanes.
    fn uniform(&self, w: &Warp, slot: u32, what: &str, at: u32) -> Outcome<u32> {
        let values = &w.regs.narrow[slot as usize];
        let first = values[w.live.trailing_zeros() as usize & 31];
        match lanes(w.live).find(|lane| values[*lane] != first) {
            None => Ok(first),
            Some(lane) => {
                let message = format!(
                    "{what} is {first} in one lane and {} in another of warp {}",
                    values[lane], w.index
                );
                Err(Fault::new(FaultKind::InvalidOperand, lane, message).at(at))
            }
        }
    }
}
