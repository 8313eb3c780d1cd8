//! Integers, in 128 bits or bit by bit.

use super::Expected;
use crate::device::mask;
use crate::signature::Form;
use ptx_emulator::ptx::ast::ScalarType::{self, S8, S16, S32, S64};

fn signed(ty: ScalarType) -> bool {
    matches!(ty, S8 | S16 | S32 | S64)
}

fn width(ty: ScalarType) -> u32 {
    8 * ty.bytes()
}

/// The number that bits stand for.
pub(crate) fn value(ty: ScalarType, bits: u64) -> i128 {
    let bits = i128::from(bits & mask(ty));
    if signed(ty) && bits >> (width(ty) - 1) == 1 { bits - (1 << width(ty)) } else { bits }
}

/// The high half of a product, whose low half of `width` bits may itself be the whole of 128.
fn high(ty: ScalarType, a: u64, b: u64) -> u64 {
    if signed(ty) {
        ((value(ty, a) * value(ty, b)) >> width(ty)) as u64
    } else {
        ((u128::from(a) * u128::from(b)) >> width(ty)) as u64
    }
}

/// Moves and selections, of any type.
pub(crate) fn moves(form: &Form<'_>, o: &[u64]) -> Option<Vec<Expected>> {
    let part = |whole: u64, k: u32, width: u32| (whole >> (k * width)) & (u64::MAX >> (64 - width));
    let results = match (form.opcode, form.snippet.src.len(), form.snippet.dst.len()) {
        ("mov", 1, 1) => vec![o[0]],
        ("mov", parts, 1) => {
            let width = 8 * form.snippet.dst[0].bytes() / parts as u32;
            vec![o.iter().enumerate().fold(0, |all, (k, bits)| all | bits << (width * k as u32))]
        }
        ("mov", 1, parts) => {
            let width = 8 * form.snippet.src[0].bytes() / parts as u32;
            (0..parts as u32).map(|k| part(o[0], k, width)).collect()
        }
        ("selp", ..) => vec![if o[2] == 1 { o[0] } else { o[1] }],
        ("slct", ..) => {
            // Minus zero counts as not negative; NaN picks the second.
            let first =
                if form.ty == S32 { value(S32, o[2]) >= 0 } else { f32::from_bits(o[2] as u32) >= 0.0 };
            vec![if first { o[0] } else { o[1] }]
        }
        _ => return None,
    };
    Some(results.into_iter().map(Expected::Bits).collect())
}

pub(crate) fn expected(form: &Form<'_>, o: &[u64]) -> Option<Vec<Expected>> {
    let carries = matches!(form.opcode, "addc" | "subc" | "madc") || form.modifiers.contains(&"cc");
    if carries {
        return with_carry(form, o);
    }
    let bits = arithmetic(form, o).or_else(|| logic(form, o)).or_else(|| fields(form, o))?;
    Some(vec![Expected::Bits(bits & mask(form.snippet.dst[0]))])
}

fn with_carry(form: &Form<'_>, o: &[u64]) -> Option<Vec<Expected>> {
    let ty = form.ty;
    let unsigned = |bits: u64| i128::from(bits & mask(ty));
    let takes = matches!(form.opcode, "addc" | "subc" | "madc");
    let carry = if takes && o.last().is_some_and(|bits| u128::from(*bits) + 0xFFFF_FFFF > 0xFFFF_FFFF) {
        1
    } else {
        0
    };
    let exact = match form.opcode {
        "add" | "addc" => unsigned(o[0]) + unsigned(o[1]) + carry,
        "sub" | "subc" => unsigned(o[0]) - unsigned(o[1]) - carry,
        _ => {
            let product =
                if form.modifiers[0] == "hi" { high(ty, o[0], o[1]) } else { o[0].wrapping_mul(o[1]) };
            unsigned(product) + unsigned(o[2]) + carry
        }
    };
    let mut results = vec![Expected::Bits(exact as u64 & mask(ty))];
    if form.modifiers.contains(&"cc") {
        results.push(Expected::Bits(u64::from(exact != exact & i128::from(mask(ty)))));
    }
    Some(results)
}

