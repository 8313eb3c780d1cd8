//! Where accesses meet the race shadows.
use super::access::Addresses;
use super::fault::{Fault, Outcome};
use super::machine::Machine;
use super::op::Strength;
use super::regs::{LANES, lanes};
use super::special::coordinates;
use super::warp::Warp;
use super::{Checks, FaultKind};
use crate::memory::race::{Conflict, Kind, Me, OpenPage, Touch};
use crate::memory::{Allocation, Unready};

/// What some lanes do to memory in one instruction.
#[derive(Clone, Copy)]
pub(crate) struct Use {
    pub(crate) kind: Kind,
    pub(crate) strong: bool,
    /// Bytes per lane: 1, 2, 4, 8 or 16.
    pub(crate) len: u32,
}

impl Use {
    pub(crate) fn read(len: u64, strength: Strength) -> Use {
        Use { kind: Kind::Read, strong: strength != Strength::Weak, len: len as u32 }
    }

    pub(crate) fn write(len: u64, strength: Strength) -> Use {
        Use { kind: Kind::Write, strong: strength != Strength::Weak, len: len as u32 }
    }

    /// The words that some lanes touch from `at` on, and how.
    #[inline(always)]
    fn touch(self, lanes: u32, at: u64) -> (u32, Touch) {
        let Use { kind, strong, len } = self;
        let bytes = if len < 4 { (((1u32 << len) - 1) << (at & 3)) as u8 } else { 0xf };
        (len.div_ceil(4), Touch { kind, strong, lanes, bytes })
    }
}

/// What a check of memory finds.
enum Problem {
    Unready(Unready),
    /// Several lanes write different values to one place.
    Values,
    /// They write the same value there.
    Redundant,
    Race(Conflict),
}

/// What is wrong with the lanes of one instruction that use one place; `same` says whether they write one value.
/// (Atomics are strong, and meant to meet.)
#[inline(always)]
fn together(checks: Checks, used: Use, lanes: u32, same: impl Fn(u32) -> bool) -> Option<Problem> {
    let alone = lanes & lanes.wrapping_sub(1) == 0;
    match used.kind {
        Kind::Write if !alone && !same(lanes) => Some(Problem::Values),
        Kind::Write if !alone && checks.redundant && !used.strong => Some(Problem::Redundant),
        _ => None,
    }
}

