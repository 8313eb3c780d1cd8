//! Cells of a stretch of memory, and what does not fit into a cell.
use super::cell::{Cell, Conflict, Kind, Touch};
use super::clock::WarpClock;
use rustc_hash::FxHashMap as HashMap;

/// Who accesses.
#[derive(Clone, Copy)]
pub(crate) struct Me<'a> {
    pub(crate) block: u32,
    pub(crate) blocks: u32,
    pub(crate) warp: u32,
    /// The warp's bit in a set of warps.
    pub(crate) bit: u32,
    /// Copies of the clock's stamp and floor, which every access needs.
    pub(crate) time: u32,
    pub(crate) sub: u16,
    pub(crate) floor: u32,
    pub(crate) clock: &'a WarpClock,
}

impl<'a> Me<'a> {
    pub(crate) fn new(block: u32, blocks: u32, warp: u32, clock: &'a WarpClock) -> Self {
        let WarpClock { time, sub, floor, .. } = *clock;
        Me { block, blocks, warp, bit: 1 << (warp & 31), time, sub, floor, clock }
    }

    /// Whether something that each other block of the launch published is known.
    pub(crate) fn knows_all_blocks(&self) -> bool {
        (0..self.blocks).all(|block| block == self.block || self.clock.acquired.knows_of(block))
    }
}

/// A cell for each word. `ONE_BLOCK`: every block has a memory of its own, what others did is forgotten.
#[derive(Default)]
pub(crate) struct Shadow<const ONE_BLOCK: bool> {
    cells: Vec<Cell>,
    /// Words whose bytes different threads access, byte by byte.
    split: HashMap<u32, [Cell; 4]>,
    /// Read times by warp, of words read at different ones.
    times: HashMap<u32, Vec<u32>>,
}

impl<const ONE_BLOCK: bool> Shadow<ONE_BLOCK> {
    pub(crate) fn new(words: usize) -> Self {
        Shadow { cells: vec![Cell::default(); words], split: HashMap::default(), times: HashMap::default() }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.cells.fill(Cell::default());
        self.forget_asides();
    }

    /// Forgets what does not carry the number of its block.
    pub(crate) fn forget_asides(&mut self) {
        self.split.clear();
        self.times.clear();
    }

    /// Checks and remembers an access to the same bytes of `count` words from `word` on.
    #[inline(always)]
    pub(crate) fn touch(&mut self, word: u32, count: u32, touch: &Touch, me: &Me<'_>) -> Option<Conflict> {
        let cells = self.cells.get_mut(word as usize..(word + count) as usize)?;
        if !touch.strong {
            let mut done = true;
            for cell in cells {
                done &= match touch.kind {
                    Kind::Read => cell.read_at_once(me, touch.lanes, touch.bytes),
                    Kind::Write => cell.write_at_once(me, touch.lanes, touch.bytes),
                };
            }
            if done {
                return None;
            }
        }
        // To do a word twice does no harm: the second time it is the same thread's own access.
        (word..word + count).find_map(|word| self.touch_slowly(word, touch, me))
    }

    #[inline(never)]
    fn touch_slowly(&mut self, word: u32, touch: &Touch, me: &Me<'_>) -> Option<Conflict> {
        let cell = self.cells.get_mut(word as usize)?;
        if ONE_BLOCK {
            cell.forget_others(me.block);
        }
        if cell.is_split()
            && let Some(bytes) = self.split.get_mut(&word)
        {
            match if touch.bytes == 0xf { Cell::joined(bytes, me) } else { None } {
                Some(joined) => {
                    *cell = joined;
                    self.split.remove(&word);
                }
                None => return touch_bytes(bytes, touch, me),
            }
        } else if cell.needs_split(touch) {
            let mut bytes = [0, 1, 2, 3].map(|k| cell.byte(k));
            cell.set_split(me.block);
            let conflict = touch_bytes(&mut bytes, touch, me);
            self.split.insert(word, bytes);
            self.times.remove(&word);
            return conflict;
        }
        let mut times = if cell.has_times() { self.times.remove(&word) } else { None };
        let conflict = cell.touch(touch, me, &mut times);
        cell.set_times(times.is_some());
        if let Some(times) = times {
            self.times.insert(word, times);
        }
        conflict
    }
}

fn touch_bytes(bytes: &mut [Cell; 4], touch: &Touch, me: &Me<'_>) -> Option<Conflict> {
    let mut found = None;
    for (k, cell) in bytes.iter_mut().enumerate() {
        let bit = 1 << k;
        if touch.bytes & bit != 0 {
            let conflict = cell.touch(&Touch { bytes: bit, ..*touch }, me, &mut None);
            found = found.or(conflict);
        }
    }
    found
}
