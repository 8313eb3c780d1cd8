//! What is remembered of one aligned word: its last write, and the reads since.
use super::shadow::Me;

/// The accesses of a word that a later one may race with.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cell {
    /// Stamp of the last write; 0 if there is none.
    write_time: u32,
    write_block: u32,
    /// Stamp of the reads since; 0 if there are none.
    read_time: u32,
    /// The block that read, or [`MANY`].
    read_block: u32,
    read_warps: u32,
    /// The lanes that read, if they are of one warp.
    read_lanes: u32,
    /// The thread that wrote, or [`MANY_THREADS`].
    write_thread: u16,
    write_sub: u16,
    read_sub: u16,
    /// Bytes written, in the low half; [`STRONG`].
    write_bytes: u8,
    read_bytes: u8,
}

/// Reads by several blocks.
const MANY: u32 = u32::MAX;
/// Atomics of several threads that nothing orders.
const MANY_THREADS: u16 = u16::MAX;
/// The access was atomic, volatile or relaxed.
const STRONG: u8 = 0x10;

/// In `read_bytes`: exact read times are kept aside.
const ASIDE: u8 = 0x40;
/// In `write_time`: the word's bytes are kept aside, one by one.
const SPLIT: u32 = u32::MAX;

/// How a word is accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// An access of some lanes to the same bytes of a word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch {
    pub(crate) kind: Kind,
    pub(crate) strong: bool,
    pub(crate) lanes: u32,
    /// One bit per byte.
    pub(crate) bytes: u8,
}

/// The other side of a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) kind: Kind,
    /// Its block; none if several.
    pub(crate) block: Option<u32>,
    /// Its thread in the block, if only one is known to be.
    pub(crate) thread: Option<u32>,
}

impl Cell {
    /// The common weak reads, done at once: the last write is ordered before, and so are the earlier reads, or they
    /// carry the same stamp. False if more has to be looked at.
    #[inline(always)]
    pub(crate) fn read_at_once(&mut self, me: &Me<'_>, lanes: u32, bytes: u8) -> bool {
        let written_before =
            self.write_time == 0 || (self.write_block == me.block && self.write_time <= me.floor);
        let alike = self.write_bytes & 0xf == bytes || self.write_time == 0;
        if !written_before || !alike {
            return false;
        }
        if self.read_block == MANY {
            return self.read_bytes == bytes;
        }
        if self.read_block != me.block {
            return false;
        }
        if self.read_time == me.time && self.read_bytes == bytes {
            if self.read_warps != me.bit {
                self.read_warps |= me.bit;
                return true;
            }
            self.read_lanes |= lanes;
            return self.read_sub == me.sub;
        }
        if self.read_time <= me.floor && self.read_bytes & ASIDE == 0 {
            self.read_time = me.time;
            self.read_warps = me.bit;
            self.read_lanes = lanes;
            self.read_sub = me.sub;
            self.read_bytes = bytes;
            return true;
        }
        false
    }

    /// The common weak writes, done at once: all earlier accesses are ordered before.
    #[inline(always)]
    pub(crate) fn write_at_once(&mut self, me: &Me<'_>, lanes: u32, bytes: u8) -> bool {
        let own = self.write_block == me.block && self.read_block == me.block;
        let past = self.write_time <= me.floor && self.read_time <= me.floor;
        let alike = self.write_bytes & 0xf == bytes
            && (self.read_bytes & (ASIDE | 0xf) == bytes || self.read_time == 0);
        if own && past && alike {
            self.write_time = me.time;
            self.write_thread = (me.warp * 32 + lanes.trailing_zeros()) as u16;
            self.write_sub = me.sub;
            self.write_bytes = bytes;
            self.read_time = 0;
            return true;
        }
        false
    }

    /// Forgets what an earlier block did, if blocks have a memory each.
    pub(crate) fn forget_others(&mut self, block: u32) {
        if self.write_block != block {
            self.write_block = block;
            self.write_time = 0;
            self.write_bytes = 0;
        }
        if self.read_block != block {
            self.read_block = block;
            self.read_time = 0;
            self.read_bytes = 0;
            self.read_warps = 0;
        }
    }

    /// Whether the bytes are kept aside.
    pub(crate) fn is_split(&self) -> bool {
        self.write_time == SPLIT
    }

    /// Marks that the bytes are kept aside.
    pub(crate) fn set_split(&mut self, block: u32) {
        *self = Cell { write_time: SPLIT, write_block: block, read_block: block, ..Cell::default() };
    }

