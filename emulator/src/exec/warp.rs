//! A warp: its registers, and where each of its lanes stands.
use super::async_copy::AsyncCopies;
use super::regs::{LANES, Regs, lanes};
use super::resolve::Code;
use super::special::ThreadShape;
use crate::memory::LocalMemory;

/// Where lanes wait that cannot go on alone.
pub(crate) const FAR: u32 = u32::MAX;

/// 32 lanes. The lanes of `active` stand at `pc` and run together; the others stand at their own `pcs`.
pub(crate) struct Warp {
    pub(crate) index: u32,
    pub(crate) regs: Regs,
    pub(crate) local: LocalMemory,
    pub(crate) copies: AsyncCopies,
    /// Lanes that have a thread.
    pub(crate) exists: u32,
    /// Lanes that have not exited.
    pub(crate) live: u32,
    /// Lanes that wait for others in front of a warp operation or a barrier.
    pub(crate) waiting: u32,
    pub(crate) active: u32,
    pub(crate) pc: u32,
    /// The lowest place where lanes that could run stand aside: reaching it, groups are formed anew.
    pub(crate) rejoin: u32,
    pub(crate) pcs: [u32; LANES],
    /// Whether the whole warp waits at a barrier.
    pub(crate) parked: bool,
    /// Slices run since the warp diverged.
    pub(crate) apart: u32,
}

impl Warp {
    pub(crate) fn new(code: &Code, index: u32) -> Self {
        let regs = Regs {
            narrow: vec![[0; LANES]; code.narrow as usize],
            wide: vec![[0; LANES]; code.wide as usize],
            preds: vec![0; code.preds as usize],
        };
        Warp {
            index,
            regs,
            local: LocalMemory::new(code.local_bytes),
            copies: AsyncCopies::default(),
            exists: 0,
            live: 0,
            waiting: 0,
            active: 0,
            pc: 0,
            rejoin: FAR,
            pcs: [0; LANES],
            parked: false,
            apart: 0,
        }
    }

    /// Puts the warp at the kernel's entry.
    pub(crate) fn start(&mut self, code: &Code, shape: &ThreadShape) {
        for (slot, value) in &code.narrow_constants {
            self.regs.narrow[*slot as usize] = [*value; LANES];
        }
        for (slot, value) in &code.wide_constants {
            self.regs.wide[*slot as usize] = [*value; LANES];
        }
        for (slot, value) in &code.pred_constants {
            self.regs.preds[*slot as usize] = if *value { u32::MAX } else { 0 };
        }
        for (special, slot) in &code.specials {
            let values = special.values(shape);
            match special.class() {
                super::regs::Class::Wide => self.regs.wide[*slot as usize] = values.map(u64::from),
                _ => self.regs.narrow[*slot as usize] = values,
            }
        }
        self.local.reset();
        self.copies = AsyncCopies::default();
        let threads: u32 = shape.block.iter().product();
        let rest = threads.saturating_sub(shape.warp * 32);
        self.exists = if rest >= 32 { u32::MAX } else { (1 << rest) - 1 };
        self.live = self.exists;
        self.active = self.exists;
        self.waiting = 0;
        self.pc = code.entry;
        self.rejoin = FAR;
        self.parked = false;
        self.apart = 0;
    }

    /// Writes the places of the active lanes down, before they part.
    pub(crate) fn spread(&mut self) {
        for lane in lanes(self.active) {
            self.pcs[lane] = self.pc;
        }
    }

    /// Moves some lanes to a place; `spread` came before.
    pub(crate) fn send(&mut self, mask: u32, pc: u32) {
        for lane in lanes(mask) {
            self.pcs[lane] = pc;
        }
    }

    /// Forms the group that runs next: of the lanes that can run, those furthest behind. Code is laid out so that
    /// the others stand at or before the place where paths join again. No lane may be left: then `active` is 0.
    pub(crate) fn regroup(&mut self) {
        let runnable = self.live & !self.waiting;
        let lowest = lanes(runnable).map(|lane| self.pcs[lane]).min().unwrap_or(FAR);
        self.join(runnable, lowest);
    }

    /// Runs the group of one lane, so that lanes which spin cannot starve it.
    pub(crate) fn favour(&mut self, choice: u32) {
        let runnable = self.live & !self.waiting;
        let count = runnable.count_ones().max(1);
        if let Some(lane) = lanes(runnable).nth((choice % count) as usize) {
            self.join(runnable, self.pcs[lane]);
            // Others may stand lower: they are picked up again at the end of this slice.
            self.rejoin = lanes(runnable & !self.active)
                .map(|l| self.pcs[l])
                .filter(|pc| *pc > self.pc)
                .min()
                .unwrap_or(FAR);
        }
    }

    fn join(&mut self, runnable: u32, pc: u32) {
        self.active = 0;
        self.rejoin = FAR;
        self.pc = pc;
        for lane in lanes(runnable) {
            if self.pcs[lane] == pc {
                self.active |= 1 << lane;
            } else {
                self.rejoin = self.rejoin.min(self.pcs[lane]);
            }
        }
    }

    /// Whether all lanes that can run stand together.
    pub(crate) fn together(&self) -> bool {
        self.active == self.live
    }
}
