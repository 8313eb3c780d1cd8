//! Floating-point arithmetic of f32 and f64.
use super::Form;
use super::macros::{form, lanewise};
use crate::exec::regs::put_pred;
use crate::exec::scalar::compare::Property;
use crate::exec::scalar::minmax::{Extreme, MinMaxMode, extreme_f32, extreme_f64};
use crate::exec::scalar::{FloatMode, Rounding, approx, float32, float64};

/// Mode of an f32 form, a constant in each: the branches on it fold away.
const fn mode(rounding: Rounding, ftz: bool, sat: bool) -> FloatMode {
    FloatMode { rounding, ftz, sat }
}

/// add, sub, mul and fma of f32 with one rounding; `$m` is the modifier with its dot, or nothing.
macro_rules! single {
    ($r:ident, $m:literal) => {
        [
            single!(@ $r, $m, "", false, false),
            single!(@ $r, $m, ".ftz", true, false),
            single!(@ $r, $m, ".sat", false, true),
            single!(@ $r, $m, ".ftz.sat", true, true),
        ]
    };
    (@ $r:ident, $m:literal, $z:literal, $ftz:literal, $sat:literal) => {
        [
            lanewise!(concat!("add", $m, $z, ".f32"), F32:f32, [F32:f32, F32:f32], |a, b| float32::add(a, b, const { mode(Rounding::$r, $ftz, $sat) })),
            lanewise!(concat!("sub", $m, $z, ".f32"), F32:f32, [F32:f32, F32:f32], |a, b| float32::sub(a, b, const { mode(Rounding::$r, $ftz, $sat) })),
            lanewise!(concat!("mul", $m, $z, ".f32"), F32:f32, [F32:f32, F32:f32], |a, b| float32::mul(a, b, const { mode(Rounding::$r, $ftz, $sat) })),
            // Without a rounding `fma` does not exist, but the old `mad` does, and rounds once too.
            lanewise!(single!(@fused $m, $z), F32:f32, [F32:f32, F32:f32, F32:f32], |a, b, c| float32::fma(a, b, c, const { mode(Rounding::$r, $ftz, $sat) })),
        ]
    };
    (@fused "", $z:literal) => { concat!("mad", $z, ".f32") };
    (@fused $m:literal, $z:literal) => { concat!("fma", $m, $z, ".f32") };
}

/// `mad` with a rounding is `fma`.
macro_rules! mad {
    ($r:ident, $m:literal) => {
        [
            lanewise!(concat!("mad", $m, ".f32"), F32:f32, [F32:f32, F32:f32, F32:f32], |a, b, c| float32::fma(a, b, c, const { mode(Rounding::$r, false, false) })),
            lanewise!(concat!("mad", $m, ".f64"), F64:f64, [F64:f64, F64:f64, F64:f64], |a, b, c| float64::fma(a, b, c, Rounding::$r)),
        ]
    };
}

/// div, rcp and sqrt of f32, correctly rounded.
macro_rules! exact {
    ($r:ident, $m:literal, $z:literal, $ftz:literal) => {
        [
            lanewise!(concat!("div", $m, $z, ".f32"), F32:f32, [F32:f32, F32:f32], |a, b| float32::div(a, b, const { mode(Rounding::$r, $ftz, false) })),
            lanewise!(concat!("rcp", $m, $z, ".f32"), F32:f32, [F32:f32], |a| float32::rcp(a, const { mode(Rounding::$r, $ftz, false) })),
            lanewise!(concat!("sqrt", $m, $z, ".f32"), F32:f32, [F32:f32], |a| float32::sqrt(a, const { mode(Rounding::$r, $ftz, false) })),
        ]
    };
}

macro_rules! approximate {
    ($z:literal, $ftz:literal) => {
        [
            lanewise!(concat!("ex2.approx", $z, ".f32"), F32:f32, [F32:f32], |a| approx::ex2(a, $ftz)),
            lanewise!(concat!("lg2.approx", $z, ".f32"), F32:f32, [F32:f32], |a| approx::lg2(a, $ftz)),
            lanewise!(concat!("rcp.approx", $z, ".f32"), F32:f32, [F32:f32], |a| approx::rcp(a, $ftz)),
            lanewise!(concat!("rsqrt.approx", $z, ".f32"), F32:f32, [F32:f32], |a| approx::rsqrt(a, $ftz)),
            lanewise!(concat!("sqrt.approx", $z, ".f32"), F32:f32, [F32:f32], |a| approx::sqrt(a, $ftz)),
            lanewise!(concat!("sin.approx", $z, ".f32"), F32:f32, [F32:f32], |a| approx::sin(a, $ftz)),
            lanewise!(concat!("cos.approx", $z, ".f32"), F32:f32, [F32:f32], |a| approx::cos(a, $ftz)),
            lanewise!(concat!("div.approx", $z, ".f32"), F32:f32, [F32:f32, F32:f32], |a, b| approx::div(a, b, $ftz)),
            lanewise!(concat!("div.full", $z, ".f32"), F32:f32, [F32:f32, F32:f32], |a, b| approx::div_full(a, b, $ftz)),
            lanewise!(concat!("neg", $z, ".f32"), F32:f32, [F32:f32], |a| float32::neg(a, $ftz)),
            lanewise!(concat!("abs", $z, ".f32"), F32:f32, [F32:f32], |a| float32::abs(a, $ftz)),
        ]
    };
}

