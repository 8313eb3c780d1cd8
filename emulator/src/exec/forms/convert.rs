//! Conversions between types.
use super::Form;
use super::macros::lanewise;

macro_rules! widths {
    ($($D:ident:$d:ident $dn:literal <- $S:ident:$s:ident $sn:literal),* $(,)?) => {
        &[$(lanewise!(concat!("cvt.", $dn, ".", $sn), $D:$d, [$S:$s], |a| a as $d)),*]
    };
}

pub(super) static FORMS: &[&[Form]] = &[widths!(
    U32:u32 "u32" <- U64:u64 "u64",
    U64:u64 "u64" <- U32:u32 "u32",
    S64:i64 "s64" <- S32:i32 "s32",
    S32:i32 "s32" <- S64:i64 "s64",
)];
