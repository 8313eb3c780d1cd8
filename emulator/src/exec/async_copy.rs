//! `cp.async`: copies from global to shared memory that arrive no earlier than the wait that covers them.
use super::FaultKind;
use super::access::{Addresses, addresses};
use super::fault::{Fault, Outcome};
use super::machine::Machine;
use super::op::{CopyAsync, Space, Strength};
use super::race::Use;
use super::regs::{LANES, lanes};
use super::warp::Warp;

/// Copies on their way, of all lanes of a warp.
#[derive(Default)]
pub(crate) struct AsyncCopies {
    /// Groups that each lane has committed.
    committed: [u32; LANES],
    pending: Vec<Pending>,
}

/// One instruction's copies.
struct Pending {
    mask: u32,
    /// The number of the group that each lane's copy belongs to, counted from 0.
    group: [u32; LANES],
    dst: Addresses,
    bytes: u8,
    data: Box<[[u8; 16]; LANES]>,
}

impl AsyncCopies {
    /// `cp.async.commit_group`.
    pub(crate) fn commit(&mut self, mask: u32) {
        for lane in lanes(mask) {
            self.committed[lane] += 1;
        }
    }
}

impl Machine<'_> {
    /// Reads the source and marks the destination as on its way.
    pub(crate) fn copy_async(&mut self, w: &mut Warp, copy: &CopyAsync, mask: u32) -> Outcome<()> {
        let (dst, src) = (addresses(&w.regs, &copy.dst), addresses(&w.regs, &copy.src));
        let len = u64::from(copy.bytes);
        let size = u64::from(self.shared.bytes());
        let good = mask & self.in_window(Space::Shared, mask, &dst, size, len)?;
        let ignored = copy
            .ignore
            .map_or(0, |(slot, negated)| w.regs.preds[slot as usize] ^ if negated { u32::MAX } else { 0 });
        let mut data = Box::new([[0u8; 16]; LANES]);
        // The copy may write at any time from now until it is waited for: it must come after all earlier readers.
        self.check_shared(w, Use::write(len, Strength::Weak), good, &dst, |_| false)?;
        for lane in lanes(good) {
            let wanted = copy
                .src_bytes
                .map_or(u64::from(copy.bytes), |slot| u64::from(w.regs.narrow[slot as usize][lane]));
            if wanted > len {
                let message = format!("a copy of {len} bytes is told to read {wanted}");
                return Err(Fault::new(FaultKind::InvalidOperand, lane, message));
            }
            let wanted = if ignored >> lane & 1 != 0 { 0 } else { wanted };
            if src[lane] & (len - 1) != 0 {
                let message =
                    format!("the source of a copy of {len} bytes, {:#x}, is no multiple of {len}", src[lane]);
                return Err(Fault::new(FaultKind::Misaligned, lane, message).address(src[lane]));
            }
            if wanted > 0 {
                self.fetch(w, lane, &src, &mut data[lane][..wanted as usize])?;
            }
            if self.checks().init && self.shared.pending(dst[lane] as u32, len as u32) {
                let message = format!(
                    "two asynchronous copies write shared memory at offset {:#x}; wait for the first",
                    dst[lane]
                );
                return Err(Fault::new(FaultKind::AsyncNotWaited, lane, message).address(dst[lane]));
            }
            self.shared.set_pending(dst[lane] as u32, len as u32);
        }
        let group = w.copies.committed;
        w.copies.pending.push(Pending { mask: good, group, dst, bytes: copy.bytes, data });
        Ok(())
    }

    /// Reads global bytes of one lane for a copy.
    fn fetch(&mut self, w: &Warp, lane: usize, src: &Addresses, into: &mut [u8]) -> Outcome<()> {
        let (allocation, _) = self.allocation(1 << lane, src, 1)?;
        let Some(allocation) = allocation else { return Ok(()) };
        let offset = src[lane] - allocation.base;
        let len = into.len() as u64;
        if allocation.bytes - offset < len {
            if !self.checks().bounds {
                return Ok(());
            }
            let over = len - (allocation.bytes - offset);
            let message =
                format!("{len} bytes at {:#x}: {over} bytes beyond the end of the allocation", src[lane]);
            let fault = Fault::new(FaultKind::OutOfBounds, lane, message);
            return Err(fault.address(src[lane]).allocation(Some(allocation.info())));
        }
        if self.checks().init && !allocation.init.has_range(offset, len) {
            let message =
                format!("copies {len} bytes at {:#x}, not all of which were ever written", src[lane]);
            let fault = Fault::new(FaultKind::Uninitialised, lane, message);
            return Err(fault.address(src[lane]).allocation(Some(allocation.info())));
        }
        if self.checks().race {
            let offsets = src.map(|at| at.wrapping_sub(allocation.base));
            self.race_global(
                w,
                Use::read(len.next_power_of_two(), Strength::Weak),
                1 << lane,
                allocation,
                &offsets,
                |_| true,
            )?;
        }
        allocation.read(offset, into);
        Ok(())
    }

    /// `cp.async.wait_group`: all groups but the last `most` arrive.
    pub(crate) fn wait_group(&mut self, w: &mut Warp, most: u32, mask: u32) -> Outcome<()> {
        let committed = w.copies.committed;
        let mut pendings = std::mem::take(&mut w.copies.pending);
        for pending in &mut pendings {
            let done = lanes(pending.mask & mask)
                .filter(|lane| pending.group[*lane] + most < committed[*lane])
                .fold(0u32, |done, lane| done | 1 << lane);
            pending.mask &= !done;
            for lane in lanes(done) {
                self.shared
                    .deliver(pending.dst[lane] as u32, &pending.data[lane][..usize::from(pending.bytes)]);
            }
            // The bytes count as written by this thread now: others need a barrier from here.
            let used = Use::write(u64::from(pending.bytes), Strength::Weak);
            self.check_shared(w, used, done, &pending.dst, |_| false)?;
        }
        pendings.retain(|pending| pending.mask != 0);
        w.copies.pending = pendings;
        Ok(())
    }
}
