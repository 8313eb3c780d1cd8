//! `min` and `max` of floating-point numbers.

use super::NAN_F32;
use super::float32::flush;

/// Which of the two is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extreme {
    /// `min`.
    Min,
    /// `max`.
    Max,
}

/// The modifiers of `min` and `max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MinMaxMode {
    /// `.ftz`: subnormal inputs count as zeros.
    pub ftz: bool,
    /// `.NaN`: a NaN input makes the result NaN; otherwise the other input wins.
    pub nan: bool,
    /// `.xorsign.abs`: magnitudes are compared, the sign is the product's.
    pub xorsign: bool,
}

/// `min` or `max` of f32; -0 counts as less than +0.
#[inline(always)]
pub fn extreme_f32(extreme: Extreme, a: f32, b: f32, mode: MinMaxMode) -> f32 {
    let (a, b) = if mode.ftz { (flush(a), flush(b)) } else { (a, b) };
    let sign = (a.to_bits() ^ b.to_bits()) & 0x8000_0000;
    let (a, b) = if mode.xorsign { (a.abs(), b.abs()) } else { (a, b) };
    let picked = pick_f32(extreme, a, b, mode.nan);
    if mode.xorsign && !picked.is_nan() { f32::from_bits(picked.to_bits() | sign) } else { picked }
}

#[inline(always)]
fn pick_f32(extreme: Extreme, a: f32, b: f32, nan: bool) -> f32 {
    // Equal numbers differ at most in the sign of zero: `or` keeps the minus, `and` drops it.
    let picked = match extreme {
        Extreme::Min if a == b => f32::from_bits(a.to_bits() | b.to_bits()),
        Extreme::Max if a == b => f32::from_bits(a.to_bits() & b.to_bits()),
        Extreme::Min => {
            if a < b || b.is_nan() {
                a
            } else {
                b
            }
        }
        Extreme::Max => {
            if a > b || b.is_nan() {
                a
            } else {
                b
            }
        }
    };
    let lost = picked.is_nan() || (nan && (a.is_nan() || b.is_nan()));
    if lost { f32::from_bits(NAN_F32) } else { picked }
}

/// `min.f64` or `max.f64`: NaN loses, -0 counts as less than +0.
#[inline(always)]
pub fn extreme_f64(extreme: Extreme, a: f64, b: f64) -> f64 {
    match extreme {
        Extreme::Min if a == b => f64::from_bits(a.to_bits() | b.to_bits()),
        Extreme::Max if a == b => f64::from_bits(a.to_bits() & b.to_bits()),
        Extreme::Min => {
            if a < b || b.is_nan() {
                a
            } else {
                b
            }
        }
        Extreme::Max => {
            if a > b || b.is_nan() {
                a
            } else {
                b
            }
        }
    }
}
