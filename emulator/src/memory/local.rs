//! Local memory of the threads of one warp.
use super::POISON;

/// Words of all lanes side by side, with a nibble per word that says which bytes were written.
pub(crate) struct LocalMemory {
    bytes: u32,
    words: Vec<[u32; 32]>,
    written: Vec<[u8; 32]>,
}

impl LocalMemory {
    pub(crate) fn new(bytes: u32) -> Self {
        let words = bytes.div_ceil(4) as usize;
        LocalMemory { bytes, words: vec![[POISON; 32]; words], written: vec![[0; 32]; words] }
    }

    /// Makes it as new for the next block.
    pub(crate) fn reset(&mut self) {
        self.words.fill([POISON; 32]);
        self.written.fill([0; 32]);
    }

    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// The `len` (1, 2 or 4) bytes at `at`, a multiple of `len`, of one lane.
    #[inline(always)]
    pub(crate) fn load(&self, lane: usize, at: u32, len: u32) -> u32 {
        let word = self.words.get((at >> 2) as usize).map_or(0, |word| word[lane]);
        match len {
            4 => word,
            2 => (word >> ((at & 2) * 8)) & 0xffff,
            _ => (word >> ((at & 3) * 8)) & 0xff,
        }
    }

    /// Writes the low `len` (1, 2 or 4) bytes of `value` for one lane.
    #[inline(always)]
    pub(crate) fn store(&mut self, lane: usize, at: u32, len: u32, value: u32) {
        let index = (at >> 2) as usize;
        let (Some(word), Some(written)) = (self.words.get_mut(index), self.written.get_mut(index)) else {
            return;
        };
        let shift = (at & 3) * 8;
        let keep = if len >= 4 { u32::MAX } else { (1 << (8 * len)) - 1 };
        word[lane] = (word[lane] & !(keep << shift)) | ((value & keep) << shift);
        written[lane] |= nibble(at, len);
    }

    /// Whether the `len` bytes at `at` of a lane were all written.
    #[inline(always)]
    pub(crate) fn written(&self, lane: usize, at: u32, len: u32) -> bool {
        let mut next = at;
        while next < at + len {
            let part = (4 - (next & 3)).min(at + len - next);
            let bits = nibble(next, part);
            if self.written.get((next >> 2) as usize).is_none_or(|written| written[lane] & bits != bits) {
                return false;
            }
            next += part;
        }
        true
    }

    /// Copies bytes within a lane's memory; bytes never written stay so.
    pub(crate) fn copy(&mut self, lane: usize, dst: u32, src: u32, bytes: u32) {
        for k in 0..bytes {
            let value = self.load(lane, src + k, 1);
            let was_written = self.written(lane, src + k, 1);
            self.store(lane, dst + k, 1, value);
            if !was_written && let Some(written) = self.written.get_mut(((dst + k) >> 2) as usize) {
                written[lane] &= !nibble(dst + k, 1);
            }
        }
    }
}

#[inline(always)]
fn nibble(at: u32, len: u32) -> u8 {
    (((1u32 << len) - 1) << (at & 3)) as u8
}
