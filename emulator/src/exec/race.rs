//! Where accesses meet the race shadows.
use super::FaultKind;
use super::access::Addresses;
use super::fault::{Fault, Outcome};
use super::machine::Machine;
use super::op::Strength;
use super::regs::{LANES, lanes};
use super::special::coordinates;
use super::warp::Warp;
use crate::memory::Allocation;
use crate::memory::race::{Conflict, Kind, Me, OpenPage, Touch};

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
}

impl Machine<'_> {
    /// The warp as the shadows see it.
    fn me(&self, warp: u32) -> Me<'_> {
        let clock = &self.clock.warps[warp as usize];
        Me { block: self.index, blocks: self.launch.blocks, warp, bit: 1 << (warp & 31), clock }
    }

    /// Checks accesses to shared memory. `same` says whether some lanes write the same value.
    #[inline(always)]
    pub(crate) fn race_shared(
        &mut self,
        w: &Warp,
        used: Use,
        mask: u32,
        at: &Addresses,
        same: impl Fn(u32) -> bool,
    ) -> Outcome<()> {
        let clock = &self.clock.warps[w.index as usize];
        let me = Me {
            block: self.index,
            blocks: self.launch.blocks,
            warp: w.index,
            bit: 1 << (w.index & 31),
            clock,
        };
        let shadow = &mut self.shadow;
        let found = groups(mask, at, |lanes, at| {
            if used.kind == Kind::Write && lanes & lanes.wrapping_sub(1) != 0 && !same(lanes) {
                return Some(None);
            }
            words(used, lanes, at, |word, touch| shadow.touch(word as u32, touch, &me)).map(Some)
        });
        match found {
            None => Ok(()),
            Some((lanes, address, conflict)) => Err(self.raced(w, used, lanes, address, conflict, None)),
        }
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
        let me = self.me(w.index);
        let launch = self.launch.number;
        let mut page = None;
        let found = groups(mask, at, |lanes, at| {
            if used.kind == Kind::Write && lanes & lanes.wrapping_sub(1) != 0 && !same(lanes) {
                return Some(None);
            }
            let conflict = words(used, lanes, at, |word, touch| {
                if page.as_ref().is_none_or(|page: &OpenPage<'_>| !page.holds(word)) {
                    // The page in hand goes back first: its neighbour may wait for it.
                    page = None;
                    page = allocation.pages.open(word, launch);
                }
                page.as_mut().and_then(|page| page.touch(word, touch, &me))
            });
            conflict.map(Some)
        });
        drop(page);
        match found {
            None => Ok(()),
            Some((lanes, at, conflict)) => Err(self.raced(w, used, lanes, at, conflict, Some(allocation))),
        }
    }

    #[cold]
    fn raced(
        &self,
        w: &Warp,
        used: Use,
        lanes: u32,
        at: u64,
        conflict: Option<Conflict>,
        allocation: Option<&Allocation>,
    ) -> Box<Fault> {
        let lane = lanes.trailing_zeros() as usize;
        let place = match allocation {
            Some(allocation) => format!("global memory at {:#x}", allocation.base + at),
            None => format!("shared memory at offset {at:#x}"),
        };
        let verb = |kind: Kind| if kind == Kind::Write { "writes" } else { "reads" };
        let message = match conflict {
            None => {
                format!("lanes {lanes:#010x} of warp {} write different values to {place} at once", w.index)
            }
            Some(Conflict { kind, block, thread }) => {
                let config = self.launch.config;
                let who = thread.map_or("several threads".into(), |t| {
                    format!("thread {:?}", coordinates(t, config.block))
                });
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
        };
        let address = allocation.map_or(at, |allocation| allocation.base + at);
        Fault::new(FaultKind::Race, lane, message)
            .address(address)
            .allocation(allocation.map(Allocation::info))
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

/// Touches the words of one lane's bytes.
#[inline(always)]
fn words(
    used: Use,
    lanes: u32,
    at: u64,
    mut touch: impl FnMut(u64, &Touch) -> Option<Conflict>,
) -> Option<Conflict> {
    let Use { kind, strong, len } = used;
    if len < 4 {
        let bytes = (((1u32 << len) - 1) << (at & 3)) as u8;
        return touch(at >> 2, &Touch { kind, strong, lanes, bytes });
    }
    (0..u64::from(len / 4)).find_map(|k| touch((at >> 2) + k, &Touch { kind, strong, lanes, bytes: 0xf }))
}

/// Calls `f` for the lanes of each address, until it finds something.
#[inline(always)]
fn groups<T>(mask: u32, at: &Addresses, mut f: impl FnMut(u32, u64) -> Option<T>) -> Option<(u32, u64, T)> {
    let first = at[mask.trailing_zeros() as usize & 31];
    let equal = equals(at, first) & mask;
    if equal == mask {
        return f(mask, first).map(|found| (mask, first, found));
    }
    let rises = mask == u32::MAX && at.windows(2).all(|pair| pair[0] < pair[1]);
    let mut rest = mask;
    while rest != 0 {
        let lane = rest.trailing_zeros() as usize;
        let same = if rises { 1 << lane } else { equals(at, at[lane]) & rest };
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
