//! `cvt`: every combination of types and modifiers, whether it exists, and what it gives.

use crate::device::{self, HEAD, Snippet, mask, settings};
use crate::oracle::conversion::convert;
use crate::samples::edges;
use ptx_emulator::exec::Program;
use ptx_emulator::memory::DeviceMemory;
use ptx_emulator::ptx::ast::ScalarType;

/// The families tested here, each with the instructions that stand for it.
pub(crate) fn families() -> Vec<(&'static str, Vec<String>)> {
    let (tf32, others) = existing().into_iter().partition(|name| name.contains("tf32"));
    vec![(PATTERNS[0], others), (PATTERNS[1], tf32)]
}

const PATTERNS: [&str; 2] = [
    "cvt[.rn|.rz|.rm|.rp|.rni|.rzi|.rmi|.rpi][.ftz][.relu][.satfinite][.sat]\
     {.u8|.u16|.u32|.u64|.s8|.s16|.s32|.s64|.f16|.bf16|.f32|.f64}\
     {.u8|.u16|.u32|.u64|.s8|.s16|.s32|.s64|.f16|.bf16|.f32|.f64}",
    "cvt{.rna|.rn|.rz}[.satfinite][.relu].tf32.f32",
];

const INTEGERS: [&str; 8] = ["u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64"];
/// Floating-point types by how much they hold; neither half holds the other.
const FLOATS: [(&str, u32); 4] = [("f16", 1), ("bf16", 1), ("f32", 2), ("f64", 3)];

/// PTX's rules for what goes with what.
fn exists(rounding: Option<&str>, flags: &[&str], to: &str, from: &str) -> bool {
    let rank = |name| FLOATS.iter().find(|(float, _)| *float == name).map(|(_, rank)| *rank);
    let has = |name| flags.contains(&name);
    let rounding_fits = match (rank(to), rank(from)) {
        (None, None) => rounding.is_none(),
        (None, Some(_)) => rounding.is_some_and(|one| one.ends_with('i')),
        (Some(_), None) => rounding.is_some_and(|one| !one.ends_with('i')),
        (Some(_), Some(_)) if to == from => rounding.is_none_or(|one| one.ends_with('i')),
        (Some(to), Some(from)) if to > from => rounding.is_none(),
        _ => rounding.is_some_and(|one| !one.ends_with('i')),
    };
    let to_half = from == "f32" && matches!(to, "f16" | "bf16");
    let clamps = !(has("relu") || has("satfinite"))
        || (to_half && matches!(rounding, Some("rn" | "rz")) && !has("sat"));
    rounding_fits && clamps && (!has("ftz") || to == "f32" || from == "f32") && (!has("sat") || to != "bf16")
}

/// All names the two patterns stand for, with whether they exist.
fn names() -> Vec<(String, bool)> {
    let types: Vec<&str> = INTEGERS.into_iter().chain(FLOATS.map(|(name, _)| name)).collect();
    let roundings = [
        None,
        Some("rn"),
        Some("rz"),
        Some("rm"),
        Some("rp"),
        Some("rni"),
        Some("rzi"),
        Some("rmi"),
        Some("rpi"),
    ];
    let mut all = Vec::new();
    for to in &types {
        for from in &types {
            for rounding in roundings {
                for bits in 0..16usize {
                    let flags = ["ftz", "relu", "satfinite", "sat"];
                    let flags: Vec<&str> = (0..4).filter(|k| bits >> k & 1 == 1).map(|k| flags[k]).collect();
                    let parts: Vec<&str> =
                        rounding.into_iter().chain(flags.iter().copied()).chain([*to, *from]).collect();
                    all.push((format!("cvt.{}", parts.join(".")), exists(rounding, &flags, to, from)));
                }
            }
        }
    }
    for (rounding, relu) in
        [("rna", false), ("rn", false), ("rn", true), ("rz", false), ("rz", true), ("rna", true)]
    {
        for satfinite in ["", ".satfinite"] {
            let relu_part = if relu { ".relu" } else { "" };
            all.push((
                format!("cvt.{rounding}{satfinite}{relu_part}.tf32.f32"),
                !(relu && rounding == "rna"),
            ));
        }
    }
    all
}

