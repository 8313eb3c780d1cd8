//! The arithmetic instruction forms: one table, from which the resolver, the README's list and the tests are made.
mod bits;
mod compare;
pub(crate) mod convert;
mod double;
mod float;
mod half;
mod integer;
mod macros;

pub(crate) use macros::{connective, gather_flags};

use super::regs::Regs;
use crate::ptx::ast::ScalarType;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Register slots of an arithmetic instruction. Immediates are registers too, filled before the kernel starts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Operands {
    pub(crate) dst: u32,
    /// A second destination: the other predicate of `setp`, or the carry flag.
    pub(crate) dst2: u32,
    pub(crate) src: [u32; 4],
    /// What else the form needs: the table of `lop3`, the connective of `setp`.
    pub(crate) extra: u32,
}

/// Computes one instruction for the lanes of a mask.
///
/// # Safety
/// The fast variant of a form must only be called on a CPU that has AVX2, FMA, F16C, BMI1, BMI2, LZCNT and POPCNT.
pub(crate) type Run = unsafe fn(&mut Regs, &Operands, u32);

/// One accepted arithmetic form.
pub(crate) struct Form {
    /// Opcode and modifiers, such as `fma.rn.f32`.
    pub(crate) name: &'static str,
    pub(crate) dst: ScalarType,
    pub(crate) src: &'static [ScalarType],
    plain: Run,
    fast: Run,
}

impl Form {
    /// The implementation for this machine.
    pub(crate) fn run(&self) -> Run {
        if *FAST { self.fast } else { self.plain }
    }
}

/// Whether this CPU runs the fast variants.
pub(crate) fn has_vectors() -> bool {
    *FAST
}

static FAST: LazyLock<bool> = LazyLock::new(|| {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
});

/// All arithmetic forms.
pub(crate) fn all() -> impl Iterator<Item = &'static Form> {
    let lists = [integer::FORMS, bits::FORMS, float::FORMS, double::FORMS, convert::FORMS];
    lists.into_iter().flatten().copied().flatten().chain(compare::forms()).chain(half::forms())
}

/// The form of that name.
pub(crate) fn find(name: &str) -> Option<&'static Form> {
    static BY_NAME: LazyLock<HashMap<&'static str, &'static Form>> =
        LazyLock::new(|| all().map(|form| (form.name, form)).collect());
    BY_NAME.get(name).copied()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_unique() {
        let mut seen = std::collections::HashSet::new();
        for form in super::all() {
            assert!(seen.insert(form.name), "{} is listed twice", form.name);
        }
    }
}
