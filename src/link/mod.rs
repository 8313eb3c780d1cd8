//! Links to other libraries: the loss on tensors and streams that a trainer already holds, without a copy.
//!
//! | trainer | link |
//! |---|---|
//! | plain cudarc | none needed: `cuda` takes its slices and streams |
//! | candle | `candle`: an operation with backward (feature `candle`; on CUDA `candle-cuda`) |
//! | cust | `cust`: its buffers and streams (feature `cust`) |
//! | anything that speaks DLPack | `dlpack`: import and export (feature `dlpack`) |
//! | anything with a `CUstream` and device pointers | `raw` (feature `cuda`) |
//!
//! `docs/link-*.md` has a page for each: ten lines to paste, what is copied, which stream, which thread, and
//! what happens on error.

#[cfg(feature = "candle")]
pub mod candle;
#[cfg(feature = "cust")]
pub mod cust;
#[cfg(feature = "dlpack")]
pub mod dlpack;
#[cfg(feature = "cuda")]
pub mod raw;

/// The pages' code compiles, and runs where it can.
#[cfg(doctest)]
mod pages {
    #[cfg(feature = "cuda")]
    #[doc = include_str!("../../docs/link-raw.md")]
    #[doc = include_str!("../../docs/link-cudarc.md")]
    struct Cuda;

    #[cfg(feature = "candle")]
    #[doc = include_str!("../../docs/link-candle.md")]
    struct Candle;

    #[cfg(feature = "cust")]
    #[doc = include_str!("../../docs/link-cust.md")]
    struct Cust;

    #[cfg(feature = "dlpack")]
    #[doc = include_str!("../../docs/link-dlpack.md")]
    struct Dlpack;
}
