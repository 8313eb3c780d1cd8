//! Loads and stores: addresses, state spaces, bounds.
use super::fault::{Fault, Outcome};
use super::machine::Machine;
use super::op::{Access, Address, Space, window};
use super::race::Use;
use super::regs::{Class, LANES, Regs, lanes, put};
use super::warp::Warp;
use super::{Checks, FaultKind};
use crate::memory::Allocation;

/// Addresses of all lanes.
pub(crate) type Addresses = [u64; LANES];

/// Base plus offset, for every lane.
#[inline(always)]
pub(crate) fn addresses(regs: &Regs, address: &Address) -> Addresses {
    let offset = address.offset as u64;
    match address.class {
        Class::Wide => regs.wide[address.slot as usize].map(|base| base.wrapping_add(offset)),
        _ => regs.narrow[address.slot as usize].map(|base| u64::from(base).wrapping_add(offset)),
    }
}

impl<'a> Machine<'a> {
    pub(crate) fn checks(&self) -> Checks {
        self.launch.settings.checks
    }

    /// Executes `ld`.
    #[inline(always)]
    pub(crate) fn load(&mut self, w: &mut Warp, a: &Access, mask: u32) -> Outcome<()> {
        let at = addresses(&w.regs, &a.address);
        match a.space {
            Space::Shared => self.load_shared(w, a, mask, &at),
            Space::Global => self.load_global(w, a, mask, &at),
            Space::Local => self.load_local(w, a, mask, &at),
            Space::Param => self.load_param(w, a, mask, &at),
            Space::Generic => {
                let [shared, local, param, global] = windows(&at, mask);
                if global != 0 {
                    self.load_global(w, a, global, &at)?;
                }
                if shared != 0 {
                    self.load_shared(w, a, shared, &at.map(|at| at.wrapping_sub(window::SHARED)))?;
                }
                if local != 0 {
                    self.load_local(w, a, local, &at.map(|at| at.wrapping_sub(window::LOCAL)))?;
                }
                if param != 0 {
                    self.load_param(w, a, param, &at.map(|at| at.wrapping_sub(window::PARAM)))?;
                }
                Ok(())
            }
        }
    }

    /// Executes `st`.
    #[inline(always)]
    pub(crate) fn store(&mut self, w: &mut Warp, a: &Access, mask: u32) -> Outcome<()> {
        let at = addresses(&w.regs, &a.address);
        match a.space {
            Space::Shared => self.store_shared(w, a, mask, &at),
            Space::Global => self.store_global(w, a, mask, &at),
            Space::Local => self.store_local(w, a, mask, &at),
            Space::Param => Err(self.read_only(mask, &at)),
            Space::Generic => {
                let [shared, local, param, global] = windows(&at, mask);
                if global != 0 {
                    self.store_global(w, a, global, &at)?;
                }
                if shared != 0 {
                    self.store_shared(w, a, shared, &at.map(|at| at.wrapping_sub(window::SHARED)))?;
                }
                if local != 0 {
                    self.store_local(w, a, local, &at.map(|at| at.wrapping_sub(window::LOCAL)))?;
                }
                if param != 0 { Err(self.read_only(param, &at)) } else { Ok(()) }
            }
        }
    }

    fn read_only(&self, mask: u32, at: &Addresses) -> Box<Fault> {
        let lane = mask.trailing_zeros() as usize;
        Fault::new(FaultKind::InvalidAddressSpace, lane, "kernel parameters are read-only".into())
            .address(at[lane])
    }

    #[inline(always)]
    fn load_shared(&mut self, w: &mut Warp, a: &Access, mask: u32, at: &Addresses) -> Outcome<()> {
        let len = total(a);
        let size = u64::from(self.shared.bytes());
        let good = mask & self.in_window(Space::Shared, mask, at, size, len)?;
        self.order_shared(w, a.strength, good, at, [true, false]);
        self.check_shared(w, Use::read(len, a.strength), good, at, |_| true)?;
        if a.class == Class::Narrow && a.bytes == 4 && good == u32::MAX {
            let words = self.shared.words();
            match a.count {
                1 => gather_words::<1>(&mut w.regs, a, words, at),
                2 => gather_words::<2>(&mut w.regs, a, words, at),
                _ => gather_words::<4>(&mut w.regs, a, words, at),
            }
            return Ok(());
        }
        let shared = &self.shared;
        gather(&mut w.regs, a, mask, good, at, |_, at, len| shared.load(at as u32, len));
        Ok(())
    }

