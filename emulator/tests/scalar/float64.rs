use crate::ROUNDINGS;
use crate::oracle::{self, EDGES_F64, Random};
use ptx_emulator::exec::scalar::Rounding;
use ptx_emulator::exec::scalar::float64;
use rustc_apfloat::ieee::{Double, Quad};
use rustc_apfloat::{Float, FloatConvert};

type Binary = (&'static str, fn(f64, f64, Rounding) -> f64, fn(u128, u128, Rounding) -> u128);

const BINARY: [Binary; 4] = [
    ("add", float64::add, oracle::add::<Double>),
    ("sub", float64::sub, oracle::sub::<Double>),
    ("mul", float64::mul, oracle::mul::<Double>),
    ("div", float64::div, oracle::div::<Double>),
];

fn bits(x: f64) -> u128 {
    u128::from(x.to_bits())
}

/// Equal bits, any NaN being as good as another.
fn same(got: f64, want: u128) -> bool {
    let want = f64::from_bits(want as u64);
    got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan())
}

fn check_binary(a: f64, b: f64) {
    for (name, function, exact) in BINARY {
        for rounding in ROUNDINGS {
            let (got, want) = (function(a, b, rounding), exact(bits(a), bits(b), rounding));
            assert!(
                same(got, want),
                "{name} {rounding:?} of {a:e} and {b:e}: {:016X}, not {want:016X}",
                got.to_bits()
            );
        }
    }
}

fn check_fma(a: f64, b: f64, c: f64) {
    for rounding in ROUNDINGS {
        let (got, want) =
            (float64::fma(a, b, c, rounding), oracle::fma::<Double>(bits(a), bits(b), bits(c), rounding));
        assert!(
            same(got, want),
            "fma {rounding:?} of {a:e}, {b:e}, {c:e}: {:016X}, not {want:016X}",
            got.to_bits()
        );
    }
}

#[test]
fn arithmetic_of_edges() {
    for a in EDGES_F64 {
        for b in EDGES_F64 {
            check_binary(a, b);
            for c in EDGES_F64 {
                check_fma(a, b, c);
            }
        }
    }
}

#[test]
fn arithmetic_of_random_numbers() {
    let mut random = Random(4);
    for _ in 0..40_000 {
        let (a, b, c) = (random.f64(), random.f64(), random.f64());
        check_binary(a, b);
        check_fma(a, b, c);
        check_fma(a, b, -(a * b));
        check_binary(a * b, b);
    }
}

#[test]
fn square_roots() {
    let exact = |x: f64| -> Quad { Double::from_bits(bits(x)).convert(&mut false).value };
    let square = |x: f64| (exact(x) * exact(x)).value;
    let mut random = Random(5);
    let all = (0..20_000).map(|_| random.f64()).chain(EDGES_F64);
    for x in all.filter(|x| *x > 0.0 && x.is_finite()) {
        let (down, up) = (float64::sqrt(x, Rounding::Down), float64::sqrt(x, Rounding::Up));
        assert!(square(down) <= exact(x) && square(down.next_up()) > exact(x), "rm of {x:e}: {down:e}");
        assert!(square(up) >= exact(x) && square(up.next_down()) < exact(x), "rp of {x:e}: {up:e}");
        assert_eq!(float64::sqrt(x, Rounding::Zero), down);
        assert_eq!(float64::sqrt(x, Rounding::Nearest), x.sqrt());
    }
    assert!(float64::sqrt(-1.0, Rounding::Down).is_nan());
    assert_eq!(float64::sqrt(-0.0, Rounding::Up).to_bits(), 1 << 63);
}

#[test]
fn signs() {
    assert_eq!(float64::copysign(-1.0, 2.0), -2.0);
    assert_eq!(float64::abs(-0.0).to_bits(), 0);
    assert_eq!(float64::neg(0.0).to_bits(), 1 << 63);
    assert_eq!(float64::rcp(4.0, Rounding::Nearest), 0.25);
}
