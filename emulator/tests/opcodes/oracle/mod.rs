//! What each arithmetic form computes, stated without the emulator: integers in 128 bits, bit fields bit by bit,
//! floating point by LLVM's software implementation.

pub(crate) mod conversion;
mod float;
mod integer;

use crate::signature::Form;
use ptx_emulator::ptx::ast::ScalarType;

/// A result, or how near to it an approximation must come.
#[derive(Debug)]
pub(crate) enum Expected {
    /// These bits; any NaN is as good as another in f64.
    Bits(u64),
    /// These values (two for a pair, the lower first) within a relative or an absolute error; NaN, infinity and zero
    /// as they are.
    Near { values: Vec<f64>, relative: f64, absolute: f64 },
}

impl Expected {
    pub(crate) fn admits(&self, got: u64, ty: ScalarType) -> bool {
        match self {
            Self::Bits(want) => got == *want || (ty == ScalarType::F64 && nan64(got) && nan64(*want)),
            Self::Near { values, relative, absolute } => values.iter().enumerate().all(|(k, value)| {
                let bits = if values.len() == 2 { got >> (16 * k) & 0xFFFF } else { got };
                let number = float::read(single(ty), bits);
                // A NaN is the canonical one, but for f64.
                (value.is_nan()
                    && (bits == float::canonical(single(ty)) || (ty == ScalarType::F64 && number.is_nan())))
                    || number == *value
                    || (number - value).abs() <= absolute.max(relative * value.abs())
            }),
        }
    }
}

fn nan64(bits: u64) -> bool {
    f64::from_bits(bits).is_nan()
}

/// The type of one of a pair.
pub(crate) fn single(ty: ScalarType) -> ScalarType {
    match ty {
        ScalarType::F16x2 => ScalarType::F16,
        ScalarType::Bf16x2 => ScalarType::Bf16,
        other => other,
    }
}

/// The results of a form for operands cut to their types; nothing if no statement covers it.
pub(crate) fn expected(form: &Form<'_>, operands: &[u64]) -> Option<Vec<Expected>> {
    match (form.opcode, form.ty) {
        ("set" | "setp", _) => integer_or_float_comparison(form, operands),
        ("cvt", _) => conversion::table(form, operands).map(|bits| vec![Expected::Bits(bits)]),
        ("mov" | "selp" | "slct", _) => integer::moves(form, operands),
        (_, ScalarType::F16 | ScalarType::Bf16 | ScalarType::F32 | ScalarType::F64) => {
            float::expected(form, operands)
        }
        (_, ScalarType::F16x2 | ScalarType::Bf16x2) => float::pairs(form, operands),
        _ => integer::expected(form, operands),
    }
}

/// PTX's table: what an operator says of a lesser, equal, greater and unordered pair.
fn says(operator: &str, order: Option<std::cmp::Ordering>) -> Option<bool> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let unordered = order.is_none();
    Some(match operator {
        "eq" => order == Some(Equal),
        "ne" => order.is_some_and(|order| order != Equal),
        "lt" | "lo" => order == Some(Less),
        "le" | "ls" => order.is_some_and(|order| order != Greater),
        "gt" | "hi" => order == Some(Greater),
        "ge" | "hs" => order.is_some_and(|order| order != Less),
        "equ" => unordered || order == Some(Equal),
        "neu" => unordered || order != Some(Equal),
        "ltu" => unordered || order == Some(Less),
        "leu" => unordered || order != Some(Greater),
        "gtu" => unordered || order == Some(Greater),
        "geu" => unordered || order != Some(Less),
        "num" => !unordered,
        "nan" => unordered,
        _ => return None,
    })
}

fn integer_or_float_comparison(form: &Form<'_>, operands: &[u64]) -> Option<Vec<Expected>> {
    let ftz = form.modifiers.contains(&"ftz");
    let order = match form.ty {
        ty @ (ScalarType::F16 | ScalarType::Bf16 | ScalarType::F32 | ScalarType::F64) => {
            let value = |bits| float::read(ty, if ftz { float::flush(ty, bits) } else { bits });
            value(operands[0]).partial_cmp(&value(operands[1]))
        }
        ty => Some(integer::value(ty, operands[0]).cmp(&integer::value(ty, operands[1]))),
    };
    let holds = says(form.modifiers[0], order)?;
    let bits = |holds: bool| Expected::Bits(u64::from(holds));
    if form.opcode == "setp" {
        return Some(vec![bits(holds), bits(!holds)]);
    }
    // `set` gives all ones, or 1.0 in floating point.
    let yes = if form.modifiers.contains(&"f32") && form.snippet.dst[0] == ScalarType::F32 {
        0x3F80_0000
    } else {
        0xFFFF_FFFF
    };
    Some(vec![Expected::Bits(if holds { yes } else { 0 })])
}
