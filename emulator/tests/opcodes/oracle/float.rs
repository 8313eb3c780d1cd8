//! Floating point, by LLVM's software implementation and PTX's rules for NaN, subnormals and clamps.

use super::Expected::{self, Near};
use super::single;
use crate::exact;
use crate::signature::Form;
use ptx_emulator::exec::scalar::Rounding;
use ptx_emulator::ptx::ast::ScalarType::{self, Bf16, F16, F32, F64};
use rustc_apfloat::ieee::{BFloat, Double, Half, Quad, Single};
use rustc_apfloat::{Float, FloatConvert};

/// Sign bit, infinity, one, canonical NaN.
struct Layout {
    sign: u64,
    infinity: u64,
    one: u64,
    nan: u64,
}

fn layout(ty: ScalarType) -> Layout {
    match ty {
        F16 => Layout { sign: 0x8000, infinity: 0x7C00, one: 0x3C00, nan: 0x7FFF },
        Bf16 => Layout { sign: 0x8000, infinity: 0x7F80, one: 0x3F80, nan: 0x7FFF },
        F32 => Layout { sign: 1 << 31, infinity: 0x7F80_0000, one: 0x3F80_0000, nan: 0x7FFF_FFFF },
        _ => Layout { sign: 1 << 63, infinity: 0x7FF << 52, one: 0x3FF << 52, nan: 0x7FFF_FFFF_FFFF_FFFF },
    }
}

/// The number, which f64 holds exactly for all types.
pub(crate) fn read(ty: ScalarType, bits: u64) -> f64 {
    let bits = u128::from(bits);
    let value: Double = match ty {
        F16 => Half::from_bits(bits).convert(&mut false).value,
        Bf16 => BFloat::from_bits(bits).convert(&mut false).value,
        F32 => Single::from_bits(bits).convert(&mut false).value,
        _ => Double::from_bits(bits),
    };
    f64::from_bits(value.to_bits() as u64)
}

/// The NaN that the hardware writes.
pub(crate) fn canonical(ty: ScalarType) -> u64 {
    layout(ty).nan
}

fn is_nan(ty: ScalarType, bits: u64) -> bool {
    bits & !layout(ty).sign > layout(ty).infinity
}

/// Subnormals of f16, f32 and f64 become zeros of their sign; bf16 has no `.ftz`, its `ex2.approx.ftz` apart.
pub(crate) fn flush(ty: ScalarType, bits: u64) -> u64 {
    let smallest = match ty {
        F16 => 0x400,
        Bf16 => 0x80,
        F32 => 0x80_0000,
        _ => 1 << 52,
    };
    let sign = layout(ty).sign;
    if bits & !sign < smallest { bits & sign } else { bits }
}

fn rounding(modifiers: &[&str]) -> Rounding {
    let has = |name| modifiers.contains(&name);
    match (has("rz"), has("rm"), has("rp")) {
        (true, ..) => Rounding::Zero,
        (_, true, _) => Rounding::Down,
        (.., true) => Rounding::Up,
        _ => Rounding::Nearest,
    }
}

pub(crate) fn pairs(form: &Form<'_>, o: &[u64]) -> Option<Vec<Expected>> {
    let ty = single(form.ty);
    let halves = |shift: u32| o.iter().map(|bits| bits >> shift & 0xFFFF).collect::<Vec<_>>();
    if let (Some(Near { values: low, relative, absolute }), Some(Near { values: high, .. })) =
        (approximation(form, ty, &halves(0)), approximation(form, ty, &halves(16)))
    {
        return Some(vec![Near { values: [low, high].concat(), relative, absolute }]);
    }
    let (low, high) = (exact_result(form, ty, &halves(0))?, exact_result(form, ty, &halves(16))?);
    Some(vec![Expected::Bits(low | high << 16)])
}

pub(crate) fn expected(form: &Form<'_>, o: &[u64]) -> Option<Vec<Expected>> {
    if let Some(near) = approximation(form, form.ty, o) {
        return Some(vec![near]);
    }
    if form.opcode == "testp" {
        return tested(form, o[0]);
    }
    Some(vec![Expected::Bits(exact_result(form, form.ty, o)?)])
}

fn tested(form: &Form<'_>, bits: u64) -> Option<Vec<Expected>> {
    let Layout { sign, infinity, .. } = layout(form.ty);
    let magnitude = bits & !sign;
    let subnormal = magnitude != 0 && flush(form.ty, magnitude) == 0;
    let holds = match form.modifiers[0] {
        "finite" => magnitude < infinity,
        "infinite" => magnitude == infinity,
        "number" => magnitude <= infinity,
        "notanumber" => magnitude > infinity,
        "normal" => magnitude < infinity && !subnormal,
        "subnormal" => subnormal,
        _ => return None,
    };
    Some(vec![Expected::Bits(u64::from(holds))])
}

/// The correctly rounded results.
fn exact_result(form: &Form<'_>, ty: ScalarType, o: &[u64]) -> Option<u64> {
    let has = |name| form.modifiers.contains(&name);
    let Layout { sign, infinity, one, nan } = layout(ty);
    let o: Vec<u64> = o.iter().map(|bits| if has("ftz") { flush(ty, *bits) } else { *bits }).collect();
    match form.opcode {
        "neg" => return Some(o[0] ^ sign),
        "abs" => return Some(o[0] & !sign),
        "copysign" => return Some(o[1] & !sign | o[0] & sign),
        "min" | "max" => return Some(extreme(form, ty, &o)),
        _ => {}
    }
    let result = match ty {
        F16 => operation::<Half>(form, &o),
        Bf16 => operation::<BFloat>(form, &o),
        F32 => operation::<Single>(form, &o),
        _ => operation::<Double>(form, &o),
    }?;
    let result = if has("ftz") { flush(ty, result) } else { result };
    let negative = result & sign != 0;
    Some(if has("sat") {
        if is_nan(ty, result) || negative { 0 } else { result.min(one) }
    } else if is_nan(ty, result) {
        nan
    } else if has("relu") && negative {
        0
    } else {
        debug_assert!(result & !sign <= infinity);
        result
    })
}

