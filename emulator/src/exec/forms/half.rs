//! Arithmetic of f16 and bf16, one or two to a register.
use super::Form;
use super::macros::lanewise;
use crate::exec::scalar::half::{Half, HalfMode, abs, add, extreme, fma, mul, neg, packed, sub};
use crate::exec::scalar::minmax::{Extreme, MinMaxMode};

/// One form for scalars and one for pairs, from a function of the kind and the operands.
macro_rules! both {
    ($k:ident, $S:ident, $P:ident, $name:expr, $s:literal, $p:literal, |$a:ident| $f:expr) => {
        [
            lanewise!(concat!($name, ".", $s), $S:u16, [$S:u16], |$a| $f),
            lanewise!(concat!($name, ".", $p), $P:u32, [$P:u32], |a| packed([a], |[$a]| $f)),
        ]
    };
    ($k:ident, $S:ident, $P:ident, $name:expr, $s:literal, $p:literal, |$a:ident, $b:ident| $f:expr) => {
        [
            lanewise!(concat!($name, ".", $s), $S:u16, [$S:u16, $S:u16], |$a, $b| $f),
            lanewise!(concat!($name, ".", $p), $P:u32, [$P:u32, $P:u32], |a, b| packed([a, b], |[$a, $b]| $f)),
        ]
    };
    ($k:ident, $S:ident, $P:ident, $name:expr, $s:literal, $p:literal, |$a:ident, $b:ident, $c:ident| $f:expr) => {
        [
            lanewise!(concat!($name, ".", $s), $S:u16, [$S:u16, $S:u16, $S:u16], |$a, $b, $c| $f),
            lanewise!(concat!($name, ".", $p), $P:u32, [$P:u32, $P:u32, $P:u32], |a, b, c| {
                packed([a, b, c], |[$a, $b, $c]| $f)
            }),
        ]
    };
}

/// add, sub, mul and fma with one set of modifiers.
macro_rules! arithmetic {
    ($k:ident, $S:ident, $P:ident, $s:literal, $p:literal, $m:literal, $ftz:literal, $sat:literal) => {
        [
            both!($k, $S, $P, concat!("add", $m), $s, $p, |a, b| add(
                Half::$k,
                a,
                b,
                HalfMode { ftz: $ftz, sat: $sat, relu: false }
            )),
            both!($k, $S, $P, concat!("sub", $m), $s, $p, |a, b| sub(
                Half::$k,
                a,
                b,
                HalfMode { ftz: $ftz, sat: $sat, relu: false }
            )),
            both!($k, $S, $P, concat!("mul", $m), $s, $p, |a, b| mul(
                Half::$k,
                a,
                b,
                HalfMode { ftz: $ftz, sat: $sat, relu: false }
            )),
        ]
    };
}

macro_rules! fused {
    ($k:ident, $S:ident, $P:ident, $s:literal, $p:literal, $m:literal, $ftz:literal, $sat:literal, $relu:literal) => {
        both!($k, $S, $P, concat!("fma.rn", $m), $s, $p, |a, b, c| {
            fma(Half::$k, a, b, c, HalfMode { ftz: $ftz, sat: $sat, relu: $relu })
        })
    };
}

macro_rules! extremes {
    ($k:ident, $S:ident, $P:ident, $s:literal, $p:literal, $m:literal, $ftz:literal, $nan:literal, $xorsign:literal) => {
        [
            both!($k, $S, $P, concat!("min", $m), $s, $p, |a, b| {
                extreme(Half::$k, Extreme::Min, a, b, MinMaxMode { ftz: $ftz, nan: $nan, xorsign: $xorsign })
            }),
            both!($k, $S, $P, concat!("max", $m), $s, $p, |a, b| {
                extreme(Half::$k, Extreme::Max, a, b, MinMaxMode { ftz: $ftz, nan: $nan, xorsign: $xorsign })
            }),
        ]
    };
}

static TRIPLES: &[&[[Form; 2]]] = &[
    &arithmetic!(F16, F16, F16x2, "f16", "f16x2", "", false, false),
    &arithmetic!(F16, F16, F16x2, "f16", "f16x2", ".rn", false, false),
    &arithmetic!(F16, F16, F16x2, "f16", "f16x2", ".ftz", true, false),
    &arithmetic!(F16, F16, F16x2, "f16", "f16x2", ".rn.ftz", true, false),
    &arithmetic!(F16, F16, F16x2, "f16", "f16x2", ".sat", false, true),
    &arithmetic!(F16, F16, F16x2, "f16", "f16x2", ".rn.sat", false, true),
    &arithmetic!(Bf16, Bf16, Bf16x2, "bf16", "bf16x2", "", false, false),
    &arithmetic!(Bf16, Bf16, Bf16x2, "bf16", "bf16x2", ".rn", false, false),
    &extremes!(F16, F16, F16x2, "f16", "f16x2", "", false, false, false),
    &extremes!(F16, F16, F16x2, "f16", "f16x2", ".ftz", true, false, false),
    &extremes!(F16, F16, F16x2, "f16", "f16x2", ".NaN", false, true, false),
    &extremes!(F16, F16, F16x2, "f16", "f16x2", ".ftz.NaN", true, true, false),
    &extremes!(F16, F16, F16x2, "f16", "f16x2", ".xorsign.abs", false, false, true),
    &extremes!(Bf16, Bf16, Bf16x2, "bf16", "bf16x2", "", false, false, false),
    &extremes!(Bf16, Bf16, Bf16x2, "bf16", "bf16x2", ".NaN", false, true, false),
    &extremes!(Bf16, Bf16, Bf16x2, "bf16", "bf16x2", ".xorsign.abs", false, false, true),
    &[
        fused!(F16, F16, F16x2, "f16", "f16x2", "", false, false, false),
        fused!(F16, F16, F16x2, "f16", "f16x2", ".ftz", true, false, false),
        fused!(F16, F16, F16x2, "f16", "f16x2", ".sat", false, true, false),
        fused!(F16, F16, F16x2, "f16", "f16x2", ".relu", false, false, true),
        fused!(Bf16, Bf16, Bf16x2, "bf16", "bf16x2", "", false, false, false),
        fused!(Bf16, Bf16, Bf16x2, "bf16", "bf16x2", ".relu", false, false, true),
        both!(F16, F16, F16x2, "neg", "f16", "f16x2", |a| neg(Half::F16, a, false)),
        both!(F16, F16, F16x2, "abs", "f16", "f16x2", |a| abs(Half::F16, a, false)),
        both!(F16, F16, F16x2, "neg.ftz", "f16", "f16x2", |a| neg(Half::F16, a, true)),
        both!(F16, F16, F16x2, "abs.ftz", "f16", "f16x2", |a| abs(Half::F16, a, true)),
        both!(Bf16, Bf16, Bf16x2, "neg", "bf16", "bf16x2", |a| neg(Half::Bf16, a, false)),
        both!(Bf16, Bf16, Bf16x2, "abs", "bf16", "bf16x2", |a| abs(Half::Bf16, a, false)),
    ],
];

pub(super) fn forms() -> impl Iterator<Item = &'static Form> {
    TRIPLES.iter().copied().flatten().flatten()
}
