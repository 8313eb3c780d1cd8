//! Integer arithmetic.
use super::Form;
use super::macros::{form, lanewise};
use crate::exec::regs::{LANES, put, put_pred};

macro_rules! common {
    ($T:ident, $t:ident, $n:literal) => {
        [
            lanewise!(concat!("add.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a.wrapping_add(b)),
            lanewise!(concat!("sub.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a.wrapping_sub(b)),
            lanewise!(concat!("mul.lo.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a.wrapping_mul(b)),
            lanewise!(concat!("mad.lo.", $n), $T:$t, [$T:$t, $T:$t, $T:$t], |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
            // Division by zero gives all ones, and the dividend as remainder, as the hardware's sequence does.
            lanewise!(concat!("div.", $n), $T:$t, [$T:$t, $T:$t], |a, b| if b == 0 { !0 } else { a.wrapping_div(b) }),
            lanewise!(concat!("rem.", $n), $T:$t, [$T:$t, $T:$t], |a, b| if b == 0 { a } else { a.wrapping_rem(b) }),
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
    ($T:ident, $t:ident, $double:ident, $n:literal) => {
        [
            lanewise!(concat!("mul.hi.", $n), $T:$t, [$T:$t, $T:$t], |a, b| {
                ((a as $double * b as $double) >> <$t>::BITS) as $t
            }),
            lanewise!(concat!("mad.hi.", $n), $T:$t, [$T:$t, $T:$t, $T:$t], |a, b, c| {
                (((a as $double * b as $double) >> <$t>::BITS) as $t).wrapping_add(c)
            }),
        ]
    };
}

macro_rules! sad {
    ($T:ident, $t:ident, $n:literal) => {
        lanewise!(concat!("sad.", $n), $T:$t, [$T:$t, $T:$t, $T:$t], |a, b, c| c.wrapping_add(a.abs_diff(b) as $t))
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
                .carrying(b, c)),
            carry!(concat!("addc.cc.", $n), $U, $t, $file, [$U, $U], true, true, |a: $t, b, _, c| a
                .carrying(b, c)),
            carry!(concat!("sub.cc.", $n), $U, $t, $file, [$U, $U], false, true, |a: $t, b, _, _| a
                .overflowing_sub(b)),
            carry!(concat!("subc.", $n), $U, $t, $file, [$U, $U], true, false, |a: $t, b, _, c| a
                .borrowing(b, c)),
            carry!(concat!("subc.cc.", $n), $U, $t, $file, [$U, $U], true, true, |a: $t, b, _, c| a
                .borrowing(b, c)),
        ]
    };
}

macro_rules! product_carries {
    ($t:ident, $U:ident, $double:ident, $file:ident, $n:literal) => {
        [
            carry!(concat!("mad.lo.cc.", $n), $U, $t, $file, [$U, $U, $U], false, true, |a: $t, b, c, _| {
                a.wrapping_mul(b).overflowing_add(c)
            }),
            carry!(concat!("madc.lo.", $n), $U, $t, $file, [$U, $U, $U], true, false, |a: $t, b, c, k| {
                a.wrapping_mul(b).carrying(c, k)
            }),
            carry!(concat!("madc.lo.cc.", $n), $U, $t, $file, [$U, $U, $U], true, true, |a: $t, b, c, k| {
                a.wrapping_mul(b).carrying(c, k)
            }),
            carry!(
                concat!("mad.hi.cc.", $n),
                $U,
                $t,
                $file,
                [$U, $U, $U],
                false,
                true,
                |a: $t, b: $t, c, _| {
                    (((a as $double * b as $double) >> $t::BITS) as $t).overflowing_add(c)
                }
            ),
            carry!(
                concat!("madc.hi.", $n),
                $U,
                $t,
                $file,
                [$U, $U, $U],
                true,
                false,
                |a: $t, b: $t, c, k| { (((a as $double * b as $double) >> $t::BITS) as $t).carrying(c, k) }
            ),
            carry!(
                concat!("madc.hi.cc.", $n),
                $U,
                $t,
                $file,
                [$U, $U, $U],
                true,
                true,
                |a: $t, b: $t, c, k| { (((a as $double * b as $double) >> $t::BITS) as $t).carrying(c, k) }
            ),
        ]
    };
}

/// Addition and subtraction with a carry or borrow in.
trait Carry: Sized {
    fn carrying(self, other: Self, carry: bool) -> (Self, bool);
    fn borrowing(self, other: Self, borrow: bool) -> (Self, bool);
}

macro_rules! impl_carry {
    ($t:ty) => {
        impl Carry for $t {
            #[inline(always)]
            fn carrying(self, other: Self, carry: bool) -> (Self, bool) {
                let (sum, first) = self.overflowing_add(other);
                let (sum, second) = sum.overflowing_add(<$t>::from(carry));
                (sum, first || second)
            }
            #[inline(always)]
            fn borrowing(self, other: Self, borrow: bool) -> (Self, bool) {
                let (difference, first) = self.overflowing_sub(other);
                let (difference, second) = difference.overflowing_sub(<$t>::from(borrow));
                (difference, first || second)
            }
        }
    };
}
impl_carry!(u32);
impl_carry!(u64);

/// The sum of products of four bytes.
#[inline(always)]
fn dot4(a: [i32; 4], b: [i32; 4], c: i32) -> i32 {
    let mut sum = c;
    for k in 0..4 {
        sum = sum.wrapping_add(a[k] * b[k]);
    }
    sum
}

fn unsigned_bytes(v: u32) -> [i32; 4] {
    v.to_le_bytes().map(i32::from)
}

fn signed_bytes(v: u32) -> [i32; 4] {
    v.to_le_bytes().map(|b| i32::from(b as i8))
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
    &high!(U16, u16, u32, "u16"),
    &high!(S16, i16, i32, "s16"),
    &high!(U32, u32, u64, "u32"),
    &high!(S32, i32, i64, "s32"),
    &high!(U64, u64, u128, "u64"),
    &high!(S64, i64, i128, "s64"),
    &wide!(U16, u16, U32, u32, "u16"),
    &wide!(S16, i16, S32, i32, "s16"),
    &wide!(U32, u32, U64, u64, "u32"),
    &wide!(S32, i32, S64, i64, "s32"),
    &[
        sad!(U16, u16, "u16"),
        sad!(S16, i16, "s16"),
        sad!(U32, u32, "u32"),
        sad!(S32, i32, "s32"),
        sad!(U64, u64, "u64"),
        sad!(S64, i64, "s64"),
    ],
    &carries!(u32, U32, narrow, "u32"),
    &carries!(u32, S32, narrow, "s32"),
    &carries!(u64, U64, wide, "u64"),
    &carries!(u64, S64, wide, "s64"),
    &product_carries!(u32, U32, u64, narrow, "u32"),
    &product_carries!(u64, U64, u128, wide, "u64"),
    &[
        lanewise!("add.sat.s32", S32:i32, [S32:i32, S32:i32], |a, b| a.saturating_add(b)),
        lanewise!("sub.sat.s32", S32:i32, [S32:i32, S32:i32], |a, b| a.saturating_sub(b)),
        lanewise!("mad.hi.sat.s32", S32:i32, [S32:i32, S32:i32, S32:i32], |a, b, c| {
            (((i64::from(a) * i64::from(b)) >> 32) as i32).saturating_add(c)
        }),
        lanewise!("dp4a.u32.u32", U32:u32, [U32:u32, U32:u32, U32:u32], |a, b, c| {
            dot4(unsigned_bytes(a), unsigned_bytes(b), c as i32) as u32
        }),
        lanewise!("dp4a.s32.s32", S32:u32, [U32:u32, U32:u32, S32:u32], |a, b, c| {
            dot4(signed_bytes(a), signed_bytes(b), c as i32) as u32
        }),
        lanewise!("dp4a.u32.s32", S32:u32, [U32:u32, U32:u32, S32:u32], |a, b, c| {
            dot4(unsigned_bytes(a), signed_bytes(b), c as i32) as u32
        }),
        lanewise!("dp4a.s32.u32", S32:u32, [U32:u32, U32:u32, S32:u32], |a, b, c| {
            dot4(signed_bytes(a), unsigned_bytes(b), c as i32) as u32
        }),
    ],
];
