//! `atom` and `red`.
use super::access::{Addresses, addresses, windows};
use super::fault::Outcome;
use super::machine::Machine;
use super::op::{Atomic, AtomicKind, AtomicType, Space, window};
use super::race::Use;
use super::regs::{LANES, Regs, lanes, put};
use super::scalar::half::{Half, HalfMode, add, packed};
use super::scalar::{FloatMode, float32};
use super::warp::Warp;
use crate::memory::race::Kind;

impl Machine<'_> {
    /// Executes a read-modify-write for the lanes of `mask`, one after the other.
    pub(crate) fn atomic(&mut self, w: &mut Warp, a: &Atomic, mask: u32) -> Outcome<()> {
        let at = addresses(&w.regs, &a.address);
        let [shared, local, param, global] = match a.space {
            Space::Generic => windows(&at, mask),
            Space::Shared => [mask, 0, 0, 0],
            _ => [0, 0, 0, mask],
        };
        let mut old = [0; LANES];
        if global != 0 {
            self.atomic_global(w, a, global, &at, &mut old)?;
        }
        if shared != 0 {
            let base = if a.space == Space::Generic { window::SHARED } else { 0 };
            let at = at.map(|at| at.wrapping_sub(base));
            self.atomic_shared(w, a, shared, &at, &mut old)?;
        }
        if local | param != 0 {
            let lane = (local | param).trailing_zeros() as usize;
            let message = "atomics work on global and shared memory only".to_string();
            let fault = super::fault::Fault::new(super::FaultKind::InvalidAddressSpace, lane, message);
            return Err(fault.address(at[lane]));
        }
        if let Some(dst) = a.dst {
            if a.ty.bytes() == 8 {
                put(&mut w.regs.wide[dst as usize], old, mask);
            } else {
                put(&mut w.regs.narrow[dst as usize], old.map(|old| old as u32), mask);
            }
        }
        Ok(())
    }

    fn atomic_shared(
        &mut self,
        w: &Warp,
        a: &Atomic,
        mask: u32,
        at: &Addresses,
        old: &mut [u64; LANES],
    ) -> Outcome<()> {
        let len = a.ty.bytes();
        let good =
            mask & self.in_window(Space::Shared, mask, at, u64::from(self.shared.bytes()), u64::from(len))?;
        // An atomic reads too, but for races it counts as a write.
        let reads = Use { kind: Kind::Read, ..Use::write(u64::from(len), a.strength) };
        self.check_shared(w, reads, good, at, |_| true)?;
        self.check_shared(w, Use::write(u64::from(len), a.strength), good, at, |_| true)?;
        self.order_shared(w, a.strength, good, at, [true, true]);
        for lane in lanes(good) {
            let at = at[lane] as u32;
            let low = u64::from(self.shared.load(at, len.min(4)));
            old[lane] = if len == 8 { low | u64::from(self.shared.load(at + 4, 4)) << 32 } else { low };
            let (b, c) = operands(&w.regs, a, lane);
            let new = apply(a.kind, a.ty, old[lane], b, c);
            self.shared.store(at, len.min(4), new as u32);
            if len == 8 {
                self.shared.store(at + 4, 4, (new >> 32) as u32);
            }
        }
        Ok(())
    }

    fn atomic_global(
        &mut self,
        w: &Warp,
        a: &Atomic,
        mask: u32,
        at: &Addresses,
        old: &mut [u64; LANES],
    ) -> Outcome<()> {
        let len = a.ty.bytes();
        let mut rest = mask;
        while rest != 0 {
            let (allocation, part) = self.allocation(rest, at, u64::from(len))?;
            rest &= !part;
            let Some(allocation) = allocation else { continue };
            let offsets = at.map(|at| at.wrapping_sub(allocation.base));
            if self.checks().init {
                self.check_global_written(allocation, part, &offsets, u64::from(len))?;
            }
            if self.checks().race {
                let used = Use::write(u64::from(len), a.strength);
                self.race_global(w, used, part, allocation, &offsets, |_| true)?;
            }
            self.order_global(w, a.strength, part, at, [true, true]);
            for lane in lanes(part) {
                let (b, c) = operands(&w.regs, a, lane);
                old[lane] = allocation.update(offsets[lane], len, |old| apply(a.kind, a.ty, old, b, c));
            }
        }
        Ok(())
    }
}

/// The operands of one lane.
fn operands(regs: &Regs, a: &Atomic, lane: usize) -> (u64, u64) {
    let has_c = a.kind == AtomicKind::CompareAndSwap;
    if a.ty.bytes() == 8 {
        let c = if has_c { regs.wide[a.c as usize][lane] } else { 0 };
        (regs.wide[a.b as usize][lane], c)
    } else {
        let c = if has_c { regs.narrow[a.c as usize][lane] } else { 0 };
        (u64::from(regs.narrow[a.b as usize][lane]), u64::from(c))
    }
}

/// The new value.
fn apply(kind: AtomicKind, ty: AtomicType, old: u64, b: u64, c: u64) -> u64 {
    // Narrow values compare by their own bits only.
    let width = u64::MAX >> (64 - 8 * ty.bytes());
    let (b, c) = (b & width, c & width);
    match kind {
        AtomicKind::Add => sum(ty, old, b),
        AtomicKind::Exchange => b,
        AtomicKind::CompareAndSwap => {
            if old == b {
                c
            } else {
                old
            }
        }
        AtomicKind::And => old & b,
        AtomicKind::Or => old | b,
        AtomicKind::Xor => old ^ b,
        AtomicKind::Increment => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        AtomicKind::Decrement => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        AtomicKind::Min | AtomicKind::Max => {
            let less = match ty {
                AtomicType::S32 => (old as i32) < b as i32,
                AtomicType::S64 => (old as i64) < b as i64,
                _ => old < b,
            };
            if less == (kind == AtomicKind::Min) { old } else { b }
        }
    }
}

fn sum(ty: AtomicType, old: u64, b: u64) -> u64 {
    let half = |kind| u64::from(add(kind, old as u16, b as u16, HalfMode::default()));
    let pair =
        |kind| u64::from(packed([old as u32, b as u32], |[x, y]| add(kind, x, y, HalfMode::default())));
    match ty {
        AtomicType::F32 => {
            let sum = float32::add(f32::from_bits(old as u32), f32::from_bits(b as u32), FloatMode::NEAREST);
            u64::from(sum.to_bits())
        }
        AtomicType::F64 => (f64::from_bits(old) + f64::from_bits(b)).to_bits(),
        AtomicType::F16 => half(Half::F16),
        AtomicType::Bf16 => half(Half::Bf16),
        AtomicType::F16x2 => pair(Half::F16),
        AtomicType::Bf16x2 => pair(Half::Bf16),
        AtomicType::U64 | AtomicType::S64 => old.wrapping_add(b),
        _ => u64::from((old as u32).wrapping_add(b as u32)),
    }
}
