//! Operations in which the lanes of a mask take part together: they wait for one another.
use super::FaultKind;
use super::fault::{Fault, Outcome};
use super::machine::Machine;
use super::op::{Op, WarpKind, WarpOp};
use super::regs::lanes;
use super::shuffle;
use super::warp::Warp;

impl Machine<'_> {
    /// Executes the operation for those lanes whose masks are complete; the others wait.
    pub(crate) fn warp_operation(&mut self, w: &mut Warp, op: &WarpOp, mask: u32) -> Outcome<()> {
        let members = w.regs.narrow[op.members as usize];
        let first = members[mask.trailing_zeros() as usize & 31];
        let alone = w.waiting == 0 && mask == w.active;
        if alone && first & w.live & !mask == 0 && lanes(mask).all(|lane| members[lane] == first) {
            self.execute(w, &op.kind, mask, first)?;
            w.pc += 1;
            return Ok(());
        }
        let at = w.pc;
        w.spread();
        w.send(w.active & !mask, at + 1);
        w.waiting |= mask;
        self.release(w, op, at, false)?;
        w.regroup();
        Ok(())
    }

    /// No lane can run: executes what only waited for lanes that have exited. What waits for others never ends.
    pub(crate) fn warp_operations_when_stuck(&mut self, w: &mut Warp) -> Outcome<()> {
        let before = w.waiting;
        let forced = !self.checks().barrier;
        for lane in lanes(before) {
            let at = w.pcs[lane];
            if w.waiting >> lane & 1 != 0
                && let Op::Warp(op) = &self.launch.code.instructions[at as usize].op
            {
                self.release(w, op, at, forced)?;
            }
        }
        if w.waiting == before {
            return Err(self.missing(w));
        }
        w.regroup();
        Ok(())
    }

    /// Executes the operation at `at` for the lanes there whose masks are complete, and lets them go on. `forced` takes
    /// masks as complete that are not.
    fn release(&mut self, w: &mut Warp, op: &WarpOp, at: u32, forced: bool) -> Outcome<()> {
        let mut rest =
            lanes(w.waiting).filter(|lane| w.pcs[*lane] == at).fold(0u32, |mask, lane| mask | 1 << lane);
        while rest != 0 {
            let members = &w.regs.narrow[op.members as usize];
            let wanted = members[rest.trailing_zeros() as usize & 31];
            let same =
                lanes(rest).filter(|lane| members[*lane] == wanted).fold(0u32, |mask, lane| mask | 1 << lane);
            rest &= !same;
            if forced || wanted & w.live & !same == 0 {
                self.execute(w, &op.kind, same, wanted)?;
                w.waiting &= !same;
                w.send(same, at + 1);
            }
        }
        Ok(())
    }

    /// Which lanes an operation waits for in vain.
    fn missing(&self, w: &Warp) -> Box<Fault> {
        let instructions = &self.launch.code.instructions;
        let waits = lanes(w.waiting).find_map(|lane| match &instructions[w.pcs[lane] as usize].op {
            Op::Warp(op) => Some((lane, w.regs.narrow[op.members as usize][lane])),
            _ => None,
        });
        let (lane, members) = waits.unwrap_or((0, 0));
        let at = w.pcs[lane];
        let here = lanes(w.waiting).filter(|l| w.pcs[*l] == at).fold(0u32, |mask, l| mask | 1 << l);
        let missing = members & w.live & !here;
        let other = w.pcs[missing.trailing_zeros() as usize & 31];
        let line = instructions.get(other as usize).map_or(0, |i| i.line);
        let message = format!(
            "the mask {members:#010x} names lanes {missing:#010x} that do not execute this: they wait at line {line}; \
             name only lanes that come here"
        );
        Fault::new(FaultKind::ShuffleMask, lane, message).at(at)
    }

    /// Executes an operation for the lanes of `mask`, all of which gave `members`.
    fn execute(&mut self, w: &mut Warp, kind: &WarpKind, mask: u32, members: u32) -> Outcome<()> {
        let outsiders = mask & !members;
        if outsiders != 0 && self.checks().barrier {
            let lane = outsiders.trailing_zeros() as usize;
            let message = format!("lane {lane} executes this but the mask {members:#010x} does not name it");
            return Err(Fault::new(FaultKind::ShuffleMask, lane, message).at(if w.active == mask {
                w.pc
            } else {
                w.pcs[lane]
            }));
        }
        match kind {
            WarpKind::Sync => {
                if self.checks().race {
                    self.clock.sync_lanes(w.index, mask, mask == w.live);
                }
            }
            WarpKind::Shuffle { mode, dst, found, a, b, c } => {
                let unread = shuffle::shuffle(&mut w.regs, *mode, [*dst, *found, *a, *b, *c], mask);
                if unread != 0 && self.checks().barrier {
                    let lane = unread.trailing_zeros() as usize;
                    let message = format!(
                        "lane {lane} reads the value of a lane that does not take part (lanes {mask:#010x} do); \
                         the value is undefined"
                    );
                    let at = if w.active == mask { w.pc } else { w.pcs[lane] };
                    return Err(Fault::new(FaultKind::ShuffleMask, lane, message).at(at));
                }
            }
            WarpKind::Vote { mode, dst, predicate, negated } => {
                shuffle::vote(&mut w.regs, *mode, *dst, (*predicate, *negated), mask);
            }
            WarpKind::Match { all, class, dst, found, a } => {
                shuffle::matching(&mut w.regs, *all, *class, [*dst, *found, *a], mask);
            }
            WarpKind::Redux { kind, dst, a } => shuffle::redux(&mut w.regs, *kind, *dst, *a, mask),
            WarpKind::Elect { leader, elected } => shuffle::elect(&mut w.regs, *leader, *elected, mask),
            WarpKind::LoadMatrix { .. } | WarpKind::StoreMatrix { .. } | WarpKind::Multiply(_) => {
                if mask != u32::MAX {
                    let message = format!("all 32 lanes must execute this, only {mask:#010x} do");
                    return Err(Fault::new(
                        FaultKind::ShuffleMask,
                        mask.trailing_zeros() as usize & 31,
                        message,
                    ));
                }
                self.matrix(w, kind)?;
            }
        }
        Ok(())
    }
}
