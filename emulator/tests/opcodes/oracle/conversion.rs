//! `cvt`, by LLVM's software floating point and 128-bit integers.

use super::float::{flush, read};
use super::integer;
use crate::device::mask;
use crate::exact::round;
use crate::signature::Form;
use ptx_emulator::exec::scalar::Rounding;
use ptx_emulator::ptx::ast::ScalarType::{self, Bf16, F16, F32, F64, S8, S16, S32, S64, Tf32};
use rustc_apfloat::ieee::{BFloat, Double, Half, Single};
use rustc_apfloat::{Float, FloatConvert};

fn is_float(ty: ScalarType) -> bool {
    matches!(ty, F16 | Bf16 | F32 | F64 | Tf32)
}

fn rounding(modifiers: &[&str]) -> Rounding {
    let has = |names: [&str; 2]| modifiers.iter().any(|one| names.contains(one));
    match (has(["rz", "rzi"]), has(["rm", "rmi"]), has(["rp", "rpi"])) {
        (true, ..) => Rounding::Zero,
        (_, true, _) => Rounding::Down,
        (.., true) => Rounding::Up,
        _ => Rounding::Nearest,
    }
}

/// A form of the table: one value, or two to a pair of halves with the first in the upper one.
pub(crate) fn table(form: &Form<'_>, o: &[u64]) -> Option<u64> {
    let to = form.snippet.dst[0];
    match to {
        ScalarType::F16x2 | ScalarType::Bf16x2 => {
            let half = |bits| convert(&form.modifiers, super::single(to), F32, bits);
            Some(half(o[1]) | half(o[0]) << 16)
        }
        _ => Some(convert(&form.modifiers, to, form.ty, o[0])),
    }
}

/// The destination's bits.
pub(crate) fn convert(modifiers: &[&str], to: ScalarType, from: ScalarType, bits: u64) -> u64 {
    let has = |name| modifiers.contains(&name);
    let rounding = rounding(modifiers);
    if !is_float(from) {
        let value = integer::value(from, bits);
        return if is_float(to) {
            limited(modifiers, to, from_integer(to, value, rounding))
        } else {
            whole(to, value, has("sat"))
        };
    }
    let bits = if has("ftz") && from == F32 { flush(F32, bits) } else { bits };
    let x = read(from, bits);
    if !is_float(to) {
        return truncated(to, from, x, rounding);
    }
    let integral = modifiers.iter().any(|one| matches!(*one, "rni" | "rzi" | "rmi" | "rpi"));
    let exact = Double::from_bits(u128::from(x.to_bits()));
    let exact = if integral { exact.round_to_integral(round(rounding)).value } else { exact };
    if to == Tf32 {
        return tf32(modifiers, f64::from_bits(exact.to_bits() as u64));
    }
    limited(modifiers, to, narrowed(to, exact, rounding))
}

/// An integer destination of an integer.
fn whole(to: ScalarType, value: i128, clamps: bool) -> u64 {
    let (least, most) = bounds(to);
    (if clamps { value.max(least).min(most) } else { value }) as u64 & mask(to)
}

fn bounds(ty: ScalarType) -> (i128, i128) {
    let width = 8 * ty.bytes();
    if matches!(ty, S8 | S16 | S32 | S64) {
        (-(1 << (width - 1)), (1 << (width - 1)) - 1)
    } else {
        (0, (1 << width) - 1)
    }
}

/// An integer destination of a number: rounded by comparing with the integers on both sides, then clamped.
fn truncated(to: ScalarType, from: ScalarType, x: f64, rounding: Rounding) -> u64 {
    let (least, most) = bounds(to);
    if x.is_nan() {
        // PTX: the top bit alone if f64 or a 64-bit integer takes part, else zero.
        let top = from == F64 || to.bytes() == 8;
        return if top { 1 << (8 * to.bytes() - 1) } else { 0 };
    }
    if x.abs() > 1e30 {
        return (if x > 0.0 { most } else { least }) as u64 & mask(to);
    }
    let cut = x as i128;
    let floor = if (cut as f64) > x { cut - 1 } else { cut };
    let above = x - floor as f64;
    let up = match rounding {
        Rounding::Down => false,
        Rounding::Up => above > 0.0,
        Rounding::Zero => x < 0.0 && above > 0.0,
        Rounding::Nearest => above > 0.5 || (above == 0.5 && floor % 2 != 0),
    };
    (floor + i128::from(up)).max(least).min(most) as u64 & mask(to)
}

fn from_integer(to: ScalarType, value: i128, rounding: Rounding) -> u64 {
    let round = round(rounding);
    (match to {
        F16 => Half::from_i128_r(value, round).value.to_bits(),
        Bf16 => BFloat::from_i128_r(value, round).value.to_bits(),
        F32 => Single::from_i128_r(value, round).value.to_bits(),
        _ => Double::from_i128_r(value, round).value.to_bits(),
    }) as u64
}

fn narrowed(to: ScalarType, x: Double, rounding: Rounding) -> u64 {
    fn bits<F: Float>(x: Double, rounding: Rounding) -> u64
    where
        Double: FloatConvert<F>,
    {
        let narrowed: F = x.convert_r(round(rounding), &mut false).value;
        narrowed.to_bits() as u64
    }
    match to {
        F16 => bits::<Half>(x, rounding),
        Bf16 => bits::<BFloat>(x, rounding),
        F32 => bits::<Single>(x, rounding),
        _ => x.to_bits() as u64,
    }
}

/// `.ftz`, `.sat`, `.relu`, `.satfinite` and the canonical NaN.
fn limited(modifiers: &[&str], to: ScalarType, bits: u64) -> u64 {
    let has = |name| modifiers.contains(&name);
    let bits = if has("ftz") && to == F32 { flush(F32, bits) } else { bits };
    let (one, infinity, nan) = match to {
        F16 => (0x3C00, 0x7C00, 0x7FFF),
        Bf16 => (0x3F80, 0x7F80, 0x7FFF),
        F32 => (0x3F80_0000, 0x7F80_0000, 0x7FFF_FFFF),
        _ => (0x3FF << 52, 0x7FF << 52, 0x7FF8 << 48),
    };
    let sign = 1 << (8 * to.bytes() - 1);
    let (magnitude, negative) = (bits & !sign, bits & sign != 0);
    if has("sat") {
        return if negative || magnitude > infinity { 0 } else { magnitude.min(one) };
    }
    if magnitude > infinity {
        return nan;
    }
    if has("relu") && negative {
        return 0;
    }
    if has("satfinite") && magnitude == infinity { bits - 1 } else { bits }
}

/// tf32 keeps ten digits behind the first; its results lie in f32.
fn tf32(modifiers: &[&str], x: f64) -> u64 {
    let has = |name| modifiers.contains(&name);
    if x.is_nan() {
        return 0x7FFF_FFFF;
    }
    if has("relu") && x <= 0.0 {
        return 0;
    }
    let bits = (x as f32).to_bits();
    let (cut, rest) = (bits & 0xFFFF_E000, bits & 0x1FFF);
    let up = if has("rz") {
        false
    } else if has("rna") {
        rest >= 0x1000
    } else {
        rest > 0x1000 || (rest == 0x1000 && cut & 0x2000 != 0)
    };
    let rounded = cut + if up { 0x2000 } else { 0 };
    let too_large = rounded & 0x7FFF_FFFF == 0x7F80_0000;
    u64::from(if too_large && has("satfinite") { rounded - 0x2000 } else { rounded })
}
