use crate::oracle::{self, Random};
use half::{bf16, f16};
use ptx_emulator::exec::scalar::half::{self as ours, Half, HalfMode};
use ptx_emulator::exec::scalar::minmax::{Extreme, MinMaxMode};
use ptx_emulator::exec::scalar::{NAN_HALF, Rounding};
use rustc_apfloat::Float;
use rustc_apfloat::ieee::{BFloat, Half as F16};

const PLAIN: HalfMode = HalfMode { ftz: false, sat: false, relu: false };
const KINDS: [Half; 2] = [Half::F16, Half::Bf16];
/// Zeros, subnormals, ones, ends of both formats' ranges, infinities and NaN of both formats.
const EDGES: [u16; 24] = [
    0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x8400, 0x007F, 0x0080, 0x3C00, 0xBC00, 0x3C01, 0x3F80,
    0xBF80, 0x3F81, 0x3800, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7F7F, 0x7F80, 0xFF80, 0x7FC0,
];

fn is_nan(kind: Half, bits: u16) -> bool {
    match kind {
        Half::F16 => f16::from_bits(bits).is_nan(),
        Half::Bf16 => bf16::from_bits(bits).is_nan(),
    }
}

fn canonical(kind: Half, bits: u128) -> u16 {
    let bits = bits as u16;
    if is_nan(kind, bits) { NAN_HALF } else { bits }
}

fn exact(kind: Half, operation: &str, [a, b, c]: [u16; 3]) -> u16 {
    fn one<F: Float>(operation: &str, a: u128, b: u128, c: u128) -> u128 {
        let near = Rounding::Nearest;
        match operation {
            "add" => oracle::add::<F>(a, b, near),
            "sub" => oracle::sub::<F>(a, b, near),
            "mul" => oracle::mul::<F>(a, b, near),
            _ => oracle::fma::<F>(a, b, c, near),
        }
    }
    let [a, b, c] = [a, b, c].map(u128::from);
    canonical(
        kind,
        match kind {
            Half::F16 => one::<F16>(operation, a, b, c),
            Half::Bf16 => one::<BFloat>(operation, a, b, c),
        },
    )
}

fn compute(kind: Half, operation: &str, [a, b, c]: [u16; 3], mode: HalfMode) -> u16 {
    match operation {
        "add" => ours::add(kind, a, b, mode),
        "sub" => ours::sub(kind, a, b, mode),
        "mul" => ours::mul(kind, a, b, mode),
        _ => ours::fma(kind, a, b, c, mode),
    }
}

fn check(kind: Half, operands: [u16; 3]) {
    for operation in ["add", "sub", "mul", "fma"] {
        let (got, want) = (compute(kind, operation, operands, PLAIN), exact(kind, operation, operands));
        assert_eq!(got, want, "{operation} {kind:?} of {operands:04X?}: {got:04X}, not {want:04X}");
    }
}

#[test]
fn conversions_of_every_half() {
    for bits in 0..=u16::MAX {
        let (exact16, exact_b16) = (f16::from_bits(bits).to_f32(), bf16::from_bits(bits).to_f32());
        if !exact16.is_nan() {
            assert_eq!(ours::f16_to_f32(bits).to_bits(), exact16.to_bits());
            assert_eq!(ours::f32_to_f16(exact16), bits);
            check_neighbourhood(exact16);
        }
        if !exact_b16.is_nan() {
            assert_eq!(ours::bf16_to_f32(bits).to_bits(), exact_b16.to_bits());
            assert_eq!(ours::f32_to_bf16(exact_b16), bits);
            check_neighbourhood(exact_b16);
        }
    }
    assert!(ours::f16_to_f32(0x7C01).is_nan() && ours::f16_to_f32(0xFFFF).is_nan());
    assert_eq!([ours::f32_to_f16(f32::NAN), ours::f32_to_bf16(-f32::NAN)], [NAN_HALF; 2]);
}

/// Numbers just off, half an ulp off, and just off that.
fn check_neighbourhood(x: f32) {
    for offset in [1, 0x7FFF, 0x8000, 0x8001, 0xFFF, 0x1000, 0x1001, 0x17FF, 0x1800, 0x2FFF] {
        let near = f32::from_bits(x.to_bits().wrapping_add(offset));
        if !near.is_nan() {
            assert_eq!(ours::f32_to_f16(near), f16::from_f32(near).to_bits(), "{near:e}");
            assert_eq!(ours::f32_to_bf16(near), bf16::from_f32(near).to_bits(), "{near:e}");
        }
    }
}