fn operation<F: Float + FloatConvert<Quad>>(form: &Form<'_>, o: &[u64]) -> Option<u64>
where
    Quad: FloatConvert<F>,
{
    let rounding = rounding(&form.modifiers);
    let o: Vec<u128> = o.iter().map(|bits| u128::from(*bits)).collect();
    let one = F::from_u128(1).value.to_bits();
    Some(match form.opcode {
        "add" => exact::add::<F>(o[0], o[1], rounding),
        "sub" => exact::sub::<F>(o[0], o[1], rounding),
        "mul" => exact::mul::<F>(o[0], o[1], rounding),
        "div" => exact::div::<F>(o[0], o[1], rounding),
        "rcp" => exact::div::<F>(one, o[0], rounding),
        "fma" | "mad" => exact::fma::<F>(o[0], o[1], o[2], rounding),
        "sqrt" => square_root::<F>(o[0], rounding),
        _ => return None,
    } as u64)
}

/// The floating-point numbers around the root, found by bisection on exact squares.
fn square_root<F: Float + FloatConvert<Quad>>(bits: u128, rounding: Rounding) -> u128
where
    Quad: FloatConvert<F>,
{
    let x = F::from_bits(bits);
    if x.is_nan() || x.is_zero() || x.is_pos_infinity() {
        return bits;
    }
    if x.is_negative() {
        return F::NAN.to_bits();
    }
    let wide = |x: F| -> Quad { x.convert(&mut false).value };
    let square = |bits: u128| (wide(F::from_bits(bits)) * wide(F::from_bits(bits))).value;
    // Squares that overflow F do not overflow Quad.
    let (mut low, mut high) = (0, F::INFINITY.to_bits());
    while high - low > 1 {
        let middle = (low + high) / 2;
        if square(middle) <= wide(x) { low = middle } else { high = middle }
    }
    if square(low) == wide(x) {
        return low;
    }
    match rounding {
        Rounding::Zero | Rounding::Down => low,
        Rounding::Up => low + 1,
        Rounding::Nearest => {
            // A root is never halfway: the square of a number with one digit more has too many digits.
            let middle = ((wide(F::from_bits(low)) + wide(F::from_bits(low + 1))).value
                * Quad::from_bits(0x3FFE << 112))
            .value;
            if (middle * middle).value < wide(x) { low + 1 } else { low }
        }
    }
}

/// NaN loses unless `.NaN`; -0 is below +0.
fn extreme(form: &Form<'_>, ty: ScalarType, o: &[u64]) -> u64 {
    let has = |name| form.modifiers.contains(&name);
    let Layout { sign, nan, .. } = layout(ty);
    let product = (o[0] ^ o[1]) & sign;
    let [a, b] = [o[0], o[1]].map(|bits| if has("xorsign") { bits & !sign } else { bits });
    let key = |bits: u64| if bits & sign == 0 { i128::from(bits) } else { -1 - i128::from(bits & !sign) };
    let picked = match (is_nan(ty, a), is_nan(ty, b)) {
        (false, false) if (key(a) < key(b)) == (form.opcode == "min") => a,
        (false, false) => b,
        (true, false) if !has("NaN") => b,
        (false, true) if !has("NaN") => a,
        _ => return nan,
    };
    if has("xorsign") { picked | product } else { picked }
}

/// The `.approx` and `.full` functions, to a few units of the last place of f32 or one of a half.
fn approximation(form: &Form<'_>, ty: ScalarType, o: &[u64]) -> Option<Expected> {
    let has = |name| form.modifiers.contains(&name);
    if !has("approx") && !has("full") {
        return None;
    }
    let value = |bits: u64| read(ty, if has("ftz") { flush(ty, bits) } else { bits });
    let x = value(o[0]);
    let exact = match form.opcode {
        "ex2" => x.exp2(),
        "lg2" => x.log2(),
        "rcp" => 1.0 / x,
        "rsqrt" => 1.0 / x.sqrt(),
        "sqrt" => x.sqrt(),
        "sin" => x.sin(),
        "cos" => x.cos(),
        "tanh" => x.tanh(),
        "div" => {
            let y = value(o[1]);
            // PTX: for divisors between 2^126 and 2^128 the reciprocal is zero.
            let vanishes = has("approx") && y.is_finite() && y.abs() > 2f64.powi(126);
            if vanishes { x * 0f64.copysign(y) } else { x / y }
        }
        _ => return None,
    };
    let limit = match ty {
        F16 => 65520.0,
        Bf16 | F32 => 2f64.powi(128),
        _ => f64::INFINITY,
    };
    let exact = if exact.abs() >= limit { f64::INFINITY.copysign(exact) } else { exact };
    let smallest = match ty {
        F16 => 2f64.powi(-14),
        F64 => f64::MIN_POSITIVE,
        _ => 2f64.powi(-126),
    };
    let exact = if has("ftz") && exact.abs() < smallest { 0.0 } else { exact };
    let (relative, absolute) = match ty {
        F16 => (2f64.powi(-10), 2f64.powi(-24)),
        Bf16 => (2f64.powi(-7), 2f64.powi(-133)),
        F32 => (2f64.powi(-22), 2f64.powi(-149)),
        _ => (2f64.powi(-20), 0.0),
    };
    Some(Near { values: vec![exact], relative, absolute })
}
