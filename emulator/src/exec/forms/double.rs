//! Double-precision arithmetic.
use super::Form;
use super::macros::lanewise;
use crate::exec::scalar::minmax::{Extreme, extreme_f64};
use crate::exec::scalar::{Rounding, approx, float64};

macro_rules! sums {
    ($($rnd:literal $R:ident),*) => {
        &[$(
            lanewise!(concat!("add", $rnd, ".f64"), F64:f64, [F64:f64, F64:f64], |a, b| {
                float64::add(a, b, Rounding::$R)
            }),
            lanewise!(concat!("sub", $rnd, ".f64"), F64:f64, [F64:f64, F64:f64], |a, b| {
                float64::sub(a, b, Rounding::$R)
            }),
            lanewise!(concat!("mul", $rnd, ".f64"), F64:f64, [F64:f64, F64:f64], |a, b| {
                float64::mul(a, b, Rounding::$R)
            }),
        )*]
    };
}

macro_rules! rounded {
    ($($rnd:literal $R:ident),*) => {
        &[$(
            lanewise!(concat!("fma", $rnd, ".f64"), F64:f64, [F64:f64, F64:f64, F64:f64], |a, b, c| {
                float64::fma(a, b, c, Rounding::$R)
            }),
            lanewise!(concat!("mad", $rnd, ".f64"), F64:f64, [F64:f64, F64:f64, F64:f64], |a, b, c| {
                float64::fma(a, b, c, Rounding::$R)
            }),
            lanewise!(concat!("div", $rnd, ".f64"), F64:f64, [F64:f64, F64:f64], |a, b| {
                float64::div(a, b, Rounding::$R)
            }),
            lanewise!(concat!("rcp", $rnd, ".f64"), F64:f64, [F64:f64], |a| float64::rcp(a, Rounding::$R)),
            lanewise!(concat!("sqrt", $rnd, ".f64"), F64:f64, [F64:f64], |a| float64::sqrt(a, Rounding::$R)),
        )*]
    };
}

pub(super) static FORMS: &[&[Form]] = &[
    sums!("" Nearest, ".rn" Nearest, ".rz" Zero, ".rm" Down, ".rp" Up),
    rounded!(".rn" Nearest, ".rz" Zero, ".rm" Down, ".rp" Up),
    &[
        lanewise!("abs.f64", F64:f64, [F64:f64], float64::abs),
        lanewise!("neg.f64", F64:f64, [F64:f64], float64::neg),
        lanewise!("copysign.f64", F64:f64, [F64:f64, F64:f64], float64::copysign),
        lanewise!("min.f64", F64:f64, [F64:f64, F64:f64], |a, b| extreme_f64(Extreme::Min, a, b)),
        lanewise!("max.f64", F64:f64, [F64:f64, F64:f64], |a, b| extreme_f64(Extreme::Max, a, b)),
        lanewise!("rcp.approx.ftz.f64", F64:f64, [F64:f64], approx::rcp_f64),
        lanewise!("rsqrt.approx.f64", F64:f64, [F64:f64], |a| approx::rsqrt_f64(a, false)),
        lanewise!("rsqrt.approx.ftz.f64", F64:f64, [F64:f64], |a| approx::rsqrt_f64(a, true)),
    ],
];
