//! Double-precision arithmetic.
use super::Form;
use super::macros::rarely;
use crate::exec::scalar::minmax::{Extreme, extreme_f64};
use crate::exec::scalar::{Rounding, approx, float64};

macro_rules! sums {
    ($($rnd:literal $R:ident),*) => {
        &[$(
            rarely!(concat!("add", $rnd, ".f64"), F64:f64, [F64:f64, F64:f64], |a, b| {
                float64::add(a, b, Rounding::$R)
            }),
            rarely!(concat!("sub", $rnd, ".f64"), F64:f64, [F64:f64, F64:f64], |a, b| {
                float64::sub(a, b, Rounding::$R)
            }),
            rarely!(concat!("mul", $rnd, ".f64"), F64:f64, [F64:f64, F64:f64], |a, b| {
                float64::mul(a, b, Rounding::$R)
            }),
        )*]
    };
}

macro_rules! rounded {
    ($($rnd:literal $R:ident),*) => {
        &[$(
            rarely!(concat!("fma", $rnd, ".f64"), F64:f64, [F64:f64, F64:f64, F64:f64], |a, b, c| {
                float64::fma(a, b, c, Rounding::$R)
            }),
            rarely!(concat!("mad", $rnd, ".f64"), F64:f64, [F64:f64, F64:f64, F64:f64], |a, b, c| {
                float64::fma(a, b, c, Rounding::$R)
            }),
            rarely!(concat!("div", $rnd, ".f64"), F64:f64, [F64:f64, F64:f64], |a, b| {
                float64::div(a, b, Rounding::$R)
            }),
            rarely!(concat!("rcp", $rnd, ".f64"), F64:f64, [F64:f64], |a| float64::rcp(a, Rounding::$R)),
            rarely!(concat!("sqrt", $rnd, ".f64"), F64:f64, [F64:f64], |a| float64::sqrt(a, Rounding::$R)),
        )*]
    };
}

pub(super) static FORMS: &[&[Form]] = &[
    sums!("" Nearest, ".rn" Nearest, ".rz" Zero, ".rm" Down, ".rp" Up),
    rounded!(".rn" Nearest, ".rz" Zero, ".rm" Down, ".rp" Up),
    &[
        rarely!("abs.f64", F64:f64, [F64:f64], float64::abs),
        rarely!("neg.f64", F64:f64, [F64:f64], float64::neg),
        rarely!("copysign.f64", F64:f64, [F64:f64, F64:f64], float64::copysign),
        rarely!("min.f64", F64:f64, [F64:f64, F64:f64], |a, b| extreme_f64(Extreme::Min, a, b)),
        rarely!("max.f64", F64:f64, [F64:f64, F64:f64], |a, b| extreme_f64(Extreme::Max, a, b)),
        rarely!("rcp.approx.ftz.f64", F64:f64, [F64:f64], approx::rcp_f64),
        rarely!("rsqrt.approx.f64", F64:f64, [F64:f64], |a| approx::rsqrt_f64(a, false)),
        rarely!("rsqrt.approx.ftz.f64", F64:f64, [F64:f64], |a| approx::rsqrt_f64(a, true)),
    ],
];
