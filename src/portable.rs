//! Logarithm and exponential that give the same bits on every machine and on the device.
//!
//! Only operations that IEEE 754 rounds correctly, in one order; `kernels/portable.cuh` holds the same lines. What
//! samplers and estimators return, ids above all, must not depend on whose `log` computed it. Accurate to
//! a few units in the last place of f64, so that results rounded to f32 are as good as exact.

/// ln 2 in two parts; the first has trailing zeros, so that its multiples by an exponent are exact.
const LN_2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN_2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
const LOG2_E: f64 = std::f64::consts::LOG2_E;
const SQRT_2: f64 = std::f64::consts::SQRT_2;
const HALF_SQRT_2: f64 = std::f64::consts::FRAC_1_SQRT_2;

/// `ln((1 + s) / (1 - s)) = 2 s (1 + s^2 / 3 + s^4 / 5 + ...)` for |s| up to 0.172.
fn twice_atanh(s: f64) -> f64 {
    let z = s * s;
    let mut sum: f64 = 1.0 / 25.0;
    for k in (0..12).rev() {
        sum = sum.mul_add(z, 1.0 / f64::from(2 * k + 1));
    }
    (s + s) * sum
}

/// The natural logarithm; -inf at 0, NaN below, and x itself for +inf and NaN.
pub(crate) fn ln(x: f64) -> f64 {
    if x <= 0.0 || !x.is_finite() {
        return match x {
            0.0 => f64::NEG_INFINITY,
            _ if x < 0.0 => f64::NAN,
            _ => x,
        };
    }
    // Below the normal range the exponent field says nothing.
    let (x, shift) =
        if x < f64::MIN_POSITIVE { (x * f64::from_bits(0x4350_0000_0000_0000), 54) } else { (x, 0) };
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023 - shift;
    let mut mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if mantissa > SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let f = mantissa - 1.0;
    let e = f64::from(exponent);
    e.mul_add(LN_2_HIGH, e.mul_add(LN_2_LOW, twice_atanh(f / (2.0 + f))))
}

/// `ln(1 + x)` for x above -1, exact for small x too.
pub(crate) fn ln_1p(x: f64) -> f64 {
    let whole = 1.0 + x;
    if whole > HALF_SQRT_2 && whole < SQRT_2 { twice_atanh(x / (2.0 + x)) } else { ln(whole) }
}

/// `(e^r - 1) / r = 1 + r / 2! + r^2 / 3! + ...` for |r| up to 0.35.
fn divided_exp_m1(r: f64) -> f64 {
    const FACTORIALS: [f64; 14] = [
        2.0,
        6.0,
        24.0,
        120.0,
        720.0,
        5040.0,
        40320.0,
        362880.0,
        3628800.0,
        39916800.0,
        479001600.0,
        6227020800.0,
        87178291200.0,
        1307674368000.0,
    ];
    let mut sum: f64 = 1.0 / 20922789888000.0;
    for factorial in FACTORIALS.iter().rev() {
        sum = sum.mul_add(r, 1.0 / factorial);
    }
    sum.mul_add(r, 1.0)
}

/// `e^x`; 0 below -708, where the result would leave the normal range, +inf above 709.
pub(crate) fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x < -708.0 {
        return 0.0;
    }
    if x > 709.0 {
        return f64::INFINITY;
    }
    let k = x.mul_add(LOG2_E, 0.5).floor();
    let r = k.mul_add(-LN_2_LOW, k.mul_add(-LN_2_HIGH, x));
    let power = f64::from_bits(((k as i64 + 1023) as u64) << 52);
    r.mul_add(divided_exp_m1(r), 1.0) * power
}

/// `e^x - 1` for x up to 0.
pub(crate) fn exp_m1(x: f64) -> f64 {
    if x > -0.34 { x * divided_exp_m1(x) } else { exp(x) - 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the system's functions, which are good to about one unit in the last place.
    fn close(found: f64, expected: f64, what: &str) {
        let allowed = 4.0 * f64::EPSILON * expected.abs();
        assert!(found == expected || (found - expected).abs() <= allowed, "{what}: {found:e} {expected:e}");
    }

    #[test]
    fn as_good_as_the_system() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let x = (random.f64() * 1400.0 - 700.0).exp();
            close(ln(x), x.ln(), &format!("ln {x:e}"));
            let near = 0.5 + random.f64();
            close(ln(near), near.ln(), &format!("ln {near}"));
            let p = random.f64() * 10f64.powi(random.i32(-30..=0));
            close(ln_1p(-p), (-p).ln_1p(), &format!("ln_1p -{p:e}"));
            close(ln_1p(p), p.ln_1p(), &format!("ln_1p {p:e}"));
            close(exp_m1(-p), (-p).exp_m1(), &format!("exp_m1 -{p:e}"));
            let y = random.f64() * 1400.0 - 700.0;
            close(exp(y), y.exp(), &format!("exp {y}"));
            close(exp_m1(-y.abs()), (-y.abs()).exp_m1(), &format!("exp_m1 {y}"));
        }
    }

    #[test]
    fn the_ends() {
        assert_eq!((ln(0.0), ln(1.0), ln(f64::INFINITY)), (f64::NEG_INFINITY, 0.0, f64::INFINITY));
        assert!(ln(-1.0).is_nan() && ln(f64::NAN).is_nan() && exp(f64::NAN).is_nan());
        close(ln(5e-324), 5e-324f64.ln(), "the smallest");
        assert_eq!((ln_1p(-1.0), ln_1p(0.0)), (f64::NEG_INFINITY, 0.0));
        assert_eq!((exp(0.0), exp(f64::NEG_INFINITY), exp(f64::INFINITY)), (1.0, 0.0, f64::INFINITY));
        assert_eq!((exp_m1(0.0), exp_m1(f64::NEG_INFINITY)), (0.0, -1.0));
    }
}
