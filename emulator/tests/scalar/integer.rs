use crate::oracle::Random;
use ptx_emulator::exec::scalar::integer::{Integer, dp2a, dp4a, mad_hi_saturating, product24};

/// Operands: the ends of the range, small numbers, random ones.
macro_rules! samples {
    ($ty:ty) => {{
        let mut random = Random(8);
        let mut all: Vec<$ty> =
            vec![0, 1, 2, 3, 7, <$ty>::MAX, <$ty>::MAX - 1, <$ty>::MIN, <$ty>::MIN + 1, !0, !1];
        all.extend((0..60).map(|_| random.next() as $ty));
        all.extend((0..20).map(|_| (random.next() % 100) as $ty));
        all
    }};
}

/// Everything against arithmetic in i128 (or bit by bit), which holds every product and sum.
macro_rules! check {
    ($name:ident, $ty:ident, $signed:literal) => {
        #[test]
        fn $name() {
            let wide = |x: $ty| x as i128;
            let mask = (1i128 << $ty::BITS) - 1;
            for a in samples!($ty) {
                for b in samples!($ty) {
                    let product = wide(a) * wide(b);
                    assert_eq!(a.mul_hi(b), (product >> $ty::BITS) as $ty, "{a} * {b}");
                    let distance = (wide(a) - wide(b)).abs();
                    assert_eq!(a.sad(b, 5), (distance + 5) as $ty, "|{a} - {b}| + 5");
                    if b == 0 {
                        assert_eq!((Integer::div(a, b), Integer::rem(a, b)), (!0, !0));
                    } else {
                        assert_eq!(Integer::div(a, b), (wide(a) / wide(b)) as $ty, "{a} / {b}");
                        assert_eq!(Integer::rem(a, b), (wide(a) % wide(b)) as $ty, "{a} % {b}");
                    }
                    for carry in [false, true] {
                        let unsigned = |x: $ty| wide(x) & mask;
                        let sum = unsigned(a) + unsigned(b) + i128::from(carry);
                        assert_eq!(a.add_carry(b, carry), (sum as $ty, sum > mask));
                        let difference = unsigned(a) - unsigned(b) - i128::from(carry);
                        assert_eq!(a.sub_borrow(b, carry), (difference as $ty, difference < 0));
                    }
                }
                for amount in [0, 1, 5, $ty::BITS - 1, $ty::BITS, $ty::BITS + 1, 64, 255, 256, u32::MAX] {
                    let clamped = amount.min(100);
                    assert_eq!(
                        Integer::shl(a, amount),
                        (wide(a) << clamped.min(64)) as $ty,
                        "{a} << {amount}"
                    );
                    assert_eq!(Integer::shr(a, amount), (wide(a) >> clamped) as $ty, "{a} >> {amount}");
                }
                check_fields!(a, $ty, $signed);
            }
        }
    };
}

/// `bfe` and `bfind` bit by bit, as PTX defines them.
macro_rules! check_fields {
    ($a:ident, $ty:ident, $signed:literal) => {
        let msb = $ty::BITS - 1;
        let bit = |place: u32| ($a >> place) & 1 != 0;
        for (position, length) in
            [(0, 0), (0, 1), (3, 5), (0, 255), (msb, 1), (msb, 2), (40, 3), (255, 255), (256 + 2, 256 + 3)]
        {
            let (start, count) = (position & 0xFF, length & 0xFF);
            let sign = $signed && count != 0 && bit((start + count - 1u32).min(msb));
            let picked = |i: u32| if i < count && start + i <= msb { bit(start + i) } else { sign };
            let sign = if count == 0 { false } else { sign };
            let want = (0..$ty::BITS)
                .fold(0, |all: $ty, i| all | $ty::from(if count == 0 { sign } else { picked(i) }) << i);
            assert_eq!($a.bfe(position, length), want, "bfe of {:X} at {position} length {length}", $a);
        }
        let other = $signed && bit(msb);
        let want = (0..$ty::BITS).rev().find(|place| bit(*place) != other).unwrap_or(u32::MAX);
        assert_eq!($a.bfind(), want, "bfind of {:X}", $a);
    };
}

