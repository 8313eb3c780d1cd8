//! Links to other libraries: the loss on tensors and streams that a trainer already holds, without a copy.
//!
//! | trainer | link |
//! |---|---|
//! | plain cudarc | none needed: [`crate::cuda`] takes its slices and streams |
//! | candle | `candle`: an operation with backward (feature `candle`; on CUDA `candle-cuda`) |
//! | anything with a `CUstream` and device pointers | [`raw`] |
//!
//! `docs/link-*.md` has a page for each: ten lines to paste, what is copied, which stream, which thread, and
//! what happens on error.

#[cfg(feature = "candle")]
pub mod candle;
#[cfg(feature = "cuda")]
pub mod raw;
