//! `cvt`: between any two numeric types, exactly rounded.

use super::float32::{canonical, flush, saturate};
use super::half::{self, Half, HalfMode};
use super::rounding::{Format, narrow, odd_sum, round_integral};
use super::{NAN_F32, Rounding, float64};
use crate::ptx::ast::ScalarType;

/// A `cvt` with its modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conversion {
    /// The destination's type.
    pub to: ScalarType,
    /// The source's type.
    pub from: ScalarType,
    /// `.rn`, `.rz`, `.rm`, `.rp`, or `.rni` and so on; [`Rounding::Nearest`] if none is stated.
    pub rounding: Rounding,
    /// Whether a conversion between floating-point types rounds to an integer (`.rni` and so on).
    pub integral: bool,
    /// `.rna`: to the nearest, ties away from zero (tf32 only).
    pub ties_away: bool,
    /// `.ftz`: subnormal f32 inputs and results become zeros of their sign.
    pub ftz: bool,
    /// `.sat`: integers are clamped to the destination, floating-point results to [0, 1].
    pub sat: bool,
    /// `.relu`: negative results become +0.
    pub relu: bool,
    /// `.satfinite`: a result too large becomes the largest finite number.
    pub satfinite: bool,
}

/// A value on its way: every source type fits one of the two exactly.
#[derive(Clone, Copy)]
enum Value {
    Integer(i128),
    Float(f64),
}

/// Width and signedness of an integer type.
fn integer(ty: ScalarType) -> Option<(u32, bool)> {
    Some(match ty {
        ScalarType::U8 | ScalarType::B8 => (8, false),
        ScalarType::U16 | ScalarType::B16 => (16, false),
        ScalarType::U32 | ScalarType::B32 => (32, false),
        ScalarType::U64 | ScalarType::B64 => (64, false),
        ScalarType::S8 => (8, true),
        ScalarType::S16 => (16, true),
        ScalarType::S32 => (32, true),
        ScalarType::S64 => (64, true),
        _ => return None,
    })
}

/// The lower `width` bits, extended to 64 by zeros or by their sign.
fn extend(bits: u64, width: u32, signed: bool) -> u64 {
    let unused = 64 - width;
    if signed { ((bits << unused).cast_signed() >> unused).cast_unsigned() } else { bits << unused >> unused }
}

impl Conversion {
    /// A conversion without modifiers.
    pub const fn new(to: ScalarType, from: ScalarType) -> Self {
        Self {
            to,
            from,
            rounding: Rounding::Nearest,
            integral: false,
            ties_away: false,
            ftz: false,
            sat: false,
            relu: false,
            satfinite: false,
        }
    }

    /// Converts the bits of the source, zero- or sign-extended at will, to those of the destination.
    /// A signed integer result is sign-extended to 64 bits.
    pub fn apply(self, bits: u64) -> u64 {
        let value = self.decode(bits);
        match integer(self.to) {
            Some((width, signed)) => self.to_integer(value, width, signed),
            None => self.to_float(value),
        }
    }

    fn decode(self, bits: u64) -> Value {
        if let Some((width, signed)) = integer(self.from) {
            let bits = extend(bits, width, signed);
            return Value::Integer(if signed { i128::from(bits.cast_signed()) } else { i128::from(bits) });
        }
        Value::Float(match self.from {
            ScalarType::F16 => f64::from(half::f16_to_f32(bits as u16)),
            ScalarType::Bf16 => f64::from(half::bf16_to_f32(bits as u16)),
            ScalarType::F64 => f64::from_bits(bits),
            _ => {
                let x = f32::from_bits(bits as u32);
                f64::from(canonical(if self.ftz { flush(x) } else { x }))
            }
        })
    }

    fn to_integer(self, value: Value, width: u32, signed: bool) -> u64 {
        match value {
            Value::Float(x) if x.is_nan() => {
                // As the hardware: f64 and 64-bit conversions give the top bit, all others zero.
                let wide = self.from == ScalarType::F64 || width == 64;
                if wide { extend(1 << (width - 1), width, signed) } else { 0 }
            }
            Value::Float(x) => clamp(round_integral(x, self.rounding) as i128, width, signed),
            Value::Integer(x) if self.sat => clamp(x, width, signed),
            Value::Integer(x) => extend(x as u64, width, signed),
        }
    }