#[test]
fn arithmetic() {
    for kind in KINDS {
        for a in EDGES {
            for b in EDGES {
                for c in EDGES {
                    check(kind, [a, b, c]);
                }
            }
        }
        let mut random = Random(6);
        for _ in 0..200_000 {
            let bits = random.next();
            // Exponents close together, so that sums cancel and products tie.
            let near = |x: u64| (x as u16 & 0x8FFF) | 0x3000;
            check(kind, [bits as u16, (bits >> 16) as u16, (bits >> 32) as u16]);
            check(kind, [near(bits), near(bits >> 16), near(bits >> 32)]);
            let product = ours::mul(kind, near(bits), near(bits >> 16), PLAIN);
            check(kind, [near(bits), near(bits >> 16), product ^ 0x8000]);
        }
    }
}

#[test]
fn bf16_products_in_the_subnormal_range() {
    let mut random = Random(7);
    for _ in 0..100_000 {
        let bits = random.next();
        let (a, b) = (bits as u16 & 0x80FF | 0x1F00, (bits >> 16) as u16 & 0x80FF | 0x2000);
        check(Half::Bf16, [a, b, (bits >> 32) as u16 & 0x80FF]);
    }
}

#[test]
fn every_half_with_modifiers() {
    let one = |kind| if kind == Half::F16 { 0x3C00 } else { 0x3F80 };
    for kind in KINDS {
        for a in 0..=u16::MAX {
            let value = ours::to_f32(kind, a);
            let subnormal =
                kind == Half::F16 && f16::from_bits(a).is_normal() == (a & 0x7FFF == 0) && a & 0x7C00 == 0;
            let flushed = if subnormal { a & 0x8000 } else { a };
            // a * 1 + -0 is a itself, whatever its sign.
            let fma = |mode| ours::fma(kind, a, one(kind), 0x8000, mode);
            let nan = value.is_nan();
            let want_sat = if nan || value <= 0.0 { 0 } else { a.min(one(kind)) };
            let want_relu = if nan {
                NAN_HALF
            } else if a & 0x8000 != 0 {
                0
            } else {
                a
            };
            assert_eq!(fma(HalfMode { sat: true, ..PLAIN }), want_sat, "sat {a:04X}");
            assert_eq!(fma(HalfMode { relu: true, ..PLAIN }), want_relu, "relu {a:04X}");
            assert_eq!(
                fma(HalfMode { ftz: true, ..PLAIN }),
                if nan { NAN_HALF } else { flushed },
                "ftz {a:04X}"
            );
            assert_eq!(
                [ours::neg(kind, a, true), ours::abs(kind, a, true)],
                [flushed ^ 0x8000, flushed & 0x7FFF]
            );
            assert_eq!([ours::neg(kind, a, false), ours::abs(kind, a, false)], [a ^ 0x8000, a & 0x7FFF]);
        }
    }
}

#[test]
fn minima_and_maxima() {
    for kind in KINDS {
        let key =
            |bits: u16| if bits & 0x8000 == 0 { i32::from(bits) } else { -1 - i32::from(bits & 0x7FFF) };
        for a in EDGES {
            for b in EDGES {
                let (low, high) = if key(a) <= key(b) { (a, b) } else { (b, a) };
                for (extreme, picked) in [(Extreme::Min, low), (Extreme::Max, high)] {
                    for nan in [false, true] {
                        let want = match (is_nan(kind, a), is_nan(kind, b)) {
                            (false, false) => picked,
                            (true, false) if !nan => b,
                            (false, true) if !nan => a,
                            _ => NAN_HALF,
                        };
                        let got =
                            ours::extreme(kind, extreme, a, b, MinMaxMode { nan, ..MinMaxMode::default() });
                        assert_eq!(got, want, "{extreme:?} {kind:?} nan {nan} of {a:04X} and {b:04X}");
                    }
                }
            }
        }
    }
    let ftz = MinMaxMode { ftz: true, ..MinMaxMode::default() };
    assert_eq!(ours::extreme(Half::F16, Extreme::Max, 0x8001, 0xBC00, ftz), 0x8000);
    assert_eq!(ours::extreme(Half::Bf16, Extreme::Max, 0x8001, 0xBF80, ftz), 0x8001);
    let xorsign = MinMaxMode { xorsign: true, ..MinMaxMode::default() };
    assert_eq!(ours::extreme(Half::F16, Extreme::Max, 0xC000, 0x3C00, xorsign), 0xC000);
    assert_eq!(ours::extreme(Half::F16, Extreme::Min, 0xC000, 0xBC00, xorsign), 0x3C00);
}

#[test]
fn packed_halves_do_not_mix() {
    let packed = ours::packed([0x3C00_4000, 0x4200_7C00], |[a, b]| ours::add(Half::F16, a, b, PLAIN));
    // 1 + 3 above, 2 + infinity below.
    assert_eq!(packed, 0x4400_7C00);
    assert_eq!(ours::pack(ours::unpack(0x1234_5678)), 0x1234_5678);
}
