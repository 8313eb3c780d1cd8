use crate::ROUNDINGS;
use crate::oracle::{EDGES_F32, EDGES_F64, Random, round};
use ptx_emulator::exec::scalar::convert::{Conversion, f32_to_s32, f32_to_u32, pack_f32, round_f32};
use ptx_emulator::exec::scalar::half::Half as Kind;
use ptx_emulator::exec::scalar::{NAN_F32, NAN_HALF, Rounding};
use ptx_emulator::ptx::ast::ScalarType::{
    self, Bf16, F16, F32, F64, S8, S16, S32, S64, Tf32, U8, U16, U32, U64,
};
use rustc_apfloat::ieee::{BFloat, Double, Half, Single};
use rustc_apfloat::{Float, FloatConvert};

const INTEGERS: [(ScalarType, u32, bool); 8] = [
    (U8, 8, false),
    (U16, 16, false),
    (U32, 32, false),
    (U64, 64, false),
    (S8, 8, true),
    (S16, 16, true),
    (S32, 32, true),
    (S64, 64, true),
];
const FLOATS: [ScalarType; 4] = [F16, Bf16, F32, F64];

/// The integer that the low `width` bits stand for.
fn read(bits: u64, width: u32, signed: bool) -> i128 {
    let low = i128::from(bits) & ((1 << width) - 1);
    if signed && low >> (width - 1) == 1 { low - (1 << width) } else { low }
}

/// A floating-point value in LLVM's Double, which holds all four types.
fn read_float(ty: ScalarType, bits: u64) -> Double {
    let bits = u128::from(bits);
    match ty {
        F16 => Half::from_bits(bits & 0xFFFF).convert(&mut false).value,
        Bf16 => BFloat::from_bits(bits & 0xFFFF).convert(&mut false).value,
        F32 => Single::from_bits(bits & 0xFFFF_FFFF).convert(&mut false).value,
        _ => Double::from_bits(bits),
    }
}

/// LLVM's rounding of a Double to `ty`, NaN as the hardware writes it.
fn write_float(ty: ScalarType, x: Double, rounding: Rounding) -> u64 {
    fn to<F: Float>(x: Double, rounding: Rounding) -> u64
    where
        Double: FloatConvert<F>,
    {
        let narrowed: F = x.convert_r(round(rounding), &mut false).value;
        narrowed.to_bits() as u64
    }
    match ty {
        F16 if x.is_nan() => u64::from(NAN_HALF),
        Bf16 if x.is_nan() => u64::from(NAN_HALF),
        F32 if x.is_nan() => u64::from(NAN_F32),
        F16 => to::<Half>(x, rounding),
        Bf16 => to::<BFloat>(x, rounding),
        F32 => to::<Single>(x, rounding),
        _ => x.to_bits() as u64,
    }
}

fn integer_to_float(ty: ScalarType, x: i128, rounding: Rounding) -> u64 {
    let round = round(rounding);
    (match ty {
        F16 => Half::from_i128_r(x, round).value.to_bits(),
        Bf16 => BFloat::from_i128_r(x, round).value.to_bits(),
        F32 => Single::from_i128_r(x, round).value.to_bits(),
        _ => Double::from_i128_r(x, round).value.to_bits(),
    }) as u64
}

/// Bits of `ty` worth converting.
fn samples(ty: ScalarType) -> Vec<u64> {
    let mut random = Random(10);
    let mut all: Vec<u64> = match ty {
        F64 => {
            EDGES_F64.iter().map(|x| x.to_bits()).chain((0..400).map(|_| random.f64().to_bits())).collect()
        }
        F32 => EDGES_F32.iter().map(|x| u64::from(x.to_bits())).collect(),
        _ => vec![
            0,
            1,
            0x7F,
            0x80,
            0xFF,
            0x7FFF,
            0x8000,
            0xFFFF,
            0x7FFF_FFFF,
            0x8000_0000,
            0xFFFF_FFFF,
            1 << 63,
            !0,
            !0 >> 1,
        ],
    };
    // Numbers around the ends of the integer types, where clamping and ties happen.
    for exponent in [0, 1, 7, 8, 10, 15, 16, 23, 24, 31, 32, 52, 53, 62, 63, 64] {
        for offset in [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5, 2.5] {
            for sign in [-1.0, 1.0] {
                let x = sign * (2f64.powi(exponent) + offset);
                all.push(match ty {
                    F64 => x.to_bits(),
                    F32 => u64::from((x as f32).to_bits()),
                    F16 => u64::from(half::f16::from_f64(x).to_bits()),
                    Bf16 => u64::from(half::bf16::from_f64(x).to_bits()),
                    _ => (x as i128) as u64,
                });
            }
        }
    }
    all.extend((0..300).map(|_| if ty == F32 { u64::from(random.f32().to_bits()) } else { random.next() }));
    all
}

