//! One allocation: its bytes and its shadows.
use super::POISON;
use super::bitmap::InitMap;
use super::race::Pages;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keeps 64-bit atomics on one place apart from each other, since the bytes are kept as 32-bit words.
fn lock(at: u64) -> MutexGuard<'static, ()> {
    static LOCKS: [Mutex<()>; 64] = [const { Mutex::new(()) }; 64];
    LOCKS[(at >> 3) as usize % LOCKS.len()].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of one allocation. Blocks on several host threads read and write them at once, so they are kept as relaxed
/// atomic words; a narrower write changes its bits of a word with one atomic step.
pub(crate) struct Allocation {
    pub(crate) base: u64,
    pub(crate) bytes: u64,
    /// The name of a module's variable, or nothing for memory the host asked for.
    pub(crate) name: Option<String>,
    words: Box<[AtomicU32]>,
    pub(crate) init: InitMap,
    pub(crate) pages: Pages,
}

impl Allocation {
    pub(crate) fn new(base: u64, bytes: u64, name: Option<String>) -> Self {
        let words = (bytes as usize).div_ceil(4);
        Allocation {
            base,
            bytes,
            name,
            words: (0..words).map(|_| AtomicU32::new(POISON)).collect(),
            init: InitMap::new(bytes),
            pages: Pages::new(bytes),
        }
    }

    /// The word that holds byte `at`.
    #[inline(always)]
    pub(crate) fn word(&self, at: u64) -> Option<&AtomicU32> {
        self.words.get((at >> 2) as usize)
    }

    /// The `len` (1, 2 or 4) bytes at `at`, a multiple of `len`; 0 outside the allocation.
    #[inline(always)]
    pub(crate) fn load(&self, at: u64, len: u32) -> u32 {
        let word = self.word(at).map_or(0, |word| word.load(Relaxed));
        match len {
            4 => word,
            2 => (word >> ((at & 2) * 8)) & 0xffff,
            _ => (word >> ((at & 3) * 8)) & 0xff,
        }
    }

    /// Writes the low `len` (1, 2 or 4) bytes of `value` at `at`, a multiple of `len`.
    #[inline(always)]
    pub(crate) fn store(&self, at: u64, len: u32, value: u32) {
        let Some(word) = self.word(at) else { return };
        if len == 4 {
            word.store(value, Relaxed);
            return;
        }
        let shift = (at & 3) * 8;
        let keep = if len == 2 { 0xffff_u32 } else { 0xff };
        let mut old = word.load(Relaxed);
        loop {
            let new = (old & !(keep << shift)) | ((value & keep) << shift);
            match word.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }

    /// Replaces the `len` (2, 4 or 8) bytes at `at`, a multiple of `len`, in one atomic step; gives the old value.
    pub(crate) fn update(&self, at: u64, len: u32, change: impl Fn(u64) -> u64) -> u64 {
        if len == 8 {
            let _alone = lock(at);
            let old = u64::from(self.load(at, 4)) | u64::from(self.load(at + 4, 4)) << 32;
            let new = change(old);
            self.store(at, 4, new as u32);
            self.store(at + 4, 4, (new >> 32) as u32);
            return old;
        }
        let Some(word) = self.word(at) else { return 0 };
        let shift = (at & 2) * 8;
        let keep = if len == 2 { 0xffff_u32 << shift } else { u32::MAX };
        let mut old = word.load(Relaxed);
        loop {
            let field = u64::from((old & keep) >> if len == 2 { shift } else { 0 });
            let changed = (change(field) as u32) << if len == 2 { shift } else { 0 };
            match word.compare_exchange_weak(old, (old & !keep) | (changed & keep), Relaxed, Relaxed) {
                Ok(_) => return field,
                Err(now) => old = now,
            }
        }
    }

    /// Copies bytes in; the range was checked.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        self.init.set_range(at, bytes.len() as u64);
        let head = ((4 - (at & 3)) & 3).min(bytes.len() as u64) as usize;
        let (first, rest) = bytes.split_at(head);
        for (k, byte) in first.iter().enumerate() {
            self.store(at + k as u64, 1, u32::from(*byte));
        }
        let start = at + head as u64;
        let mut chunks = rest.chunks_exact(4);
        let mut next = start;
        for chunk in &mut chunks {
            self.store(next, 4, u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
            next += 4;
        }
        for (k, byte) in chunks.remainder().iter().enumerate() {
            self.store(next + k as u64, 1, u32::from(*byte));
        }
    }

    /// Copies bytes out; the range was checked.
    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) {
        let mut next = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = self.load(next & !3, 4).to_le_bytes();
            let skip = (next & 3) as usize;
            let take = (4 - skip).min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            now.copy_from_slice(&word[skip..skip + take]);
            next += take as u64;
            rest = later;
        }
    }
}
