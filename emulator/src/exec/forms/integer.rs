//! Integer arithmetic.
use super::Form;
use super::macros::{form, lanewise, rarely};
use crate::exec::regs::{LANES, put, put_pred};
use crate::exec::scalar::integer::{self, Integer, product24};

macro_rules! common {
    ($T:ident, $t:ident, $n:literal) => {
        [
            lanewise!(concat!("add.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a.wrapping_add(b)),
            lanewise!(concat!("sub.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a.wrapping_sub(b)),
            lanewise!(concat!("mul.lo.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a.wrapping_mul(b)),
            lanewise!(concat!("mad.lo.", $n), $T:$t, [$T:$t, $T:$t, $T:$t], |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
            rarely!(concat!("div.", $n), $T:$t, [$T:$t, $T:$t], Integer::div),
            rarely!(concat!("rem.", $n), $T:$t, [$T:$t, $T:$t], Integer::rem),
            lanewise!(concat!("min.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a.min(b)),
            lanewise!(concat!("max.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a.max(b)),
        ]
    };
}

macro_rules! signed {
    ($T:ident, $t:ident, $n:literal) => {
        [
            lanewise!(concat!("neg.", $n), $T:$t, [$T:$t], |a| a.wrapping_neg()),
            lanewise!(concat!("abs.", $n), $T:$t, [$T:$t], |a| a.wrapping_abs()),
        ]
    };
}

macro_rules! high {
    ($T:ident, $t:ident, $n:literal) => {
        [
            lanewise!(concat!("mul.hi.", $n), $T:$t, [$T:$t, $T:$t], Integer::mul_hi),
            rarely!(concat!("mad.hi.", $n), $T:$t, [$T:$t, $T:$t, $T:$t], |a, b, c| a.mul_hi(b).wrapping_add(c)),
            rarely!(concat!("sad.", $n), $T:$t, [$T:$t, $T:$t, $T:$t], Integer::sad),
        ]
    };
}

macro_rules! wide {
    ($T:ident, $t:ident, $W:ident, $w:ident, $n:literal) => {
        [
            lanewise!(concat!("mul.wide.", $n), $W:$w, [$T:$t, $T:$t], |a, b| $w::from(a).wrapping_mul($w::from(b))),
            lanewise!(concat!("mad.wide.", $n), $W:$w, [$T:$t, $T:$t, $W:$w], |a, b, c| {
                $w::from(a).wrapping_mul($w::from(b)).wrapping_add(c)
            }),
        ]
    };
}

/// `add.cc` and its kin keep the carry in a predicate, the instruction's second destination; those that take a
/// carry in read it from there.
macro_rules! carry {
    ($name:expr, $T:ident, $t:ident, $file:ident, [$($src:ident),*], $takes:literal, $gives:literal, $f:expr) => {
        form!($name, $T, [$($src),*], |r, o, m| {
            let carry = if $takes { r.preds[o.dst2 as usize] } else { 0 };
            let mut out = [0; LANES];
            let mut flags = 0u32;
            for lane in 0..LANES {
                let third = r.$file[o.src[2] as usize][lane];
                let (a, b) = (r.$file[o.src[0] as usize][lane], r.$file[o.src[1] as usize][lane]);
                let (value, carried): ($t, bool) = $f(a, b, third, carry >> lane & 1 != 0);
                out[lane] = value;
                flags |= u32::from(carried) << lane;
            }
            put(&mut r.$file[o.dst as usize], out, m);
            if $gives {
                put_pred(&mut r.preds[o.dst2 as usize], flags, m);
            }
        })
    };
}

macro_rules! carries {
    ($t:ident, $U:ident, $file:ident, $n:literal) => {
        [
            carry!(concat!("add.cc.", $n), $U, $t, $file, [$U, $U], false, true, |a: $t, b, _, _| a
                .overflowing_add(b)),
            carry!(concat!("addc.", $n), $U, $t, $file, [$U, $U], true, false, |a: $t, b, _, c| a
                .add_carry(b, c)),
            carry!(concat!("addc.cc.", $n), $U, $t, $file, [$U, $U], true, true, |a: $t, b, _, c| a
                .add_carry(b, c)),
            carry!(concat!("sub.cc.", $n), $U, $t, $file, [$U, $U], false, true, |a: $t, b, _, _| a
                .overflowing_sub(b)),
            carry!(concat!("subc.", $n), $U, $t, $file, [$U, $U], true, false, |a: $t, b, _, c| a
                .sub_borrow(b, c)),
            carry!(concat!("subc.cc.", $n), $U, $t, $file, [$U, $U], true, true, |a: $t, b, _, c| a
                .sub_borrow(b, c)),
        ]
    };
}

macro_rules! product_carries {
    ($t:ident, $U:ident, $file:ident, $n:literal) => {
        [
            carry!(concat!("mad.lo.cc.", $n), $U, $t, $file, [$U, $U, $U], false, true, |a: $t, b, c, _| {
                a.wrapping_mul(b).overflowing_add(c)
            }),
            carry!(concat!("madc.lo.", $n), $U, $t, $file, [$U, $U, $U], true, false, |a: $t, b, c, k| {
                a.wrapping_mul(b).add_carry(c, k)
            }),
            carry!(concat!("madc.lo.cc.", $n), $U, $t, $file, [$U, $U, $U], true, true, |a: $t, b, c, k| {
                a.wrapping_mul(b).add_carry(c, k)
            }),
            carry!(
                concat!("mad.hi.cc.", $n),
                $U,
                $t,
                $file,
                [$U, $U, $U],
                false,
                true,
                |a: $t, b: $t, c, _| { a.mul_hi(b).overflowing_add(c) }
            ),
            carry!(
                concat!("madc.hi.", $n),
                $U,
                $t,
                $file,
                [$U, $U, $U],
                true,
                false,
                |a: $t, b: $t, c, k| { a.mul_hi(b).add_carry(c, k) }
            ),
            carry!(
                concat!("madc.hi.cc.", $n),
                $U,
                $t,
                $file,
                [$U, $U, $U],
                true,
                true,
                |a: $t, b: $t, c, k| { a.mul_hi(b).add_carry(c, k) }
            ),
        ]
    };
}

macro_rules! dot4 {
    ($name:literal, $C:ident, $a:literal, $b:literal) => {
        rarely!($name, $C:u32, [U32:u32, U32:u32, $C:u32], |a, b, c| integer::dp4a(a, b, c, $a, $b))
    };
}

macro_rules! dot2 {
    ($name:literal, $C:ident, $a:literal, $b:literal, $high:literal) => {
        rarely!($name, $C:u32, [U32:u32, U32:u32, $C:u32], |a, b, c| integer::dp2a(a, b, c, $a, $b, $high))
    };
}

/// Products of 24-bit numbers: bits 0 to 31, or bits 16 to 47.
macro_rules! products24 {
    ($T:ident, $n:literal, $signed:literal) => {
        [
            rarely!(concat!("mul24.lo.", $n), $T:u32, [$T:u32, $T:u32], |a, b| product24(a, b, $signed) as u32),
            rarely!(concat!("mul24.hi.", $n), $T:u32, [$T:u32, $T:u32], |a, b| {
                (product24(a, b, $signed) >> 16) as u32
            }),
            rarely!(concat!("mad24.lo.", $n), $T:u32, [$T:u32, $T:u32, $T:u32], |a, b, c| {
                (product24(a, b, $signed) as u32).wrapping_add(c)
            }),
            rarely!(concat!("mad24.hi.", $n), $T:u32, [$T:u32, $T:u32, $T:u32], |a, b, c| {
                ((product24(a, b, $signed) >> 16) as u32).wrapping_add(c)
            }),
        ]
    };
}

pub(super) static FORMS: &[&[Form]] = &[
    &common!(U16, u16, "u16"),
    &common!(S16, i16, "s16"),
    &common!(U32, u32, "u32"),
    &common!(S32, i32, "s32"),
    &common!(U64, u64, "u64"),
    &common!(S64, i64, "s64"),
    &signed!(S16, i16, "s16"),
    &signed!(S32, i32, "s32"),
    &signed!(S64, i64, "s64"),
    &high!(U16, u16, "u16"),
    &high!(S16, i16, "s16"),
    &high!(U32, u32, "u32"),
    &high!(S32, i32, "s32"),
    &high!(U64, u64, "u64"),
    &high!(S64, i64, "s64"),
    &wide!(U16, u16, U32, u32, "u16"),
    &wide!(S16, i16, S32, i32, "s16"),
    &wide!(U32, u32, U64, u64, "u32"),
    &wide!(S32, i32, S64, i64, "s32"),
    &carries!(u32, U32, narrow, "u32"),
    &carries!(u32, S32, narrow, "s32"),
    &carries!(u64, U64, wide, "u64"),
    &carries!(u64, S64, wide, "s64"),
    &product_carries!(u32, U32, narrow, "u32"),
    &product_carries!(u64, U64, wide, "u64"),
    &[
        rarely!("add.sat.s32", S32:i32, [S32:i32, S32:i32], |a, b| a.saturating_add(b)),
        rarely!("sub.sat.s32", S32:i32, [S32:i32, S32:i32], |a, b| a.saturating_sub(b)),
        rarely!("mad.hi.sat.s32", S32:i32, [S32:i32, S32:i32, S32:i32], integer::mad_hi_saturating),
        dot4!("dp4a.u32.u32", U32, false, false),
        dot4!("dp4a.s32.s32", S32, true, true),
        dot4!("dp4a.u32.s32", S32, false, true),
        dot4!("dp4a.s32.u32", S32, true, false),
        dot2!("dp2a.lo.u32.u32", U32, false, false, false),
        dot2!("dp2a.lo.s32.s32", S32, true, true, false),
        dot2!("dp2a.lo.u32.s32", S32, false, true, false),
        dot2!("dp2a.lo.s32.u32", S32, true, false, false),
        dot2!("dp2a.hi.u32.u32", U32, false, false, true),
        dot2!("dp2a.hi.s32.s32", S32, true, true, true),
        dot2!("dp2a.hi.u32.s32", S32, false, true, true),
        dot2!("dp2a.hi.s32.u32", S32, true, false, true),
    ],
    &products24!(U32, "u32", false),
    &products24!(S32, "s32", true),
];
