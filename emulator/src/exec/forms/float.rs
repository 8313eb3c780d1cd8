//! Single-precision arithmetic: every rounding, `.ftz` and `.sat`.
use super::Form;
use super::macros::{lanewise, rare, rarely};
use crate::exec::regs::{Value, put_pred};
use crate::exec::scalar::compare::Property;
use crate::exec::scalar::minmax::{Extreme, MinMaxMode, extreme_f32};
use crate::exec::scalar::{FloatMode, Rounding, approx, float32};

const fn mode(rounding: Rounding, ftz: bool, sat: bool) -> FloatMode {
    FloatMode { rounding, ftz, sat }
}

/// Two sources; without a rounding modifier the instruction rounds to nearest. `$form` builds those without `.sat`.
macro_rules! binary {
    ($form:ident, $op:literal, $f:path, [$($rnd:literal $R:ident),*]) => {
        &[$(
            $form!(concat!($op, $rnd, ".f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                $f(a, b, mode(Rounding::$R, false, false))
            }),
            $form!(concat!($op, $rnd, ".ftz.f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                $f(a, b, mode(Rounding::$R, true, false))
            }),
            rarely!(concat!($op, $rnd, ".sat.f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                $f(a, b, mode(Rounding::$R, false, true))
            }),
            rarely!(concat!($op, $rnd, ".ftz.sat.f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                $f(a, b, mode(Rounding::$R, true, true))
            }),
        )*]
    };
}

macro_rules! fused {
    ($form:ident, $op:literal, [$($rnd:literal $R:ident),*]) => {
        &[$(
            $form!(concat!($op, $rnd, ".f32"), F32:f32, [F32:f32, F32:f32, F32:f32], |a, b, c| {
                float32::fma(a, b, c, mode(Rounding::$R, false, false))
            }),
            $form!(concat!($op, $rnd, ".ftz.f32"), F32:f32, [F32:f32, F32:f32, F32:f32], |a, b, c| {
                float32::fma(a, b, c, mode(Rounding::$R, true, false))
            }),
            rarely!(concat!($op, $rnd, ".sat.f32"), F32:f32, [F32:f32, F32:f32, F32:f32], |a, b, c| {
                float32::fma(a, b, c, mode(Rounding::$R, false, true))
            }),
            rarely!(concat!($op, $rnd, ".ftz.sat.f32"), F32:f32, [F32:f32, F32:f32, F32:f32], |a, b, c| {
                float32::fma(a, b, c, mode(Rounding::$R, true, true))
            }),
        )*]
    };
}

/// Quotients and roots know `.ftz` but not `.sat`.
macro_rules! divisions {
    ($($rnd:literal $R:ident),*) => {
        &[$(
            rarely!(concat!("div", $rnd, ".f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                float32::div(a, b, mode(Rounding::$R, false, false))
            }),
            rarely!(concat!("div", $rnd, ".ftz.f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                float32::div(a, b, mode(Rounding::$R, true, false))
            }),
            rarely!(concat!("rcp", $rnd, ".f32"), F32:f32, [F32:f32], |a| {
                float32::rcp(a, mode(Rounding::$R, false, false))
            }),
            rarely!(concat!("rcp", $rnd, ".ftz.f32"), F32:f32, [F32:f32], |a| {
                float32::rcp(a, mode(Rounding::$R, true, false))
            }),
            rarely!(concat!("sqrt", $rnd, ".f32"), F32:f32, [F32:f32], |a| {
                float32::sqrt(a, mode(Rounding::$R, false, false))
            }),
            rarely!(concat!("sqrt", $rnd, ".ftz.f32"), F32:f32, [F32:f32], |a| {
                float32::sqrt(a, mode(Rounding::$R, true, false))
            }),
        )*]
    };
}

macro_rules! unary {
    ($form:ident, $($op:literal $f:path),*) => {
        &[$(
            $form!(concat!($op, ".f32"), F32:f32, [F32:f32], |a| $f(a, false)),
            $form!(concat!($op, ".ftz.f32"), F32:f32, [F32:f32], |a| $f(a, true)),
        )*]
    };
}

