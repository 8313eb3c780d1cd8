//! Single-precision arithmetic.

use super::rounding::{Step, cancels_to_minus_zero, two_sum};
use super::{FloatMode, NAN_F32, Rounding};

/// A subnormal number becomes a zero of its sign.
#[inline(always)]
pub fn flush(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { f32::from_bits(x.to_bits() & 0x8000_0000) } else { x }
}

/// Clamps to [0, 1]; NaN becomes +0, and so does -0.
#[inline(always)]
pub fn saturate(x: f32) -> f32 {
    if x > 0.0 { if x > 1.0 { 1.0 } else { x } } else { 0.0 }
}

/// NaN becomes the canonical one.
#[inline(always)]
pub fn canonical(x: f32) -> f32 {
    // On bits: the optimiser takes one NaN for another and would drop a choice between them.
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7FFF_FFFF > 0x7F80_0000 { NAN_F32 } else { bits })
}

#[inline(always)]
fn input(x: f32, mode: FloatMode) -> f32 {
    if mode.ftz { flush(x) } else { x }
}

#[inline(always)]
fn output(x: f32, mode: FloatMode) -> f32 {
    let x = if mode.ftz { flush(x) } else { x };
    if mode.sat { saturate(x) } else { canonical(x) }
}

/// Rounds `sum + error`, `error` being far below an ulp of `sum`, to f32.
#[inline(always)]
fn direct(sum: f64, error: f64, rounding: Rounding) -> f32 {
    let nearest = sum as f32;
    let gap = sum - f64::from(nearest);
    step(nearest, if gap == 0.0 { error } else { gap }, rounding)
}

#[inline(always)]
fn step(nearest: f32, residual: f64, rounding: Rounding) -> f32 {
    match Step::new(f64::from(nearest), residual, rounding) {
        Step::Stay => nearest,
        Step::Down => nearest.next_down(),
        Step::Up => nearest.next_up(),
    }
}

/// `add{.rnd}{.ftz}{.sat}.f32`.
#[inline(always)]
pub fn add(a: f32, b: f32, mode: FloatMode) -> f32 {
    let (a, b) = (input(a, mode), input(b, mode));
    let sum = match mode.rounding {
        Rounding::Nearest => a + b,
        rounding => directed_sum(f64::from(a), f64::from(b), rounding),
    };
    output(sum, mode)
}

/// `sub{.rnd}{.ftz}{.sat}.f32`.
#[inline(always)]
pub fn sub(a: f32, b: f32, mode: FloatMode) -> f32 {
    add(a, -b, mode)
}

/// Rounds `x + y`, each of which f64 holds exactly, in one step.
#[inline(always)]
fn directed_sum(x: f64, y: f64, rounding: Rounding) -> f32 {
    let (sum, error) = two_sum(x, y);
    if cancels_to_minus_zero(sum, x, y, rounding) {
        return -0.0;
    }
    direct(sum, error, rounding)
}

/// `mul{.rnd}{.ftz}{.sat}.f32`.
#[inline(always)]
pub fn mul(a: f32, b: f32, mode: FloatMode) -> f32 {
    let (a, b) = (input(a, mode), input(b, mode));
    let product = match mode.rounding {
        Rounding::Nearest => a * b,
        rounding => direct(f64::from(a) * f64::from(b), 0.0, rounding),
    };
    output(product, mode)
}

/// `fma.rnd{.ftz}{.sat}.f32` and `mad`: `a * b + c`, rounded once.
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32, mode: FloatMode) -> f32 {
    let (a, b, c) = (input(a, mode), input(b, mode), input(c, mode));
    let result = match mode.rounding {
        Rounding::Nearest => a.mul_add(b, c),
        // f64 holds the product of two f32 exactly.
        rounding => directed_sum(f64::from(a) * f64::from(b), f64::from(c), rounding),
    };
    output(result, mode)
}

/// `div.rnd{.ftz}.f32`.
#[inline(always)]
pub fn div(a: f32, b: f32, mode: FloatMode) -> f32 {
    let (a, b) = (input(a, mode), input(b, mode));
    let quotient = match mode.rounding {
        Rounding::Nearest => a / b,
        rounding => directed_quotient(f64::from(a), f64::from(b), rounding),
    };
    output(quotient, mode)
}

#[inline]
fn directed_quotient(a: f64, b: f64, rounding: Rounding) -> f32 {
    let quotient = a / b;
    let nearest = f64::from(quotient as f32);
    let remainder = (a - nearest * b) * 1f64.copysign(b);
    direct(quotient, if remainder.is_nan() { 0.0 } else { remainder }, rounding)
}

/// `rcp.rnd{.ftz}.f32`.
#[inline(always)]
pub fn rcp(a: f32, mode: FloatMode) -> f32 {
    div(1.0, a, mode)
}

/// `sqrt.rnd{.ftz}.f32`.
#[inline(always)]
pub fn sqrt(a: f32, mode: FloatMode) -> f32 {
    let a = input(a, mode);
    let root = match mode.rounding {
        Rounding::Nearest => a.sqrt(),
        rounding => {
            let (exact, root) = (f64::from(a), f64::from(a).sqrt());
            let nearest = f64::from(root as f32);
            let remainder = exact - nearest * nearest;
            direct(root, if remainder.is_nan() { 0.0 } else { remainder }, rounding)
        }
    };
    output(root, mode)
}

/// `abs{.ftz}.f32`.
#[inline(always)]
pub fn abs(a: f32, ftz: bool) -> f32 {
    let a = if ftz { flush(a) } else { a };
    f32::from_bits(a.to_bits() & 0x7FFF_FFFF)
}

/// `neg{.ftz}.f32`.
#[inline(always)]
pub fn neg(a: f32, ftz: bool) -> f32 {
    let a = if ftz { flush(a) } else { a };
    f32::from_bits(a.to_bits() ^ 0x8000_0000)
}

/// `copysign.f32 d, a, b`: the magnitude of `b` with the sign of `a`.
#[inline(always)]
pub fn copysign(a: f32, b: f32) -> f32 {
    f32::from_bits((b.to_bits() & 0x7FFF_FFFF) | (a.to_bits() & 0x8000_0000))
}
