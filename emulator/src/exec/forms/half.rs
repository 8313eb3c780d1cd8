//! Half-precision arithmetic, one value or two to a register.
use super::Form;
use super::macros::rarely;
use crate::exec::scalar::approx;
use crate::exec::scalar::half::{self, Half, HalfMode};
use crate::exec::scalar::minmax::{Extreme, MinMaxMode};

const fn mode(ftz: bool, sat: bool, relu: bool) -> HalfMode {
    HalfMode { ftz, sat, relu }
}

/// The form of one value and that of a pair.
macro_rules! unary {
    ($K:ident, $P:ident, $n:literal, $p:literal, $name:expr, $f:expr) => {
        [
            rarely!(concat!($name, ".", $n), $K:u16, [$K:u16], $f),
            rarely!(concat!($name, ".", $p), $P:u32, [$P:u32], |a| half::packed([a], |[a]| apply1(a, $f))),
        ]
    };
}

macro_rules! binary {
    ($K:ident, $P:ident, $n:literal, $p:literal, $name:expr, $f:expr) => {
        [
            rarely!(concat!($name, ".", $n), $K:u16, [$K:u16, $K:u16], $f),
            rarely!(concat!($name, ".", $p), $P:u32, [$P:u32, $P:u32], |a, b| {
                half::packed([a, b], |[a, b]| apply2(a, b, $f))
            }),
        ]
    };
}

macro_rules! ternary {
    ($K:ident, $P:ident, $n:literal, $p:literal, $name:expr, $f:expr) => {
        [
            rarely!(concat!($name, ".", $n), $K:u16, [$K:u16, $K:u16, $K:u16], $f),
            rarely!(concat!($name, ".", $p), $P:u32, [$P:u32, $P:u32, $P:u32], |a, b, c| {
                half::packed([a, b, c], |[a, b, c]| apply3(a, b, c, $f))
            }),
        ]
    };
}

#[inline(always)]
fn apply1(a: u16, f: impl Fn(u16) -> u16) -> u16 {
    f(a)
}

#[inline(always)]
fn apply2(a: u16, b: u16, f: impl Fn(u16, u16) -> u16) -> u16 {
    f(a, b)
}

#[inline(always)]
fn apply3(a: u16, b: u16, c: u16, f: impl Fn(u16, u16, u16) -> u16) -> u16 {
    f(a, b, c)
}

/// Sums and products, with and without the rounding spelt out.
macro_rules! sums {
    ($K:ident, $P:ident, $n:literal, $p:literal, [$($mods:literal $ftz:literal $sat:literal),*]) => {
        &[$(
            binary!($K, $P, $n, $p, concat!("add", $mods), |a, b| half::add(Half::$K, a, b, mode($ftz, $sat, false))),
            binary!($K, $P, $n, $p, concat!("sub", $mods), |a, b| half::sub(Half::$K, a, b, mode($ftz, $sat, false))),
            binary!($K, $P, $n, $p, concat!("mul", $mods), |a, b| half::mul(Half::$K, a, b, mode($ftz, $sat, false))),
        )*]
    };
}

macro_rules! fused {
    ($K:ident, $P:ident, $n:literal, $p:literal, [$($mods:literal $ftz:literal $sat:literal $relu:literal),*]) => {
        &[$(
            ternary!($K, $P, $n, $p, concat!("fma.rn", $mods), |a, b, c| {
                half::fma(Half::$K, a, b, c, mode($ftz, $sat, $relu))
            }),
        )*]
    };
}

macro_rules! extremes {
    ($K:ident, $P:ident, $n:literal, $p:literal, [$($mods:literal $ftz:literal $nan:literal $xorsign:literal),*]) => {
        &[$(
            binary!($K, $P, $n, $p, concat!("min", $mods), |a, b| {
                half::extreme(Half::$K, Extreme::Min, a, b, MinMaxMode { ftz: $ftz, nan: $nan, xorsign: $xorsign })
            }),
            binary!($K, $P, $n, $p, concat!("max", $mods), |a, b| {
                half::extreme(Half::$K, Extreme::Max, a, b, MinMaxMode { ftz: $ftz, nan: $nan, xorsign: $xorsign })
            }),
        )*]
    };
}

/// A function computed in f32 and rounded.
#[inline(always)]
fn through(kind: Half, a: u16, f: impl Fn(f32) -> f32) -> u16 {
    half::from_f32(kind, f(half::to_f32(kind, a)))
}

static GROUPS: &[&[[Form; 2]]] = &[
    sums!(F16, F16x2, "f16", "f16x2", [
        "" false false, ".rn" false false, ".ftz" true false, ".rn.ftz" true false, ".sat" false true,
        ".rn.sat" false true, ".ftz.sat" true true, ".rn.ftz.sat" true true
    ]),
    sums!(Bf16, Bf16x2, "bf16", "bf16x2", ["" false false, ".rn" false false]),
    fused!(F16, F16x2, "f16", "f16x2", [
        "" false false false, ".ftz" true false false, ".sat" false true false, ".ftz.sat" true true false,
        ".relu" false false true, ".ftz.relu" true false true
    ]),
    fused!(Bf16, Bf16x2, "bf16", "bf16x2", ["" false false false, ".relu" false false true]),
    extremes!(F16, F16x2, "f16", "f16x2", [
        "" false false false, ".ftz" true false false, ".NaN" false true false, ".ftz.NaN" true true false,
        ".xorsign.abs" false false true, ".ftz.xorsign.abs" true false true, ".NaN.xorsign.abs" false true true,
        ".ftz.NaN.xorsign.abs" true true true
    ]),
    extremes!(Bf16, Bf16x2, "bf16", "bf16x2", [
        "" false false false, ".NaN" false true false, ".xorsign.abs" false false true,
        ".NaN.xorsign.abs" false true true
    ]),
    &[
        unary!(F16, F16x2, "f16", "f16x2", "neg", |a| half::neg(Half::F16, a, false)),
        unary!(F16, F16x2, "f16", "f16x2", "neg.ftz", |a| half::neg(Half::F16, a, true)),
        unary!(F16, F16x2, "f16", "f16x2", "abs", |a| half::abs(Half::F16, a, false)),
        unary!(F16, F16x2, "f16", "f16x2", "abs.ftz", |a| half::abs(Half::F16, a, true)),
        unary!(Bf16, Bf16x2, "bf16", "bf16x2", "neg", |a| half::neg(Half::Bf16, a, false)),
        unary!(Bf16, Bf16x2, "bf16", "bf16x2", "abs", |a| half::abs(Half::Bf16, a, false)),
        unary!(F16, F16x2, "f16", "f16x2", "ex2.approx", |a| through(Half::F16, a, |x| approx::ex2(
            x, false
        ))),
        unary!(Bf16, Bf16x2, "bf16", "bf16x2", "ex2.approx.ftz", |a| through(
            Half::Bf16,
            a,
            |x| approx::ex2(x, true)
        )),
        unary!(F16, F16x2, "f16", "f16x2", "tanh.approx", |a| through(Half::F16, a, approx::tanh)),
        unary!(Bf16, Bf16x2, "bf16", "bf16x2", "tanh.approx", |a| through(Half::Bf16, a, approx::tanh)),
    ],
];

pub(super) fn forms() -> impl Iterator<Item = &'static Form> {
    GROUPS.iter().copied().flatten().flatten()
}