fn arithmetic(form: &Form<'_>, o: &[u64]) -> Option<u64> {
    let ty = form.ty;
    let number = |k: usize| value(ty, o[k]);
    let first = form.modifiers[0];
    let limits = (-(1i128 << (width(ty) - 1)), (1i128 << (width(ty) - 1)) - 1);
    let limited =
        |x: i128| if form.modifiers.contains(&"sat") { x.max(limits.0).min(limits.1) } else { x } as u64;
    Some(match form.opcode {
        "add" => limited(number(0) + number(1)),
        "sub" => limited(number(0) - number(1)),
        "mul" | "mad" => {
            let product = match first {
                "hi" => high(ty, o[0], o[1]),
                // Wide products of 32 bits and low halves fit 64 bits.
                "wide" => (number(0) * number(1)) as u64,
                _ => o[0].wrapping_mul(o[1]),
            };
            match form.opcode {
                "mul" => product,
                _ if form.modifiers.contains(&"sat") => limited(value(ty, product) + number(2)),
                _ => product.wrapping_add(o[2]),
            }
        }
        "mul24" | "mad24" => {
            let low = |k: usize| {
                let bits = i128::from(o[k] & 0xFF_FFFF);
                if signed(ty) && bits >= 1 << 23 { bits - (1 << 24) } else { bits }
            };
            let product = low(0) * low(1);
            let half = if first == "hi" { product >> 16 } else { product };
            (half + if form.opcode == "mad24" { number(2) } else { 0 }) as u64
        }
        "div" => {
            if o[1] == 0 {
                u64::MAX
            } else {
                (number(0) / number(1)) as u64
            }
        }
        "rem" => {
            if o[1] == 0 {
                u64::MAX
            } else {
                (number(0) % number(1)) as u64
            }
        }
        "min" => number(0).min(number(1)) as u64,
        "max" => number(0).max(number(1)) as u64,
        "sad" => ((number(0) - number(1)).abs() + number(2)) as u64,
        "neg" => (-number(0)) as u64,
        "abs" => number(0).unsigned_abs() as u64,
        "dp4a" | "dp2a" => dot(form, o),
        _ => return None,
    })
}

fn dot(form: &Form<'_>, o: &[u64]) -> u64 {
    let (types, high) = (&form.modifiers[form.modifiers.len() - 2..], form.modifiers[0] == "hi");
    let element = |bits: u64, k: u32, width: u32, ty: &str| {
        let bits = i128::from(bits >> (k * width) & ((1 << width) - 1));
        if ty == "s32" && bits >> (width - 1) == 1 { bits - (1 << width) } else { bits }
    };
    let sum: i128 = if form.opcode == "dp4a" {
        (0..4).map(|k| element(o[0], k, 8, types[0]) * element(o[1], k, 8, types[1])).sum()
    } else {
        let shift = if high { 2 } else { 0 };
        (0..2).map(|k| element(o[0], k, 16, types[0]) * element(o[1], k + shift, 8, types[1])).sum()
    };
    (sum + i128::from(o[2])) as u64
}

fn logic(form: &Form<'_>, o: &[u64]) -> Option<u64> {
    let ty = form.ty;
    let amount = o.last().map_or(0, |bits| (*bits).min(100)) as u32;
    Some(match form.opcode {
        "and" => o[0] & o[1],
        "or" => o[0] | o[1],
        "xor" => o[0] ^ o[1],
        "not" => !o[0],
        "cnot" => u64::from(o[0] == 0),
        "shl" => {
            if amount < 64 {
                o[0] << amount
            } else {
                0
            }
        }
        "shr" => (value(ty, o[0]) >> amount) as u64,
        "popc" => (0..width(ty)).filter(|k| o[0] >> k & 1 == 1).count() as u64,
        "clz" => (0..width(ty)).rev().take_while(|k| o[0] >> k & 1 == 0).count() as u64,
        "brev" => (0..width(ty)).fold(0, |all, k| all | (o[0] >> k & 1) << (width(ty) - 1 - k)),
        // Table 0xD8: c chooses between a (if clear) and b, as its eight rows say.
        "lop3" => (0..32).fold(0, |all, k| {
            let row = (o[0] >> k & 1) << 2 | (o[1] >> k & 1) << 1 | (o[2] >> k & 1);
            all | (0xD8 >> row & 1) << k
        }),
        "shf" => {
            let n = if form.modifiers.contains(&"clamp") { o[2].min(32) } else { o[2] % 32 };
            let both = u128::from(o[1] << 32 | o[0]);
            (if form.modifiers[0] == "l" { (both << n) >> 32 } else { both >> n }) as u64
        }
        "prmt" => permuted(form, o),
        _ => return None,
    })
}

