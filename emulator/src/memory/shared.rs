//! Shared memory of one block.
use super::POISON;

/// Bits of a word's state: which of its bytes were written, and which an asynchronous copy will still write.
const WRITTEN: u8 = 0x0f;
const PENDING: u8 = 0xf0;

/// What may be wrong with bytes that are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unready {
    /// Nobody wrote them.
    Uninitialised,
    /// An asynchronous copy that nobody waited for will.
    Pending,
}

/// The bytes of a block's shared memory and the state of each.
pub(crate) struct SharedMemory {
    bytes: u32,
    words: Vec<u32>,
    state: Vec<u8>,
}

impl SharedMemory {
    pub(crate) fn new(bytes: u32) -> Self {
        let words = bytes.div_ceil(4) as usize;
        SharedMemory { bytes, words: vec![POISON; words], state: vec![0; words] }
    }

    /// Makes it as new for the next block.
    pub(crate) fn reset(&mut self) {
        self.words.fill(POISON);
        self.state.fill(0);
    }

    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// All of it, by words.
    pub(crate) fn words(&self) -> &[u32] {
        &self.words
    }

    /// The `len` (1, 2 or 4) bytes at `at`, a multiple of `len`.
    #[inline(always)]
    pub(crate) fn load(&self, at: u32, len: u32) -> u32 {
        let word = self.words.get((at >> 2) as usize).copied().unwrap_or(0);
        match len {
            4 => word,
            2 => (word >> ((at & 2) * 8)) & 0xffff,
            _ => (word >> ((at & 3) * 8)) & 0xff,
        }
    }

    /// Writes the low `len` (1, 2 or 4) bytes of `value` and marks them as written.
    #[inline(always)]
    pub(crate) fn store(&mut self, at: u32, len: u32, value: u32) {
        let index = (at >> 2) as usize;
        let (Some(word), Some(state)) = (self.words.get_mut(index), self.state.get_mut(index)) else {
            return;
        };
        if len == 4 {
            *word = value;
            *state |= WRITTEN;
            return;
        }
        let shift = (at & 3) * 8;
        let keep = if len == 2 { 0xffff_u32 } else { 0xff };
        *word = (*word & !(keep << shift)) | ((value & keep) << shift);
        *state |= nibble(at, len);
    }

    /// What is wrong with reading the `len <= 16` bytes at `at`, if anything.
    #[inline(always)]
    pub(crate) fn unready(&self, at: u32, len: u32) -> Option<Unready> {
        let first = (at >> 2) as usize;
        let words = self.state.get(first..first + (len as usize).div_ceil(4)).unwrap_or_default();
        if words.iter().fold(0, |other, state| other | state ^ WRITTEN) == 0 {
            None
        } else {
            self.unready_bytes(at, len)
        }
    }

    fn unready_bytes(&self, at: u32, len: u32) -> Option<Unready> {
        let mut next = at;
        let end = at + len;
        while next < end {
            let part = (4 - (next & 3)).min(end - next);
            let state = self.state.get((next >> 2) as usize).copied().unwrap_or(0);
            let bits = nibble(next, part);
            if state & (bits << 4) != 0 {
                return Some(Unready::Pending);
            }
            if state & bits != bits {
                return Some(Unready::Uninitialised);
            }
            next += part;
        }
        None
    }

    /// Whether an asynchronous copy will still write one of these bytes.
    #[inline(always)]
    pub(crate) fn pending(&self, at: u32, len: u32) -> bool {
        let first = (at >> 2) as usize;
        let words = self.state.get(first..first + (len as usize).div_ceil(4)).unwrap_or_default();
        words.iter().fold(0, |all, state| all | state & PENDING) != 0 && self.pending_bytes(at, len)
    }

    fn pending_bytes(&self, at: u32, len: u32) -> bool {
        (at..at + len).any(|byte| {
            self.state.get((byte >> 2) as usize).is_some_and(|state| state & (nibble(byte, 1) << 4) != 0)
        })
    }

    /// Marks whole words as the destination of an asynchronous copy, and poisons them.
    pub(crate) fn set_pending(&mut self, at: u32, len: u32) {
        for word in at >> 2..(at + len).div_ceil(4) {
            if let Some(state) = self.state.get_mut(word as usize) {
                *state = PENDING;
                self.words[word as usize] = POISON;
            }
        }
    }

    /// The copy has arrived: its bytes are written.
    pub(crate) fn deliver(&mut self, at: u32, bytes: &[u8]) {
        for (k, chunk) in bytes.chunks_exact(4).enumerate() {
            let index = (at >> 2) as usize + k;
            if let (Some(word), Some(state)) = (self.words.get_mut(index), self.state.get_mut(index)) {
                *word = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
                *state = WRITTEN;
            }
        }
    }
}

/// The bits of the bytes `at..at + len` inside their word.
#[inline(always)]
fn nibble(at: u32, len: u32) -> u8 {
    (((1u32 << len) - 1) << (at & 3)) as u8
}