#[test]
fn integer_to_integer() {
    for (from, from_width, from_signed) in INTEGERS {
        for (to, width, signed) in INTEGERS {
            for bits in samples(from) {
                let value = read(bits, from_width, from_signed);
                let plain = Conversion::new(to, from);
                assert_eq!(
                    plain.apply(bits),
                    read(value as u64, width, signed) as u64,
                    "{to:?} of {from:?} {value}"
                );
                let (least, most) = if signed {
                    (-(1i128 << (width - 1)), (1i128 << (width - 1)) - 1)
                } else {
                    (0, (1i128 << width) - 1)
                };
                let clamped = value.max(least).min(most);
                assert_eq!(
                    Conversion { sat: true, ..plain }.apply(bits),
                    clamped as u64,
                    "{to:?} of {from:?} {value}"
                );
            }
        }
    }
}

#[test]
fn integer_to_float_in_every_direction() {
    for (from, width, signed) in INTEGERS {
        for to in FLOATS {
            for rounding in ROUNDINGS {
                for bits in samples(from) {
                    let value = read(bits, width, signed);
                    let got = Conversion { rounding, ..Conversion::new(to, from) }.apply(bits);
                    let want = integer_to_float(to, value, rounding);
                    assert_eq!(got, want, "{to:?} {rounding:?} of {from:?} {value}: {got:X}, not {want:X}");
                }
            }
        }
    }
}

/// Rounds to an integer and clamps, by comparing with the neighbours.
fn float_to_integer(x: f64, rounding: Rounding, width: u32, signed: bool) -> i128 {
    let (least, most) = if signed {
        (-(1i128 << (width - 1)), (1i128 << (width - 1)) - 1)
    } else {
        (0, (1i128 << width) - 1)
    };
    if x.abs() > 1e30 {
        return if x > 0.0 { most } else { least };
    }
    // Beyond 2^53 every f64 is an integer, so the rest below is exact.
    let whole = x as i128;
    let rest = x - whole as f64;
    let floor = if rest < 0.0 { whole - 1 } else { whole };
    let above = x - floor as f64;
    let up = match rounding {
        Rounding::Down => false,
        Rounding::Up => above > 0.0,
        Rounding::Zero => x < 0.0 && above > 0.0,
        Rounding::Nearest => above > 0.5 || (above == 0.5 && floor % 2 != 0),
    };
    (floor + i128::from(up)).max(least).min(most)
}

#[test]
fn float_to_integer_in_every_direction() {
    for from in FLOATS {
        for (to, width, signed) in INTEGERS {
            for rounding in ROUNDINGS {
                for bits in samples(from) {
                    let x = f64::from_bits(read_float(from, bits).to_bits() as u64);
                    let got = Conversion { rounding, ..Conversion::new(to, from) }.apply(bits);
                    let want = if !x.is_nan() {
                        float_to_integer(x, rounding, width, signed)
                    } else if from == F64 || width == 64 {
                        // PTX: the top bit alone if f64 or a 64-bit integer takes part, else zero.
                        if signed { -(1 << (width - 1)) } else { 1 << (width - 1) }
                    } else {
                        0
                    };
                    assert_eq!(got, want as u64, "{to:?} {rounding:?} of {from:?} {x:e}");
                }
            }
        }
    }
}

#[test]
fn float_to_float_in_every_direction() {
    for from in FLOATS {
        for to in FLOATS {
            for rounding in ROUNDINGS {
                for bits in samples(from) {
                    let x = read_float(from, bits);
                    let got = Conversion { rounding, ..Conversion::new(to, from) }.apply(bits);
                    let want = write_float(to, x, rounding);
                    let both_nan = to == F64 && x.is_nan() && f64::from_bits(got).is_nan();
                    assert!(
                        got == want || both_nan,
                        "{to:?} {rounding:?} of {from:?} {bits:X}: {got:X}, not {want:X}"
                    );
                }
            }
        }
    }
}

#[test]
fn rounding_to_an_integer_value() {
    for ty in FLOATS {
        for rounding in ROUNDINGS {
            for bits in samples(ty) {
                let x = read_float(ty, bits);
                let got = Conversion { rounding, integral: true, ..Conversion::new(ty, ty) }.apply(bits);
                let want = write_float(ty, x.round_to_integral(round(rounding)).value, rounding);
                let nan = x.is_nan() && ty == F64;
                assert!(nan || got == want, "{ty:?} {rounding:?} of {bits:X}: {got:X}, not {want:X}");
            }
        }
    }
}

