//! Single-precision arithmetic: every rounding, `.ftz` and `.sat`.
use super::Form;
use super::macros::{form, lanewise};
use crate::exec::regs::{Value, put_pred};
use crate::exec::scalar::compare::Property;
use crate::exec::scalar::minmax::{Extreme, MinMaxMode, extreme_f32};
use crate::exec::scalar::{FloatMode, Rounding, approx, float32};

const fn mode(rounding: Rounding, ftz: bool, sat: bool) -> FloatMode {
    FloatMode { rounding, ftz, sat }
}

/// Two sources; without a rounding modifier the instruction rounds to nearest.
macro_rules! binary {
    ($op:literal, $f:path, [$($rnd:literal $R:ident),*]) => {
        &[$(
            lanewise!(concat!($op, $rnd, ".f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                $f(a, b, mode(Rounding::$R, false, false))
            }),
            lanewise!(concat!($op, $rnd, ".ftz.f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                $f(a, b, mode(Rounding::$R, true, false))
            }),
            lanewise!(concat!($op, $rnd, ".sat.f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                $f(a, b, mode(Rounding::$R, false, true))
            }),
            lanewise!(concat!($op, $rnd, ".ftz.sat.f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                $f(a, b, mode(Rounding::$R, true, true))
            }),
        )*]
    };
}

macro_rules! fused {
    ($op:literal, [$($rnd:literal $R:ident),*]) => {
        &[$(
            lanewise!(concat!($op, $rnd, ".f32"), F32:f32, [F32:f32, F32:f32, F32:f32], |a, b, c| {
                float32::fma(a, b, c, mode(Rounding::$R, false, false))
            }),
            lanewise!(concat!($op, $rnd, ".ftz.f32"), F32:f32, [F32:f32, F32:f32, F32:f32], |a, b, c| {
                float32::fma(a, b, c, mode(Rounding::$R, true, false))
            }),
            lanewise!(concat!($op, $rnd, ".sat.f32"), F32:f32, [F32:f32, F32:f32, F32:f32], |a, b, c| {
                float32::fma(a, b, c, mode(Rounding::$R, false, true))
            }),
            lanewise!(concat!($op, $rnd, ".ftz.sat.f32"), F32:f32, [F32:f32, F32:f32, F32:f32], |a, b, c| {
                float32::fma(a, b, c, mode(Rounding::$R, true, true))
            }),
        )*]
    };
}

/// Quotients and roots know `.ftz` but not `.sat`.
macro_rules! divisions {
    ($($rnd:literal $R:ident),*) => {
        &[$(
            lanewise!(concat!("div", $rnd, ".f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                float32::div(a, b, mode(Rounding::$R, false, false))
            }),
            lanewise!(concat!("div", $rnd, ".ftz.f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                float32::div(a, b, mode(Rounding::$R, true, false))
            }),
            lanewise!(concat!("rcp", $rnd, ".f32"), F32:f32, [F32:f32], |a| {
                float32::rcp(a, mode(Rounding::$R, false, false))
            }),
            lanewise!(concat!("rcp", $rnd, ".ftz.f32"), F32:f32, [F32:f32], |a| {
                float32::rcp(a, mode(Rounding::$R, true, false))
            }),
            lanewise!(concat!("sqrt", $rnd, ".f32"), F32:f32, [F32:f32], |a| {
                float32::sqrt(a, mode(Rounding::$R, false, false))
            }),
            lanewise!(concat!("sqrt", $rnd, ".ftz.f32"), F32:f32, [F32:f32], |a| {
                float32::sqrt(a, mode(Rounding::$R, true, false))
            }),
        )*]
    };
}

macro_rules! unary {
    ($($op:literal $f:path),*) => {
        &[$(
            lanewise!(concat!($op, ".f32"), F32:f32, [F32:f32], |a| $f(a, false)),
            lanewise!(concat!($op, ".ftz.f32"), F32:f32, [F32:f32], |a| $f(a, true)),
        )*]
    };
}

