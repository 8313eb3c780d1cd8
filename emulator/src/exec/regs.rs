//! The register file of a warp: one array of 32 lanes per register.
use crate::ptx::ast::ScalarType;

/// Lanes of a warp.
pub(crate) const LANES: usize = 32;

/// Registers of a warp, structure of arrays. Registers of 8, 16 and 32 bits share the narrow file, where nothing may
/// rely on the bits above their width; predicates are one bit per lane.
pub(crate) struct Regs {
    pub(crate) narrow: Vec<[u32; LANES]>,
    pub(crate) wide: Vec<[u64; LANES]>,
    pub(crate) preds: Vec<u32>,
}

/// Which file a register lives in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Class {
    Narrow,
    Wide,
    Pred,
}

impl Class {
    pub(crate) fn of(ty: ScalarType) -> Class {
        match ty {
            ScalarType::Pred => Class::Pred,
            _ if ty.bytes() <= 4 => Class::Narrow,
            _ => Class::Wide,
        }
    }
}

/// A type that instructions compute with, and how it lies in a register.
pub(crate) trait Value: Copy {
    /// The array element of its file.
    type Bits: Copy + Default;
    fn from_bits(bits: Self::Bits) -> Self;
    fn bits(self) -> Self::Bits;
    fn get(regs: &Regs, slot: u32) -> &[Self::Bits; LANES];
    fn get_mut(regs: &mut Regs, slot: u32) -> &mut [Self::Bits; LANES];
}

macro_rules! value {
    ($t:ty, $bits:ty, $file:ident, $from:expr, $to:expr) => {
        impl Value for $t {
            type Bits = $bits;
            #[inline(always)]
            fn from_bits(bits: $bits) -> Self {
                $from(bits)
            }
            #[inline(always)]
            fn bits(self) -> $bits {
                $to(self)
            }
            #[inline(always)]
            fn get(regs: &Regs, slot: u32) -> &[$bits; LANES] {
                &regs.$file[slot as usize]
            }
            #[inline(always)]
            fn get_mut(regs: &mut Regs, slot: u32) -> &mut [$bits; LANES] {
                &mut regs.$file[slot as usize]
            }
        }
    };
}

value!(u8, u32, narrow, |b: u32| b as u8, |v: u8| u32::from(v));
value!(i8, u32, narrow, |b: u32| b as i8, |v: i8| i32::from(v) as u32);
value!(u16, u32, narrow, |b: u32| b as u16, |v: u16| u32::from(v));
value!(i16, u32, narrow, |b: u32| b as i16, |v: i16| i32::from(v) as u32);
value!(u32, u32, narrow, |b: u32| b, |v: u32| v);
value!(i32, u32, narrow, |b: u32| b as i32, |v: i32| v as u32);
value!(f32, u32, narrow, f32::from_bits, f32::to_bits);
value!(u64, u64, wide, |b: u64| b, |v: u64| v);
value!(i64, u64, wide, |b: u64| b as i64, |v: i64| v as u64);
value!(f64, u64, wide, f64::from_bits, f64::to_bits);

/// Writes a result to the lanes of `mask`.
#[inline(always)]
pub(crate) fn put<T: Copy>(dst: &mut [T; LANES], result: [T; LANES], mask: u32) {
    if mask == u32::MAX {
        *dst = result;
        return;
    }
    for lane in 0..LANES {
        if mask >> lane & 1 != 0 {
            dst[lane] = result[lane];
        }
    }
}

/// Writes a result to the lanes of `mask` of a predicate.
#[inline(always)]
pub(crate) fn put_pred(dst: &mut u32, result: u32, mask: u32) {
    *dst = (*dst & !mask) | (result & mask);
}

pub(crate) use crate::memory::set_bits as lanes;
