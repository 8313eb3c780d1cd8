//! The `.approx` functions, better than the hardware's: most results are correctly rounded.
//!
//! Compare with tolerances; a GPU differs in the last bits.

use super::float32::{canonical, flush};

#[inline(always)]
fn through(x: f32, ftz: bool, function: impl Fn(f32) -> f32) -> f32 {
    if ftz { canonical(flush(function(flush(x)))) } else { canonical(function(x)) }
}

/// `ex2.approx{.ftz}.f32`: `2^x`.
#[inline(always)]
pub fn ex2(x: f32, ftz: bool) -> f32 {
    through(x, ftz, exp2)
}

/// `2^x` by a Taylor polynomial in f64 around the nearest integer; relative error below 2^-36.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    /// `ln(2)^k / k!`, highest power first.
    const TERMS: [f64; 11] = {
        let (mut terms, mut term, mut power) = ([0.0; 11], 1.0, 0);
        while power < 11 {
            terms[10 - power] = term;
            power += 1;
            term *= std::f64::consts::LN_2 / power as f64;
        }
        terms
    };
    // Beyond these bounds f32 is zero or infinite anyway; NaN passes through the clamp.
    let x = f64::from(x).clamp(-200.0, 200.0);
    let whole = x.round_ties_even();
    let fraction = x - whole;
    let mut sum = 0.0;
    for term in TERMS {
        sum = sum * fraction + term;
    }
    // NaN casts to 0, but `sum` is NaN then.
    let power = f64::from_bits(((whole as i64 + 1023) as u64) << 52);
    (sum * power) as f32
}

/// `lg2.approx{.ftz}.f32`: the logarithm to base 2.
#[inline]
pub fn lg2(x: f32, ftz: bool) -> f32 {
    through(x, ftz, |x| f64::from(x).log2() as f32)
}

/// `rcp.approx{.ftz}.f32`: `1 / x`.
#[inline(always)]
pub fn rcp(x: f32, ftz: bool) -> f32 {
    through(x, ftz, |x| 1.0 / x)
}

/// `rsqrt.approx{.ftz}.f32`: `1 / sqrt(x)`.
#[inline(always)]
pub fn rsqrt(x: f32, ftz: bool) -> f32 {
    through(x, ftz, |x| (1.0 / f64::from(x).sqrt()) as f32)
}

fn flush_f64(x: f64) -> f64 {
    if x.abs() < f64::MIN_POSITIVE { 0f64.copysign(x) } else { x }
}

/// `rsqrt.approx{.ftz}.f64`.
#[inline]
pub fn rsqrt_f64(x: f64, ftz: bool) -> f64 {
    1.0 / if ftz { flush_f64(x) } else { x }.sqrt()
}

/// `rcp.approx.ftz.f64`.
#[inline]
pub fn rcp_f64(x: f64) -> f64 {
    flush_f64(1.0 / flush_f64(x))
}

/// `sqrt.approx{.ftz}.f32`.
#[inline(always)]
pub fn sqrt(x: f32, ftz: bool) -> f32 {
    through(x, ftz, f32::sqrt)
}

/// `sin.approx{.ftz}.f32`, of radians.
#[inline]
pub fn sin(x: f32, ftz: bool) -> f32 {
    through(x, ftz, |x| f64::from(x).sin() as f32)
}

/// `cos.approx{.ftz}.f32`, of radians.
#[inline]
pub fn cos(x: f32, ftz: bool) -> f32 {
    through(x, ftz, |x| f64::from(x).cos() as f32)
}

/// `tanh.approx.f32`.
#[inline]
pub fn tanh(x: f32) -> f32 {
    through(x, false, |x| f64::from(x).tanh() as f32)
}

/// `div.approx{.ftz}.f32`: it multiplies by a reciprocal that is zero for divisors above 2^126.
#[inline(always)]
pub fn div(a: f32, b: f32, ftz: bool) -> f32 {
    let (a, b) = if ftz { (flush(a), flush(b)) } else { (a, b) };
    let reciprocal_vanishes = b.abs() > f32::from_bits(0x7E80_0000) && b.is_finite();
    let quotient = if reciprocal_vanishes { a * 0f32.copysign(b) } else { a / b };
    canonical(if ftz { flush(quotient) } else { quotient })
}

/// `div.full{.ftz}.f32`: the whole range of divisors.
#[inline(always)]
pub fn div_full(a: f32, b: f32, ftz: bool) -> f32 {
    let (a, b) = if ftz { (flush(a), flush(b)) } else { (a, b) };
    canonical(if ftz { flush(a / b) } else { a / b })
}
