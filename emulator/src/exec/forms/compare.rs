//! Comparisons into predicates (`setp`) and into registers (`set`).
use super::Form;
use super::macros::{form, holds, set_predicates};
use crate::exec::regs::{LANES, put};
use crate::exec::scalar::compare::Comparison;
use crate::exec::scalar::float32::flush;
use crate::exec::scalar::half::{bf16_to_f32, f16_to_f32};

/// `setp` and `set` of one comparison. Operands pass through `$via` first.
macro_rules! comparison {
    ($op:literal, $T:ident, $t:ident, $via:expr, $ftz:literal, $n:literal, $f:ident) => {
        [
            form!(concat!("setp.", $op, ".", $ftz, $n), Pred, [$T, $T], |r, o, m| {
                let bits = holds::<$t, _>(r, o, |a, b| Comparison::$f.holds($via(a), $via(b)));
                set_predicates(r, o, m, bits);
            }),
            form!(concat!("set.", $op, ".", $ftz, "u32.", $n), U32, [$T, $T], |r, o, m| {
                let bits = holds::<$t, _>(r, o, |a, b| Comparison::$f.holds($via(a), $via(b)));
                spread(&mut r.narrow[o.dst as usize], bits, u32::MAX, m);
            }),
            form!(concat!("set.", $op, ".", $ftz, "s32.", $n), S32, [$T, $T], |r, o, m| {
                let bits = holds::<$t, _>(r, o, |a, b| Comparison::$f.holds($via(a), $via(b)));
                spread(&mut r.narrow[o.dst as usize], bits, u32::MAX, m);
            }),
            form!(concat!("set.", $op, ".", $ftz, "f32.", $n), F32, [$T, $T], |r, o, m| {
                let bits = holds::<$t, _>(r, o, |a, b| Comparison::$f.holds($via(a), $via(b)));
                spread(&mut r.narrow[o.dst as usize], bits, 1f32.to_bits(), m);
            }),
        ]
    };
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

macro_rules! equality {
    ($T:ident, $t:ident, $n:literal) => {
        [comparison!("eq", $T, $t, same, "", $n, Eq), comparison!("ne", $T, $t, same, "", $n, Ne)]
    };
}

macro_rules! order {
    ($T:ident, $t:ident, $n:literal, [$lt:literal, $le:literal, $gt:literal, $ge:literal]) => {
        [
            comparison!($lt, $T, $t, same, "", $n, Lt),
            comparison!($le, $T, $t, same, "", $n, Le),
            comparison!($gt, $T, $t, same, "", $n, Gt),
            comparison!($ge, $T, $t, same, "", $n, Ge),
        ]
    };
}

/// The ordered comparisons are false if either side is NaN, the unordered ones true.
macro_rules! floats {
    ($T:ident, $t:ident, $via:expr, $ftz:literal, $n:literal) => {
        [
            comparison!("eq", $T, $t, $via, $ftz, $n, Eq),
            comparison!("ne", $T, $t, $via, $ftz, $n, Ne),
            comparison!("lt", $T, $t, $via, $ftz, $n, Lt),
            comparison!("le", $T, $t, $via, $ftz, $n, Le),
            comparison!("gt", $T, $t, $via, $ftz, $n, Gt),
            comparison!("ge", $T, $t, $via, $ftz, $n, Ge),
            comparison!("equ", $T, $t, $via, $ftz, $n, Equ),
            comparison!("neu", $T, $t, $via, $ftz, $n, Neu),
            comparison!("ltu", $T, $t, $via, $ftz, $n, Ltu),
            comparison!("leu", $T, $t, $via, $ftz, $n, Leu),
            comparison!("gtu", $T, $t, $via, $ftz, $n, Gtu),
            comparison!("geu", $T, $t, $via, $ftz, $n, Geu),
            comparison!("num", $T, $t, $via, $ftz, $n, Num),
            comparison!("nan", $T, $t, $via, $ftz, $n, Nan),
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
    &floats!(F16, u16, f16_to_f32, "", "f16"),
    &floats!(Bf16, u16, bf16_to_f32, "", "bf16"),
];

pub(super) fn forms() -> impl Iterator<Item = &'static Form> {
    INTEGERS.iter().chain(OTHERS).copied().flatten().flatten()
}
