//! The `.approx` functions against series and inverses computed in f64, to one unit in the last place
//! or better, and PTX's tables of special values.

use crate::oracle::Random;
use ptx_emulator::exec::scalar::{NAN_F32, approx};

/// Distance in units of the last place, infinite if only one is NaN.
fn ulps(got: f32, want: f64) -> f64 {
    let near = want as f32;
    if got.is_nan() || near.is_nan() {
        return if got.is_nan() && near.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if got.is_infinite() || near.is_infinite() {
        return if got == near { 0.0 } else { f64::INFINITY };
    }
    let spacing = f64::from(near.abs().next_up()) - f64::from(near.abs());
    (f64::from(got) - want).abs() / spacing
}

#[test]
fn powers_of_two() {
    let mut random = Random(13);
    for _ in 0..200_000 {
        let x = ((random.next() >> 40) as f32 / 65_536.0 - 128.0) * 1.2;
        // exp(x ln 2) by its series around the nearest multiple of 1/16, whose power is exact enough.
        let base = (f64::from(x) * 16.0).round() / 16.0;
        let rest = (f64::from(x) - base) * std::f64::consts::LN_2;
        let series = (1..12).rev().fold(1.0, |sum, k| 1.0 + sum * rest / f64::from(k));
        let want = series * 2f64.powf(base);
        assert!(ulps(approx::ex2(x, false), want) < 0.51, "2^{x}");
    }
    for x in -149..=127i16 {
        assert_eq!(f64::from(approx::ex2(f32::from(x), false)), 2f64.powi(i32::from(x)), "2^{x}");
    }
    assert_eq!(approx::ex2(f32::NEG_INFINITY, false).to_bits(), 0);
    assert_eq!([-0.0, 0.0, 1e-40].map(|x| approx::ex2(x, true)), [1.0; 3]);
    assert_eq!(approx::ex2(f32::INFINITY, false), f32::INFINITY);
    assert_eq!(approx::ex2(128.0, false), f32::INFINITY);
    assert_eq!(approx::ex2(f32::NAN, false).to_bits(), NAN_F32);
    assert_eq!([approx::ex2(-140.0, true), approx::ex2(-140.0, false)], [0.0, f32::from_bits(1 << 9)]);
}

#[test]
fn logarithms() {
    let mut random = Random(14);
    for _ in 0..50_000 {
        let x = random.f32().abs();
        if x.is_normal() {
            // ln(1 + t) / ln 2 by the series of the inverse hyperbolic tangent.
            let (fraction, exponent) =
                (f32::from_bits(x.to_bits() & 0x7F_FFFF | 127 << 23), (x.to_bits() >> 23) as i32 - 127);
            let t = (f64::from(fraction) - 1.0) / (f64::from(fraction) + 1.0);
            let series = (0..24).rev().fold(0.0, |sum, k| sum * t * t + 2.0 / f64::from(2 * k + 1)) * t;
            let want = series / std::f64::consts::LN_2 + f64::from(exponent);
            assert!(
                (f64::from(approx::lg2(x, false)) - want).abs() <= 1e-7 * want.abs().max(1e-7),
                "lg2 {x:e}"
            );
        }
    }
    assert_eq!([0.0, -0.0, -1e-40].map(|x| approx::lg2(x, true)), [f32::NEG_INFINITY; 3]);
    assert_eq!(approx::lg2(f32::from_bits(1), false), -149.0);
    assert_eq!([-1.0, f32::NEG_INFINITY, f32::NAN].map(|x| approx::lg2(x, false).to_bits()), [NAN_F32; 3]);
    assert_eq!(approx::lg2(f32::INFINITY, false), f32::INFINITY);
}

#[test]
fn reciprocals_and_roots() {
    let mut random = Random(15);
    for _ in 0..50_000 {
        let x = random.f32();
        let exact = f64::from(x);
        assert!(ulps(approx::rcp(x, false), 1.0 / exact) <= 0.5 || x == 0.0 || x.is_nan(), "rcp {x:e}");
        if x > 0.0 && x.is_finite() {
            // Squares of the neighbours lie on both sides.
            let root = f64::from(approx::sqrt(x, false));
            assert!((root * root - exact).abs() <= exact * 1.2e-7, "sqrt {x:e}");
            let inverse = f64::from(approx::rsqrt(x, false));
            assert!((inverse * inverse * exact - 1.0).abs() <= 1.3e-7, "rsqrt {x:e}");
        }
    }
    assert_eq!([0.0, -0.0].map(|x| approx::rcp(x, false)), [f32::INFINITY, f32::NEG_INFINITY]);
    assert_eq!(approx::rcp(f32::NEG_INFINITY, false).to_bits(), 1 << 31);
    assert_eq!(approx::rcp(-1e-40, true), f32::NEG_INFINITY);
    assert_eq!(approx::rcp(3e38, true), 0.0);
    assert_eq!([0.0, -0.0].map(|x| approx::rsqrt(x, false)), [f32::INFINITY, f32::NEG_INFINITY]);
    assert_eq!([-1.0, f32::NAN].map(|x| approx::rsqrt(x, false).to_bits()), [NAN_F32; 2]);
    assert_eq!(approx::rsqrt(1e-40, true), f32::INFINITY);
    assert_eq!(approx::rsqrt_f64(4.0, false), 0.5);
    assert_eq!(approx::rsqrt_f64(1e-310, true), f64::INFINITY);
    assert_eq!(
        [approx::rcp_f64(4.0), approx::rcp_f64(-1e-310), approx::rcp_f64(1.7e308)],
        [0.25, f64::NEG_INFINITY, 0.0]
    );
    assert_eq!(approx::sqrt(-0.0, false).to_bits(), 1 << 31);
    assert_eq!(approx::sqrt(-1.0, false).to_bits(), NAN_F32);
}

#[test]
fn angles() {
    for step in -4000..4000i16 {
        let x = f32::from(step) / 1000.0;
        let (exact, square) = (f64::from(x), f64::from(x) * f64::from(x));
        let sin = (0..14).rev().fold(1.0, |sum, k| 1.0 - sum * square / f64::from((2 * k + 2) * (2 * k + 3)))
            * exact;
        let cos = (0..14).rev().fold(1.0, |sum, k| 1.0 - sum * square / f64::from((2 * k + 1) * (2 * k + 2)));
        assert!((f64::from(approx::sin(x, false)) - sin).abs() < 1e-7, "sin {x}");
        assert!((f64::from(approx::cos(x, false)) - cos).abs() < 1e-7, "cos {x}");
        let power = f64::exp(2.0 * exact);
        assert!((f64::from(approx::tanh(x)) - (power - 1.0) / (power + 1.0)).abs() < 1e-7, "tanh {x}");
    }
    assert_eq!(approx::sin(f32::INFINITY, false).to_bits(), NAN_F32);
    assert_eq!(approx::cos(1e-40, true), 1.0);
    assert_eq!(approx::sin(-1e-40, true).to_bits(), 1 << 31);
    assert_eq!([approx::tanh(f32::INFINITY), approx::tanh(-100.0)], [1.0, -1.0]);
}

#[test]
fn quotients() {
    let huge = f32::from_bits(0x7E80_0001);
    assert_eq!(approx::div(-6.0, 3.0, false), -2.0);
    // PTX: divisors above 2^126 give zero, or NaN under an infinity.
    assert_eq!(approx::div(f32::MAX, huge, false).to_bits(), 0);
    assert_eq!(approx::div(f32::MAX, -huge, false).to_bits(), 1 << 31);
    assert_eq!(approx::div(f32::INFINITY, huge, false).to_bits(), NAN_F32);
    assert_eq!(
        approx::div(f32::MAX, f32::from_bits(0x7E80_0000), false),
        f32::MAX / f32::from_bits(0x7E80_0000)
    );
    assert_eq!(approx::div(1.0, f32::INFINITY, false), 0.0);
    assert_eq!(approx::div(1.0, 1e-40, true), f32::INFINITY);
    assert_eq!(approx::div_full(f32::MAX, huge, false), f32::MAX / huge);
    assert_eq!(approx::div_full(1e-38, 2.0, true), 0.0);
    assert_eq!(approx::div_full(0.0, 0.0, false).to_bits(), NAN_F32);
}
