//! Logic, shifts, bit fields, moves and selections.
use super::Form;
use super::macros::{form, lanewise};
use crate::exec::op::window;
use crate::exec::regs::{LANES, Value, put, put_pred};

macro_rules! logic {
    ($T:ident, $t:ident, $n:literal) => {
        [
            lanewise!(concat!("and.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a & b),
            lanewise!(concat!("or.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a | b),
            lanewise!(concat!("xor.", $n), $T:$t, [$T:$t, $T:$t], |a, b| a ^ b),
            lanewise!(concat!("not.", $n), $T:$t, [$T:$t], |a| !a),
            lanewise!(concat!("cnot.", $n), $T:$t, [$T:$t], |a| $t::from(a == 0)),
            // A shift by the width or more gives 0.
            lanewise!(concat!("shl.", $n), $T:$t, [$T:$t, U32:u32], |a, b| if b < $t::BITS { a << b } else { 0 }),
            lanewise!(concat!("shr.", $n), $T:$t, [$T:$t, U32:u32], |a, b| if b < $t::BITS { a >> b } else { 0 }),
        ]
    };
}

macro_rules! shift_right {
    ($T:ident, $t:ident, $n:literal) => {
        // An arithmetic shift by the width or more fills with the sign.
        lanewise!(concat!("shr.", $n), $T:$t, [$T:$t, U32:u32], |a, b| {
            if b < $t::BITS { a >> b } else if a < <$t>::default() { !0 } else { 0 }
        })
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
            lanewise!(concat!("slct.", $n, ".s32"), $T:$t, [$T:$t, $T:$t, S32:i32], |a, b, c| if c >= 0 { a } else { b }),
            lanewise!(concat!("slct.", $n, ".f32"), $T:$t, [$T:$t, $T:$t, F32:f32], |a, b, c| if c >= 0.0 { a } else { b }),
        )*]
    };
}

macro_rules! counts {
    ($T:ident, $t:ident, $n:literal) => {
        [
            lanewise!(concat!("popc.", $n), U32:u32, [$T:$t], |a| a.count_ones()),
            lanewise!(concat!("clz.", $n), U32:u32, [$T:$t], |a| a.leading_zeros()),
            lanewise!(concat!("brev.", $n), $T:$t, [$T:$t], |a| a.reverse_bits()),
            lanewise!(concat!("bfi.", $n), $T:$t, [$T:$t, $T:$t, U32:u32, U32:u32], |a, b, at, len| {
                let (at, len) = (at & 0xff, len & 0xff);
                if at >= $t::BITS || len == 0 {
                    return b;
                }
                let field = if len >= $t::BITS { !0 } else { (1 << len) - 1 } << at;
                (a << at) & field | b & !field
            }),
        ]
    };
}

macro_rules! extract {
    ($T:ident, $t:ident, $u:ident, $signed:literal, $n:literal) => {
        [
            lanewise!(concat!("bfe.", $n), $T:$t, [$T:$t, U32:u32, U32:u32], |a, at, len| {
                let (at, len) = (at & 0xff, len & 0xff);
                if len == 0 {
                    return 0;
                }
                // Bits beyond the top read as the sign, or 0 if unsigned.
                let shifted = if at < $t::BITS { a >> at } else if $signed && a >> ($t::BITS - 1) != 0 { !0 } else { 0 };
                if len >= $t::BITS {
                    return shifted;
                }
                let up = $t::BITS - len;
                (shifted << up) >> up
            }),
            lanewise!(concat!("bfind.", $n), U32:u32, [$T:$t], |a| {
                let bits = if $signed && a >> ($t::BITS - 1) != 0 { !a as $u } else { a as $u };
                if bits == 0 { u32::MAX } else { $u::BITS - 1 - bits.leading_zeros() }
            }),
            lanewise!(concat!("bfind.shiftamt.", $n), U32:u32, [$T:$t], |a| {
                let bits = if $signed && a >> ($t::BITS - 1) != 0 { !a as $u } else { a as $u };
                if bits == 0 { u32::MAX } else { bits.leading_zeros() }
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

/// Byte `selector` of the eight bytes of `pair`; its bit 3 asks for the sign spread over the byte.
#[inline(always)]
fn pick(pair: u64, selector: u32) -> u32 {
    let byte = (pair >> ((selector & 7) * 8)) as u32 & 0xff;
    if selector & 8 != 0 { (byte >> 7) * 0xff } else { byte }
}

/// `prmt`: four bytes of `b:a` chosen by four selectors.
#[inline(always)]
fn permute(a: u32, b: u32, selectors: [u32; 4]) -> u32 {
    let pair = u64::from(b) << 32 | u64::from(a);
    let mut out = 0;
    for (k, selector) in selectors.into_iter().enumerate() {
        out |= pick(pair, selector) << (8 * k);
    }
    out
}

macro_rules! permutation {
    ($n:literal, |$c:ident| $selectors:expr) => {
        lanewise!($n, B32:u32, [B32:u32, B32:u32, B32:u32], |a, b, c| {
            let $c = c & 3;
            permute(a, b, $selectors)
        })
    };
}

/// Any function of three bits, by its truth table, on all bits at once.
#[inline(always)]
fn lop3(a: u32, b: u32, c: u32, table: u32) -> u32 {
    let mut out = 0;
    for k in 0..8 {
        let row = 0u32.wrapping_sub(table >> k & 1);
        let x = if k & 4 != 0 { a } else { !a };
        let y = if k & 2 != 0 { b } else { !b };
        let z = if k & 1 != 0 { c } else { !c };
        out |= row & x & y & z;
    }
    out
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
    &extract!(U32, u32, u32, false, "u32"),
    &extract!(S32, i32, u32, true, "s32"),
    &extract!(U64, u64, u64, false, "u64"),
    &extract!(S64, i64, u64, true, "s64"),
    &[
        predicate!("and.pred", [Pred, Pred], |a, b| a & b),
        predicate!("or.pred", [Pred, Pred], |a, b| a | b),
        predicate!("xor.pred", [Pred, Pred], |a, b| a ^ b),
        predicate!("not.pred", [Pred], |a, _b| !a),
        predicate!("mov.pred", [Pred], |a, _b| a),
        lanewise!("shf.l.wrap.b32", B32:u32, [B32:u32, B32:u32, U32:u32], |a, b, c| {
            ((u64::from(b) << 32 | u64::from(a)) << (c & 31) >> 32) as u32
        }),
        lanewise!("shf.r.wrap.b32", B32:u32, [B32:u32, B32:u32, U32:u32], |a, b, c| {
            ((u64::from(b) << 32 | u64::from(a)) >> (c & 31)) as u32
        }),
        lanewise!("shf.l.clamp.b32", B32:u32, [B32:u32, B32:u32, U32:u32], |a, b, c| {
            ((u64::from(b) << 32 | u64::from(a)) << c.min(32) >> 32) as u32
        }),
        lanewise!("shf.r.clamp.b32", B32:u32, [B32:u32, B32:u32, U32:u32], |a, b, c| {
            ((u64::from(b) << 32 | u64::from(a)) >> c.min(32)) as u32
        }),
        lanewise!("prmt.b32", B32:u32, [B32:u32, B32:u32, B32:u32], |a, b, c| {
            permute(a, b, [c & 15, c >> 4 & 15, c >> 8 & 15, c >> 12 & 15])
        }),
        permutation!("prmt.b32.f4e", |c| [c, c + 1, c + 2, c + 3]),
        permutation!("prmt.b32.b4e", |c| [
            c,
            c.wrapping_sub(1) & 7,
            c.wrapping_sub(2) & 7,
            c.wrapping_sub(3) & 7
        ]),
        permutation!("prmt.b32.rc8", |c| [c; 4]),
        permutation!("prmt.b32.ecl", |c| [c, c.max(1), c.max(2), 3]),
        permutation!("prmt.b32.ecr", |c| [0, c.min(1), c.min(2), c]),
        permutation!("prmt.b32.rc16", |c| [(c & 1) * 2, (c & 1) * 2 + 1, (c & 1) * 2, (c & 1) * 2 + 1]),
        form!("lop3.b32", B32, [B32, B32, B32], |r, o, m| {
            let table = o.extra;
            super::macros::ternary::<u32, u32, u32, u32, _>(r, o, m, |a, b, c| lop3(a, b, c, table));
        }),
        lanewise!("szext.wrap.u32", U32:u32, [U32:u32, U32:u32], |a, b| match b & 31 {
            0 => 0,
            n => a << (32 - n) >> (32 - n),
        }),
        lanewise!("szext.wrap.s32", S32:i32, [S32:i32, U32:u32], |a, b| match b & 31 {
            0 => 0,
            n => a << (32 - n) >> (32 - n),
        }),
        lanewise!("bmsk.wrap.b32", B32:u32, [U32:u32, U32:u32], |a, b| ((1u32 << (b & 31)) - 1) << (a & 31)),
        lanewise!("bmsk.clamp.b32", B32:u32, [U32:u32, U32:u32], |a, b| {
            if a >= 32 { return 0 }
            (if b >= 32 { u32::MAX } else { (1 << b) - 1 }) << a
        }),
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
