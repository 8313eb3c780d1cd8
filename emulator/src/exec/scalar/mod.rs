//! What one lane computes: PTX's scalar semantics as plain functions of bits.
//!
//! Nothing here knows of warps, registers or memory. Single-precision results that are NaN are the
//! hardware's canonical one (`0x7FFFFFFF`), those of half precision `0x7FFF`.

pub mod approx;
pub mod bits;
pub mod compare;
pub mod convert;
pub mod float32;
pub mod float64;
pub mod half;
pub mod integer;
pub mod matrix;
pub mod minmax;
pub mod rounding;

pub use rounding::{FloatMode, Rounding};

/// The NaN that single-precision instructions return.
pub const NAN_F32: u32 = 0x7FFF_FFFF;
/// The NaN that f16 and bf16 instructions return.
pub const NAN_HALF: u16 = 0x7FFF;
