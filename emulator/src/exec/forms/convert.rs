//! Conversions between types: those that kernels run in their loops as forms of their own, all others by one
//! general routine.
use super::Form;
use super::macros::{lanewise, rare, rarely};
use crate::exec::regs::{Class, put};
use crate::exec::scalar::Rounding;
use crate::exec::scalar::convert::{Conversion, f32_to_s32, f32_to_u32, pack_f32};
use crate::exec::scalar::float32::{canonical, flush, saturate};
use crate::exec::scalar::half::{self, Half};
use crate::ptx::ast::ScalarType;

macro_rules! widths {
    ($($D:ident:$d:ident $dn:literal <- $S:ident:$s:ident $sn:literal),* $(,)?) => {
        &[$(lanewise!(concat!("cvt.", $dn, ".", $sn), $D:$d, [$S:$s], |a| a as $d)),*]
    };
}

macro_rules! truncations {
    ($($rnd:literal $R:ident),*) => {
        &[$(
            lanewise!(concat!("cvt", $rnd, ".s32.f32"), S32:i32, [F32:f32], |a| f32_to_s32(a, Rounding::$R)),
            lanewise!(concat!("cvt", $rnd, ".u32.f32"), U32:u32, [F32:f32], |a| f32_to_u32(a, Rounding::$R)),
        )*]
    };
}

/// Two f32 to a register of two halves: the first source goes to the upper half.
macro_rules! pairs {
    ($($name:literal $R:ident $relu:literal $satfinite:literal),*) => {
        &[$(
            rarely!(concat!("cvt", $name, ".f16x2.f32"), F16x2:u32, [F32:f32, F32:f32], |a, b| {
                pair(ScalarType::F16, a, b, Rounding::$R, $relu, $satfinite)
            }),
            rarely!(concat!("cvt", $name, ".bf16x2.f32"), Bf16x2:u32, [F32:f32, F32:f32], |a, b| {
                pair(ScalarType::Bf16, a, b, Rounding::$R, $relu, $satfinite)
            }),
        )*]
    };
}

fn pair(to: ScalarType, a: f32, b: f32, rounding: Rounding, relu: bool, satfinite: bool) -> u32 {
    let conversion = Conversion { rounding, relu, satfinite, ..Conversion::new(to, ScalarType::F32) };
    half::pack([b, a].map(|x| conversion.apply(u64::from(x.to_bits())) as u16))
}