macro_rules! extremes {
    ($op:literal, $e:ident, $z:literal, $ftz:literal) => {
        [
            extremes!(@ $op, $e, $z, "", $ftz, false, false),
            extremes!(@ $op, $e, $z, ".NaN", $ftz, true, false),
            extremes!(@ $op, $e, $z, ".xorsign.abs", $ftz, false, true),
            extremes!(@ $op, $e, $z, ".NaN.xorsign.abs", $ftz, true, true),
        ]
    };
    (@ $op:literal, $e:ident, $z:literal, $m:literal, $ftz:literal, $nan:literal, $xorsign:literal) => {
        lanewise!(concat!($op, $z, $m, ".f32"), F32:f32, [F32:f32, F32:f32], |a, b| {
            extreme_f32(Extreme::$e, a, b, MinMaxMode { ftz: $ftz, nan: $nan, xorsign: $xorsign })
        })
    };
}

macro_rules! double {
    ($r:ident, $m:literal) => {
        [
            lanewise!(concat!("add", $m, ".f64"), F64:f64, [F64:f64, F64:f64], |a, b| float64::add(a, b, Rounding::$r)),
            lanewise!(concat!("sub", $m, ".f64"), F64:f64, [F64:f64, F64:f64], |a, b| float64::sub(a, b, Rounding::$r)),
            lanewise!(concat!("mul", $m, ".f64"), F64:f64, [F64:f64, F64:f64], |a, b| float64::mul(a, b, Rounding::$r)),
        ]
    };
}

macro_rules! double_exact {
    ($r:ident, $m:literal) => {
        [
            lanewise!(concat!("fma", $m, ".f64"), F64:f64, [F64:f64, F64:f64, F64:f64], |a, b, c| float64::fma(a, b, c, Rounding::$r)),
            lanewise!(concat!("div", $m, ".f64"), F64:f64, [F64:f64, F64:f64], |a, b| float64::div(a, b, Rounding::$r)),
            lanewise!(concat!("rcp", $m, ".f64"), F64:f64, [F64:f64], |a| float64::rcp(a, Rounding::$r)),
            lanewise!(concat!("sqrt", $m, ".f64"), F64:f64, [F64:f64], |a| float64::sqrt(a, Rounding::$r)),
        ]
    };
}

macro_rules! property {
    ($name:literal, $p:ident) => {
        [
            form!(concat!("testp.", $name, ".f32"), Pred, [F32], |r, o, m| {
                let a = r.narrow[o.src[0] as usize].map(f32::from_bits);
                let bits =
                    (0..32).fold(0, |bits, lane| bits | u32::from(Property::$p.holds_f32(a[lane])) << lane);
                put_pred(&mut r.preds[o.dst as usize], bits, m);
            }),
            form!(concat!("testp.", $name, ".f64"), Pred, [F64], |r, o, m| {
                let a = r.wide[o.src[0] as usize].map(f64::from_bits);
                let bits =
                    (0..32).fold(0, |bits, lane| bits | u32::from(Property::$p.holds_f64(a[lane])) << lane);
                put_pred(&mut r.preds[o.dst as usize], bits, m);
            }),
        ]
    };
}

static SINGLE: &[&[[Form; 4]]] = &[
    &single!(Nearest, ""),
    &single!(Nearest, ".rn"),
    &single!(Zero, ".rz"),
    &single!(Down, ".rm"),
    &single!(Up, ".rp"),
];

pub(super) fn forms() -> impl Iterator<Item = &'static Form> {
    SINGLE.iter().copied().flatten().flatten().chain(FORMS.iter().copied().flatten())
}

static FORMS: &[&[Form]] = &[
    &mad!(Nearest, ".rn"),
    &mad!(Zero, ".rz"),
    &mad!(Down, ".rm"),
    &mad!(Up, ".rp"),
    &exact!(Nearest, ".rn", "", false),
    &exact!(Zero, ".rz", "", false),
    &exact!(Down, ".rm", "", false),
    &exact!(Up, ".rp", "", false),
    &exact!(Nearest, ".rn", ".ftz", true),
    &exact!(Zero, ".rz", ".ftz", true),
    &exact!(Down, ".rm", ".ftz", true),
    &exact!(Up, ".rp", ".ftz", true),
    &approximate!("", false),
    &approximate!(".ftz", true),
    &extremes!("min", Min, "", false),
    &extremes!("min", Min, ".ftz", true),
    &extremes!("max", Max, "", false),
    &extremes!("max", Max, ".ftz", true),
    &double!(Nearest, ""),
    &double!(Nearest, ".rn"),
    &double!(Zero, ".rz"),
    &double!(Down, ".rm"),
    &double!(Up, ".rp"),
    &double_exact!(Nearest, ".rn"),
    &double_exact!(Zero, ".rz"),
    &double_exact!(Down, ".rm"),
    &double_exact!(Up, ".rp"),
    &property!("finite", Finite),
    &property!("infinite", Infinite),
    &property!("number", Number),
    &property!("notanumber", NotANumber),
    &property!("normal", Normal),
    &property!("subnormal", Subnormal),
    &[
        lanewise!("tanh.approx.f32", F32:f32, [F32:f32], |a| approx::tanh(a)),
        lanewise!("rsqrt.approx.f64", F64:f64, [F64:f64], |a| approx::rsqrt_f64(a)),
        lanewise!("neg.f64", F64:f64, [F64:f64], |a| float64::neg(a)),
        lanewise!("abs.f64", F64:f64, [F64:f64], |a| float64::abs(a)),
        lanewise!("copysign.f32", F32:f32, [F32:f32, F32:f32], |a, b| float32::copysign(a, b)),
        lanewise!("copysign.f64", F64:f64, [F64:f64, F64:f64], |a, b| float64::copysign(a, b)),
        lanewise!("min.f64", F64:f64, [F64:f64, F64:f64], |a, b| extreme_f64(Extreme::Min, a, b)),
        lanewise!("max.f64", F64:f64, [F64:f64, F64:f64], |a, b| extreme_f64(Extreme::Max, a, b)),
    ],
];
