//! `atom` and `red`: each operation on memory of the thread's own, and all threads on one place.

use crate::device::{self, BLOCK, Snippet, mask};
use crate::exact::{self, Random};
use ptx_emulator::exec::scalar::Rounding;
use ptx_emulator::ptx::ast::ScalarType::{self, B16, B32, B64};
use rustc_apfloat::Float;
use rustc_apfloat::ieee::{BFloat, Double, Half, Single};

const ATOM: &str = "atom[.relaxed|.acquire|.release|.acq_rel][.cta|.cluster|.gpu|.sys][.global|.shared|.shared::cta]\
    {.add|.min|.max|.exch|.cas|.and|.or|.xor|.inc|.dec}[.noftz][.L2::cache_hint]\
    {.b16|.b32|.b64|.u32|.u64|.s32|.s64|.f16|.f16x2|.bf16|.bf16x2|.f32|.f64}";
const RED: &str = "red[.relaxed|.release][.cta|.cluster|.gpu|.sys][.global|.shared|.shared::cta]\
    {.add|.min|.max|.and|.or|.xor|.inc|.dec}[.noftz][.L2::cache_hint]\
    {.b32|.b64|.u32|.u64|.s32|.s64|.f16|.f16x2|.bf16|.bf16x2|.f32|.f64}";

const OPERATIONS: [&str; 32] = [
    "add.u32",
    "add.s32",
    "add.u64",
    "add.f32",
    "add.f64",
    "add.noftz.f16",
    "add.noftz.f16x2",
    "add.noftz.bf16",
    "add.noftz.bf16x2",
    "min.u32",
    "min.s32",
    "min.u64",
    "min.s64",
    "max.u32",
    "max.s32",
    "max.u64",
    "max.s64",
    "and.b32",
    "and.b64",
    "or.b32",
    "or.b64",
    "xor.b32",
    "xor.b64",
    "inc.u32",
    "dec.u32",
    "exch.b32",
    "exch.b64",
    "cas.b16",
    "cas.b32",
    "cas.b64",
    "L2::cache_hint.u32",
    "",
];
const PLACES: [&str; 10] = [
    "relaxed.gpu.global",
    "relaxed.sys.global",
    "relaxed.cta.global",
    "acquire.gpu.global",
    "acq_rel.sys.global",
    "release.cluster.global",
    "shared",
    "shared::cta",
    "global",
    "",
];

pub(crate) fn families() -> Vec<(&'static str, Vec<String>)> {
    vec![(ATOM, names("atom")), (RED, names("red"))]
}

/// Every operation in global memory, and an addition in every place.
fn names(opcode: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for operation in OPERATIONS.iter().filter(|operation| !operation.is_empty()) {
        if opcode == "atom" || !(operation.starts_with("exch") || operation.starts_with("cas")) {
            // A cache hint stands behind the operation.
            let operation = operation.replace("L2::cache_hint", "add.L2::cache_hint");
            all.push(format!("{opcode}.global.{operation}"));
        }
    }
    for place in PLACES {
        if opcode == "red" && (place.contains("acq")) {
            continue;
        }
        let place = if place.is_empty() { String::new() } else { format!("{place}.") };
        all.push(format!("{opcode}.{place}add.u32"));
    }
    all
}

fn ty(name: &str) -> ScalarType {
    name.rsplit('.').next().and_then(ScalarType::from_name).unwrap_or(B32)
}

fn operation(name: &str) -> &str {
    let words = ["add", "min", "max", "and", "or", "xor", "inc", "dec", "exch", "cas"];
    name.split('.').find(|part| words.contains(part)).unwrap_or_default()
}

/// What is in memory afterwards.
fn updated(name: &str, old: u64, b: u64, c: u64) -> u64 {
    let ty = ty(name);
    let signed = |bits: u64| if ty == ScalarType::S32 { i64::from(bits as i32) } else { bits as i64 };
    let is_signed = matches!(ty, ScalarType::S32 | ScalarType::S64);
    let result = match operation(name) {
        "add" => sum(ty, old, b),
        "min" if is_signed => signed(old).min(signed(b)) as u64,
        "max" if is_signed => signed(old).max(signed(b)) as u64,
        "min" => old.min(b),
        "max" => old.max(b),
        "and" => old & b,
        "or" => old | b,
        "xor" => old ^ b,
        "inc" => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        "dec" => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        "exch" => b,
        _ => {
            if old == b {
                c
            } else {
                old
            }
        }
    };
    result & mask(ty)
}

fn sum(ty: ScalarType, a: u64, b: u64) -> u64 {
    fn float<F: Float>(a: u64, b: u64, nan: u64) -> u64 {
        let sum = F::from_bits(exact::add::<F>(u128::from(a), u128::from(b), Rounding::Nearest));
        if sum.is_nan() { nan } else { sum.to_bits() as u64 }
    }
    let halves = |one: fn(u64, u64, u64) -> u64| {
        one(a & 0xFFFF, b & 0xFFFF, 0x7FFF) | one(a >> 16, b >> 16, 0x7FFF) << 16
    };
    match ty {
        ScalarType::F16 => float::<Half>(a, b, 0x7FFF),
        ScalarType::Bf16 => float::<BFloat>(a, b, 0x7FFF),
        ScalarType::F16x2 => halves(float::<Half>),
        ScalarType::Bf16x2 => halves(float::<BFloat>),
        ScalarType::F32 => float::<Single>(a, b, 0x7FFF_FFFF),
        ScalarType::F64 => float::<Double>(a, b, 0x7FF8 << 48),
        _ => a.wrapping_add(b),
    }
}