/// PTX's table of the modes, for selectors 0 to 3: the sources of bytes 3, 2, 1, 0.
const PERMUTATIONS: [(&str, [u32; 4]); 6] = [
    ("f4e", [0x3210, 0x4321, 0x5432, 0x6543]),
    ("b4e", [0x5670, 0x6701, 0x7012, 0x0123]),
    ("rc8", [0x0000, 0x1111, 0x2222, 0x3333]),
    ("ecl", [0x3210, 0x3211, 0x3222, 0x3333]),
    ("ecr", [0x0000, 0x1110, 0x2210, 0x3210]),
    ("rc16", [0x1010, 0x3232, 0x1010, 0x3232]),
];

fn permuted(form: &Form<'_>, o: &[u64]) -> u64 {
    let mode = form.modifiers.get(1);
    let rows = PERMUTATIONS.iter().find(|(name, _)| Some(name) == mode).map(|(_, rows)| rows);
    let control = rows.map_or(o[2], |rows| u64::from(rows[o[2] as usize & 3]));
    let bytes = (o[1] << 32 | o[0]).to_le_bytes();
    (0..4).fold(0, |all, place| {
        let selector = (control >> (4 * place) & 15) as usize;
        let byte = bytes[selector % 8];
        let picked = match (selector >= 8, byte >= 128) {
            (false, _) => byte,
            (true, negative) => {
                if negative {
                    255
                } else {
                    0
                }
            }
        };
        all | u64::from(picked) << (8 * place)
    })
}

fn fields(form: &Form<'_>, o: &[u64]) -> Option<u64> {
    let ty = form.ty;
    let top = width(ty) - 1;
    let bit = |place: u64| o[0] >> place & 1;
    Some(match form.opcode {
        "bfe" => {
            let (at, length) = (o[1] & 0xFF, o[2] & 0xFF);
            let sign = if signed(ty) && length != 0 { bit((at + length - 1).min(u64::from(top))) } else { 0 };
            let picked = |i: u64| if i < length && at + i <= u64::from(top) { bit(at + i) } else { sign };
            (0..=u64::from(top)).fold(0, |all, i| all | picked(i) << i)
        }
        "bfi" => {
            let (at, length) = (o[2] & 0xFF, o[3] & 0xFF);
            let places = (0..length).filter(|i| at + i <= u64::from(top));
            places.fold(o[1], |all, i| all & !(1 << (at + i)) | bit(i) << (at + i))
        }
        "bfind" => {
            let sign = if signed(ty) { bit(u64::from(top)) } else { 0 };
            let found = (0..=u64::from(top)).rev().find(|place| bit(*place) != sign);
            let shift = form.modifiers.contains(&"shiftamt");
            found.map_or(u64::MAX, |place| if shift { u64::from(top) - place } else { place })
        }
        "bmsk" => {
            let clamp = form.modifiers.contains(&"clamp");
            let [at, length] = [o[0], o[1]].map(|x| if clamp { x.min(32) } else { x % 32 });
            (0..32).filter(|i| *i >= at && *i < at + length).fold(0, |all, i| all | 1 << i)
        }
        "szext" => {
            let n = o[1] % 32;
            let sign = if signed(ty) && n > 0 { bit(n - 1) } else { 0 };
            (0..32).fold(0, |all, i| all | (if i < n { bit(i) } else { sign }) << i)
        }
        _ => return None,
    })
}
