//! Comparisons into predicates (`setp`) and into registers (`set`).
use super::Form;
use super::macros::{form, holds, rare, rare_holds, set_predicates};
use crate::exec::regs::{LANES, put};
use crate::exec::scalar::compare::Comparison;
use crate::exec::scalar::float32::flush;
use crate::exec::scalar::half::{bf16_to_f32, f16_to_f32};

/// `setp` and `set` of one comparison. Operands pass through `$via` first; `$form` and `$holds` build the `setp`.
macro_rules! comparison {
    ($op:literal, $T:ident, $t:ident, $via:expr, $ftz:literal, $n:literal, $f:ident) => {
        comparison!(form, holds, $op, $T, $t, $via, $ftz, $n, $f)
    };
    ($form:ident, $holds:ident, $op:literal, $T:ident, $t:ident, $via:expr, $ftz:literal, $n:literal, $f:ident) => {
        [
            $form!(concat!("setp.", $op, ".", $ftz, $n), Pred, [$T, $T], |r, o, m| {
                let bits = $holds(r, o, |a: $t, b: $t| Comparison::$f.holds($via(a), $via(b)));
                set_predicates(r, o, m, bits);
            }),
            set!($op, $T, $t, $via, $ftz, $n, $f, "u32.", U32, u32::MAX),
            set!($op, $T, $t, $via, $ftz, $n, $f, "s32.", S32, u32::MAX),
            set!($op, $T, $t, $via, $ftz, $n, $f, "f32.", F32, 1f32.to_bits()),
        ]
    };
}

macro_rules! set {
    ($op:literal, $T:ident, $t:ident, $via:expr, $ftz:literal, $n:literal, $f:ident, $d:literal, $D:ident, $true:expr) => {
        rare!(concat!("set.", $op, ".", $ftz, $d, $n), $D, [$T, $T], |r, o, m| {
            let bits = rare_holds::<$t>(r, o, |a, b| Comparison::$f.holds($via(a), $via(b)));
            spread(&mut r.narrow[o.dst as usize], bits, $true, m);
        })
    };
}

/// `value` in the lanes where the comparison holds, 0 in the others.
#[inline(never)]
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
    ($form:ident, $holds:ident, $T:ident, $t:ident, $via:expr, $ftz:literal, $n:literal) => {
        [
            comparison!($form, $holds, "eq", $T, $t, $via, $ftz, $n, Eq),
            comparison!($form, $holds, "ne", $T, $t, $via, $ftz, $n, Ne),
            comparison!($form, $holds, "lt", $T, $t, $via, $ftz, $n, Lt),
            comparison!($form, $holds, "le", $T, $t, $via, $ftz, $n, Le),
            comparison!($form, $holds, "gt", $T, $t, $via, $ftz, $n, Gt),
            comparison!($form, $holds, "ge", $T, $t, $via, $ftz, $n, Ge),
            comparison!($form, $holds, "equ", $T, $t, $via, $ftz, $n, Equ),
            comparison!($form, $holds, "neu", $T, $t, $via, $ftz, $n, Neu),
            comparison!($form, $holds, "ltu", $T, $t, $via, $ftz, $n, Ltu),
            comparison!($form, $holds, "leu", $T, $t, $via, $ftz, $n, Leu),
            comparison!($form, $holds, "gtu", $T, $t, $via, $ftz, $n, Gtu),
            comparison!($form, $holds, "geu", $T, $t, $via, $ftz, $n, Geu),
            comparison!($form, $holds, "num", $T, $t, $via, $ftz, $n, Num),
            comparison!($form, $holds, "nan", $T, $t, $via, $ftz, $n, Nan),
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
    &floats!(form, holds, F32, f32, same, "", "f32"),
    &floats!(rare, rare_holds, F32, f32, flush, "ftz.", "f32"),
    &floats!(form, holds, F64, f64, same, "", "f64"),
    &floats!(rare, rare_holds, F16, u16, f16_to_f32, "", "f16"),
    &floats!(rare, rare_holds, Bf16, u16, bf16_to_f32, "", "bf16"),
];

pub(super) fn forms() -> impl Iterator<Item = &'static Form> {
    INTEGERS.iter().chain(OTHERS).copied().flatten().flatten()
}
