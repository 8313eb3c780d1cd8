//! Integer arithmetic. It wraps unless it says otherwise.

/// The arithmetic of `.u16`, `.s16`, `.u32`, `.s32`, `.u64` and `.s64`.
pub trait Integer: Copy + Ord {
    /// `mul.hi`: the high half of the product.
    fn mul_hi(self, b: Self) -> Self;
    /// `div`: rounds towards zero; every bit is set if `b` is zero, as on the hardware.
    fn div(self, b: Self) -> Self;
    /// `rem`: has the sign of `self`; every bit is set if `b` is zero, as on the hardware.
    fn rem(self, b: Self) -> Self;
    /// `sad`: `c + |self - b|`.
    fn sad(self, b: Self, c: Self) -> Self;
    /// `shl`: amounts beyond the width give zero.
    fn shl(self, amount: u32) -> Self;
    /// `shr`: amounts beyond the width fill with zeros, or with the sign if the type has one.
    fn shr(self, amount: u32) -> Self;
    /// `bfe`: `length` bits from `position` up, both taken modulo 256, extended by zeros, or by the
    /// field's sign if the type has one.
    fn bfe(self, position: u32, length: u32) -> Self;
    /// `bfind`: the highest bit that differs from the sign, `u32::MAX` if there is none.
    fn bfind(self) -> u32;
    /// `add.cc`, `addc`: the sum with a carry in, and the carry out.
    fn add_carry(self, b: Self, carry: bool) -> (Self, bool);
    /// `sub.cc`, `subc`: the difference with a borrow in, and the borrow out.
    fn sub_borrow(self, b: Self, borrow: bool) -> (Self, bool);
}

macro_rules! integer {
    ($name:ident, $unsigned:ident, $wide:ident, $signed:literal) => {
        impl Integer for $name {
            #[inline(always)]
            fn mul_hi(self, b: Self) -> Self {
                ((self as $wide * b as $wide) >> Self::BITS) as Self
            }

            #[inline(always)]
            fn div(self, b: Self) -> Self {
                if b == 0 { !0 } else { self.wrapping_div(b) }
            }

            #[inline(always)]
            fn rem(self, b: Self) -> Self {
                if b == 0 { !0 } else { self.wrapping_rem(b) }
            }

            #[inline(always)]
            fn sad(self, b: Self, c: Self) -> Self {
                c.wrapping_add(if self < b { b.wrapping_sub(self) } else { self.wrapping_sub(b) })
            }

            #[inline(always)]
            fn shl(self, amount: u32) -> Self {
                if amount < Self::BITS { self << amount } else { 0 }
            }

            #[inline(always)]
            fn shr(self, amount: u32) -> Self {
                // One step less than the width, then one more, so that no shift is out of range.
                if amount < Self::BITS { self >> amount } else { (self >> (Self::BITS - 1)) >> 1 }
            }

            #[inline]
            fn bfe(self, position: u32, length: u32) -> Self {
                let (position, length) = (position & 0xFF, length & 0xFF);
                if length == 0 {
                    return 0;
                }
                let shifted = Integer::shr(self, position);
                let unused = Self::BITS.saturating_sub(length);
                // A field that reaches beyond the top ends there, and there its sign is too.
                if position + length >= Self::BITS { shifted } else { (shifted << unused) >> unused }
            }

            #[inline]
            fn bfind(self) -> u32 {
                let bits = if $signed && Integer::shr(self, Self::BITS - 1) != 0 { !self } else { self };
                (Self::BITS - 1).wrapping_sub(bits.leading_zeros())
            }

            #[inline(always)]
            fn add_carry(self, b: Self, carry: bool) -> (Self, bool) {
                let (sum, first) = (self as $unsigned).overflowing_add(b as $unsigned);
                let (sum, second) = sum.overflowing_add($unsigned::from(carry));
                (sum as Self, first | second)
            }

            #[inline(always)]
            fn sub_borrow(self, b: Self, borrow: bool) -> (Self, bool) {
                let (difference, first) = (self as $unsigned).overflowing_sub(b as $unsigned);
                let (difference, second) = difference.overflowing_sub($unsigned::from(borrow));
                (difference as Self, first | second)
            }
        }
    };
}

integer!(u16, u16, u32, false);
integer!(i16, u16, i32, true);
integer!(u32, u32, u64, false);
integer!(i32, u32, i64, true);
integer!(u64, u64, u128, false);
integer!(i64, u64, i128, true);

/// `mad.hi.sat.s32`: the high half of `a * b` plus `c`, clamped.
#[inline(always)]
pub fn mad_hi_saturating(a: i32, b: i32, c: i32) -> i32 {
    a.mul_hi(b).saturating_add(c)
}

/// The 48-bit product that `mul24` and `mad24` take their `.lo` (bits 0 to 31) and `.hi`
/// (bits 16 to 47) from; only 24 bits of each operand count.
#[inline(always)]
pub fn product24(a: u32, b: u32, signed: bool) -> u64 {
    if signed {
        let extend = |x: u32| i64::from((x << 8).cast_signed() >> 8);
        (extend(a) * extend(b)).cast_unsigned()
    } else {
        u64::from(a & 0xFF_FFFF) * u64::from(b & 0xFF_FFFF)
    }
}

fn byte(x: u32, index: u32, signed: bool) -> i32 {
    let byte = (x >> (8 * index)) as u8;
    if signed { i32::from(byte.cast_signed()) } else { i32::from(byte) }
}

/// `dp4a`: `c` plus the dot product of four bytes with four bytes.
#[inline(always)]
pub fn dp4a(a: u32, b: u32, c: u32, a_signed: bool, b_signed: bool) -> u32 {
    (0..4).fold(c, |sum, index| {
        sum.wrapping_add((byte(a, index, a_signed) * byte(b, index, b_signed)).cast_unsigned())
    })
}

/// `dp2a.lo` and `.hi`: `c` plus the dot product of two 16-bit numbers with two bytes of `b`.
#[inline(always)]
pub fn dp2a(a: u32, b: u32, c: u32, a_signed: bool, b_signed: bool, high: bool) -> u32 {
    (0..2).fold(c, |sum, index| {
        let half = (a >> (16 * index)) as u16;
        let half = if a_signed { i32::from(half.cast_signed()) } else { i32::from(half) };
        let byte = byte(b, index + if high { 2 } else { 0 }, b_signed);
        sum.wrapping_add(half.wrapping_mul(byte).cast_unsigned())
    })
}
