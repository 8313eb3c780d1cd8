//! Comparisons into predicates.
use super::Form;
use super::macros::{form, holds, set_predicates};
use crate::exec::scalar::float32::flush;
use crate::exec::scalar::half::{bf16_to_f32, f16_to_f32};

/// `setp` of one comparison. Operands pass through `$via` first. `set` is made of `setp` and `selp` by the resolver.
macro_rules! comparison {
    ($op:literal, $T:ident, $t:ident, $via:expr, $ftz:literal, $n:literal, $f:expr) => {
        form!(concat!("setp.", $op, ".", $ftz, $n), Pred, [$T, $T], |r, o, m| {
            let bits = holds::<$t, _>(r, o, |a, b| apply($via(a), $via(b), $f));
            set_predicates(r, o, m, bits);
        })
    };
}

#[inline(always)]
fn apply<T>(a: T, b: T, f: impl Fn(T, T) -> bool) -> bool {
    f(a, b)
}

#[inline(always)]
fn same<T>(value: T) -> T {
    value
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

static INTEGERS: &[&[Form]] = integers!(
    U16:u16 "u16", S16:i16 "s16", U32:u32 "u32", S32:i32 "s32", U64:u64 "u64", S64:i64 "s64"
);

static OTHERS: &[&[Form]] = &[
    &equality!(B16, u16, "b16"),
    &equality!(B32, u32, "b32"),
    &equality!(B64, u64, "b64"),
    &order!(U16, u16, "u16", ["lo", "ls", "hi", "hs"]),
    &order!(U32, u32, "u32", ["lo", "ls", "hi", "hs"]),
    &order!(U64, u64, "u64", ["lo", "ls", "hi", "hs"]),
    &floats!(F32, f32, same, "", "f32"),
    &floats!(F32, f32, flush, "ftz.", "f32"),
    &floats!(F64, f64, same, "", "f64"),
    &floats!(F16, u16, f16_to_f32, "", "f16"),
    &floats!(Bf16, u16, bf16_to_f32, "", "bf16"),
];

pub(super) fn forms() -> impl Iterator<Item = &'static Form> {
    INTEGERS.iter().chain(OTHERS).copied().flatten()
}