check!(unsigned_16, u16, false);
check!(signed_16, i16, true);
check!(unsigned_32, u32, false);
check!(signed_32, i32, true);

/// 64-bit products pass i128 when unsigned, so those two types have checks of their own.
#[test]
fn wide_types() {
    for a in samples!(u64) {
        for b in samples!(u64) {
            assert_eq!(a.mul_hi(b), ((u128::from(a) * u128::from(b)) >> 64) as u64);
            let (signed_a, signed_b) = (a.cast_signed(), b.cast_signed());
            assert_eq!(
                signed_a.mul_hi(signed_b),
                ((i128::from(signed_a) * i128::from(signed_b)) >> 64) as i64
            );
            assert_eq!(
                a.add_carry(b, true),
                (
                    (u128::from(a) + u128::from(b) + 1) as u64,
                    u128::from(a) + u128::from(b) + 1 > u128::from(u64::MAX)
                )
            );
            assert_eq!(a.sub_borrow(b, true).1, u128::from(a) < u128::from(b) + 1);
            assert_eq!(signed_a.sad(signed_b, 0), (i128::from(signed_a) - i128::from(signed_b)).abs() as i64);
            if b != 0 {
                assert_eq!(
                    Integer::div(signed_a, signed_b),
                    (i128::from(signed_a) / i128::from(signed_b)) as i64
                );
                assert_eq!(Integer::rem(a, b), a - a / b * b);
            }
        }
        for amount in [0, 1, 31, 32, 63, 64, 65, 1 << 31] {
            let clamped = amount.min(127);
            assert_eq!(
                Integer::shl(a, amount),
                if amount < 64 { (u128::from(a) << amount) as u64 } else { 0 }
            );
            assert_eq!(Integer::shr(a, amount), (u128::from(a) >> clamped) as u64);
            assert_eq!(
                Integer::shr(a.cast_signed(), amount),
                (i128::from(a.cast_signed()) >> clamped) as i64
            );
        }
        check_fields!(a, u64, false);
    }
    assert_eq!((Integer::div(5u64, 0), Integer::rem(5i64, 0)), (u64::MAX, -1));
    assert_eq!((Integer::div(i64::MIN, -1), Integer::rem(i64::MIN, -1)), (i64::MIN, 0));
}

#[test]
fn saturating_and_24_bit_products() {
    assert_eq!(mad_hi_saturating(i32::MIN, i32::MIN, i32::MAX), i32::MAX);
    assert_eq!(mad_hi_saturating(i32::MAX, i32::MIN, i32::MIN), i32::MIN);
    assert_eq!(mad_hi_saturating(1 << 20, 1 << 20, -7), 249);
    for a in samples!(u32) {
        for b in samples!(u32) {
            let low = |x: u32| i64::from(x % (1 << 24));
            assert_eq!(product24(a, b, false), (low(a) * low(b)) as u64);
            let signed = |x: u32| if low(x) >= 1 << 23 { low(x) - (1 << 24) } else { low(x) };
            assert_eq!(product24(a, b, true).cast_signed(), signed(a) * signed(b));
        }
    }
}

#[test]
fn dot_products() {
    let byte = |x: u32, i: usize, signed: bool| {
        let byte = x.to_le_bytes()[i];
        if signed { i64::from(byte as i8) } else { i64::from(byte) }
    };
    let word = |x: u32, i: usize, signed: bool| {
        let word = [x as u16, (x >> 16) as u16][i];
        if signed { i64::from(word as i16) } else { i64::from(word) }
    };
    for a in samples!(u32) {
        for b in samples!(u32) {
            for (sa, sb) in [(false, false), (false, true), (true, false), (true, true)] {
                let four: i64 = (0..4).map(|i| byte(a, i, sa) * byte(b, i, sb)).sum();
                assert_eq!(dp4a(a, b, 77, sa, sb), (four + 77) as u32);
                for high in [false, true] {
                    let shift = if high { 2 } else { 0 };
                    let two: i64 = (0..2).map(|i| word(a, i, sa) * byte(b, i + shift, sb)).sum();
                    assert_eq!(dp2a(a, b, 3, sa, sb, high), (two + 3) as u32);
                }
            }
        }
    }
}