    /// Whether exact read times are kept aside.
    pub(crate) fn has_times(&self) -> bool {
        self.read_bytes & ASIDE != 0
    }

    /// Marks whether exact read times are kept aside.
    pub(crate) fn set_times(&mut self, kept: bool) {
        self.read_bytes = self.read_bytes & !ASIDE | if kept { ASIDE } else { 0 };
    }

    /// Whether accesses of other bytes would be lost by recording this one.
    pub(crate) fn needs_split(&self, touch: &Touch) -> bool {
        let differs = |bytes: u8, time: u32| time != 0 && bytes & 0xf != touch.bytes;
        differs(self.write_bytes, self.write_time) || differs(self.read_bytes, self.read_time)
    }

    /// The part of the cell that byte `k` takes.
    pub(crate) fn byte(&self, k: u8) -> Cell {
        let mut cell = *self;
        if self.write_bytes >> k & 1 == 0 {
            cell.write_time = 0;
            cell.write_bytes = 0;
        } else {
            cell.write_bytes = 1 << k | self.write_bytes & STRONG;
        }
        if self.read_bytes >> k & 1 == 0 {
            cell.read_time = 0;
            cell.read_bytes = 0;
            cell.read_warps = 0;
        } else {
            cell.read_bytes = 1 << k | self.read_bytes & STRONG;
        }
        cell
    }

    /// One cell for four bytes, if all that is remembered of them is the same but for the lanes, and is ordered before
    /// what `me` does.
    pub(crate) fn joined(bytes: &[Cell; 4], me: &Me<'_>) -> Option<Cell> {
        let first = bytes[0];
        let warp = |cell: &Cell| cell.write_thread / 32;
        let alike = bytes.iter().all(|cell| {
            let write = cell.write_time == first.write_time
                && (cell.write_time == 0 || (cell.write_block == me.block && warp(cell) == warp(&first)));
            let past = cell.write_time <= me.floor && cell.read_time <= me.floor;
            write && past && cell.read_time == 0
        });
        alike.then(|| {
            let write_bytes = if first.write_time == 0 { 0 } else { 0xf | first.write_bytes & STRONG };
            Cell { write_bytes, read_bytes: 0, read_warps: 0, ..first }
        })
    }

    /// Checks an access against what is remembered, and remembers it. `times` are exact read times by warp, kept
    /// aside when the warps that read have different ones.
    pub(crate) fn touch(
        &mut self,
        touch: &Touch,
        me: &Me<'_>,
        times: &mut Option<Vec<u32>>,
    ) -> Option<Conflict> {
        let conflict = self.write_conflict(touch, me);
        if conflict.is_some() {
            return conflict;
        }
        if touch.kind == Kind::Read {
            self.record_read(touch, me, times);
            return None;
        }
        let conflict = self.read_conflict(touch, me, times.as_deref());
        if conflict.is_some() {
            return conflict;
        }
        self.record_write(touch, me);
        *times = None;
        None
    }

    fn write_conflict(&self, touch: &Touch, me: &Me<'_>) -> Option<Conflict> {
        let both_strong = touch.strong && self.write_bytes & STRONG != 0;
        if self.write_time == 0 || both_strong || self.write_bytes & touch.bytes == 0 {
            return None;
        }
        let thread = u32::from(self.write_thread);
        let many = self.write_thread == MANY_THREADS;
        let ordered = if self.write_block != me.block {
            if many {
                me.clock.acquired.knows_of(self.write_block)
            } else {
                me.clock.acquired.knows(self.write_block, thread / 32, self.write_time)
            }
        } else if many || self.write_time <= me.floor {
            self.write_time <= me.floor
        } else if thread / 32 != me.warp {
            me.clock.knows(thread / 32, self.write_time)
        } else {
            lanes(touch.lanes)
                .all(|lane| me.clock.lane_knows(lane, thread % 32, self.write_time, self.write_sub))
        };
        let thread = (!many).then_some(thread);
        (!ordered).then_some(Conflict { kind: Kind::Write, block: Some(self.write_block), thread })
    }

