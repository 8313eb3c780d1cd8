//! Floating-point arithmetic.
use super::Form;
use super::macros::lanewise;

/// The NaN that the hardware gives, whatever NaN went in.
#[inline(always)]
fn canonical(value: f32) -> f32 {
    if value.is_nan() { f32::from_bits(0x7fff_ffff) } else { value }
}

pub(super) static FORMS: &[&[Form]] = &[&[
    lanewise!("add.f32", F32:f32, [F32:f32, F32:f32], |a, b| canonical(a + b)),
    lanewise!("add.rn.f32", F32:f32, [F32:f32, F32:f32], |a, b| canonical(a + b)),
    lanewise!("sub.f32", F32:f32, [F32:f32, F32:f32], |a, b| canonical(a - b)),
    lanewise!("sub.rn.f32", F32:f32, [F32:f32, F32:f32], |a, b| canonical(a - b)),
    lanewise!("mul.f32", F32:f32, [F32:f32, F32:f32], |a, b| canonical(a * b)),
    lanewise!("mul.rn.f32", F32:f32, [F32:f32, F32:f32], |a, b| canonical(a * b)),
    lanewise!("fma.rn.f32", F32:f32, [F32:f32, F32:f32, F32:f32], |a, b, c| canonical(a.mul_add(b, c))),
    lanewise!("neg.f32", F32:f32, [F32:f32], |a| -a),
    lanewise!("abs.f32", F32:f32, [F32:f32], |a| a.abs()),
    lanewise!("ex2.approx.f32", F32:f32, [F32:f32], |a| a.exp2()),
    lanewise!("ex2.approx.ftz.f32", F32:f32, [F32:f32], |a| a.exp2()),
]];
