//! `cvt`: which modifiers go with which types, and which routine converts.
use super::builder::{Builder, refuse};
use super::family::{Family, Picks, maybe, one};
use crate::exec::LoadError;
use crate::exec::forms::{Operands, convert};
use crate::exec::regs::Class;
use crate::exec::scalar::Rounding;
use crate::exec::scalar::convert::Conversion;
use crate::ptx::ast::{Instruction, Operand, ScalarType};

pub(super) static FAMILIES: &[Family] = &[
    Family {
        opcode: "cvt",
        groups: &[
            maybe(&["rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi"]),
            maybe(&["ftz"]),
            maybe(&["relu"]),
            maybe(&["satfinite"]),
            maybe(&["sat"]),
            one(&["u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "f16", "bf16", "f32", "f64"]),
            one(&["u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "f16", "bf16", "f32", "f64"]),
        ],
        build: convert,
    },
    Family {
        opcode: "cvt",
        groups: &[
            one(&["rna", "rn", "rz"]),
            maybe(&["satfinite"]),
            maybe(&["relu"]),
            one(&["tf32"]),
            one(&["f32"]),
        ],
        build: convert,
    },
];

fn is_float(ty: ScalarType) -> bool {
    matches!(ty, ScalarType::F16 | ScalarType::Bf16 | ScalarType::F32 | ScalarType::F64 | ScalarType::Tf32)
}

/// The conversion that the modifiers describe.
fn described(i: &Instruction, picks: &Picks) -> Result<Conversion, LoadError> {
    let [.., Some(to), Some(from)] = picks.as_slice() else {
        return Err(refuse(i, "both types must be stated"));
    };
    let (Some(to), Some(from)) = (ScalarType::from_name(to), ScalarType::from_name(from)) else {
        return Err(refuse(i, "the types are not known"));
    };
    let has = |modifier| i.modifiers.iter().any(|known| known == modifier);
    let rounding = picks.first().copied().flatten();
    Ok(Conversion {
        rounding: match rounding {
            Some("rz" | "rzi") => Rounding::Zero,
            Some("rm" | "rmi") => Rounding::Down,
            Some("rp" | "rpi") => Rounding::Up,
            _ => Rounding::Nearest,
        },
        integral: matches!(rounding, Some("rni" | "rzi" | "rmi" | "rpi")),
        ties_away: rounding == Some("rna"),
        ftz: has("ftz"),
        sat: has("sat"),
        relu: has("relu"),
        satfinite: has("satfinite"),
        ..Conversion::new(to, from)
    })
}

/// Why PTX has no such conversion, if it has none.
fn objection(c: Conversion, rounded: bool) -> Option<&'static str> {
    let (to_float, from_float) = (is_float(c.to), is_float(c.from));
    let needs_fraction = match (to_float, from_float) {
        (true, false) => true,
        (true, true) => c.to != c.from && c.to.bytes() <= c.from.bytes(),
        _ => false,
    };
    let may_round_to_integer = from_float && (!to_float || c.to == c.from);
    let halves =
        matches!(c.to, ScalarType::F16 | ScalarType::Bf16 | ScalarType::Tf32) && c.from == ScalarType::F32;
    if needs_fraction && (!rounded || c.integral) {
        Some("a rounding modifier .rn, .rz, .rm or .rp is required")
    } else if from_float && !to_float && !c.integral {
        Some("a rounding modifier .rni, .rzi, .rmi or .rpi is required")
    } else if rounded && !needs_fraction && !(c.integral && may_round_to_integer) {
        Some("this conversion is exact or truncates: it takes no such rounding modifier")
    } else if c.ftz && c.to != ScalarType::F32 && c.from != ScalarType::F32 {
        Some(".ftz goes with .f32 only")
    } else if (c.relu || c.satfinite) && !halves {
        Some(".relu and .satfinite go with conversions from .f32 to .f16, .bf16 or .tf32")
    } else if (c.relu || c.satfinite) && matches!(c.rounding, Rounding::Down | Rounding::Up) {
        Some(".relu and .satfinite go with .rn and .rz")
    } else if c.relu && c.ties_away {
        Some(".relu goes with .rn and .rz")
    } else if c.sat && (c.relu || c.satfinite || c.to == ScalarType::Bf16) {
        Some(".sat goes with integers, .f16, .f32 and .f64, and with no other limit")
    } else {
        None
    }
}

fn convert(b: &mut Builder<'_>, i: &Instruction, picks: &Picks) -> Result<(), LoadError> {
    b.expect(i, 2, 2)?;
    let conversion = described(i, picks)?;
    let rounded = picks.first().copied().flatten().is_some();
    if let Some(reason) = objection(conversion, rounded) {
        return Err(refuse(i, reason));
    }
    // tf32 is kept in registers of type .b32.
    let (to, from) = (conversion.to, conversion.from);
    let target = b.operand(i, 0)?;
    // A destination wider than its type takes the value extended by zeros or by its sign.
    let declared = if *target == Operand::Sink { to } else { b.declared(i, target)? };
    let extends = Class::of(declared) == Class::Wide && Class::of(to) == Class::Narrow;
    let name = std::iter::once(i.opcode.as_str()).chain(i.modifiers.iter().map(String::as_str));
    if !extends && b.plain_form(i, &name.collect::<Vec<_>>().join("."))? {
        return Ok(());
    }
    let src = b.source(i, b.operand(i, 1)?, from)?;
    let dst = b.destination(i, target, if extends && !is_float(to) { ScalarType::B64 } else { to })?;
    let class = if extends { Class::Wide } else { Class::of(to) };
    let name = convert::general(class, Class::of(from));
    let operands =
        Operands { dst, src: [src, 0, 0, 0], extra: convert::encode(conversion), ..Operands::default() };
    b.arithmetic(i, name, operands)
}
