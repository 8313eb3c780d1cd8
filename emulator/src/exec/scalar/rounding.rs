//! Rounding to a format in a stated direction, by error-free transformations.

/// Where a result goes that the format cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// `.rn`: to the nearest, ties to even.
    Nearest,
    /// `.rz`: towards zero.
    Zero,
    /// `.rm`: towards negative infinity.
    Down,
    /// `.rp`: towards positive infinity.
    Up,
}

/// The modifiers of a floating-point instruction.
///
/// Written as a constant at the call, the branches on it fold away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FloatMode {
    /// `.rn`, `.rz`, `.rm`, `.rp`.
    pub rounding: Rounding,
    /// `.ftz`: subnormal inputs and results become zeros of their sign.
    pub ftz: bool,
    /// `.sat`: the result is clamped to [0, 1], NaN becomes +0.
    pub sat: bool,
}

impl FloatMode {
    /// `.rn` and nothing else.
    pub const NEAREST: Self = Self::new(Rounding::Nearest);

    /// `rounding` and nothing else.
    pub const fn new(rounding: Rounding) -> Self {
        Self { rounding, ftz: false, sat: false }
    }
}

/// A binary floating-point format narrower than f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Format {
    /// Bits of the fraction, without the hidden one.
    pub fraction_bits: i32,
    /// Exponent of the smallest normal number.
    pub min_exponent: i32,
    /// The largest finite number.
    pub max: f64,
}

impl Format {
    /// f32.
    pub const F32: Self = Self { fraction_bits: 23, min_exponent: -126, max: f32::MAX as f64 };
    /// f16.
    pub const F16: Self = Self { fraction_bits: 10, min_exponent: -14, max: 65504.0 };
    /// bf16: f32 with its lower half cut off.
    pub const BF16: Self =
        Self { fraction_bits: 7, min_exponent: -126, max: f32::from_bits(0x7F7F_0000) as f64 };
    /// tf32: f32 with 13 bits cut off.
    pub const TF32: Self =
        Self { fraction_bits: 10, min_exponent: -126, max: f32::from_bits(0x7F7F_E000) as f64 };
}

/// `2^exponent`, for exponents of normal f64 numbers.
#[inline(always)]
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// The nearest value of `format` in the stated direction; NaN and infinity stay.
#[inline]
pub fn narrow(x: f64, format: Format, rounding: Rounding) -> f64 {
    if !x.is_finite() {
        return x;
    }
    let exponent = ((x.to_bits() >> 52) & 0x7FF) as i32 - 1023;
    let last = exponent.max(format.min_exponent) - format.fraction_bits;
    // Both scalings are exact: the first ends near 2^fraction_bits, the second undoes it.
    let units = round_integral(x * power_of_two(-last), rounding);
    let result = units * power_of_two(last);
    if result.abs() <= format.max {
        return result;
    }
    let stops = match rounding {
        Rounding::Nearest => false,
        Rounding::Zero => true,
        Rounding::Down => result > 0.0,
        Rounding::Up => result < 0.0,
    };
    if stops { format.max.copysign(result) } else { f64::INFINITY.copysign(result) }
}

/// `x` rounded to an integer; the sign of a zero result is that of `x`.
#[inline(always)]
pub fn round_integral(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

/// `a + b` as the nearest sum and its exact error.
#[inline(always)]
pub fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let (large, small) = if a.abs() >= b.abs() { (a, b) } else { (b, a) };
    let sum = large + small;
    (sum, small - (sum - large))
}

/// `a + b` rounded to odd: a later rounding to a format two bits narrower or more is then exact.
#[inline]
pub fn odd_sum(a: f64, b: f64) -> f64 {
    let (sum, error) = two_sum(a, b);
    if error == 0.0 || error.is_nan() || sum.to_bits() & 1 == 1 {
        return sum;
    }
    let away = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if away { sum.to_bits() + 1 } else { sum.to_bits() - 1 })
}

/// Whether the number next to `nearest` is the right one, given the sign of `exact - nearest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Stay,
    Down,
    Up,
}

impl Step {
    /// The step that turns a nearest result into a directed one.
    #[inline(always)]
    pub(super) fn new(nearest: f64, residual: f64, rounding: Rounding) -> Self {
        let (below, above) = (residual < 0.0, residual > 0.0);
        match rounding {
            Rounding::Down if below => Self::Down,
            Rounding::Up if above => Self::Up,
            Rounding::Zero if below && nearest > 0.0 => Self::Down,
            Rounding::Zero if above && nearest < 0.0 => Self::Up,
            _ => Self::Stay,
        }
    }
}

/// Rounding down, a sum that cancels exactly is -0 unless both terms are positive zeros.
#[inline(always)]
pub(super) fn cancels_to_minus_zero(sum: f64, x: f64, y: f64, rounding: Rounding) -> bool {
    rounding == Rounding::Down && sum == 0.0 && (x.is_sign_negative() || y.is_sign_negative())
}