    #[inline(always)]
    fn store_shared(&mut self, w: &mut Warp, a: &Access, mask: u32, at: &Addresses) -> Outcome<()> {
        let len = total(a);
        let size = u64::from(self.shared.bytes());
        let good = mask & self.in_window(Space::Shared, mask, at, size, len)?;
        self.check_shared(w, Use::write(len, a.strength), good, at, |lanes| same_values(&w.regs, a, lanes))?;
        self.order_shared(w, a.strength, good, at, [false, true]);
        let shared = &mut self.shared;
        scatter(&w.regs, a, good, at, |_, at, len, value| shared.store(at as u32, len, value));
        Ok(())
    }

    fn load_local(&mut self, w: &mut Warp, a: &Access, mask: u32, at: &Addresses) -> Outcome<()> {
        let len = total(a);
        let good = mask & self.in_window(Space::Local, mask, at, u64::from(w.local.bytes()), len)?;
        if self.checks().init
            && let Some(lane) = lanes(good).find(|lane| !w.local.written(*lane, at[*lane] as u32, len as u32))
        {
            let message =
                format!("reads {len} bytes of local memory at {:#x} that this thread never wrote", at[lane]);
            return Err(Fault::new(FaultKind::Uninitialised, lane, message).address(at[lane]));
        }
        let Warp { regs, local, .. } = w;
        gather(regs, a, mask, good, at, |lane, at, len| local.load(lane, at as u32, len));
        Ok(())
    }

    fn store_local(&mut self, w: &mut Warp, a: &Access, mask: u32, at: &Addresses) -> Outcome<()> {
        let good = mask & self.in_window(Space::Local, mask, at, u64::from(w.local.bytes()), total(a))?;
        let Warp { regs, local, .. } = w;
        scatter(regs, a, good, at, |lane, at, len, value| local.store(lane, at as u32, len, value));
        Ok(())
    }

    fn load_param(&mut self, w: &mut Warp, a: &Access, mask: u32, at: &Addresses) -> Outcome<()> {
        let params = self.launch.params;
        let good = mask & self.in_window(Space::Param, mask, at, params.len() as u64, total(a))?;
        gather(&mut w.regs, a, mask, good, at, |_, at, len| {
            let mut word = [0; 4];
            let bytes = params.get(at as usize..at as usize + len as usize).unwrap_or_default();
            word[..bytes.len()].copy_from_slice(bytes);
            u32::from_le_bytes(word)
        });
        Ok(())
    }

    #[inline(always)]
    fn load_global(&mut self, w: &mut Warp, a: &Access, mask: u32, at: &Addresses) -> Outcome<()> {
        let len = total(a);
        let mut rest = mask;
        while rest != 0 {
            let (allocation, part) = self.allocation(rest, at, len)?;
            let Some(allocation) = allocation else {
                gather(&mut w.regs, a, part, 0, at, |_, _, _| 0);
                rest &= !part;
                continue;
            };
            let offsets = at.map(|at| at.wrapping_sub(allocation.base));
            if self.checks().init {
                self.check_global_written(allocation, part, &offsets, len)?;
            }
            self.order_global(w, a.strength, part, at, [true, false]);
            if self.checks().race {
                self.race_global(w, Use::read(len, a.strength), part, allocation, &offsets, |_| true)?;
            }
            gather(&mut w.regs, a, part, part, &offsets, |_, at, len| allocation.load(at, len));
            rest &= !part;
        }
        Ok(())
    }

    /// A fault if any byte of an allocation that is read was never written.
    #[inline(always)]
    pub(crate) fn check_global_written(
        &self,
        allocation: &Allocation,
        mask: u32,
        at: &Addresses,
        len: u64,
    ) -> Outcome<()> {
        if allocation.init.whole() {
            return Ok(());
        }
        match lanes(mask).find(|lane| !allocation.init.has(at[*lane], len as u32)) {
            None => Ok(()),
            Some(lane) => {
                let address = allocation.base + at[lane];
                let message =
                    format!("reads {len} bytes at {address:#x}, not all of which were ever written");
                let fault = Fault::new(FaultKind::Uninitialised, lane, message);
                Err(fault.address(address).allocation(Some(allocation.info())))
            }
        }
    }

    #[inline(always)]
    fn store_global(&mut self, w: &mut Warp, a: &Access, mask: u32, at: &Addresses) -> Outcome<()> {
        let len = total(a);
        let mut rest = mask;
        while rest != 0 {
            let (allocation, part) = self.allocation(rest, at, len)?;
            rest &= !part;
            let Some(allocation) = allocation else { continue };
            let offsets = at.map(|at| at.wrapping_sub(allocation.base));
            if self.checks().race {
                let used = Use::write(len, a.strength);
                self.race_global(w, used, part, allocation, &offsets, |lanes| {
                    same_values(&w.regs, a, lanes)
                })?;
            }
            self.order_global(w, a.strength, part, at, [false, true]);
            for lane in lanes(if allocation.init.whole() { 0 } else { part }) {
                allocation.init.set(offsets[lane], len as u32);
            }
            scatter(&w.regs, a, part, &offsets, |_, at, len, value| allocation.store(at, len, value));
        }
        Ok(())
    }
}

