//! The embedding types: f32, f16 and bf16 in storage, f32 in every accumulator.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// The storage type of an embedding or gradient buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of an f32.
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }

    /// The name used in kernel symbols, checkpoints and messages: `f32`, `f16`, `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A type that embeddings and their gradients can be stored in: [`f32`], [`half::f16`] or
/// [`half::bf16`]. Sealed: the kernels exist for these three.
pub trait Element:
    sealed::Sealed + bytemuck::Pod + PartialEq + std::fmt::Debug + Default + Send + Sync
{
    /// The run-time name of this type.
    const DTYPE: Dtype;

    /// Widens exactly.
    fn to_f32(self) -> f32;

    /// Rounds to nearest, ties to even.
    fn from_f32(value: f32) -> Self;

    /// Widens `source` into `target`, as far as the shorter of the two reaches.
    fn widen(source: &[Self], target: &mut [f32]);
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    fn widen(source: &[Self], target: &mut [f32]) {
        target.iter_mut().zip(source).for_each(|(t, s)| *t = *s);
    }
}

impl Element for f16 {
    const DTYPE: Dtype = Dtype::F16;

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }

    fn widen(source: &[Self], target: &mut [f32]) {
        let len = source.len().min(target.len());
        source[..len].convert_to_f32_slice(&mut target[..len]);
    }
}

impl Element for bf16 {
    const DTYPE: Dtype = Dtype::Bf16;

    #[inline(always)]
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }

    fn widen(source: &[Self], target: &mut [f32]) {
        let len = source.len().min(target.len());
        source[..len].convert_to_f32_slice(&mut target[..len]);
    }
}