#[test]
fn modifiers() {
    let convert = |conversion: Conversion, x: f32| conversion.apply(u64::from(x.to_bits()));
    let plain = |to| Conversion::new(to, F32);
    let sat = Conversion { sat: true, ..plain(F32) };
    for (x, want) in
        [(-1.0, 0.0f32), (0.25, 0.25), (7.0, 1.0), (f32::NAN, 0.0), (-0.0, 0.0), (f32::INFINITY, 1.0)]
    {
        assert_eq!(convert(sat, x), u64::from(want.to_bits()), "{x}");
        assert_eq!(convert(Conversion { to: F64, ..sat }, x), f64::from(want).to_bits(), "{x}");
        assert_eq!(
            convert(Conversion { to: F16, ..sat }, x),
            u64::from(half::f16::from_f32(want).to_bits()),
            "{x}"
        );
    }
    let subnormal = f32::from_bits(0x8000_0005);
    assert_eq!(convert(Conversion { ftz: true, ..plain(F64) }, subnormal), 1 << 63);
    assert_eq!(convert(plain(F64), subnormal), f64::from(subnormal).to_bits());
    let ftz = Conversion { ftz: true, ..Conversion::new(F32, F64) };
    assert_eq!(ftz.apply(1e-40f64.to_bits()), 0);
    assert_eq!(convert(Conversion { ftz: true, rounding: Rounding::Down, ..plain(S32) }, subnormal), 0);
    assert_eq!(convert(Conversion { rounding: Rounding::Down, ..plain(S32) }, subnormal), u64::MAX);
    let relu = Conversion { relu: true, ..plain(Bf16) };
    assert_eq!([-2.0, -0.0, 1.0, f32::NAN].map(|x| convert(relu, x)), [0, 0, 0x3F80, u64::from(NAN_HALF)]);
    let finite = |to| Conversion { satfinite: true, ..plain(to) };
    assert_eq!(convert(finite(F16), 1e6), 0x7BFF);
    assert_eq!(convert(finite(F16), f32::NEG_INFINITY), 0xFBFF);
    assert_eq!(convert(finite(Bf16), f32::MAX), 0x7F7F);
    assert_eq!(convert(finite(Bf16), f32::NAN), u64::from(NAN_HALF));
}

#[test]
fn tf32() {
    let rna = Conversion { ties_away: true, ..Conversion::new(Tf32, F32) };
    let mut random = Random(11);
    for _ in 0..100_000 {
        let x = random.f32();
        let got = f32::from_bits(rna.apply(u64::from(x.to_bits())) as u32);
        assert_eq!(got.to_bits() & 0x1FFF, if x.is_nan() { 0x1FFF } else { 0 }, "13 bits cut off");
        if x.is_nan() {
            assert_eq!(got.to_bits(), NAN_F32);
            continue;
        }
        // Of the multiples of the cut's unit on both sides, the nearer one, the farther from zero if tied.
        let low = f64::from(f32::from_bits(x.to_bits() & 0xFFFF_E000));
        let unit = if x.abs() < f32::MIN_POSITIVE {
            2f64.powi(-136)
        } else {
            2f64.powi(((x.to_bits() >> 23 & 0xFF) as i32) - 137)
        };
        let high = low + unit.copysign(low);
        let exact = f64::from(x);
        let want = if (exact - low).abs() < (high - exact).abs() { low } else { high };
        assert_eq!(got, want as f32, "{x:e}");
    }
    let overflow = u64::from(f32::MAX.to_bits());
    assert_eq!(rna.apply(overflow), 0x7F80_0000);
    assert_eq!(Conversion { satfinite: true, ..rna }.apply(overflow | 1 << 31), 0xFF7F_E000);
    let near = |rounding, bits| Conversion { rounding, ..Conversion::new(Tf32, F32) }.apply(bits);
    assert_eq!(near(Rounding::Nearest, 0x3F80_1000), 0x3F80_0000);
    assert_eq!(near(Rounding::Nearest, 0x3F80_3000), 0x3F80_4000);
    assert_eq!(near(Rounding::Zero, 0xBF80_3FFF), 0xBF80_2000);
    assert_eq!(rna.apply(0x3F80_1000), 0x3F80_2000);
}

#[test]
fn fast_forms_equal_the_general_one() {
    let mut random = Random(12);
    let all = EDGES_F32.into_iter().chain((0..20_000).map(|_| random.f32()));
    for x in all {
        let bits = u64::from(x.to_bits());
        for rounding in ROUNDINGS {
            let general = |to| Conversion { rounding, ..Conversion::new(to, F32) }.apply(bits);
            assert_eq!(i64::from(f32_to_s32(x, rounding)) as u64, general(S32), "{x:e}");
            assert_eq!(u64::from(f32_to_u32(x, rounding)), general(U32), "{x:e}");
            let integral = Conversion { rounding, integral: true, ..Conversion::new(F32, F32) }.apply(bits);
            assert!(x.is_nan() || u64::from(round_f32(x, rounding).to_bits()) == integral, "{x:e}");
        }
    }
    assert_eq!(pack_f32(Kind::F16, 1.0, 2.0), 0x3C00_4000);
    assert_eq!(pack_f32(Kind::Bf16, 1.0, 2.0), 0x3F80_4000);
}