macro_rules! extremes {
    ($form:ident, $op:literal, $E:ident, [$($name:literal $ftz:literal $nan:literal $xorsign:literal),*]) => {
        &[$(
            $form!(concat!($op, $name, ".f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
                extreme_f32(Extreme::$E, a, b, MinMaxMode { ftz: $ftz, nan: $nan, xorsign: $xorsign })
            }),
        )*]
    };
}

macro_rules! both_extremes {
    ($form:ident, $($name:literal $ftz:literal $nan:literal $xorsign:literal),*) => {
        [
            extremes!($form, "min", Min, [$($name $ftz $nan $xorsign),*]),
            extremes!($form, "max", Max, [$($name $ftz $nan $xorsign),*]),
        ]
    };
}

static EXTREMES: [&[Form]; 2] = both_extremes!(lanewise, "" false false false, ".NaN" false true false);

static RARE_EXTREMES: [&[Form]; 2] = both_extremes!(
    rarely,
    ".ftz" true false false,
    ".ftz.NaN" true true false,
    ".xorsign.abs" false false true,
    ".ftz.xorsign.abs" true false true,
    ".NaN.xorsign.abs" false true true,
    ".ftz.NaN.xorsign.abs" true true true
);

macro_rules! properties {
    ($($name:literal $P:ident),*) => {
        &[$(
            rare!(concat!("testp.", $name, ".f32"), Pred, [F32], |r, o, m| {
                let bits = lanes_with(f32::get(r, o.src[0]), |x| Property::$P.holds_f32(f32::from_bits(x)));
                put_pred(&mut r.preds[o.dst as usize], bits, m);
            }),
            rare!(concat!("testp.", $name, ".f64"), Pred, [F64], |r, o, m| {
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
    binary!(lanewise, "add", float32::add, ["" Nearest, ".rn" Nearest]),
    binary!(rarely, "add", float32::add, [".rz" Zero, ".rm" Down, ".rp" Up]),
    binary!(lanewise, "sub", float32::sub, ["" Nearest, ".rn" Nearest]),
    binary!(rarely, "sub", float32::sub, [".rz" Zero, ".rm" Down, ".rp" Up]),
    binary!(lanewise, "mul", float32::mul, ["" Nearest, ".rn" Nearest]),
    binary!(rarely, "mul", float32::mul, [".rz" Zero, ".rm" Down, ".rp" Up]),
    fused!(lanewise, "fma", [".rn" Nearest, ".rm" Down]),
    fused!(rarely, "fma", [".rz" Zero, ".rp" Up]),
    fused!(rarely, "mad", [".rn" Nearest, ".rz" Zero, ".rm" Down, ".rp" Up]),
    divisions!(".rn" Nearest, ".rz" Zero, ".rm" Down, ".rp" Up),
    unary!(
        lanewise,
        "abs" float32::abs,
        "neg" float32::neg,
        "ex2.approx" approx::ex2,
        "rcp.approx" approx::rcp,
        "rsqrt.approx" approx::rsqrt,
        "sqrt.approx" approx::sqrt
    ),
    unary!(rarely, "lg2.approx" approx::lg2, "sin.approx" approx::sin, "cos.approx" approx::cos),
    &[
        rarely!("tanh.approx.f32", F32:f32, [F32:f32], approx::tanh),
        rarely!("copysign.f32", F32:f32, [F32:f32, F32:f32], float32::copysign),
        rarely!("div.approx.f32", F32:f32, [F32:f32, F32:f32], |a, b| approx::div(a, b, false)),
        rarely!("div.approx.ftz.f32", F32:f32, [F32:f32, F32:f32], |a, b| approx::div(a, b, true)),
        rarely!("div.full.f32", F32:f32, [F32:f32, F32:f32], |a, b| approx::div_full(a, b, false)),
        rarely!("div.full.ftz.f32", F32:f32, [F32:f32, F32:f32], |a, b| approx::div_full(a, b, true)),
    ],
    EXTREMES[0],
    EXTREMES[1],
    RARE_EXTREMES[0],
    RARE_EXTREMES[1],
    properties!(
        "finite" Finite, "infinite" Infinite, "number" Number, "notanumber" NotANumber, "normal" Normal,
        "subnormal" Subnormal
    ),
];
