//! Comparisons of `setp`, `set` and `testp`.

/// The comparison operators. `lo`, `ls`, `hi`, `hs` are the unsigned `lt`, `le`, `gt`, `ge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `eq`: equal, false if a NaN is among the inputs.
    Eq,
    /// `ne`: different numbers.
    Ne,
    /// `lt`, `lo`.
    Lt,
    /// `le`, `ls`.
    Le,
    /// `gt`, `hi`.
    Gt,
    /// `ge`, `hs`.
    Ge,
    /// `equ`: equal or a NaN among the inputs.
    Equ,
    /// `neu`: different or a NaN among the inputs.
    Neu,
    /// `ltu`.
    Ltu,
    /// `leu`.
    Leu,
    /// `gtu`.
    Gtu,
    /// `geu`.
    Geu,
    /// `num`: both are numbers.
    Num,
    /// `nan`: one is NaN.
    Nan,
}

impl Comparison {
    /// Compares any two values; integers have an order always, NaN has none.
    #[inline(always)]
    #[expect(clippy::neg_cmp_op_on_partial_ord, clippy::double_comparisons, reason = "NaN makes them differ")]
    pub fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
        match self {
            Self::Eq => a == b,
            Self::Ne => a < b || a > b,
            Self::Lt => a < b,
            Self::Le => a <= b,
            Self::Gt => a > b,
            Self::Ge => a >= b,
            Self::Equ => !(a < b || a > b),
            Self::Neu => a != b,
            Self::Ltu => !(a >= b),
            Self::Leu => !(a > b),
            Self::Gtu => !(a <= b),
            Self::Geu => !(a < b),
            Self::Num => a <= b || a >= b,
            Self::Nan => !(a <= b || a >= b),
        }
    }
}

/// The properties `testp` asks for; a zero counts as normal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Property {
    /// Neither infinite nor NaN.
    Finite,
    /// Infinite.
    Infinite,
    /// Not NaN.
    Number,
    /// NaN.
    NotANumber,
    /// Neither infinite, NaN nor subnormal.
    Normal,
    /// Subnormal.
    Subnormal,
}

impl Property {
    /// `testp.property.f64`; every f32 but a subnormal one may be asked here too.
    #[inline]
    pub fn holds_f64(self, x: f64) -> bool {
        match self {
            Self::Finite => x.is_finite(),
            Self::Infinite => x.is_infinite(),
            Self::Number => !x.is_nan(),
            Self::NotANumber => x.is_nan(),
            Self::Normal => x.is_normal() || x == 0.0,
            Self::Subnormal => x.is_subnormal(),
        }
    }

    /// `testp.property.f32`.
    #[inline]
    pub fn holds_f32(self, x: f32) -> bool {
        match self {
            Self::Normal => x.is_normal() || x == 0.0,
            Self::Subnormal => x.is_subnormal(),
            _ => self.holds_f64(f64::from(x)),
        }
    }
}