macro_rules! extremes {
    ($op:literal, $E:ident, [$($name:literal $ftz:literal $nan:literal $xorsign:literal),*]) => {
        &[$(
            lanewise!(concat!($op, $name, ".f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                extreme_f32(Extreme::$E, a, b, MinMaxMode { ftz: $ftz, nan: $nan, xorsign: $xorsign })
            }),
        )*]
    };
}

macro_rules! both_extremes {
    ($($name:literal $ftz:literal $nan:literal $xorsign:literal),*) => {
        [
            extremes!("min", Min, [$($name $ftz $nan $xorsign),*]),
            extremes!("max", Max, [$($name $ftz $nan $xorsign),*]),
        ]
    };
}

static EXTREMES: [&[Form]; 2] = both_extremes!(
    "" false false false,
    ".ftz" true false false,
    ".NaN" false true false,
    ".ftz.NaN" true true false,
    ".xorsign.abs" false false true,
    ".ftz.xorsign.abs" true false true,
    ".NaN.xorsign.abs" false true true,
    ".ftz.NaN.xorsign.abs" true true true
);

macro_rules! properties {
    ($($name:literal $P:ident),*) => {
        &[$(
            form!(concat!("testp.", $name, ".f32"), Pred, [F32], |r, o, m| {
                let bits = lanes_with(f32::get(r, o.src[0]), |x| Property::$P.holds_f32(f32::from_bits(x)));
                put_pred(&mut r.preds[o.dst as usize], bits, m);
            }),
            form!(concat!("testp.", $name, ".f64"), Pred, [F64], |r, o, m| {
                let bits = lanes_with(f64::get(r, o.src[0]), |x| Property::$P.holds_f64(f64::from_bits(x)));
                put_pred(&mut r.preds[o.dst as usize], bits, m);
            }),
        )*]
    };
}

#[inline(always)]
fn lanes_with<T: Copy, const N: usize>(values: &[T; N], holds: impl Fn(T) -> bool) -> u32 {
    values.iter().enumerate().fold(0, |mask, (lane, value)| mask | u32::from(holds(*value)) << lane)
}

pub(super) static FORMS: &[&[Form]] = &[
    binary!("add", float32::add, ["" Nearest, ".rn" Nearest, ".rz" Zero, ".rm" Down, ".rp" Up]),
    binary!("sub", float32::sub, ["" Nearest, ".rn" Nearest, ".rz" Zero, ".rm" Down, ".rp" Up]),
    binary!("mul", float32::mul, ["" Nearest, ".rn" Nearest, ".rz" Zero, ".rm" Down, ".rp" Up]),
    fused!("fma", [".rn" Nearest, ".rz" Zero, ".rm" Down, ".rp" Up]),
    fused!("mad", [".rn" Nearest, ".rz" Zero, ".rm" Down, ".rp" Up]),
    divisions!(".rn" Nearest, ".rz" Zero, ".rm" Down, ".rp" Up),
    unary!(
        "abs" float32::abs,
        "neg" float32::neg,
        "ex2.approx" approx::ex2,
        "lg2.approx" approx::lg2,
        "rcp.approx" approx::rcp,
        "rsqrt.approx" approx::rsqrt,
        "sqrt.approx" approx::sqrt,
        "sin.approx" approx::sin,
        "cos.approx" approx::cos
    ),
    &[
        lanewise!("tanh.approx.f32", F32:f32, [F32:f32], approx::tanh),
        lanewise!("copysign.f32", F32:f32, [F32:f32, F32:f32], float32::copysign),
        lanewise!("div.approx.f32", F32:f32, [F32:f32, F32:f32], |a, b| approx::div(a, b, false)),
        lanewise!("div.approx.ftz.f32", F32:f32, [F32:f32, F32:f32], |a, b| approx::div(a, b, true)),
        lanewise!("div.full.f32", F32:f32, [F32:f32, F32:f32], |a, b| approx::div_full(a, b, false)),
        lanewise!("div.full.ftz.f32", F32:f32, [F32:f32, F32:f32], |a, b| approx::div_full(a, b, true)),
    ],
    EXTREMES[0],
    EXTREMES[1],
    properties!(
        "finite" Finite, "infinite" Infinite, "number" Number, "notanumber" NotANumber, "normal" Normal,
        "subnormal" Subnormal
    ),
];
