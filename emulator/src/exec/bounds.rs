//! Whether addresses lie where they may, and what they miss if not.
use super::FaultKind;
use super::access::Addresses;
use super::fault::{Fault, Outcome};
use super::forms::gather_flags;
use super::machine::Machine;
use super::op::{Space, window};
use super::regs::LANES;
use crate::memory::Allocation;

/// The lanes whose `len` bytes lie inside `size` bytes from `base`, at multiples of `len`.
#[inline(always)]
pub(crate) fn inside(at: &Addresses, base: u64, size: u64, len: u64) -> u32 {
    let Some(last) = size.checked_sub(len) else { return 0 };
    let mut flags = [0u8; LANES];
    for (flag, at) in flags.iter_mut().zip(at) {
        *flag = u8::from(at.wrapping_sub(base) <= last && at & (len - 1) == 0);
    }
    gather_flags(&flags)
}

impl<'a> Machine<'a> {
    /// The lanes of `mask` that lie inside a window of `size` bytes; a fault for others, unless bounds are not checked.
    #[inline(always)]
    pub(crate) fn in_window(
        &self,
        space: Space,
        mask: u32,
        at: &Addresses,
        size: u64,
        len: u64,
    ) -> Outcome<u32> {
        let good = inside(at, 0, size, len);
        if mask & !good == 0 {
            return Ok(good);
        }
        self.out_of_window(space, mask & !good, at, size, len).map_or(Ok(good), Err)
    }

    /// What is wrong with an access outside a window; nothing if bounds are not checked.
    #[cold]
    fn out_of_window(
        &self,
        space: Space,
        bad: u32,
        at: &Addresses,
        size: u64,
        len: u64,
    ) -> Option<Box<Fault>> {
        let lane = bad.trailing_zeros() as usize;
        if at[lane] & (len - 1) != 0 && at[lane] < size {
            return Some(misaligned(lane, at[lane], len));
        }
        if !self.checks().bounds {
            return None;
        }
        let name = match space {
            Space::Shared => "shared memory of the block",
            Space::Local => "local memory of the thread",
            _ => "parameters of the kernel",
        };
        if window_of(at[lane]).is_some() || self.launch.view.find(at[lane]).is_some() {
            let message = format!(
                "{len} bytes at {:#x}, a generic address, by an instruction for the {name}: convert it with cvta.to",
                at[lane]
            );
            return Some(Fault::new(FaultKind::InvalidAddressSpace, lane, message).address(at[lane]));
        }
        let over = at[lane].wrapping_add(len).wrapping_sub(size);
        let message = format!(
            "{len} bytes at offset {:#x} of the {size} bytes of {name}: {over} bytes beyond the end",
            at[lane]
        );
        Some(Fault::new(FaultKind::OutOfBounds, lane, message).address(at[lane]))
    }

    /// The allocation of the first lane of `mask`, and the lanes whose access lies in it. None if it lies nowhere and
    /// bounds are not checked.
    #[inline(always)]
    pub(crate) fn allocation(
        &mut self,
        mask: u32,
        at: &Addresses,
        len: u64,
    ) -> Outcome<(Option<&'a Allocation>, u32)> {
        let lane = mask.trailing_zeros() as usize;
        let address = at[lane];
        let recent =
            self.recent.filter(|allocation| address.wrapping_sub(allocation.base) < allocation.bytes);
        let found = recent.or_else(|| self.launch.view.find(address).map(AsRef::as_ref));
        if let Some(allocation) = found {
            self.recent = Some(allocation);
            let part = mask & inside(at, allocation.base, allocation.bytes, len);
            if part >> lane & 1 != 0 {
                return Ok((found, part));
            }
        }
        if address & (len - 1) != 0 && found.is_some() {
            return Err(misaligned(lane, address, len).allocation(found.map(Allocation::info)));
        }
        if !self.checks().bounds {
            return Ok((None, 1 << lane));
        }
        Err(self.outside(lane, address, len))
    }

    /// What an address outside all allocations is nearest to.
    #[cold]
    fn outside(&self, lane: usize, address: u64, len: u64) -> Box<Fault> {
        let view = self.launch.view;
        if let Some(space) = window_of(address) {
            let message = format!(
                "{len} bytes at {address:#x}, an address of {space} memory, by an instruction for global memory"
            );
            return Fault::new(FaultKind::InvalidAddressSpace, lane, message).address(address);
        }
        if let Some((base, bytes)) = view.freed(address) {
            let message = format!(
                "{len} bytes at {address:#x}, in an allocation of {bytes} bytes at {base:#x} that was freed"
            );
            return Fault::new(FaultKind::UseAfterFree, lane, message).address(address);
        }
        let [below, above] = [view.nearest_below(address), view.nearest_above(address)];
        let end = address.saturating_add(len);
        let after = below.map(|a| (end.saturating_sub(a.base + a.bytes), a));
        let before = above.map(|a| (a.base - address, a));
        let message = format!("{len} bytes at {address:#x}");
        let (place, allocation) = match (after, before) {
            (Some((over, a)), Some((short, _))) if over <= short => {
                (format!("{over} bytes beyond the end of"), Some(a))
            }
            (_, Some((short, a))) => (format!("{short} bytes before"), Some(a)),
            (Some((over, a)), None) => (format!("{over} bytes beyond the end of"), Some(a)),
            (None, None) => ("nothing is allocated".to_string(), None),
        };
        let nearest = allocation.map_or(place.clone(), |a| {
            format!("{place} the allocation of {} bytes at {:#x}", a.bytes, a.base)
        });
        Fault::new(FaultKind::OutOfBounds, lane, format!("{message}: {nearest}"))
            .address(address)
            .allocation(allocation.map(|a| a.info()))
    }
}

#[cold]
fn misaligned(lane: usize, address: u64, len: u64) -> Box<Fault> {
    let message = format!("an access of {len} bytes at {address:#x}, which is no multiple of {len}");
    Fault::new(FaultKind::Misaligned, lane, message).address(address)
}

/// The space in whose window a generic address lies; none for global memory.
fn window_of(address: u64) -> Option<&'static str> {
    let spaces = [(window::SHARED, "shared"), (window::LOCAL, "local"), (window::PARAM, "parameter")];
    spaces.into_iter().find(|(base, _)| address.wrapping_sub(*base) < window::BYTES).map(|(_, name)| name)
}
