//! Logic and bit fields of 32- and 64-bit registers.

use super::integer::Integer;

/// `lop3.b32`: bit `i` of the result is the bit of `table` that the three input bits select.
#[inline(always)]
pub fn lop3(a: u32, b: u32, c: u32, table: u8) -> u32 {
    // One term for each of the table's set bits: 0xF0, 0xCC and 0xAA are a, b and c.
    let mut result = 0;
    for index in 0..8u8 {
        let pick = |x: u32, bit: u8| if index & bit != 0 { x } else { !x };
        if table >> index & 1 == 1 {
            result |= pick(a, 4) & pick(b, 2) & pick(c, 1);
        }
    }
    result
}

/// Whether a funnel shift's amount is clamped to 32 or taken modulo 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Funnel {
    /// `.clamp`.
    Clamp,
    /// `.wrap`.
    Wrap,
}

impl Funnel {
    #[inline(always)]
    fn amount(self, amount: u32) -> u32 {
        match self {
            Self::Clamp => amount.min(32),
            Self::Wrap => amount & 31,
        }
    }
}

/// `shf.l.b32 d, a, b, c`: the high half of `b:a` shifted left.
#[inline(always)]
pub fn shf_left(a: u32, b: u32, amount: u32, mode: Funnel) -> u32 {
    let both = u64::from(b) << 32 | u64::from(a);
    ((both << mode.amount(amount)) >> 32) as u32
}

/// `shf.r.b32 d, a, b, c`: the low half of `b:a` shifted right.
#[inline(always)]
pub fn shf_right(a: u32, b: u32, amount: u32, mode: Funnel) -> u32 {
    let both = u64::from(b) << 32 | u64::from(a);
    (both >> mode.amount(amount)) as u32
}

/// The modes of `prmt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Permute {
    /// No mode: a selector for each byte.
    #[default]
    Generic,
    /// `.f4e`: four bytes forward from the selected one.
    Forward4,
    /// `.b4e`: four bytes backward from the selected one.
    Backward4,
    /// `.rc8`: the selected byte four times.
    Replicate8,
    /// `.ecl`: bytes from the selected one up, those below clamped to it.
    EdgeClampLeft,
    /// `.ecr`: bytes up to the selected one, those above clamped to it.
    EdgeClampRight,
    /// `.rc16`: the selected half twice.
    Replicate16,
}

impl Permute {
    /// Which of the eight source bytes goes to byte `place`; bit 3 asks for its sign instead.
    #[inline(always)]
    fn selector(self, control: u32, place: u32) -> u32 {
        let first = control & 3;
        match self {
            Self::Generic => (control >> (4 * place)) & 15,
            Self::Forward4 => first + place,
            Self::Backward4 => first.wrapping_sub(place) & 7,
            Self::Replicate8 => first,
            Self::EdgeClampLeft => place.max(first),
            Self::EdgeClampRight => place.min(first),
            Self::Replicate16 => (first & 1) * 2 + (place & 1),
        }
    }
}

/// `prmt.b32{.mode}`: four bytes picked out of `b:a`.
#[inline(always)]
pub fn prmt(a: u32, b: u32, control: u32, mode: Permute) -> u32 {
    let source = u64::from(b) << 32 | u64::from(a);
    (0..4).fold(0, |result, place| {
        let selector = mode.selector(control, place);
        let byte = (source >> (8 * (selector & 7))) as u8;
        let byte = if selector & 8 == 0 { byte } else { (byte.cast_signed() >> 7).cast_unsigned() };
        result | u32::from(byte) << (8 * place)
    })
}

/// `bfi.b64`, and `.b32` if `width` is 32: `length` bits of `a` put into `b` at `position`.
#[inline]
pub fn bfi(a: u64, b: u64, position: u32, length: u32, width: u32) -> u64 {
    let (position, length) = (position & 0xFF, length & 0xFF);
    let ones = u64::MAX.shr(64 - length.min(64));
    let mask = ones.shl(position) & u64::MAX.shr(64 - width.min(64));
    (b & !mask) | (a.shl(position) & mask)
}

/// `bmsk.clamp.b32` and `.wrap`: `length` ones from bit `position` up.
#[inline]
pub fn bmsk(position: u32, length: u32, mode: Funnel) -> u32 {
    let (position, length) = (mode.amount(position), mode.amount(length));
    (u32::MAX.shr(32 - length)).shl(position)
}