    fn to_float(self, value: Value) -> u64 {
        match (self.to, value) {
            (ScalarType::F64, Value::Integer(x)) => {
                let (high, low) = split(x);
                self.finish_f64(float64::add(high, low, self.rounding))
            }
            (ScalarType::F64, Value::Float(x)) => self.finish_f64(self.round_to_integer(x)),
            (ScalarType::F16, value) => u64::from(self.to_half(value, Half::F16)),
            (ScalarType::Bf16, value) => u64::from(self.to_half(value, Half::Bf16)),
            (ScalarType::Tf32, value) => u64::from(self.to_tf32(self.wide(value))),
            (_, value) => u64::from(self.to_f32(self.wide(value))),
        }
    }

    /// The value in f64, with its integer rounding done; rounded to odd if it has more than 53 bits.
    fn wide(self, value: Value) -> f64 {
        match value {
            Value::Integer(x) => {
                let (high, low) = split(x);
                odd_sum(high, low)
            }
            Value::Float(x) => self.round_to_integer(x),
        }
    }

    fn round_to_integer(self, x: f64) -> f64 {
        if self.integral { round_integral(x, self.rounding) } else { x }
    }

    fn finish_f64(self, x: f64) -> u64 {
        let clamped = if x > 0.0 { x.min(1.0) } else { 0.0 };
        (if self.sat { clamped } else { x }).to_bits()
    }

    fn to_f32(self, x: f64) -> u32 {
        let narrowed = narrow(x, Format::F32, self.rounding) as f32;
        let narrowed = if self.ftz { flush(narrowed) } else { narrowed };
        (if self.sat { saturate(narrowed) } else { canonical(narrowed) }).to_bits()
    }

    /// `narrow`, then the clamps that know no format.
    fn limited(self, x: f64, format: Format) -> f64 {
        let narrowed = narrow(x, format, self.rounding);
        let finite = if self.satfinite { narrowed.clamp(-format.max, format.max) } else { narrowed };
        if self.relu && finite <= 0.0 { 0.0 } else { finite }
    }

    fn to_half(self, value: Value, kind: Half) -> u16 {
        let format = match kind {
            Half::F16 => Format::F16,
            Half::Bf16 => Format::BF16,
        };
        let bits = half::from_f32(kind, self.limited(self.wide(value), format) as f32);
        half::output(kind, bits, HalfMode { sat: self.sat, ..HalfMode::default() })
    }

    fn to_tf32(self, x: f64) -> u32 {
        if x.is_nan() {
            return NAN_F32;
        }
        if !self.ties_away {
            return (self.limited(x, Format::TF32) as f32).to_bits();
        }
        // Half an ulp more in magnitude, then the cut: a tie ends on the far side.
        let exact = (x as f32).to_bits();
        let rounded = exact.wrapping_add(0x1000) & 0xFFFF_E000;
        let infinite = x.is_infinite() || rounded & 0x7FFF_FFFF >= 0x7F80_0000;
        let sign = exact & 0x8000_0000;
        match (infinite, self.satfinite) {
            (false, _) => rounded,
            (true, false) => sign | 0x7F80_0000,
            (true, true) => sign | 0x7F7F_E000,
        }
    }
}

/// A 65-bit integer as the sum of two numbers that f64 holds exactly.
fn split(x: i128) -> (f64, f64) {
    ((x >> 32) as f64 * 4_294_967_296.0, (x & 0xFFFF_FFFF) as f64)
}

fn clamp(x: i128, width: u32, signed: bool) -> u64 {
    let (least, most) = if signed {
        (-(1i128 << (width - 1)), (1i128 << (width - 1)) - 1)
    } else {
        (0, (1i128 << width) - 1)
    };
    x.clamp(least, most) as u64
}

/// `cvt.r*i.s32.f32`: the common conversion, for loops over lanes.
#[inline(always)]
pub fn f32_to_s32(x: f32, rounding: Rounding) -> i32 {
    round_f32(x, rounding) as i32
}

/// `cvt.r*i.u32.f32`: the common conversion, for loops over lanes.
#[inline(always)]
pub fn f32_to_u32(x: f32, rounding: Rounding) -> u32 {
    round_f32(x, rounding) as u32
}

/// `cvt.r*i.f32.f32`: to an integer in f32.
#[inline(always)]
pub fn round_f32(x: f32, rounding: Rounding) -> f32 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

/// `cvt.rn{.relu}.f16x2.f32 d, a, b` and bf16x2: `a` goes to the upper half, `b` to the lower.
#[inline(always)]
pub fn pack_f32(kind: Half, a: f32, b: f32) -> u32 {
    half::pack([half::from_f32(kind, b), half::from_f32(kind, a)])
}
