//! Clocks of one block: what each warp, and each lane in it, knows to be over.
use super::order::{Acquired, Snapshot};
use std::sync::Arc;

/// The clocks of a block's warps. Times are those of one counter, which every synchronisation moves on.
#[derive(Default)]
pub(crate) struct BlockClock {
    now: u32,
    pub(crate) warps: Vec<WarpClock>,
}

/// What a warp knows.
#[derive(Clone, Default)]
pub(crate) struct WarpClock {
    /// The stamp of its accesses: the time of its last synchronisation with others.
    pub(crate) time: u32,
    /// The second part of the stamp: `bar.warp.sync`s since then.
    pub(crate) sub: u16,
    /// Every access of the block stamped with at most this is ordered before whatever the warp does next.
    pub(crate) floor: u32,
    /// For each warp: its accesses stamped with at most this are ordered before.
    known: Vec<u32>,
    /// `seen[a][b]`: lane a comes after accesses of lane b with a smaller `sub`. None while all lanes synchronise
    /// together: then it is `sub` everywhere.
    seen: Option<Box<[[u16; 32]; 32]>>,
    /// What the last fence made ready to be published, for the block and for all blocks.
    pub(crate) fenced: Option<Arc<Snapshot>>,
    pub(crate) fenced_wide: bool,
    /// Publications of other threads that were read, and become known at the next fence.
    pub(crate) pending: Acquired,
    /// Those that are known.
    pub(crate) acquired: Acquired,
}

impl BlockClock {
    /// Clocks at the start of a block.
    pub(crate) fn start(&mut self, warps: usize) {
        self.now = 1;
        let clock = WarpClock { time: 1, sub: 1, known: vec![0; warps], ..WarpClock::default() };
        self.warps.clear();
        self.warps.resize(warps, clock);
    }

    fn tick(&mut self) -> u32 {
        self.now += 1;
        self.now
    }

    /// A warp arrives at a barrier: what it did is stamped with at most the time given back.
    pub(crate) fn arrive(&mut self, warp: u32) -> u32 {
        let released = self.now;
        let now = self.tick();
        self.warps[warp as usize].advance(now);
        released
    }

    /// A barrier completes: those that waited know all that those that arrived did and knew.
    pub(crate) fn complete(&mut self, arrived: &[(u32, u32)], waiting: impl Iterator<Item = u32>) {
        let mut joined = vec![0; self.warps.len()];
        let mut acquired = Acquired::default();
        for (warp, released) in arrived {
            let clock = &self.warps[*warp as usize];
            joined[*warp as usize] = joined[*warp as usize].max(*released);
            for (joined, known) in joined.iter_mut().zip(&clock.known) {
                *joined = (*joined).max(*known);
            }
            acquired.join(&clock.acquired);
        }
        let now = self.tick();
        for warp in waiting {
            let clock = &mut self.warps[warp as usize];
            clock.learn(&joined);
            clock.acquired.join(&acquired);
            clock.advance(now);
            clock.lower(warp);
        }
    }

    /// `bar.warp.sync` of some lanes; `all` if no other lane of the warp is live.
    pub(crate) fn sync_lanes(&mut self, warp: u32, mask: u32, all: bool) {
        let now = self.now;
        let clock = &mut self.warps[warp as usize];
        if clock.sub == u16::MAX {
            // Moving on in time orders all lanes: at worst a race among 32 lanes after 65535 partial syncs is missed.
            clock.advance(now + 1);
            clock.lower(warp);
            self.now = now + 1;
            return;
        }
        let before = clock.sub;
        clock.sub += 1;
        if all && clock.seen.is_none() {
            return;
        }
        let seen = clock.seen.get_or_insert_with(|| Box::new([[before; 32]; 32]));
        let mut joined = [0u16; 32];
        for lane in super::super::set_bits(mask) {
            for (joined, seen) in joined.iter_mut().zip(&seen[lane]) {
                *joined = (*joined).max(*seen);
            }
        }
        for lane in super::super::set_bits(mask) {
            joined[lane] = clock.sub;
        }
        for lane in super::super::set_bits(mask) {
            seen[lane] = joined;
        }
        if all {
            clock.seen = None;
        }
    }

    /// A fence of some lanes: what the warp did so far can be published, what it read becomes known.
    pub(crate) fn fence(&mut self, warp: u32, block: u32, wide: bool) {
        self.acquire(warp, block);
        let clock = &self.warps[warp as usize];
        let mut times = clock.known.clone();
        times[warp as usize] = self.now;
        let snapshot = Arc::new(Snapshot { block, times, acquired: clock.acquired.clone() });
        let now = self.tick();
        let clock = &mut self.warps[warp as usize];
        clock.time = now;
        clock.fenced = Some(snapshot);
        clock.fenced_wide = wide;
    }

    /// Publications that were read become known.
    pub(crate) fn acquire(&mut self, warp: u32, block: u32) {
        let clock = &mut self.warps[warp as usize];
        if clock.pending.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut clock.pending);
        if let Some(times) = pending.times_of(block, clock.known.len()) {
            clock.learn(&times);
            clock.lower(warp);
        }
        clock.acquired.join(&pending);
    }
}

impl WarpClock {
    /// Moves on to a time at which all lanes of the warp are in step.
    fn advance(&mut self, now: u32) {
        self.time = now;
        self.sub = 1;
        self.seen = None;
    }

    fn learn(&mut self, times: &[u32]) {
        for (known, time) in self.known.iter_mut().zip(times) {
            *known = (*known).max(*time);
        }
    }

    fn lower(&mut self, own: u32) {
        let others =
            self.known.iter().enumerate().filter(|(warp, _)| *warp as u32 != own).map(|(_, time)| *time);
        self.floor = others.min().unwrap_or(u32::MAX).min(self.time - 1);
    }

    /// Whether an access of another warp of the block is ordered before.
    pub(crate) fn knows(&self, warp: u32, time: u32) -> bool {
        self.known.get(warp as usize).is_some_and(|known| time <= *known)
    }

    /// Whether an access of lane `other` of this warp is ordered before what `lane` does.
    pub(crate) fn lane_knows(&self, lane: u32, other: u32, time: u32, sub: u16) -> bool {
        lane == other
            || time < self.time
            || sub < self.seen.as_ref().map_or(self.sub, |seen| seen[lane as usize & 31][other as usize & 31])
    }
}
