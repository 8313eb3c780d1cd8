//! Which bytes of a memory were written: one bit per byte.
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// One bit per byte, set once the byte is written. Shared by host threads; bits are only ever set, so relaxed
/// atomics are enough.
pub(crate) struct InitMap {
    bytes: u64,
    words: Box<[AtomicU32]>,
    /// Set once all bytes were written in one go, as by a copy from the host: then the bits need no look.
    whole: AtomicBool,
}

impl InitMap {
    pub(crate) fn new(bytes: u64) -> Self {
        let words = (bytes as usize).div_ceil(32);
        let words = (0..words).map(|_| AtomicU32::new(0)).collect();
        InitMap { bytes, words, whole: AtomicBool::new(false) }
    }

    /// Whether every byte is known to be written.
    #[inline(always)]
    pub(crate) fn whole(&self) -> bool {
        self.whole.load(Relaxed)
    }

    /// Whether all of the `len <= 32` bytes from `at` were written. `at` is a multiple of `len` or the range stays
    /// inside one aligned group of 32 bytes.
    #[inline(always)]
    pub(crate) fn has(&self, at: u64, len: u32) -> bool {
        let bits = mask(len) << (at & 31);
        self.words.get((at >> 5) as usize).is_some_and(|word| word.load(Relaxed) & bits == bits)
    }

    /// Marks `len <= 32` bytes from `at`, inside one aligned group of 32, as written.
    #[inline(always)]
    pub(crate) fn set(&self, at: u64, len: u32) {
        let bits = mask(len) << (at & 31);
        if let Some(word) = self.words.get((at >> 5) as usize)
            && word.load(Relaxed) & bits != bits
        {
            word.fetch_or(bits, Relaxed);
        }
    }

    /// Marks any range as written.
    pub(crate) fn set_range(&self, at: u64, len: u64) {
        for (start, part) in groups(at, len) {
            self.set(start, part);
        }
        if at == 0 && len == self.bytes {
            self.whole.store(true, Relaxed);
        }
    }

    /// The marks of a range, byte by byte.
    pub(crate) fn marks(&self, at: u64, len: u64) -> Vec<bool> {
        (at..at + len).map(|byte| self.has(byte, 1)).collect()
    }

    /// Takes the marks of some bytes back, where `written` says so.
    pub(crate) fn clear_unwritten(&self, at: u64, written: &[bool]) {
        for (k, written) in written.iter().enumerate() {
            let byte = at + k as u64;
            if !written {
                self.whole.store(false, Relaxed);
            }
            if !written && let Some(word) = self.words.get((byte >> 5) as usize) {
                word.fetch_and(!(1 << (byte & 31)), Relaxed);
            }
        }
    }

    /// Whether every byte of a range was written.
    pub(crate) fn has_range(&self, at: u64, len: u64) -> bool {
        groups(at, len).all(|(start, part)| self.has(start, part))
    }
}

fn mask(len: u32) -> u32 {
    if len >= 32 { u32::MAX } else { (1 << len) - 1 }
}

/// Splits a range at multiples of 32 bytes.
fn groups(at: u64, len: u64) -> impl Iterator<Item = (u64, u32)> {
    let end = at + len;
    let mut next = at;
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let start = next;
        next = ((start | 31) + 1).min(end);
        Some((start, (next - start) as u32))
    })
}