/// The register type of a value.
fn bits_of(ty: ScalarType) -> ScalarType {
    match ty.bytes() {
        2 => B16,
        4 => B32,
        _ => B64,
    }
}

/// Writes the first source to the thread's own memory, updates it, reads it back.
fn snippet(name: &str) -> Snippet {
    let register = bits_of(ty(name));
    let stored = format!("b{}", 8 * register.bytes());
    let (setup, address, space) = if name.contains("shared") {
        let setup = ".shared .align 8 .b8 all[1024];\n.reg .b32 %p;\nmov.u32 %p, %tid.x;\nshl.b32 %p, %p, 3;\n\
                     mov.u32 %i3, all;\nadd.u32 %p, %p, %i3;\n";
        (setup, "%p", "shared")
    } else {
        ("mov.b64 %a3, 0;\n", "%a1+32", "global")
    };
    let atom = name.starts_with("atom");
    let target = if atom { "%d0, " } else { "" };
    let third = if operation(name) == "cas" { ", %s2" } else { "" };
    let hint = if name.contains("cache_hint") { ", %a3" } else { "" };
    let old = if atom { String::new() } else { "mov.b64 %a3, 0;\n".to_owned() };
    let body = format!(
        "{setup}{old}st.{space}.{stored} [{address}], %s0;\n{name} {target}[{address}], %s1{third}{hint};\n\
         ld.{space}.{stored} %d{}, [{address}];",
        usize::from(atom)
    );
    Snippet { body, src: vec![register; 3], dst: vec![register; 1 + usize::from(atom)] }
}

fn samples(name: &str, random: &mut Random) -> Vec<Vec<u64>> {
    let ty = ty(name);
    let value = |random: &mut Random| match ty {
        ScalarType::F32 => u64::from(random.f32().to_bits()),
        ScalarType::F64 => random.f64().to_bits(),
        _ => [random.next(), random.next() % 4, u64::MAX, 1 << 31][random.next() as usize % 4],
    };
    (0..BLOCK)
        .map(|thread| {
            let first = value(random);
            // Comparisons succeed in every other thread.
            let second = if operation(name) == "cas" && thread % 2 == 0 { first } else { value(random) };
            [first, second, value(random)].map(|bits| bits & mask(bits_of(ty))).to_vec()
        })
        .collect()
}

#[test]
fn each_operation_on_its_own() {
    let names = [names("atom"), names("red")].concat();
    let mut random = Random(40);
    let snippets: Vec<Snippet> = names.iter().map(|name| snippet(name)).collect();
    let samples: Vec<_> = names.iter().map(|name| samples(name, &mut random)).collect();
    let results = device::run(&snippets.iter().collect::<Vec<_>>(), &samples);
    for ((name, samples), results) in names.iter().zip(&samples).zip(results) {
        for (sample, got) in samples.iter().zip(results) {
            let new = updated(name, sample[0], sample[1], sample[2]);
            let want = if name.starts_with("atom") { vec![sample[0], new] } else { vec![new] };
            let nan = |bits: u64| ty(name) == ScalarType::F64 && f64::from_bits(bits).is_nan();
            let same = got.iter().zip(&want).all(|(got, want)| got == want || (nan(*got) && nan(*want)));
            assert!(same, "{name} of {sample:X?}: {got:X?}, not {want:X?}");
        }
    }
}

#[test]
fn all_threads_on_one_place() {
    for (name, want) in [
        ("atom.shared.add.u32", (0..128).sum::<u64>()),
        ("red.shared.add.u32", (0..128).sum::<u64>()),
        ("atom.shared::cta.max.s32", 127),
        ("red.shared.or.b32", 127),
        ("atom.shared.inc.u32", 128 % 101),
    ] {
        let target = if name.starts_with("atom") { "%i3, " } else { "" };
        let operand = if name.contains("inc") { "100" } else { "%q" };
        let body = format!(
            ".shared .align 4 .b32 one;\n.reg .b32 %q;\n.reg .pred %first;\nmov.u32 %q, %tid.x;\n\
             setp.eq.u32 %first, %q, 0;\n@%first st.shared.b32 [one], 0;\nbar.sync 0;\n\
             {name} {target}[one], {operand};\nbar.sync 0;\nld.shared.b32 %d0, [one];"
        );
        let snippet = Snippet { body, src: vec![B32], dst: vec![B32] };
        let results = device::run(&[&snippet], &[vec![vec![0]; BLOCK]]);
        assert!(results[0].iter().all(|got| got[0] == want), "{name}: {:?}, not {want}", results[0][0]);
    }
}
