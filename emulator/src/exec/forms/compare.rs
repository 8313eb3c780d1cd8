//! Comparisons into predicates (`setp`) and into registers (`set`).
use super::Form;
use super::macros::{form, holds, set_predicates};
use crate::exec::regs::{LANES, put};
use half::{bf16, f16};

/// `setp` and `set` of one comparison. Operands pass through `$via` first.
macro_rules! comparison {
    ($op:literal, $T:ident, $t:ident, $via:expr, $ftz:literal, $n:literal, $f:expr) => {
        [
            form!(concat!("setp.", $op, ".", $ftz, $n), Pred, [$T, $T], |r, o, m| {
                let bits = holds::<$t, _>(r, o, |a, b| apply($via(a), $via(b), $f));
                set_predicates(r, o, m, bits);
            }),
            form!(concat!("set.", $op, ".", $ftz, "u32.", $n), U32, [$T, $T], |r, o, m| {
                let bits = holds::<$t, _>(r, o, |a, b| apply($via(a), $via(b), $f));
                spread(&mut r.narrow[o.dst as usize], bits, u32::MAX, m);
            }),
            form!(concat!("set.", $op, ".", $ftz, "s32.", $n), S32, [$T, $T], |r, o, m| {
                let bits = holds::<$t, _>(r, o, |a, b| apply($via(a), $via(b), $f));
                spread(&mut r.narrow[o.dst as usize], bits, u32::MAX, m);
            }),
            form!(concat!("set.", $op, ".", $ftz, "f32.", $n), F32, [$T, $T], |r, o, m| {
                let bits = holds::<$t, _>(r, o, |a, b| apply($via(a), $via(b), $f));
                spread(&mut r.narrow[o.dst as usize], bits, 1f32.to_bits(), m);
            }),
        ]
    };
}

#[inline(always)]
fn apply<T>(a: T, b: T, f: impl Fn(T, T) -> bool) -> bool {
    f(a, b)
}

/// `value` in the lanes where the comparison holds, 0 in the others.
#[inline(always)]
fn spread(dst: &mut [u32; LANES], bits: u32, value: u32, mask: u32) {
    let mut out = [0; LANES];
    for (lane, out) in out.iter_mut().enumerate() {
        *out = if bits >> lane & 1 != 0 { value } else { 0 };
    }
    put(dst, out, mask);
}

#[inline(always)]
fn same<T>(value: T) -> T {
    value
}

/// Subnormals become zeros of the same sign.
#[inline(always)]
fn flush(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE { f32::from_bits(value.to_bits() & 0x8000_0000) } else { value }
}

#[inline(always)]
fn from_f16(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

#[inline(always)]
fn from_bf16(bits: u16) -> f32 {
    bf16::from_bits(bits).to_f32()
}

macro_rules! equality {
    ($T:ident, $t:ident, $n:literal) => {
        [
            comparison!("eq", $T, $t, same, "", $n, |a, b| a == b),
            comparison!("ne", $T, $t, same, "", $n, |a, b| a != b),
        ]
    };
}

macro_rules! order {
    ($T:ident, $t:ident, $n:literal, [$lt:literal, $le:literal, $gt:literal, $ge:literal]) => {
        [
            comparison!($lt, $T, $t, same, "", $n, |a, b| a < b),
            comparison!($le, $T, $t, same, "", $n, |a, b| a <= b),
            comparison!($gt, $T, $t, same, "", $n, |a, b| a > b),
            comparison!($ge, $T, $t, same, "", $n, |a, b| a >= b),
        ]
    };
}

/// The ordered comparisons are false if either side is NaN, the unordered ones true.
macro_rules! floats {
    ($T:ident, $t:ident, $via:expr, $ftz:literal, $n:literal) => {
        [
            comparison!("eq", $T, $t, $via, $ftz, $n, |a, b| a == b),
            comparison!("ne", $T, $t, $via, $ftz, $n, |a, b| a < b || a > b),
            comparison!("lt", $T, $t, $via, $ftz, $n, |a, b| a < b),
            comparison!("le", $T, $t, $via, $ftz, $n, |a, b| a <= b),
            comparison!("gt", $T, $t, $via, $ftz, $n, |a, b| a > b),
            comparison!("ge", $T, $t, $via, $ftz, $n, |a, b| a >= b),
            comparison!("equ", $T, $t, $via, $ftz, $n, |a, b| !(a < b || a > b)),
            comparison!("neu", $T, $t, $via, $ftz, $n, |a, b| a != b),
            comparison!("ltu", $T, $t, $via, $ftz, $n, |a, b| !(a >= b)),
            comparison!("leu", $T, $t, $via, $ftz, $n, |a, b| !(a > b)),
            comparison!("gtu", $T, $t, $via, $ftz, $n, |a, b| !(a <= b)),
            comparison!("geu", $T, $t, $via, $ftz, $n, |a, b| !(a < b)),
            comparison!("num", $T, $t, $via, $ftz, $n, |a, b| !a.is_nan() && !b.is_nan()),
            comparison!("nan", $T, $t, $via, $ftz, $n, |a, b| a.is_nan() || b.is_nan()),
        ]
    };
}

macro_rules! integers {
    ($($T:ident:$t:ident $n:literal),*) => {
        &[$(
            &equality!($T, $t, $n),
            &order!($T, $t, $n, ["lt", "le", "gt", "ge"]),
        )*]
    };
}

static INTEGERS: &[&[[Form; 4]]] = integers!(
    U16:u16 "u16", S16:i16 "s16", U32:u32 "u32", S32:i32 "s32", U64:u64 "u64", S64:i64 "s64"
);

static OTHERS: &[&[[Form; 4]]] = &[
    &equality!(B16, u16, "b16"),
    &equality!(B32, u32, "b32"),
    &equality!(B64, u64, "b64"),
    &order!(U16, u16, "u16", ["lo", "ls", "hi", "hs"]),
    &order!(U32, u32, "u32", ["lo", "ls", "hi", "hs"]),
    &order!(U64, u64, "u64", ["lo", "ls", "hi", "hs"]),
    &floats!(F32, f32, same, "", "f32"),
    &floats!(F32, f32, flush, "ftz.", "f32"),
    &floats!(F64, f64, same, "", "f64"),
    &floats!(F16, u16, from_f16, "", "f16"),
    &floats!(Bf16, u16, from_bf16, "", "bf16"),
];

pub(super) fn forms() -> impl Iterator<Item = &'static Form> {
    INTEGERS.iter().chain(OTHERS).copied().flatten().flatten()
}