    fn read_conflict(&self, touch: &Touch, me: &Me<'_>, times: Option<&[u32]>) -> Option<Conflict> {
        let both_strong = touch.strong && self.read_bytes & STRONG != 0;
        if self.read_time == 0 || both_strong || self.read_bytes & touch.bytes == 0 {
            return None;
        }
        let read = |block, thread| Some(Conflict { kind: Kind::Read, block, thread });
        if self.read_block == MANY {
            return if me.knows_all_blocks() { None } else { read(None, None) };
        }
        if self.read_block != me.block {
            let known = lanes(self.read_warps).all(|warp| {
                me.clock.acquired.knows(self.read_block, warp, exact(times, warp, self.read_time))
            });
            return if known { None } else { read(Some(self.read_block), self.only_reader()) };
        }
        if self.read_time <= me.floor {
            return None;
        }
        for warp in lanes(self.read_warps & !me.bit) {
            if !me.clock.knows(warp, exact(times, warp, self.read_time)) {
                let alone = if self.read_warps == 1 << warp { self.only_reader() } else { Some(warp * 32) };
                return read(Some(me.block), alone);
            }
        }
        if self.read_warps == me.bit {
            let writers = touch.lanes;
            for other in lanes(self.read_lanes) {
                let raced = lanes(writers)
                    .any(|lane| !me.clock.lane_knows(lane, other, self.read_time, self.read_sub));
                if raced {
                    return read(Some(me.block), Some(me.warp * 32 + other));
                }
            }
        }
        None
    }

    fn only_reader(&self) -> Option<u32> {
        (self.read_warps.count_ones() == 1)
            .then(|| self.read_warps.trailing_zeros() * 32 + (self.read_lanes.trailing_zeros() & 31))
    }

    fn record_write(&mut self, touch: &Touch, me: &Me<'_>) {
        let first = touch.lanes.trailing_zeros();
        let thread = (me.warp * 32 + first) as u16;
        // Atomics that nothing orders: later weak accesses must come after all of them.
        let unordered = touch.strong
            && self.write_time != 0
            && self.write_bytes & STRONG != 0
            && self.write_block == me.block
            && self.write_time > me.floor
            && (self.write_thread != thread || touch.lanes.count_ones() > 1);
        *self = Cell {
            write_time: if unordered { self.write_time.max(me.time) } else { me.time },
            write_block: me.block,
            write_thread: if unordered { MANY_THREADS } else { thread },
            write_sub: me.sub,
            write_bytes: touch.bytes | if touch.strong { STRONG } else { 0 },
            read_block: me.block,
            ..Cell::default()
        };
    }

    fn record_read(&mut self, touch: &Touch, me: &Me<'_>, times: &mut Option<Vec<u32>>) {
        let strong = if touch.strong { STRONG } else { 0 };
        let past = self.read_time == 0 || (self.read_block == me.block && self.read_time <= me.floor);
        if past {
            *times = None;
            self.read_time = me.time;
            self.read_block = me.block;
            self.read_warps = me.bit;
            self.read_lanes = touch.lanes;
            self.read_sub = me.sub;
            self.read_bytes = touch.bytes | strong;
            return;
        }
        self.read_bytes = (self.read_bytes | touch.bytes) & (strong | 0xf);
        if self.read_block != me.block {
            *times = None;
            self.read_block = MANY;
            return;
        }
        if self.read_warps == me.bit {
            // Reads of before a synchronisation of the whole warp come before these.
            let resynced = self.read_time < me.time
                || lanes(self.read_lanes).all(|other| {
                    lanes(touch.lanes)
                        .all(|lane| me.clock.lane_knows(lane, other, self.read_time, self.read_sub))
                });
            self.read_lanes = touch.lanes | if resynced { 0 } else { self.read_lanes };
            self.read_time = me.time;
            self.read_sub = me.sub;
            return;
        }
        if self.read_time != me.time || times.is_some() {
            let old = self.read_time;
            let list = times.get_or_insert_with(|| vec![0; 32]);
            for warp in lanes(self.read_warps) {
                let time = &mut list[warp as usize];
                if *time == 0 {
                    *time = old;
                }
            }
            list[me.warp as usize & 31] = me.time;
        }
        self.read_warps |= me.bit;
        self.read_time = self.read_time.max(me.time);
    }
}

fn exact(times: Option<&[u32]>, warp: u32, time: u32) -> u32 {
    times.and_then(|times| times.get(warp as usize)).copied().filter(|time| *time != 0).unwrap_or(time)
}

fn lanes(mask: u32) -> impl Iterator<Item = u32> + Clone {
    super::super::set_bits(mask).map(|lane| lane as u32)
}