pub(super) static FORMS: &[&[Form]] = &[
    widths!(
        U32:u32 "u32" <- U64:u64 "u64",
        U64:u64 "u64" <- U32:u32 "u32",
        S64:i64 "s64" <- S32:i32 "s32",
        S32:i32 "s32" <- S64:i64 "s64",
        U32:u32 "u32" <- U16:u16 "u16",
        S32:i32 "s32" <- S16:i16 "s16",
        U16:u16 "u16" <- U32:u32 "u32",
    ),
    truncations!(".rni" Nearest, ".rzi" Zero, ".rmi" Down, ".rpi" Up),
    &[
        lanewise!("cvt.rn.f32.s32", F32:f32, [S32:i32], |a| a as f32),
        lanewise!("cvt.rn.f32.u32", F32:f32, [U32:u32], |a| a as f32),
        lanewise!("cvt.sat.f32.f32", F32:f32, [F32:f32], saturate),
        lanewise!("cvt.ftz.sat.f32.f32", F32:f32, [F32:f32], |a| saturate(flush(a))),
        lanewise!("cvt.f32.f16", F32:f32, [F16:u16], |a| canonical(half::f16_to_f32(a))),
        lanewise!("cvt.f32.bf16", F32:f32, [Bf16:u16], |a| canonical(half::bf16_to_f32(a))),
        lanewise!("cvt.rn.f16.f32", F16:u16, [F32:f32], half::f32_to_f16),
        lanewise!("cvt.rn.bf16.f32", Bf16:u16, [F32:f32], half::f32_to_bf16),
        lanewise!("cvt.rn.f16x2.f32", F16x2:u32, [F32:f32, F32:f32], |a, b| pack_f32(Half::F16, a, b)),
        lanewise!("cvt.rn.bf16x2.f32", Bf16x2:u32, [F32:f32, F32:f32], |a, b| pack_f32(Half::Bf16, a, b)),
    ],
    pairs!(
        ".rn.relu" Nearest true false, ".rn.satfinite" Nearest false true, ".rn.relu.satfinite" Nearest true true,
        ".rz" Zero false false, ".rz.relu" Zero true false, ".rz.satfinite" Zero false true,
        ".rz.relu.satfinite" Zero true true
    ),
    // Any conversion: `Operands::extra` says which.
    &[
        rare!("convert narrow to narrow", B32, [B32], |r, o, m| {
            let conversion = decode(o.extra);
            let out = r.narrow[o.src[0] as usize].map(|bits| conversion.apply(u64::from(bits)) as u32);
            put(&mut r.narrow[o.dst as usize], out, m);
        }),
        rare!("convert narrow to wide", B64, [B32], |r, o, m| {
            let conversion = decode(o.extra);
            let out = r.narrow[o.src[0] as usize].map(|bits| conversion.apply(u64::from(bits)));
            put(&mut r.wide[o.dst as usize], out, m);
        }),
        rare!("convert wide to narrow", B32, [B64], |r, o, m| {
            let conversion = decode(o.extra);
            let out = r.wide[o.src[0] as usize].map(|bits| conversion.apply(bits) as u32);
            put(&mut r.narrow[o.dst as usize], out, m);
        }),
        rare!("convert wide to wide", B64, [B64], |r, o, m| {
            let conversion = decode(o.extra);
            let out = r.wide[o.src[0] as usize].map(|bits| conversion.apply(bits));
            put(&mut r.wide[o.dst as usize], out, m);
        }),
    ],
];

/// The name of the routine for any conversion between registers of these classes.
pub(crate) fn general(to: Class, from: Class) -> &'static str {
    match (to, from) {
        (Class::Wide, Class::Wide) => "convert wide to wide",
        (Class::Wide, _) => "convert narrow to wide",
        (_, Class::Wide) => "convert wide to narrow",
        _ => "convert narrow to narrow",
    }
}

/// The types that `cvt` takes, by their number in `Operands::extra`.
const TYPES: [ScalarType; 13] = [
    ScalarType::U8,
    ScalarType::U16,
    ScalarType::U32,
    ScalarType::U64,
    ScalarType::S8,
    ScalarType::S16,
    ScalarType::S32,
    ScalarType::S64,
    ScalarType::F16,
    ScalarType::Bf16,
    ScalarType::F32,
    ScalarType::F64,
    ScalarType::Tf32,
];
const ROUNDINGS: [Rounding; 4] = [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up];

/// A conversion as `Operands::extra`: two types of four bits, a rounding of two, then the flags.
pub(crate) fn encode(c: Conversion) -> u32 {
    let number = |ty| TYPES.iter().position(|known| *known == ty).unwrap_or_default() as u32;
    let rounding = ROUNDINGS.iter().position(|known| *known == c.rounding).unwrap_or_default() as u32;
    let flags = [c.integral, c.ties_away, c.ftz, c.sat, c.relu, c.satfinite];
    let flags = flags.into_iter().enumerate().fold(0, |bits, (k, flag)| bits | u32::from(flag) << k);
    number(c.to) | number(c.from) << 4 | rounding << 8 | flags << 10
}

fn decode(extra: u32) -> Conversion {
    let ty = |number: u32| TYPES.get((number & 15) as usize).copied().unwrap_or(ScalarType::U32);
    let flag = |k: u32| extra >> (10 + k) & 1 != 0;
    Conversion {
        to: ty(extra),
        from: ty(extra >> 4),
        rounding: ROUNDINGS[(extra >> 8 & 3) as usize],
        integral: flag(0),
        ties_away: flag(1),
        ftz: flag(2),
        sat: flag(3),
        relu: flag(4),
        satfinite: flag(5),
    }
}
