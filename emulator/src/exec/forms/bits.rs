//! Logic, shifts, bit fields, moves and selections.
use super::Form;
use super::macros::{form, lanewise, rarely};
use crate::exec::op::window;
use crate::exec::regs::{LANES, Value, put, put_pred};
use crate::exec::scalar::bits::{self, Funnel, Permute};
use crate::exec::scalar::integer::Integer;

macro_rules! logic {
    ($T:ident, $t:ident, $n:literal) => {
        [
            lanewise!(concat!("and.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a & b),
            lanewise!(concat!("or.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a | b),
            lanewise!(concat!("xor.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a ^ b),
            lanewise!(concat!("not.", $n), $T:$t, [$T:$t], |a| !a),
            lanewise!(concat!("cnot.", $n), $T:$t, [$T:$t], |a| $t::from(a == 0)),
            lanewise!(concat!("shl.", $n), $T:$t, [$T:$t, U32:u32], Integer::shl),
            lanewise!(concat!("shr.", $n), $T:$t, [$T:$t, U32:u32], Integer::shr),
        ]
    };
}

macro_rules! shift_right {
    ($T:ident, $t:ident, $n:literal) => {
        lanewise!(concat!("shr.", $n), $T:$t, [$T:$t, U32:u32], Integer::shr)
    };
}

macro_rules! moves {
    ($($T:ident:$t:ident $n:literal),*) => {
        [$(
            lanewise!(concat!("mov.", $n), $T:$t, [$T:$t], |a| a),
            form!(concat!("selp.", $n), $T, [$T, $T, Pred], |r, o, m| {
                let (a, b) = (*<$t>::get(r, o.src[0]), *<$t>::get(r, o.src[1]));
                let choice = r.preds[o.src[2] as usize];
                let mut out = b;
                for lane in 0..LANES {
                    out[lane] = if choice >> lane & 1 != 0 { a[lane] } else { b[lane] };
                }
                put(<$t>::get_mut(r, o.dst), out, m);
            }),
            rarely!(concat!("slct.", $n, ".s32"), $T:$t, [$T:$t, $T:$t, S32:i32], |a, b, c| if c >= 0 { a } else { b }),
            rarely!(concat!("slct.", $n, ".f32"), $T:$t, [$T:$t, $T:$t, F32:f32], |a, b, c| if c >= 0.0 { a } else { b }),
        )*]
    };
}

macro_rules! counts {
    ($T:ident, $t:ident, $n:literal) => {
        [
            rarely!(concat!("popc.", $n), U32:u32, [$T:$t], |a| a.count_ones()),
            rarely!(concat!("clz.", $n), U32:u32, [$T:$t], |a| a.leading_zeros()),
            rarely!(concat!("brev.", $n), $T:$t, [$T:$t], |a| a.reverse_bits()),
            lanewise!(concat!("bfi.", $n), $T:$t, [$T:$t, $T:$t, U32:u32, U32:u32], |a, b, at, len| {
                bits::bfi(u64::from(a), u64::from(b), at, len, $t::BITS) as $t
            }),
        ]
    };
}

macro_rules! extract {
    ($T:ident, $t:ident, $n:literal) => {
        [
            rarely!(concat!("bfe.", $n), $T:$t, [$T:$t, U32:u32, U32:u32], Integer::bfe),
            rarely!(concat!("bfind.", $n), U32:u32, [$T:$t], Integer::bfind),
            rarely!(concat!("bfind.shiftamt.", $n), U32:u32, [$T:$t], |a| match a.bfind() {
                u32::MAX => u32::MAX,
                place => $t::BITS - 1 - place,
            }),
        ]
    };
}

macro_rules! predicate {
    ($n:literal, [$($s:ident),*], |$a:ident, $b:ident| $f:expr) => {
        form!($n, Pred, [$($s),*], |r, o, m| {
            let ($a, $b) = (r.preds[o.src[0] as usize], r.preds[o.src[1] as usize]);
            put_pred(&mut r.preds[o.dst as usize], $f, m);
        })
    };
}

macro_rules! permutation {
    ($n:literal, $M:ident) => {
        rarely!($n, B32:u32, [B32:u32, B32:u32, B32:u32], |a, b, c| bits::prmt(a, b, c, Permute::$M))
    };
}

macro_rules! funnel {
    ($n:literal, $f:path, $M:ident) => {
        rarely!($n, B32:u32, [B32:u32, B32:u32, U32:u32], |a, b, c| $f(a, b, c, Funnel::$M))
    };
}

pub(super) static FORMS: &[&[Form]] = &[
    &logic!(B16, u16, "b16"),
    &logic!(B32, u32, "b32"),
    &logic!(B64, u64, "b64"),
    &[
        shift_right!(U16, u16, "u16"),
        shift_right!(U32, u32, "u32"),
        shift_right!(U64, u64, "u64"),
        shift_right!(S16, i16, "s16"),
        shift_right!(S32, i32, "s32"),
        shift_right!(S64, i64, "s64"),
    ],
    &moves!(
        B16:u16 "b16", U16:u16 "u16", S16:u16 "s16", B32:u32 "b32", U32:u32 "u32", S32:u32 "s32", F32:f32 "f32",
        B64:u64 "b64", U64:u64 "u64", S64:u64 "s64", F64:f64 "f64"
    ),
    &counts!(B32, u32, "b32"),
    &counts!(B64, u64, "b64"),
    &extract!(U32, u32, "u32"),
    &extract!(S32, i32, "s32"),
    &extract!(U64, u64, "u64"),
    &extract!(S64, i64, "s64"),
    &[
        predicate!("and.pred", [Pred, Pred], |a, b| a & b),
        predicate!("or.pred", [Pred, Pred], |a, b| a | b),
        predicate!("xor.pred", [Pred, Pred], |a, b| a ^ b),
        predicate!("not.pred", [Pred], |a, _b| !a),
        predicate!("mov.pred", [Pred], |a, _b| a),
        funnel!("shf.l.wrap.b32", bits::shf_left, Wrap),
        funnel!("shf.r.wrap.b32", bits::shf_right, Wrap),
        funnel!("shf.l.clamp.b32", bits::shf_left, Clamp),
        funnel!("shf.r.clamp.b32", bits::shf_right, Clamp),
        permutation!("prmt.b32", Generic),
        permutation!("prmt.b32.f4e", Forward4),
        permutation!("prmt.b32.b4e", Backward4),
        permutation!("prmt.b32.rc8", Replicate8),
        permutation!("prmt.b32.ecl", EdgeClampLeft),
        permutation!("prmt.b32.ecr", EdgeClampRight),
        permutation!("prmt.b32.rc16", Replicate16),
        form!("lop3.b32", B32, [B32, B32, B32], |r, o, m| {
            let table = o.extra as u8;
            super::macros::ternary::<u32, u32, u32, u32, _>(r, o, m, |a, b, c| bits::lop3(a, b, c, table));
        }),
        rarely!("szext.wrap.u32", U32:u32, [U32:u32, U32:u32], |a, b| match b & 31 {
            0 => 0,
            n => a << (32 - n) >> (32 - n),
        }),
        rarely!("szext.wrap.s32", S32:i32, [S32:i32, U32:u32], |a, b| match b & 31 {
            0 => 0,
            n => a << (32 - n) >> (32 - n),
        }),
        rarely!("bmsk.wrap.b32", B32:u32, [U32:u32, U32:u32], |a, b| bits::bmsk(a, b, Funnel::Wrap)),
        rarely!("bmsk.clamp.b32", B32:u32, [U32:u32, U32:u32], |a, b| bits::bmsk(a, b, Funnel::Clamp)),
    ],
    // A register built from halves and taken apart: `mov` with a vector operand.
    &[
        lanewise!("mov.b32 d, {a, b}", B32:u32, [B16:u16, B16:u16], |a, b| u32::from(b) << 16 | u32::from(a)),
        lanewise!("mov.b64 d, {a, b}", B64:u64, [B32:u32, B32:u32], |a, b| u64::from(b) << 32 | u64::from(a)),
        lanewise!("mov.b64 d, {a, b, c, e}", B64:u64, [B16:u16, B16:u16, B16:u16, B16:u16], |a, b, c, e| {
            u64::from(e) << 48 | u64::from(c) << 32 | u64::from(b) << 16 | u64::from(a)
        }),
        form!("mov.b32 {d, e}, a", B16, [B32], |r, o, m| {
            let a = r.narrow[o.src[0] as usize];
            put(&mut r.narrow[o.dst as usize], a.map(|v| v & 0xffff), m);
            put(&mut r.narrow[o.dst2 as usize], a.map(|v| v >> 16), m);
        }),
        form!("mov.b64 {d, e}, a", B32, [B64], |r, o, m| {
            let a = r.wide[o.src[0] as usize];
            put(&mut r.narrow[o.dst as usize], a.map(|v| v as u32), m);
            put(&mut r.narrow[o.dst2 as usize], a.map(|v| (v >> 32) as u32), m);
        }),
        form!("mov.b64 {d, e, f, g}, a", B16, [B64], |r, o, m| {
            let a = r.wide[o.src[0] as usize];
            for (k, slot) in [o.dst, o.dst2, o.src[1], o.src[2]].into_iter().enumerate() {
                put(&mut r.narrow[slot as usize], a.map(|v| (v >> (16 * k)) as u32 & 0xffff), m);
            }
        }),
    ],
    // Parts of instructions that the resolver writes.
    &[
        lanewise!("low 32 of 64", B32:u32, [B64:u64], |a| a as u32),
        form!("address is in window", Pred, [U64, U64], |r, o, m| {
            let bits = super::macros::holds::<u64, _>(r, o, |a, base| a.wrapping_sub(base) < window::BYTES);
            put_pred(&mut r.preds[o.dst as usize], bits, m);
        }),
    ],
];
