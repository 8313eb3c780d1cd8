//! Inputs worth trying, and LLVM's software floating point behind plain functions of bits.

use ptx_emulator::exec::scalar::Rounding;
use rustc_apfloat::{Float, Round};

pub(crate) fn round(rounding: Rounding) -> Round {
    match rounding {
        Rounding::Nearest => Round::NearestTiesToEven,
        Rounding::Zero => Round::TowardZero,
        Rounding::Down => Round::TowardNegative,
        Rounding::Up => Round::TowardPositive,
    }
}

pub(crate) fn add<F: Float>(a: u128, b: u128, rounding: Rounding) -> u128 {
    F::from_bits(a).add_r(F::from_bits(b), round(rounding)).value.to_bits()
}

pub(crate) fn sub<F: Float>(a: u128, b: u128, rounding: Rounding) -> u128 {
    F::from_bits(a).sub_r(F::from_bits(b), round(rounding)).value.to_bits()
}

pub(crate) fn mul<F: Float>(a: u128, b: u128, rounding: Rounding) -> u128 {
    F::from_bits(a).mul_r(F::from_bits(b), round(rounding)).value.to_bits()
}

pub(crate) fn div<F: Float>(a: u128, b: u128, rounding: Rounding) -> u128 {
    F::from_bits(a).div_r(F::from_bits(b), round(rounding)).value.to_bits()
}

pub(crate) fn fma<F: Float>(a: u128, b: u128, c: u128, rounding: Rounding) -> u128 {
    F::from_bits(a).mul_add_r(F::from_bits(b), F::from_bits(c), round(rounding)).value.to_bits()
}

/// A small generator (splitmix64), so that failures repeat.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Any f32, or one near 1, whose sums and products cancel and tie more often.
    pub(crate) fn f32(&mut self) -> f32 {
        let bits = self.next();
        let fraction = (bits >> 32) as u32 & 0x807F_FFFF & if bits & 1 == 0 { !0 } else { 0xFFFF_F000 };
        match bits >> 1 & 3 {
            0 => f32::from_bits((bits >> 32) as u32),
            1 => f32::from_bits(fraction | 1 << 23 & (bits >> 8) as u32),
            _ => f32::from_bits(fraction | (115 + (bits >> 8 & 0x1F) as u32) << 23),
        }
    }

    /// As [`Random::f32`], in f64.
    pub(crate) fn f64(&mut self) -> f64 {
        let (bits, choice) = (self.next(), self.next());
        let fraction = bits & 0x800F_FFFF_FFFF_FFFF & if choice & 1 == 0 { !0 } else { !0xFFFF_FFFF };
        match choice >> 1 & 3 {
            0 => f64::from_bits(bits),
            1 => f64::from_bits(fraction | choice & 3 << 52),
            _ => f64::from_bits(fraction | (980 + (choice >> 8 & 0x7F)) << 52),
        }
    }
}

/// Zeros, subnormals, the ends of the ranges, halves of ulps, infinities, NaN.
pub(crate) const EDGES_F32: [f32; 26] = [
    0.0,
    -0.0,
    f32::from_bits(1),
    -f32::from_bits(1),
    f32::from_bits(0x007F_FFFF),
    -f32::from_bits(0x0040_0000),
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    f32::from_bits(0x0080_0001),
    1.0,
    -1.0,
    f32::from_bits(0x3F80_0001),
    f32::from_bits(0xBF7F_FFFF),
    0.5,
    f32::from_bits(0x3380_0000),
    f32::from_bits(0xB300_0001),
    3.0,
    -7.0,
    16_777_216.0,
    -8_388_609.0,
    f32::MAX,
    f32::MIN,
    f32::from_bits(0x7F7F_FFFE),
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// The same in f64.
pub(crate) const EDGES_F64: [f64; 24] = [
    0.0,
    -0.0,
    f64::from_bits(1),
    -f64::from_bits(3),
    f64::from_bits(0x000F_FFFF_FFFF_FFFF),
    f64::MIN_POSITIVE,
    -f64::MIN_POSITIVE,
    1.0,
    -1.0,
    f64::from_bits(0x3FF0_0000_0000_0001),
    f64::from_bits(0xBFEF_FFFF_FFFF_FFFF),
    0.5,
    f64::from_bits(0x3CA0_0000_0000_0000),
    f64::from_bits(0xBC90_0000_0000_0001),
    3.0,
    -7.0,
    9_007_199_254_740_993.0,
    f64::from_bits(0x1FF0_0000_0000_0001),
    f64::from_bits(0x2000_0000_0000_0003),
    f64::MAX,
    f64::MIN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];
