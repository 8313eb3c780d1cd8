//! Double-precision arithmetic; NaN payloads are the host's.

use super::Rounding;
use super::rounding::{Step, cancels_to_minus_zero, two_sum};

/// Splits a finite number that is not zero into a fraction in [1, 2) (signed) and an exponent.
fn normalise(x: f64) -> (f64, i32) {
    let (x, shift) = if x.abs() < f64::MIN_POSITIVE { (x * 2f64.powi(54), -54) } else { (x, 0) };
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7FF) as i32 - 1023;
    (f64::from_bits(bits & !(0x7FF << 52) | (1023 << 52)), exponent + shift)
}

/// `x * 2^exponent`, exact if the result is a normal number.
fn scale(x: f64, exponent: i32) -> f64 {
    let half = exponent / 2;
    let quarter = half / 2;
    x * 2f64.powi(quarter)
        * 2f64.powi(half - quarter)
        * 2f64.powi((exponent - half) / 2)
        * 2f64.powi(exponent - half - (exponent - half) / 2)
}

fn step(nearest: f64, residual: f64, rounding: Rounding) -> f64 {
    match Step::new(nearest, residual, rounding) {
        Step::Stay => nearest,
        Step::Down => nearest.next_down(),
        Step::Up => nearest.next_up(),
    }
}

/// What an infinite result of finite inputs hides: the exact value lies on this side of it.
fn overflow_residual(nearest: f64, inputs: &[f64]) -> Option<f64> {
    let overflowed = nearest.is_infinite() && inputs.iter().all(|input| input.is_finite());
    overflowed.then_some(-nearest)
}

/// `add{.rnd}.f64`.
#[inline]
pub fn add(a: f64, b: f64, rounding: Rounding) -> f64 {
    if rounding == Rounding::Nearest {
        return a + b;
    }
    let (sum, error) = two_sum(a, b);
    if cancels_to_minus_zero(sum, a, b, rounding) {
        return -0.0;
    }
    step(sum, overflow_residual(sum, &[a, b]).unwrap_or(error), rounding)
}

/// `sub{.rnd}.f64`.
#[inline]
pub fn sub(a: f64, b: f64, rounding: Rounding) -> f64 {
    add(a, -b, rounding)
}

/// `mul{.rnd}.f64`.
#[inline]
pub fn mul(a: f64, b: f64, rounding: Rounding) -> f64 {
    let product = a * b;
    if rounding == Rounding::Nearest {
        return product;
    }
    let residual = overflow_residual(product, &[a, b]).unwrap_or_else(|| product_residual(a, b, product));
    step(product, residual, rounding)
}

/// The sign of `a * b - value`, for a `value` near the product.
fn product_residual(a: f64, b: f64, value: f64) -> f64 {
    if a == 0.0 || b == 0.0 || !a.is_finite() || !b.is_finite() {
        return 0.0;
    }
    let ((a, first), (b, second)) = (normalise(a), normalise(b));
    // With both factors in [1, 2) nothing underflows, so the fused operation's sign is exact.
    a.mul_add(b, -scale(value, -(first + second)))
}

/// `fma.rnd.f64`: `a * b + c`, rounded once.
#[inline]
pub fn fma(a: f64, b: f64, c: f64, rounding: Rounding) -> f64 {
    let nearest = a.mul_add(b, c);
    if rounding == Rounding::Nearest {
        return nearest;
    }
    let residual = overflow_residual(nearest, &[a, b, c]).unwrap_or_else(|| fma_residual(a, b, c, nearest));
    let product_sign = 1f64.copysign(a) * 1f64.copysign(b);
    if residual == 0.0 && cancels_to_minus_zero(nearest, product_sign, c, rounding) {
        return -0.0;
    }
    step(nearest, residual, rounding)
}

/// The sign of `a * b + c - value`, for `value` the nearest f64.
fn fma_residual(a: f64, b: f64, c: f64, value: f64) -> f64 {
    /// Beyond this gap of exponents one term lies wholly below the last bit of the other.
    const APART: i32 = 200;
    if [a, b, c].iter().any(|input| !input.is_finite()) || a == 0.0 || b == 0.0 {
        return 0.0;
    }
    if c == 0.0 {
        return product_residual(a, b, value);
    }
    let ((a1, first), (b1, second), (_, third)) = (normalise(a), normalise(b), normalise(c));
    let exponent = first + second;
    if third - exponent > APART {
        return a1 * b1;
    }
    if exponent - third > APART {
        let residual = product_residual(a, b, value);
        return if residual == 0.0 { c } else { residual };
    }
    let product = a1 * b1;
    sum_sign([product, a1.mul_add(b1, -product), scale(c, -exponent), -scale(value, -exponent)])
}

/// A number with the sign of the exact sum: the terms are kept as a non-overlapping expansion,
/// whose largest part decides.
fn sum_sign(terms: [f64; 4]) -> f64 {
    let mut parts = [0.0; 4];
    for (count, term) in terms.into_iter().enumerate() {
        let mut carry = term;
        for part in parts.iter_mut().take(count) {
            (carry, *part) = two_sum(carry, *part);
        }
        parts[count] = carry;
    }
    parts.into_iter().rev().find(|part| *part != 0.0).unwrap_or(0.0)
}

/// `div.rnd.f64`.
#[inline]
pub fn div(a: f64, b: f64, rounding: Rounding) -> f64 {
    let quotient = a / b;
    if rounding == Rounding::Nearest || b == 0.0 {
        return quotient;
    }
    let residual = overflow_residual(quotient, &[a, b]).unwrap_or_else(|| quotient_residual(a, b, quotient));
    step(quotient, residual, rounding)
}

/// The sign of `a / b - value`, for `value` the nearest f64.
fn quotient_residual(a: f64, b: f64, value: f64) -> f64 {
    if !a.is_finite() || !b.is_finite() || a == 0.0 {
        return 0.0;
    }
    let sign = 1f64.copysign(b);
    if value == 0.0 {
        return a * sign;
    }
    let ((b, first), (value, second)) = (normalise(b), normalise(value));
    (-value).mul_add(b, scale(a, -(first + second))) * sign
}

/// `rcp.rnd.f64`.
#[inline]
pub fn rcp(a: f64, rounding: Rounding) -> f64 {
    div(1.0, a, rounding)
}

/// `sqrt.rnd.f64`.
#[inline]
pub fn sqrt(a: f64, rounding: Rounding) -> f64 {
    let root = a.sqrt();
    if rounding == Rounding::Nearest || !(a > 0.0 && a.is_finite()) {
        return root;
    }
    let (_, exponent) = normalise(a);
    let even = exponent & !1;
    let scaled = scale(root, -even / 2);
    step(root, (-scaled).mul_add(scaled, scale(a, -even)), rounding)
}

/// `abs.f64`.
#[inline(always)]
pub fn abs(a: f64) -> f64 {
    f64::from_bits(a.to_bits() & !(1 << 63))
}

/// `neg.f64`.
#[inline(always)]
pub fn neg(a: f64) -> f64 {
    f64::from_bits(a.to_bits() ^ (1 << 63))
}

/// `copysign.f64 d, a, b`: the magnitude of `b` with the sign of `a`.
#[inline(always)]
pub fn copysign(a: f64, b: f64) -> f64 {
    f64::from_bits((b.to_bits() & !(1 << 63)) | (a.to_bits() & (1 << 63)))
}