impl Machine<'_> {
    /// Checks accesses to shared memory: whether what is read was written, and races. `same` says whether some lanes
    /// write the same value.
    #[inline(always)]
    pub(crate) fn check_shared(
        &mut self,
        w: &Warp,
        used: Use,
        mask: u32,
        at: &Addresses,
        same: impl Fn(u32) -> bool,
    ) -> Outcome<()> {
        let checks = self.launch.settings.checks;
        if mask == 0 || !(checks.init || checks.race) {
            return Ok(());
        }
        let me = Me::new(self.index, self.launch.blocks, w.index, &self.clock.warps[w.index as usize]);
        let (shadow, shared) = (&mut self.shadow, &self.shared);
        let found = groups(mask, at, |lanes, at| {
            if checks.init {
                let unready = match used.kind {
                    Kind::Read => shared.unready(at as u32, used.len),
                    Kind::Write => shared.pending(at as u32, used.len).then_some(Unready::Pending),
                };
                if let Some(unready) = unready {
                    return Some(Problem::Unready(unready));
                }
            }
            if !checks.race {
                return None;
            }
            if let Some(problem) = together(checks, used, lanes, &same) {
                return Some(problem);
            }
            let (count, touch) = used.touch(lanes, at);
            shadow.touch((at >> 2) as u32, count, &touch, &me).map(Problem::Race)
        });
        found.map_or(Ok(()), |found| Err(self.fault(w, used, found, None)))
    }

    /// Checks accesses to global memory; `at` counts from the start of the allocation.
    #[inline(always)]
    pub(crate) fn race_global(
        &mut self,
        w: &Warp,
        used: Use,
        mask: u32,
        allocation: &Allocation,
        at: &Addresses,
        same: impl Fn(u32) -> bool,
    ) -> Outcome<()> {
        let me = Me::new(self.index, self.launch.blocks, w.index, &self.clock.warps[w.index as usize]);
        let (launch, checks) = (self.launch.number, self.launch.settings.checks);
        let mut page = None;
        let found = groups(mask, at, |lanes, at| {
            if let Some(problem) = together(checks, used, lanes, &same) {
                return Some(problem);
            }
            let (word, (count, touch)) = (at >> 2, used.touch(lanes, at));
            // Aligned accesses of at most 16 bytes never straddle pages.
            let conflict = {
                if page.as_ref().is_none_or(|page: &OpenPage<'_>| !page.holds(word)) {
                    // The page in hand goes back first: its neighbour may wait for it.
                    page = None;
                    page = allocation.pages.open(word, launch);
                }
                page.as_mut().and_then(|page| page.touch(word, count, &touch, &me))
            };
            conflict.map(Problem::Race)
        });
        drop(page);
        found.map_or(Ok(()), |found| Err(self.fault(w, used, found, Some(allocation))))
    }

    /// What a check found for some lanes at one place, as a fault.
    #[cold]
    fn fault(
        &self,
        w: &Warp,
        used: Use,
        (lanes, at, problem): (u32, u64, Problem),
        allocation: Option<&Allocation>,
    ) -> Box<Fault> {
        let place = match allocation {
            Some(allocation) => format!("global memory at {:#x}", allocation.base + at),
            None => format!("shared memory at offset {at:#x}"),
        };
        let together =
            |what: &str| format!("lanes {lanes:#010x} of warp {} write {what} to {place} at once", w.index);
        let (kind, message) = match problem {
            Problem::Unready(unready) => return self.unready(lanes, at, used, unready),
            Problem::Values => (FaultKind::Race, together("different values")),
            Problem::Redundant => (FaultKind::RedundantStore, together("one value")),
            Problem::Race(conflict) => (FaultKind::Race, self.race_message(used, &place, conflict)),
        };
        let address = allocation.map_or(at, |allocation| allocation.base + at);
        Fault::new(kind, lanes.trailing_zeros() as usize, message)
            .address(address)
            .allocation(allocation.map(Allocation::info))
    }

    #[cold]
    fn unready(&self, lanes: u32, at: u64, used: Use, unready: Unready) -> Box<Fault> {
        let lane = lanes.trailing_zeros() as usize;
        let (kind, message) = match unready {
            Unready::Uninitialised => {
                let message =
                    format!("reads {} bytes of shared memory at offset {at:#x} that nobody wrote", used.len);
                (FaultKind::Uninitialised, message)
            }
            Unready::Pending => {
                let message = format!(
                    "{} shared memory at offset {at:#x} while an asynchronous copy into it is pending; wait for its \
                     group, then pass a barrier",
                    verb(used.kind)
                );
                (FaultKind::AsyncNotWaited, message)
            }
        };
        Fault::new(kind, lane, message).address(at)
    }

    fn race_message(&self, used: Use, place: &str, conflict: Conflict) -> String {
        let Conflict { kind, block, thread } = conflict;
        let config = self.launch.config;
        let who =
            thread.map_or("several threads".into(), |t| format!("thread {:?}", coordinates(t, config.block)));
        let whose = match block {
            Some(block) if block == self.index => "of this block".into(),
            Some(block) => format!("of block {:?}", coordinates(block, config.grid)),
            None => "of several blocks".to_string(),
        };
        let verb_other = if kind == Kind::Write { "wrote" } else { "read" };
        format!(
            "{} {place}, which {who} {whose} {verb_other}; no barrier or fence orders the two",
            verb(used.kind)
        )
    }

    /// What a strong access does to the order of threads.
    #[inline(always)]
    pub(crate) fn order_global(
        &mut self,
        w: &Warp,
        strength: Strength,
        mask: u32,
        at: &Addresses,
        both: [bool; 2],
    ) {
        if strength != Strength::Weak {
            self.order(w, strength, mask, at, both, true);
        }
    }

    /// The same in shared memory.
    #[inline(always)]
    pub(crate) fn order_shared(
        &mut self,
        w: &Warp,
        strength: Strength,
        mask: u32,
        at: &Addresses,
        both: [bool; 2],
    ) {
        if strength != Strength::Weak {
            self.order(w, strength, mask, at, both, false);
        }
    }

    fn order(
        &mut self,
        w: &Warp,
        strength: Strength,
        mask: u32,
        at: &Addresses,
        both: [bool; 2],
        global: bool,
    ) {
        if !self.checks().race {
            return;
        }
        let [reads, writes] = both;
        let (acquires, releases) = match strength {
            Strength::Acquire => (true, false),
            Strength::Release => (false, true),
            Strength::AcquireRelease => (true, true),
            Strength::Weak | Strength::Relaxed => (false, false),
        };
        if reads {
            let table = if global { &self.launch.order } else { &self.order };
            let pending = &mut self.clock.warps[w.index as usize].pending;
            for lane in lanes(mask) {
                table.read(at[lane], pending);
            }
            if acquires {
                self.clock.acquire(w.index, self.index);
            }
        }
        if writes {
            if releases {
                self.clock.fence(w.index, self.index, true);
            }
            let table = if global { &self.launch.order } else { &self.order };
            let clock = &self.clock.warps[w.index as usize];
            // A fence of the block's scope publishes nothing to other blocks.
            if let Some(snapshot) = clock.fenced.as_ref().filter(|_| clock.fenced_wide || !global) {
                for lane in lanes(mask) {
                    table.publish(at[lane], snapshot);
                }
            }
        }
    }
}

fn verb(kind: Kind) -> &'static str {
    if kind == Kind::Write { "writes" } else { "reads" }
}

/// Calls `f` for the lanes of each address, until it finds something.
#[inline(always)]
fn groups<T>(mask: u32, at: &Addresses, mut f: impl FnMut(u32, u64) -> Option<T>) -> Option<(u32, u64, T)> {
    let first = at[mask.trailing_zeros() as usize & 31];
    if equals(at, first) & mask == mask {
        return f(mask, first).map(|found| (mask, first, found));
    }
    if mask == u32::MAX {
        // Rows of a tile: the same addresses again in the second half of the warp, or in each quarter.
        let halves = at[..16] == at[16..];
        let quarters = halves && at[..8] == at[8..16];
        let (period, pattern) = match (quarters, halves) {
            (true, _) => (8, 0x0101_0101),
            (_, true) => (16, 0x0001_0001),
            _ => (32, 1),
        };
        if at[..period].windows(2).all(|pair| pair[0] < pair[1]) {
            return (0..period).find_map(|lane| {
                f(pattern << lane, at[lane]).map(|found| (pattern << lane, at[lane], found))
            });
        }
    }
    let mut rest = mask;
    while rest != 0 {
        let lane = rest.trailing_zeros() as usize;
        let same = equals(at, at[lane]) & rest;
        if let Some(found) = f(same, at[lane]) {
            return Some((same, at[lane], found));
        }
        rest &= !same;
    }
    None
}

/// The lanes whose address is `value`.
#[inline(always)]
fn equals(at: &Addresses, value: u64) -> u32 {
    let mut flags = [0u8; LANES];
    for (flag, at) in flags.iter_mut().zip(at) {
        *flag = u8::from(*at == value);
    }
    super::forms::gather_flags(&flags)
}