/// Bytes of one lane's access.
#[inline(always)]
fn total(a: &Access) -> u64 {
    u64::from(a.bytes) * u64::from(a.count)
}

/// The lanes of `mask` by the space that their generic address lies in: shared, local, param, global.
pub(crate) fn windows(at: &Addresses, mask: u32) -> [u32; 4] {
    let within = |base: u64| {
        lanes(mask).filter(|l| at[*l].wrapping_sub(base) < window::BYTES).fold(0, |m, l| m | 1 << l)
    };
    let (shared, local, param) = (within(window::SHARED), within(window::LOCAL), within(window::PARAM));
    [shared, local, param, mask & !(shared | local | param)]
}

/// Whether some lanes store the same values.
fn same_values(regs: &Regs, a: &Access, mask: u32) -> bool {
    let first = mask.trailing_zeros() as usize & 31;
    a.data.iter().take(usize::from(a.count)).all(|slot| {
        if a.class == Class::Wide {
            let values = &regs.wide[*slot as usize];
            lanes(mask).all(|lane| values[lane] == values[first])
        } else {
            let width = u32::MAX >> (32 - 8 * u32::from(a.bytes.min(4)));
            let values = &regs.narrow[*slot as usize];
            lanes(mask).all(|lane| (values[lane] ^ values[first]) & width == 0)
        }
    })
}

/// Fills `N` data registers of all lanes from words of shared memory. The addresses were checked.
#[inline(always)]
fn gather_words<const N: usize>(regs: &mut Regs, a: &Access, words: &[u32], at: &Addresses) {
    let mut out = [[0; LANES]; N];
    for (lane, at) in at.iter().enumerate() {
        let first = (*at >> 2) as usize;
        if let Some(found) = words.get(first..first + N) {
            for (out, word) in out.iter_mut().zip(found) {
                out[lane] = *word;
            }
        }
    }
    for (slot, out) in a.data.iter().zip(out) {
        regs.narrow[*slot as usize] = out;
    }
}

/// Fills the data registers of the lanes of `mask` from `fetch(lane, address, bytes)`; lanes not in `good` get 0.
#[inline(always)]
fn gather(
    regs: &mut Regs,
    a: &Access,
    mask: u32,
    good: u32,
    at: &Addresses,
    fetch: impl Fn(usize, u64, u32) -> u32,
) {
    let bytes = u32::from(a.bytes);
    for (element, slot) in a.data.iter().take(usize::from(a.count)).enumerate() {
        let skip = element as u64 * u64::from(bytes);
        let one = |lane: usize| {
            if good >> lane & 1 == 0 {
                return 0;
            }
            let low = u64::from(fetch(lane, at[lane] + skip, bytes.min(4)));
            match (bytes, a.signed) {
                (8, _) => low | u64::from(fetch(lane, at[lane] + skip + 4, 4)) << 32,
                (1, true) => low as u8 as i8 as u64,
                (2, true) => low as u16 as i16 as u64,
                (4, true) => low as u32 as i32 as u64,
                _ => low,
            }
        };
        if a.class == Class::Narrow && bytes == 4 && good == u32::MAX {
            let mut out = [0; LANES];
            for (lane, out) in out.iter_mut().enumerate() {
                *out = fetch(lane, at[lane] + skip, 4);
            }
            regs.narrow[*slot as usize] = out;
        } else if a.class == Class::Narrow {
            put(&mut regs.narrow[*slot as usize], std::array::from_fn(|lane| one(lane) as u32), mask);
        } else {
            put(&mut regs.wide[*slot as usize], std::array::from_fn(one), mask);
        }
    }
}

/// Gives the data registers of the lanes of `mask` to `keep(lane, address, bytes, value)`.
#[inline(always)]
fn scatter(regs: &Regs, a: &Access, mask: u32, at: &Addresses, mut keep: impl FnMut(usize, u64, u32, u32)) {
    let bytes = u32::from(a.bytes);
    for (element, slot) in a.data.iter().take(usize::from(a.count)).enumerate() {
        let skip = element as u64 * u64::from(bytes);
        if a.class == Class::Wide {
            let values = &regs.wide[*slot as usize];
            for lane in lanes(mask) {
                keep(lane, at[lane] + skip, bytes.min(4), values[lane] as u32);
                if bytes == 8 {
                    keep(lane, at[lane] + skip + 4, 4, (values[lane] >> 32) as u32);
                }
            }
        } else {
            let values = &regs.narrow[*slot as usize];
            for lane in lanes(mask) {
                keep(lane, at[lane] + skip, bytes, values[lane]);
            }
        }
    }
}
