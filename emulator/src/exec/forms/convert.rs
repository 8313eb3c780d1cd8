//! `cvt` between types.
use super::Form;
use super::macros::{lanewise, rare};
use crate::exec::scalar::Rounding;
use crate::exec::scalar::convert::{Conversion, f32_to_s32, f32_to_u32, pack_f32, round_f32};
use crate::exec::scalar::float32::{canonical, saturate};
use crate::exec::scalar::half::{Half, bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::ptx::ast::ScalarType;

/// Between integers: cut or extended.
macro_rules! integers {
    ($($S:ident:$s:ident $sn:literal),*) => {
        &[$(
            integers!(@ $S:$s $sn, U8:u8 "u8", S8:i8 "s8", U16:u16 "u16", S16:i16 "s16", U32:u32 "u32", S32:i32 "s32", U64:u64 "u64", S64:i64 "s64"),
        )*]
    };
    (@ $S:ident:$s:ident $sn:literal, $($D:ident:$d:ident $dn:literal),*) => {
        [$(
            [
                lanewise!(concat!("cvt.", $dn, ".", $sn), $D:$d, [$S:$s], |a| a as $d),
                general!(".sat", $D:$d $dn <- $S:$s $sn, { sat: true }),
            ],
        )*]
    };
}

/// Any conversion by the general function: exact, but lane by lane.
macro_rules! general {
    ($m:literal, $D:ident:$d:ident $dn:literal <- $S:ident:$s:ident $sn:literal, { $($field:ident: $value:expr),* }) => {
        rare!(concat!("cvt", $m, ".", $dn, ".", $sn), $D:$d, [$S:$s], |a| {
            static CONVERSION: Conversion =
                Conversion { $($field: $value,)* ..Conversion::new(ScalarType::$D, ScalarType::$S) };
            <$d as FromRaw>::from_raw(convert(&CONVERSION, <$s as FromRaw>::raw(a)))
        })
    };
}

/// Not inlined: hundreds of forms share it.
#[inline(never)]
fn convert(conversion: &Conversion, raw: u64) -> u64 {
    conversion.apply(raw)
}

/// Values as the general function takes them: bits in the low end of 64.
trait FromRaw {
    fn from_raw(raw: u64) -> Self;
    fn raw(self) -> u64;
}

macro_rules! raw_integers {
    ($($t:ident),*) => {
        $(impl FromRaw for $t {
            #[inline(always)]
            fn from_raw(raw: u64) -> Self {
                raw as $t
            }
            #[inline(always)]
            fn raw(self) -> u64 {
                self as u64
            }
        })*
    };
}
raw_integers!(u8, i8, u16, i16, u32, i32, u64, i64);

impl FromRaw for f32 {
    #[inline(always)]
    fn from_raw(raw: u64) -> Self {
        f32::from_bits(raw as u32)
    }
    #[inline(always)]
    fn raw(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl FromRaw for f64 {
    #[inline(always)]
    fn from_raw(raw: u64) -> Self {
        f64::from_bits(raw)
    }
    #[inline(always)]
    fn raw(self) -> u64 {
        self.to_bits()
    }
}

/// Floating point to integers, in all roundings.
macro_rules! to_integers {
    ($S:ident:$s:ident $sn:literal) => {
        &[
            to_integers!(@ $S:$s $sn, ".rni", Nearest),
            to_integers!(@ $S:$s $sn, ".rzi", Zero),
            to_integers!(@ $S:$s $sn, ".rmi", Down),
            to_integers!(@ $S:$s $sn, ".rpi", Up),
        ]
    };
    (@ $S:ident:$s:ident $sn:literal, $m:literal, $r:ident) => {
        [
            general!($m, U8:u8 "u8" <- $S:$s $sn, { rounding: Rounding::$r }),
            general!($m, S8:i8 "s8" <- $S:$s $sn, { rounding: Rounding::$r }),
            general!($m, U16:u16 "u16" <- $S:$s $sn, { rounding: Rounding::$r }),
            general!($m, S16:i16 "s16" <- $S:$s $sn, { rounding: Rounding::$r }),
            general!($m, U64:u64 "u64" <- $S:$s $sn, { rounding: Rounding::$r }),
            general!($m, S64:i64 "s64" <- $S:$s $sn, { rounding: Rounding::$r }),
        ]
    };
}

/// To 32-bit integers from types other than f32, and from f32 with `.ftz`.
macro_rules! to_words {
    ($S:ident:$s:ident $sn:literal) => {
        &[
            general!(".rni", U32:u32 "u32" <- $S:$s $sn, { rounding: Rounding::Nearest }),
            general!(".rzi", U32:u32 "u32" <- $S:$s $sn, { rounding: Rounding::Zero }),
            general!(".rmi", U32:u32 "u32" <- $S:$s $sn, { rounding: Rounding::Down }),
            general!(".rpi", U32:u32 "u32" <- $S:$s $sn, { rounding: Rounding::Up }),
            general!(".rni", S32:i32 "s32" <- $S:$s $sn, { rounding: Rounding::Nearest }),
            general!(".rzi", S32:i32 "s32" <- $S:$s $sn, { rounding: Rounding::Zero }),
            general!(".rmi", S32:i32 "s32" <- $S:$s $sn, { rounding: Rounding::Down }),
            general!(".rpi", S32:i32 "s32" <- $S:$s $sn, { rounding: Rounding::Up }),
        ]
    };
}

/// f32 to 32-bit integers, the common case, as vector code.
macro_rules! fast_words {
    ($m:literal, $r:ident) => {
        [
            lanewise!(concat!("cvt", $m, ".s32.f32"), S32:i32, [F32:f32], |a| f32_to_s32(a, Rounding::$r)),
            lanewise!(concat!("cvt", $m, ".u32.f32"), U32:u32, [F32:f32], |a| f32_to_u32(a, Rounding::$r)),
            lanewise!(concat!("cvt", $m, ".f32.f32"), F32:f32, [F32:f32], |a| canonical(round_f32(a, Rounding::$r))),
            general!($m, F64:f64 "f64" <- F64:f64 "f64", { rounding: Rounding::$r, integral: true }),
            general!($m, F16:u16 "f16" <- F16:u16 "f16", { rounding: Rounding::$r, integral: true }),
            general!($m, S32:i32 "ftz.s32" <- F32:f32 "f32", { rounding: Rounding::$r, ftz: true }),
            general!($m, U32:u32 "ftz.u32" <- F32:f32 "f32", { rounding: Rounding::$r, ftz: true }),
            general!($m, F32:f32 "ftz.f32" <- F32:f32 "f32", { rounding: Rounding::$r, integral: true, ftz: true }),
        ]
    };
}

/// Integers to floating point, in all roundings.
macro_rules! from_integers {
    ($($S:ident:$s:ident $sn:literal),*) => {
        &[$(
            [
                general!(".rn", F16:u16 "f16" <- $S:$s $sn, {}),
                // Rust's conversion rounds to nearest, ties to even.
                lanewise!(concat!("cvt.rn.f32.", $sn), F32:f32, [$S:$s], |a| a as f32),
                lanewise!(concat!("cvt.rn.f64.", $sn), F64:f64, [$S:$s], |a| a as f64),
            ],
            from_integers!(@ ".rz", Zero, $S:$s $sn),
            from_integers!(@ ".rm", Down, $S:$s $sn),
            from_integers!(@ ".rp", Up, $S:$s $sn),
        )*]
    };
    (@ $m:literal, $r:ident, $S:ident:$s:ident $sn:literal) => {
        [
            general!($m, F16:u16 "f16" <- $S:$s $sn, { rounding: Rounding::$r }),
            general!($m, F32:f32 "f32" <- $S:$s $sn, { rounding: Rounding::$r }),
            general!($m, F64:f64 "f64" <- $S:$s $sn, { rounding: Rounding::$r }),
        ]
    };
}

/// Floating point to a narrower one.
macro_rules! narrowing {
    ($m:literal, $r:ident) => {
        [
            general!($m, F32:f32 "f32" <- F64:f64 "f64", { rounding: Rounding::$r }),
            general!($m, F32:f32 "ftz.f32" <- F64:f64 "f64", { rounding: Rounding::$r, ftz: true }),
            general!($m, F16:u16 "f16" <- F64:f64 "f64", { rounding: Rounding::$r }),
        ]
    };
}

static INTEGERS: &[[[Form; 2]; 8]] = integers!(
    U8:u8 "u8", S8:i8 "s8", U16:u16 "u16", S16:i16 "s16", U32:u32 "u32", S32:i32 "s32", U64:u64 "u64", S64:i64 "s64"
);

static TO_INTEGERS: &[&[[Form; 6]]] = &[
    to_integers!(F32:f32 "f32"),
    to_integers!(F64:f64 "f64"),
    to_integers!(F16:u16 "f16"),
    to_integers!(Bf16:u16 "bf16"),
];

static FROM_INTEGERS: &[[Form; 3]] = from_integers!(
    U8:u8 "u8", S8:i8 "s8", U16:u16 "u16", S16:i16 "s16", U32:u32 "u32", S32:i32 "s32", U64:u64 "u64", S64:i64 "s64"
);

static FORMS: &[&[Form]] = &[
    to_words!(F64:f64 "f64"),
    to_words!(F16:u16 "f16"),
    to_words!(Bf16:u16 "bf16"),
    &fast_words!(".rni", Nearest),
    &fast_words!(".rzi", Zero),
    &fast_words!(".rmi", Down),
    &fast_words!(".rpi", Up),
    &narrowing!(".rn", Nearest),
    &narrowing!(".rz", Zero),
    &narrowing!(".rm", Down),
    &narrowing!(".rp", Up),
    &[
        lanewise!("cvt.f32.f16", F32:f32, [F16:u16], |a| canonical(f16_to_f32(a))),
        lanewise!("cvt.ftz.f32.f16", F32:f32, [F16:u16], |a| canonical(f16_to_f32(a))),
        lanewise!("cvt.f32.bf16", F32:f32, [Bf16:u16], |a| canonical(bf16_to_f32(a))),
        lanewise!("cvt.rn.f16.f32", F16:u16, [F32:f32], |a| f32_to_f16(a)),
        lanewise!("cvt.rn.bf16.f32", Bf16:u16, [F32:f32], |a| f32_to_bf16(a)),
        lanewise!("cvt.rn.f16x2.f32", F16x2:u32, [F32:f32, F32:f32], |a, b| pack_f32(Half::F16, a, b)),
        lanewise!("cvt.rn.bf16x2.f32", Bf16x2:u32, [F32:f32, F32:f32], |a, b| pack_f32(Half::Bf16, a, b)),
        general!("", F64:f64 "f64" <- F32:f32 "f32", {}),
        general!(".ftz", F64:f64 "f64" <- F32:f32 "f32", { ftz: true }),
        general!("", F64:f64 "f64" <- F16:u16 "f16", {}),
        general!("", F64:f64 "f64" <- Bf16:u16 "bf16", {}),
        general!(".rz", F16:u16 "f16" <- F32:f32 "f32", { rounding: Rounding::Zero }),
        general!(".rz", Bf16:u16 "bf16" <- F32:f32 "f32", { rounding: Rounding::Zero }),
        general!(".rn.ftz", F16:u16 "f16" <- F32:f32 "f32", { ftz: true }),
        general!(".rn.relu", F16:u16 "f16" <- F32:f32 "f32", { relu: true }),
        general!(".rn.relu", Bf16:u16 "bf16" <- F32:f32 "f32", { relu: true }),
        general!(".rn.sat", F16:u16 "f16" <- F32:f32 "f32", { sat: true }),
        lanewise!("cvt.sat.f32.f32", F32:f32, [F32:f32], |a| saturate(a)),
        general!(".ftz.sat", F32:f32 "f32" <- F32:f32 "f32", { sat: true, ftz: true }),
        general!(".ftz", F32:f32 "f32" <- F32:f32 "f32", { ftz: true }),
        general!("", F32:f32 "f32" <- F32:f32 "f32", {}),
        general!(".rna", Tf32:f32 "tf32" <- F32:f32 "f32", { ties_away: true }),
        general!(".rn", Tf32:f32 "tf32" <- F32:f32 "f32", {}),
        general!(".rz", Tf32:f32 "tf32" <- F32:f32 "f32", { rounding: Rounding::Zero }),
        general!(".rna.satfinite", Tf32:f32 "tf32" <- F32:f32 "f32", { ties_away: true, satfinite: true }),
    ],
];

pub(super) fn forms() -> impl Iterator<Item = &'static Form> {
    let integers = INTEGERS.iter().flatten().flatten();
    let to_integers = TO_INTEGERS.iter().copied().flatten().flatten();
    integers.chain(to_integers).chain(FROM_INTEGERS.iter().flatten()).chain(FORMS.iter().copied().flatten())
}
