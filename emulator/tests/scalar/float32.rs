use crate::ROUNDINGS;
use crate::oracle::{self, EDGES_F32, Random};
use ptx_emulator::exec::scalar::float32::{self, flush, saturate};
use ptx_emulator::exec::scalar::minmax::{Extreme, MinMaxMode, extreme_f32, extreme_f64};
use ptx_emulator::exec::scalar::{FloatMode, NAN_F32, Rounding};
use rustc_apfloat::ieee::{Quad, Single};
use rustc_apfloat::{Float, FloatConvert};

type Binary = (&'static str, fn(f32, f32, FloatMode) -> f32, fn(u128, u128, Rounding) -> u128);

const BINARY: [Binary; 4] = [
    ("add", float32::add, oracle::add::<Single>),
    ("sub", float32::sub, oracle::sub::<Single>),
    ("mul", float32::mul, oracle::mul::<Single>),
    ("div", float32::div, oracle::div::<Single>),
];

/// The oracle's bits, with NaN as the hardware writes it.
fn expected(bits: u128) -> u32 {
    let value = f32::from_bits(bits as u32);
    if value.is_nan() { NAN_F32 } else { value.to_bits() }
}

fn bits(x: f32) -> u128 {
    u128::from(x.to_bits())
}

fn check_binary(a: f32, b: f32) {
    for (name, function, exact) in BINARY {
        for rounding in ROUNDINGS {
            let got = function(a, b, FloatMode::new(rounding)).to_bits();
            let want = expected(exact(bits(a), bits(b), rounding));
            assert_eq!(got, want, "{name} {rounding:?} of {a:e} and {b:e}: {got:08X}, not {want:08X}");
        }
    }
}

fn check_fma(a: f32, b: f32, c: f32) {
    for rounding in ROUNDINGS {
        let got = float32::fma(a, b, c, FloatMode::new(rounding)).to_bits();
        let want = expected(oracle::fma::<Single>(bits(a), bits(b), bits(c), rounding));
        assert_eq!(got, want, "fma {rounding:?} of {a:e}, {b:e}, {c:e}: {got:08X}, not {want:08X}");
    }
}

#[test]
fn arithmetic_of_edges() {
    for a in EDGES_F32 {
        for b in EDGES_F32 {
            check_binary(a, b);
            for c in EDGES_F32 {
                check_fma(a, b, c);
            }
        }
    }
}

#[test]
fn arithmetic_of_random_numbers() {
    let mut random = Random(1);
    for _ in 0..40_000 {
        let (a, b, c) = (random.f32(), random.f32(), random.f32());
        check_binary(a, b);
        check_fma(a, b, c);
        // The sum nearly cancels, and quotients that are exact.
        check_fma(a, b, -(a * b));
        check_binary(a * b, b);
    }
}

#[test]
fn expf_steps() {
    // The two directed operations of the compiler's expf: 2^23 + 1 + floor(252 x), and back.
    let mut random = Random(2);
    for _ in 0..10_000 {
        let x = (random.next() >> 40) as f32 / 16_777_216.0;
        check_fma(x, 252.0, f32::from_bits(0x4B40_0001));
        check_binary(x * 252.0 + f32::from_bits(0x4B40_0001), f32::from_bits(0xCB40_007F));
    }
}

#[test]
fn square_roots() {
    let exact = |x: f32| -> Quad { Single::from_bits(bits(x)).convert(&mut false).value };
    let square = |x: f32| (exact(x) * exact(x)).value;
    let mut random = Random(3);
    let all = (0..20_000).map(|_| random.f32()).chain(EDGES_F32);
    for x in all {
        let root = |rounding| float32::sqrt(x, FloatMode::new(rounding));
        assert_eq!(root(Rounding::Nearest).to_bits(), expected(bits(x.sqrt())));
        if !(x > 0.0 && x.is_finite()) {
            for rounding in ROUNDINGS {
                assert_eq!(root(rounding).to_bits(), expected(bits(x.sqrt())), "{x:e}");
            }
            continue;
        }
        let (down, up) = (root(Rounding::Down), root(Rounding::Up));
        assert!(square(down) <= exact(x) && square(down.next_up()) > exact(x), "rm of {x:e}: {down:e}");
        assert!(square(up) >= exact(x) && square(up.next_down()) < exact(x), "rp of {x:e}: {up:e}");
        assert_eq!(root(Rounding::Zero), down);
    }
}

#[test]
fn flush_and_saturate() {
    let mode = FloatMode { ftz: true, ..FloatMode::NEAREST };
    let subnormal = f32::from_bits(0x8040_0000);
    assert_eq!(flush(subnormal).to_bits(), 0x8000_0000);
    assert_eq!(flush(f32::MIN_POSITIVE), f32::MIN_POSITIVE);
    assert!(flush(f32::NAN).is_nan());
    // Inputs are flushed …
    assert_eq!(float32::mul(subnormal, f32::MAX, mode).to_bits(), 0x8000_0000);
    assert_eq!(float32::fma(1.0, 1.0, subnormal, mode), 1.0);
    assert_eq!(float32::div(1.0, subnormal, mode), f32::NEG_INFINITY);
    // … and results.
    assert_eq!(float32::mul(-f32::MIN_POSITIVE, 0.5, mode).to_bits(), 0x8000_0000);
    assert_eq!(float32::add(f32::MIN_POSITIVE, -f32::from_bits(0x0080_0001), mode).to_bits(), 0x8000_0000);
    assert_eq!(float32::abs(subnormal, true).to_bits(), 0);
    assert_eq!(float32::neg(subnormal, true).to_bits(), 0);
    assert_eq!(float32::neg(subnormal, false).to_bits(), 0x0040_0000);
    let sat = FloatMode { sat: true, ..FloatMode::NEAREST };
    for (a, want) in
        [(2.0, 1.0), (-3.0, 0.0), (0.25, 0.25), (f32::NAN, 0.0), (f32::INFINITY, 1.0), (-0.0, 0.0)]
    {
        assert_eq!(float32::mul(a, 1.0, sat).to_bits(), f32::to_bits(want), "{a}");
        assert_eq!(saturate(a).to_bits(), f32::to_bits(want), "{a}");
    }
}

#[test]
fn signs() {
    assert_eq!(float32::copysign(-1.0, 2.0), -2.0);
    assert_eq!(float32::copysign(0.0, -2.0), 2.0);
    assert_eq!(float32::abs(-0.0, false).to_bits(), 0);
    assert_eq!(float32::neg(0.0, false).to_bits(), 0x8000_0000);
    assert_eq!(float32::rcp(-0.0, FloatMode::NEAREST), f32::NEG_INFINITY);
}

/// PTX's table: NaN loses unless `.NaN`, and -0 is below +0.
fn extreme_oracle(extreme: Extreme, a: f32, b: f32, mode: MinMaxMode) -> u32 {
    let zeroed = |x: f32| if mode.ftz && x.is_subnormal() { 0f32.copysign(x) } else { x };
    let (a, b) = (zeroed(a), zeroed(b));
    let negative = a.is_sign_negative() != b.is_sign_negative();
    let (a, b) = if mode.xorsign { (a.abs(), b.abs()) } else { (a, b) };
    if (a.is_nan() && b.is_nan()) || (mode.nan && (a.is_nan() || b.is_nan())) {
        return NAN_F32;
    }
    let picked = match (a.is_nan(), b.is_nan(), extreme) {
        (true, _, _) => b,
        (_, true, _) => a,
        // `total_cmp` puts -0 below +0.
        (_, _, Extreme::Min) => std::cmp::min_by(a, b, f32::total_cmp),
        (_, _, Extreme::Max) => std::cmp::max_by(a, b, f32::total_cmp),
    };
    (if mode.xorsign && negative { -picked } else { picked }).to_bits()
}

#[test]
fn minima_and_maxima() {
    for extreme in [Extreme::Min, Extreme::Max] {
        for flags in 0..8u8 {
            let mode = MinMaxMode { ftz: flags & 1 != 0, nan: flags & 2 != 0, xorsign: flags & 4 != 0 };
            for a in EDGES_F32 {
                for b in EDGES_F32 {
                    let got = extreme_f32(extreme, a, b, mode).to_bits();
                    assert_eq!(
                        got,
                        extreme_oracle(extreme, a, b, mode),
                        "{extreme:?} {mode:?} of {a:e} and {b:e}"
                    );
                }
            }
        }
    }
    assert_eq!(extreme_f64(Extreme::Min, 0.0, -0.0).to_bits(), 1 << 63);
    assert_eq!(extreme_f64(Extreme::Max, -0.0, 0.0).to_bits(), 0);
    assert_eq!(extreme_f64(Extreme::Max, f64::NAN, -2.0), -2.0);
    assert_eq!(extreme_f64(Extreme::Min, 3.0, f64::NAN), 3.0);
    assert!(extreme_f64(Extreme::Min, f64::NAN, f64::NAN).is_nan());
    assert_eq!((extreme_f64(Extreme::Min, 1.0, 2.0), extreme_f64(Extreme::Max, 1.0, 2.0)), (1.0, 2.0));
}
