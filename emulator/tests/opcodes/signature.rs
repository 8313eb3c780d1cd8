//! A form's operands, read off its name by PTX's own rules.

use crate::device::Snippet;
use ptx_emulator::ptx::ast::ScalarType::{self, B16, B32, B64, F32, Pred, S32, U32};

/// An arithmetic form: its snippet, with opcode and modifiers apart.
pub(crate) struct Form<'a> {
    pub(crate) opcode: &'a str,
    pub(crate) modifiers: Vec<&'a str>,
    /// The last type named: that of the operation.
    pub(crate) ty: ScalarType,
    pub(crate) snippet: Snippet,
}

fn doubled(ty: ScalarType) -> Option<ScalarType> {
    ScalarType::from_name(match ty {
        ScalarType::U16 => "u32",
        ScalarType::S16 => "s32",
        U32 => "u64",
        S32 => "s64",
        _ => return None,
    })
}

/// `mov` with a vector: the name says which side.
fn vector_move(name: &str) -> Option<Snippet> {
    let snippet = |body: &str, dst: &[ScalarType], src: &[ScalarType]| {
        Some(Snippet { body: body.to_owned(), dst: dst.to_vec(), src: src.to_vec() })
    };
    match name {
        "mov.b32 d, {a, b}" => snippet("mov.b32 %d0, {%s0, %s1};", &[B32], &[B16, B16]),
        "mov.b64 d, {a, b}" => snippet("mov.b64 %d0, {%s0, %s1};", &[B64], &[B32, B32]),
        "mov.b64 d, {a, b, c, e}" => snippet("mov.b64 %d0, {%s0, %s1, %s2, %s3};", &[B64], &[B16; 4]),
        "mov.b32 {d, e}, a" => snippet("mov.b32 {%d0, %d1}, %s0;", &[B16; 2], &[B32]),
        "mov.b64 {d, e}, a" => snippet("mov.b64 {%d0, %d1}, %s0;", &[B32; 2], &[B64]),
        "mov.b64 {d, e, f, g}, a" => snippet("mov.b64 {%d0, %d1, %d2, %d3}, %s0;", &[B16; 4], &[B64]),
        _ => None,
    }
}

/// The form of that name; nothing for the families.
pub(crate) fn form(name: &str) -> Option<Form<'_>> {
    if let Some(snippet) = vector_move(name) {
        return Some(Form { opcode: "mov", modifiers: Vec::new(), ty: snippet.src[0], snippet });
    }
    let mut parts = name.split('.');
    let opcode = parts.next()?;
    let modifiers: Vec<&str> = parts.collect();
    let types: Vec<ScalarType> = modifiers.iter().filter_map(|one| ScalarType::from_name(one)).collect();
    let ty = *types.last()?;
    let first = types[0];
    let (dst, src): (ScalarType, Vec<ScalarType>) = match opcode {
        "mul" | "mad" if modifiers[0] == "wide" => {
            let wide = doubled(ty)?;
            (wide, if opcode == "mul" { vec![ty, ty] } else { vec![ty, ty, wide] })
        }
        "add" | "sub" | "mul" | "mul24" | "div" | "rem" | "min" | "max" | "and" | "or" | "xor"
        | "copysign" | "addc" | "subc" => (ty, vec![ty, ty]),
        "mad" | "madc" | "mad24" | "fma" | "sad" => (ty, vec![ty; 3]),
        "neg" | "abs" | "not" | "cnot" | "mov" | "brev" | "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2"
        | "sin" | "cos" | "tanh" => (ty, vec![ty]),
        "popc" | "clz" | "bfind" => (U32, vec![ty]),
        "shl" | "shr" => (ty, vec![ty, U32]),
        "shf" => (B32, vec![B32, B32, U32]),
        "prmt" | "lop3" => (B32, vec![B32; 3]),
        "bfe" => (ty, vec![ty, U32, U32]),
        "bfi" => (ty, vec![ty, ty, U32, U32]),
        "bmsk" => (B32, vec![U32, U32]),
        "szext" => (ty, vec![ty, U32]),
        "selp" => (ty, vec![ty, ty, Pred]),
        "slct" => (first, vec![first, first, ty]),
        "set" => (first, vec![ty, ty]),
        "setp" => (Pred, vec![ty, ty]),
        "testp" => (Pred, vec![ty]),
        "dp4a" | "dp2a" => {
            let sum = if types.contains(&S32) { S32 } else { U32 };
            (sum, vec![first, ty, sum])
        }
        // Those of the table that are no family: two f32 to a register of halves, and common single ones.
        "cvt" if matches!(first, ScalarType::F16x2 | ScalarType::Bf16x2) => (first, vec![F32, F32]),
        "cvt" => (first, vec![ty]),
        _ => return None,
    };
    let snippet = snippet(name, opcode, &modifiers, dst, src);
    Some(Form { opcode, modifiers, ty, snippet })
}

fn snippet(
    name: &str,
    opcode: &str,
    modifiers: &[&str],
    dst: ScalarType,
    mut src: Vec<ScalarType>,
) -> Snippet {
    let count = src.len();
    let operands: String = (0..count).map(|k| format!(", %s{k}")).collect();
    let (takes, gives) = (matches!(opcode, "addc" | "subc" | "madc"), modifiers.contains(&"cc"));
    let mut dst = vec![dst];
    let mut body = format!("{name} %d0{operands};");
    match opcode {
        // The table is a literal; one that tells all inputs apart.
        "lop3" => body = format!("{name} %d0{operands}, 0xD8;"),
        "setp" => {
            body = format!("{name} %d0|%d1{operands};");
            dst.push(Pred);
        }
        _ => {}
    }
    if takes {
        // One more source sets the carry: adding all ones to 1 carries, to 0 does not.
        body = format!(".reg .b32 %x;\nadd.cc.u32 %x, %s{count}, 0xFFFFFFFF;\n{body}");
        src.push(U32);
    }
    if gives {
        body += "\naddc.u32 %d1, 0, 0;";
        dst.push(U32);
    }
    Snippet { body, src, dst }
}
