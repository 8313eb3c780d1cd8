//! Scalar semantics against independent statements of them: LLVM's software floating point
//! (`rustc_apfloat`), wide integer arithmetic, bit-by-bit definitions, and exhaustive sweeps of 16-bit inputs.

mod approx;
mod bits;
mod compare;
mod convert;
mod float32;
mod float64;
mod half_precision;
mod integer;
mod matrix;
mod oracle;

use ptx_emulator::exec::scalar::Rounding;

const ROUNDINGS: [Rounding; 4] = [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up];