fn types(name: &str) -> (ScalarType, ScalarType) {
    let mut types = name.rsplit('.').filter_map(ScalarType::from_name);
    match (types.next(), types.next()) {
        (Some(from), Some(to)) => (to, from),
        _ => panic!("{name}"),
    }
}

fn existing() -> Vec<String> {
    names().into_iter().filter(|(_, exists)| *exists).map(|(name, _)| name).collect()
}

#[test]
fn those_that_exist() {
    let names = existing();
    assert!(names.len() > 500, "{}", names.len());
    let snippets: Vec<Snippet> = names
        .iter()
        .map(|name| {
            let (to, from) = types(name);
            Snippet { body: format!("{name} %d0, %s0;"), src: vec![from], dst: vec![to] }
        })
        .collect();
    let samples: Vec<Vec<Vec<u64>>> = snippets.iter().map(|snippet| samples(snippet.src[0])).collect();
    let results = device::run(&snippets.iter().collect::<Vec<_>>(), &samples);
    for ((name, samples), results) in names.iter().zip(&samples).zip(results) {
        let (to, from) = types(name);
        let modifiers: Vec<&str> = name.split('.').collect();
        for (sample, got) in samples.iter().zip(results) {
            let want = convert(&modifiers, to, from, sample[0] & mask(from));
            let both_nan =
                to == ScalarType::F64 && [got[0], want].iter().all(|bits| f64::from_bits(*bits).is_nan());
            assert!(got[0] == want || both_nan, "{name} of {:X}: {:X}, not {want:X}", sample[0], got[0]);
        }
    }
}

/// Edges, and numbers around the ends of the integer types where clamping and ties happen.
fn samples(from: ScalarType) -> Vec<Vec<u64>> {
    let mut all: Vec<u64> = edges(from);
    for exponent in [0, 1, 7, 8, 10, 15, 16, 24, 31, 32, 53, 63, 64] {
        for offset in [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.5] {
            for sign in [-1.0, 1.0] {
                let x = sign * (2f64.powi(exponent) + offset);
                match from {
                    ScalarType::F64 => all.push(x.to_bits()),
                    ScalarType::F32 => all.push(u64::from((x as f32).to_bits())),
                    ScalarType::F16 => all.push(u64::from(half::f16::from_f64(x).to_bits())),
                    ScalarType::Bf16 => all.push(u64::from(half::bf16::from_f64(x).to_bits())),
                    _ => {}
                }
            }
        }
    }
    all.into_iter().map(|bits| vec![bits]).collect()
}

#[test]
fn those_that_do_not_exist_are_refused() {
    let (memory, settings) = (DeviceMemory::new(1 << 20), settings());
    for (name, exists) in names() {
        if exists {
            continue;
        }
        let (to, from) = types(&name);
        let register = |ty: ScalarType| 8 * ty.bytes().max(2);
        let text = format!(
            "{HEAD}.visible .entry k()\n{{\n.reg .b{} %d0;\n.reg .b{} %s0;\n{name} %d0, %s0;\nret;\n}}\n",
            register(to),
            register(from)
        );
        match Program::load(&text, &settings, &memory) {
            Ok(_) => panic!("{name} was accepted"),
            Err(error) => assert!(
                error.line == HEAD.lines().count() as u32 + 5 && error.text.contains(&name),
                "{error}"
            ),
        }
    }
}

#[test]
fn wider_registers_take_the_value_extended() {
    let body = "cvt.s8.s32 %d0, %s0;\ncvt.u16.u32 %d1, %s0;\ncvt.rzi.s16.f32 %d2, %s1;";
    let snippet = Snippet {
        body: body.to_owned(),
        src: vec![ScalarType::S32, ScalarType::F32],
        dst: vec![ScalarType::B64, ScalarType::B64, ScalarType::B32],
    };
    let sample = vec![0x1234_5680, u64::from((-3.5f32).to_bits())];
    let results = device::run(&[&snippet], &[vec![sample]]);
    assert_eq!(results[0][0], [0xFFFF_FFFF_FFFF_FF80, 0x5680, 0xFFFF_FFFD]);
}
