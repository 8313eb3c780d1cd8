//! How a scalar function becomes a form: the loop over lanes, built twice, once for AVX2.
use super::super::regs::{LANES, Regs, Value, put, put_pred};
use super::Operands;

/// Builds a [`Form`](super::Form) from a body that runs for all lanes.
macro_rules! form {
    ($name:expr, $dst:ident, [$($src:ident),*], |$r:ident, $o:ident, $m:ident| $body:expr) => {{
        fn plain($r: &mut $crate::exec::regs::Regs, $o: &$crate::exec::forms::Operands, $m: u32) {
            $body
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
        fn fast($r: &mut $crate::exec::regs::Regs, $o: &$crate::exec::forms::Operands, $m: u32) {
            $body
        }
        #[cfg(not(target_arch = "x86_64"))]
        use plain as fast;
        $crate::exec::forms::Form {
            name: $name,
            dst: $crate::ptx::ast::ScalarType::$dst,
            src: &[$($crate::ptx::ast::ScalarType::$src),*],
            plain,
            fast,
        }
    }};
}

/// A form of one to four sources from a function of one lane: `lanewise!("add.u32", U32: u32 = (a: U32: u32, …) …)`.
macro_rules! lanewise {
    ($name:expr, $dt:ident:$d:ty, [$at:ident:$a:ty], $f:expr) => {
        $crate::exec::forms::macros::form!($name, $dt, [$at], |r, o, m| {
            $crate::exec::forms::macros::unary::<$a, $d, _>(r, o, m, $f)
        })
    };
    ($name:expr, $dt:ident:$d:ty, [$at:ident:$a:ty, $bt:ident:$b:ty], $f:expr) => {
        $crate::exec::forms::macros::form!($name, $dt, [$at, $bt], |r, o, m| {
            $crate::exec::forms::macros::binary::<$a, $b, $d, _>(r, o, m, $f)
        })
    };
    ($name:expr, $dt:ident:$d:ty, [$at:ident:$a:ty, $bt:ident:$b:ty, $ct:ident:$c:ty], $f:expr) => {
        $crate::exec::forms::macros::form!($name, $dt, [$at, $bt, $ct], |r, o, m| {
            $crate::exec::forms::macros::ternary::<$a, $b, $c, $d, _>(r, o, m, $f)
        })
    };
    ($name:expr, $dt:ident:$d:ty, [$at:ident:$a:ty, $bt:ident:$b:ty, $ct:ident:$c:ty, $et:ident:$e:ty], $f:expr) => {
        $crate::exec::forms::macros::form!($name, $dt, [$at, $bt, $ct, $et], |r, o, m| {
            $crate::exec::forms::macros::quaternary::<$a, $b, $c, $e, $d, _>(r, o, m, $f)
        })
    };
}

/// As [`lanewise`], for forms that no inner loop of a kernel holds: one loop for all functions of a signature,
/// called through a pointer. Hundreds of forms so cost little to build.
macro_rules! rarely {
    ($name:expr, $dt:ident:$d:ty, [$at:ident:$a:ty], $f:expr) => {
        $crate::exec::forms::macros::rare!($name, $dt, [$at], |r, o, m| {
            $crate::exec::forms::macros::rare_unary::<$a, $d>(r, o, m, $f)
        })
    };
    ($name:expr, $dt:ident:$d:ty, [$at:ident:$a:ty, $bt:ident:$b:ty], $f:expr) => {
        $crate::exec::forms::macros::rare!($name, $dt, [$at, $bt], |r, o, m| {
            $crate::exec::forms::macros::rare_binary::<$a, $b, $d>(r, o, m, $f)
        })
    };
    ($name:expr, $dt:ident:$d:ty, [$at:ident:$a:ty, $bt:ident:$b:ty, $ct:ident:$c:ty], $f:expr) => {
        $crate::exec::forms::macros::rare!($name, $dt, [$at, $bt, $ct], |r, o, m| {
            $crate::exec::forms::macros::rare_ternary::<$a, $b, $c, $d>(r, o, m, $f)
        })
    };
}

/// A form whose body is built once, for every CPU.
macro_rules! rare {
    ($name:expr, $dst:ident, [$($src:ident),*], |$r:ident, $o:ident, $m:ident| $body:expr) => {{
        fn plain($r: &mut $crate::exec::regs::Regs, $o: &$crate::exec::forms::Operands, $m: u32) {
            $body
        }
        $crate::exec::forms::Form {
            name: $name,
            dst: $crate::ptx::ast::ScalarType::$dst,
            src: &[$($crate::ptx::ast::ScalarType::$src),*],
            plain,
            fast: plain,
        }
    }};
}

pub(crate) use form;
pub(crate) use lanewise;
pub(crate) use rare;
pub(crate) use rarely;

#[inline(never)]
pub(crate) fn rare_unary<A: Value, D: Value>(r: &mut Regs, o: &Operands, mask: u32, f: fn(A) -> D) {
    unary(r, o, mask, f);
}

#[inline(never)]
pub(crate) fn rare_binary<A: Value, B: Value, D: Value>(
    r: &mut Regs,
    o: &Operands,
    mask: u32,
    f: fn(A, B) -> D,
) {
    binary(r, o, mask, f);
}

#[inline(never)]
pub(crate) fn rare_ternary<A: Value, B: Value, C: Value, D: Value>(
    r: &mut Regs,
    o: &Operands,
    mask: u32,
    f: fn(A, B, C) -> D,
) {
    ternary(r, o, mask, f);
}

/// The lanes for which a comparison that no inner loop holds is true.
#[inline(never)]
pub(crate) fn rare_holds<A: Value>(r: &Regs, o: &Operands, f: fn(A, A) -> bool) -> u32 {
    holds(r, o, f)
}

#[inline(always)]
pub(crate) fn unary<A: Value, D: Value, F: Fn(A) -> D>(r: &mut Regs, o: &Operands, mask: u32, f: F) {
    let mut out = [D::Bits::default(); LANES];
    let a = A::get(r, o.src[0]);
    for lane in 0..LANES {
        out[lane] = f(A::from_bits(a[lane])).bits();
    }
    put(D::get_mut(r, o.dst), out, mask);
}

#[inline(always)]
pub(crate) fn binary<A: Value, B: Value, D: Value, F: Fn(A, B) -> D>(
    r: &mut Regs,
    o: &Operands,
    mask: u32,
    f: F,
) {
    let mut out = [D::Bits::default(); LANES];
    let (a, b) = (A::get(r, o.src[0]), B::get(r, o.src[1]));
    for lane in 0..LANES {
        out[lane] = f(A::from_bits(a[lane]), B::from_bits(b[lane])).bits();
    }
    put(D::get_mut(r, o.dst), out, mask);
}

#[inline(always)]
pub(crate) fn ternary<A: Value, B: Value, C: Value, D: Value, F: Fn(A, B, C) -> D>(
    r: &mut Regs,
    o: &Operands,
    mask: u32,
    f: F,
) {
    let mut out = [D::Bits::default(); LANES];
    let (a, b, c) = (A::get(r, o.src[0]), B::get(r, o.src[1]), C::get(r, o.src[2]));
    for lane in 0..LANES {
        out[lane] = f(A::from_bits(a[lane]), B::from_bits(b[lane]), C::from_bits(c[lane])).bits();
    }
    put(D::get_mut(r, o.dst), out, mask);
}

#[inline(always)]
pub(crate) fn quaternary<A: Value, B: Value, C: Value, E: Value, D: Value, F: Fn(A, B, C, E) -> D>(
    r: &mut Regs,
    o: &Operands,
    mask: u32,
    f: F,
) {
    let mut out = [D::Bits::default(); LANES];
    let (a, b) = (A::get(r, o.src[0]), B::get(r, o.src[1]));
    let (c, e) = (C::get(r, o.src[2]), E::get(r, o.src[3]));
    for lane in 0..LANES {
        let (x, y) = (A::from_bits(a[lane]), B::from_bits(b[lane]));
        out[lane] = f(x, y, C::from_bits(c[lane]), E::from_bits(e[lane])).bits();
    }
    put(D::get_mut(r, o.dst), out, mask);
}

/// The lanes for which a comparison holds.
#[inline(always)]
pub(crate) fn holds<A: Value, F: Fn(A, A) -> bool>(r: &Regs, o: &Operands, f: F) -> u32 {
    let (a, b) = (A::get(r, o.src[0]), A::get(r, o.src[1]));
    // Bits gather in bytes first: a reduction over 32 shifted words would not become vector code.
    let mut flags = [0u8; LANES];
    for lane in 0..LANES {
        flags[lane] = u8::from(f(A::from_bits(a[lane]), A::from_bits(b[lane])));
    }
    gather_flags(&flags)
}

/// Bit `k` is the lowest bit of byte `k`.
#[inline(always)]
pub(crate) fn gather_flags(flags: &[u8; LANES]) -> u32 {
    let mut mask = 0;
    for (group, bytes) in flags.chunks_exact(8).enumerate() {
        let mut word = 0u64;
        for (k, byte) in bytes.iter().enumerate() {
            word |= u64::from(*byte) << (8 * k);
        }
        // The product moves bit 0 of byte k to bit 56 + k.
        let gathered = (word.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32;
        mask |= gathered << (8 * group);
    }
    mask
}

/// How `setp` joins the comparison with a third predicate: bits of `Operands::extra`.
pub(crate) mod connective {
    pub(crate) const NONE: u32 = 0;
    pub(crate) const AND: u32 = 1;
    pub(crate) const OR: u32 = 2;
    pub(crate) const XOR: u32 = 3;
    /// The third predicate is negated.
    pub(crate) const NEGATED: u32 = 4;
}

/// Joins with the third predicate, if any, and writes `p` and its counterpart `q`.
#[inline(always)]
pub(crate) fn set_predicates(r: &mut Regs, o: &Operands, mask: u32, holds: u32) {
    let third = r.preds[o.src[2] as usize] ^ if o.extra & connective::NEGATED != 0 { u32::MAX } else { 0 };
    let join = |bits: u32| match o.extra & 3 {
        connective::AND => bits & third,
        connective::OR => bits | third,
        connective::XOR => bits ^ third,
        _ => bits,
    };
    let (p, q) = (join(holds), join(!holds));
    put_pred(&mut r.preds[o.dst as usize], p, mask);
    put_pred(&mut r.preds[o.dst2 as usize], q, mask);
}
