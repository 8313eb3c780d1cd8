//! f16 and bf16: their bits, their arithmetic, and pairs of them in one register.

use super::NAN_HALF;
use super::minmax::{Extreme, MinMaxMode, extreme_f32};
use super::rounding::{Format, Rounding, narrow, odd_sum};

/// Which 16-bit format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// 5 bits of exponent, 10 of fraction.
    F16,
    /// 8 bits of exponent, 7 of fraction.
    Bf16,
}

/// The modifiers of half-precision arithmetic, which rounds to nearest only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HalfMode {
    /// `.ftz`: subnormal f16 inputs and results become zeros of their sign.
    pub ftz: bool,
    /// `.sat`: the result is clamped to [0, 1], NaN becomes +0.
    pub sat: bool,
    /// `.relu`: negative results become +0, NaN stays.
    pub relu: bool,
}

/// f16 bits to f32, exactly.
#[inline(always)]
pub fn f16_to_f32(half: u16) -> f32 {
    let magnitude = u32::from(half & 0x7FFF) << 13;
    let sign = u32::from(half & 0x8000) << 16;
    // Scaling by 2^112 moves the exponent from f16's bias to f32's, subnormals included.
    let finite = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let bits = if magnitude >= 0x0F80_0000 { magnitude | 0x7F80_0000 } else { finite };
    f32::from_bits(bits | sign)
}

/// f32 to f16 bits, to the nearest, ties to even; NaN becomes `0x7FFF`.
#[inline(always)]
pub fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7FFF_FFFF;
    // An ulp of 0.5 is f16's smallest subnormal, so this addition rounds to it.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3F00_0000);
    let tie = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_add(0xFFF + tie).wrapping_sub(112 << 23) >> 13;
    let finite = if magnitude < 0x3880_0000 { subnormal } else { normal };
    // From 65520 on the nearest f16 is infinity.
    let value = if magnitude >= 0x477F_F000 { 0x7C00 } else { finite };
    if magnitude > 0x7F80_0000 { NAN_HALF } else { value as u16 | sign }
}

/// bf16 bits to f32, exactly.
#[inline(always)]
pub fn bf16_to_f32(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// f32 to bf16 bits, to the nearest, ties to even; NaN becomes `0x7FFF`.
#[inline(always)]
pub fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
    if x.is_nan() { NAN_HALF } else { rounded as u16 }
}

/// The bits of a value in f32, exactly.
#[inline(always)]
pub fn to_f32(kind: Half, bits: u16) -> f32 {
    match kind {
        Half::F16 => f16_to_f32(bits),
        Half::Bf16 => bf16_to_f32(bits),
    }
}

/// The nearest value's bits, ties to even.
#[inline(always)]
pub fn from_f32(kind: Half, x: f32) -> u16 {
    match kind {
        Half::F16 => f32_to_f16(x),
        Half::Bf16 => f32_to_bf16(x),
    }
}

/// The nearest value's bits in the stated direction.
#[inline]
pub fn from_f64(kind: Half, x: f64, rounding: Rounding) -> u16 {
    let format = match kind {
        Half::F16 => Format::F16,
        Half::Bf16 => Format::BF16,
    };
    // f32 holds every value of both formats, so only `narrow` rounds.
    from_f32(kind, narrow(x, format, rounding) as f32)
}

/// A subnormal f16 becomes a zero of its sign; bf16 keeps its subnormals.
#[inline(always)]
fn flush(kind: Half, bits: u16) -> u16 {
    if kind == Half::F16 && bits & 0x7C00 == 0 { bits & 0x8000 } else { bits }
}

#[inline(always)]
fn input(kind: Half, bits: u16, mode: HalfMode) -> f32 {
    to_f32(kind, if mode.ftz { flush(kind, bits) } else { bits })
}

/// Applies the modifiers of a result.
#[inline(always)]
pub(super) fn output(kind: Half, bits: u16, mode: HalfMode) -> u16 {
    let bits = if mode.ftz { flush(kind, bits) } else { bits };
    let (one, infinity) = match kind {
        Half::F16 => (0x3C00, 0x7C00),
        Half::Bf16 => (0x3F80, 0x7F80),
    };
    let is_nan = bits & 0x7FFF > infinity;
    let negative = bits & 0x8000 != 0;
    if mode.sat {
        return if is_nan || negative { 0 } else { bits.min(one) };
    }
    if is_nan {
        NAN_HALF
    } else if mode.relu && negative {
        0
    } else {
        bits
    }
}

/// `add{.rnd}{.ftz}{.sat}`.
#[inline(always)]
pub fn add(kind: Half, a: u16, b: u16, mode: HalfMode) -> u16 {
    // f32 has more than twice the digits, so rounding twice equals rounding once.
    let sum = input(kind, a, mode) + input(kind, b, mode);
    output(kind, from_f32(kind, sum), mode)
}

/// `sub{.rnd}{.ftz}{.sat}`.
#[inline(always)]
pub fn sub(kind: Half, a: u16, b: u16, mode: HalfMode) -> u16 {
    add(kind, a, b ^ 0x8000, mode)
}

/// `mul{.rnd}{.ftz}{.sat}`.
#[inline(always)]
pub fn mul(kind: Half, a: u16, b: u16, mode: HalfMode) -> u16 {
    // f32 holds the product exactly, but for bf16 products far below the smallest subnormal.
    let product = from_f32(kind, input(kind, a, mode) * input(kind, b, mode));
    output(kind, product, mode)
}

/// `fma.rn{.ftz}{.sat}{.relu}`: `a * b + c`, rounded once.
#[inline]
pub fn fma(kind: Half, a: u16, b: u16, c: u16, mode: HalfMode) -> u16 {
    let [a, b, c] = [a, b, c].map(|bits| f64::from(input(kind, bits, mode)));
    output(kind, from_f64(kind, odd_sum(a * b, c), Rounding::Nearest), mode)
}

/// `min` or `max`.
#[inline(always)]
pub fn extreme(kind: Half, extreme: Extreme, a: u16, b: u16, mode: MinMaxMode) -> u16 {
    let flushing = HalfMode { ftz: mode.ftz, ..HalfMode::default() };
    let (a, b) = (input(kind, a, flushing), input(kind, b, flushing));
    // Flushing is done, and f32's would flush all of f16's subnormals' neighbours in bf16.
    from_f32(kind, extreme_f32(extreme, a, b, MinMaxMode { ftz: false, ..mode }))
}

/// `neg{.ftz}`.
#[inline(always)]
pub fn neg(kind: Half, a: u16, ftz: bool) -> u16 {
    (if ftz { flush(kind, a) } else { a }) ^ 0x8000
}

/// `abs{.ftz}`.
#[inline(always)]
pub fn abs(kind: Half, a: u16, ftz: bool) -> u16 {
    (if ftz { flush(kind, a) } else { a }) & 0x7FFF
}

/// The halves of a packed register, lower one first.
#[inline(always)]
pub fn unpack(packed: u32) -> [u16; 2] {
    [packed as u16, (packed >> 16) as u16]
}

/// Puts two halves into one register, lower one first.
#[inline(always)]
pub fn pack(halves: [u16; 2]) -> u32 {
    u32::from(halves[0]) | u32::from(halves[1]) << 16
}

/// Applies an operation to each half: `packed([a, b], |[x, y]| add(kind, x, y, mode))` is `add.f16x2`.
#[inline(always)]
pub fn packed<const N: usize>(operands: [u32; N], operation: impl Fn([u16; N]) -> u16) -> u32 {
    pack([operation(operands.map(|one| one as u16)), operation(operands.map(|one| (one >> 16) as u16))])
}
