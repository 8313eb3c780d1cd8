//! Loads and stores of every type, width and space; asynchronous copies; hints.

use crate::device::{self, BLOCK, Snippet};
use crate::exact::Random;
use ptx_emulator::ptx::ast::ScalarType::{self, B16, B32, B64};

const TYPES: [&str; 16] = [
    "b8", "b16", "b32", "b64", "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "f16", "bf16", "f32",
    "f64",
];
const VECTORS: [&str; 10] =
    ["v2.b8", "v4.u8", "v2.u16", "v4.b16", "v2.b32", "v4.f32", "v4.s32", "v2.u64", "v2.f64", "v4.s8"];
const EVICTIONS: [&str; 5] =
    ["L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last", "L1::no_allocate"];
/// What the constant `table` of every module holds.
const TABLE: [u8; 16] = [0xF1, 0x82, 3, 4, 5, 6, 7, 0x88, 9, 10, 11, 12, 13, 14, 15, 16];
/// What scratch memory holds before a store under test.
const POISON: u64 = 0xA5A5_A5A5_A5A5_A5A5;

const LD: &str = "ld[.weak|.volatile|.relaxed|.acquire][.cta|.cluster|.gpu|.sys]\
    [.global|.shared|.shared::cta|.local|.param|.param::entry|.param::func|.const][.ca|.cg|.cs|.lu|.cv][.nc]\
    [.L1::evict_normal|.L1::evict_unchanged|.L1::evict_first|.L1::evict_last|.L1::no_allocate][.L2::cache_hint]\
    [.L2::64B|.L2::128B|.L2::256B][.v2|.v4]\
    {.b8|.b16|.b32|.b64|.u8|.u16|.u32|.u64|.s8|.s16|.s32|.s64|.f16|.bf16|.f32|.f64}";
const LDU: &str = "ldu[][][.global][.v2|.v4]\
    {.b8|.b16|.b32|.b64|.u8|.u16|.u32|.u64|.s8|.s16|.s32|.s64|.f16|.bf16|.f32|.f64}";
const ST: &str = "st[.weak|.volatile|.relaxed|.release][.cta|.cluster|.gpu|.sys]\
    [.global|.shared|.shared::cta|.local|.param|.param::func][.wb|.cg|.cs|.wt]\
    [.L1::evict_normal|.L1::evict_unchanged|.L1::evict_first|.L1::evict_last|.L1::no_allocate][.L2::cache_hint][.v2|.v4]\
    {.b8|.b16|.b32|.b64|.u8|.u16|.u32|.u64|.s8|.s16|.s32|.s64|.f16|.bf16|.f32|.f64}";

const HINTS: [(&str, &[&str]); 5] = [
    (
        "prefetch[.global|.local]{.L1|.L2|.L2::evict_last|.L2::evict_normal}",
        &[
            "prefetch.global.L1 [%a0];",
            "prefetch.L2 [%a0];",
            "prefetch.global.L2::evict_last [%a0];",
            "prefetch.global.L2::evict_normal [%a0];",
            "prefetch.local.L1 [%a0];",
        ],
    ),
    ("prefetchu.L1", &["prefetchu.L1 [%a0];"]),
    ("discard[.global].L2", &["discard.global.L2 [%a0], 128;"]),
    ("applypriority[.global].L2::evict_normal", &["applypriority.global.L2::evict_normal [%a0], 128;"]),
    (
        "createpolicy.fractional{.L2::evict_last|.L2::evict_normal|.L2::evict_first|.L2::evict_unchanged}\
         [.L2::evict_first|.L2::evict_unchanged].b64",
        &[
            "createpolicy.fractional.L2::evict_last.b64 %a3, 1.0;",
            "createpolicy.fractional.L2::evict_normal.b64 %a3, 0.5;",
            "createpolicy.fractional.L2::evict_first.L2::evict_unchanged.b64 %a3, 0.5;",
            "createpolicy.fractional.L2::evict_unchanged.L2::evict_first.b64 %a3, 0.5;",
        ],
    ),
];

const COPIES: [(&str, usize, &str); 8] = [
    ("cp.async.ca.shared.global", 4, ""),
    ("cp.async.ca.shared.global", 8, ""),
    ("cp.async.ca.shared.global", 16, ""),
    ("cp.async.cg.shared::cta.global.L2::128B", 16, ""),
    ("cp.async.cg.shared.global.L2::64B", 16, ", %i3"),
    ("cp.async.ca.shared.global.L2::256B", 8, ", %i3"),
    ("cp.async.cg.shared.global.L2::cache_hint", 16, ", %a3"),
    ("cp.async.cg.shared.global", 16, ", 0"),
];

pub(crate) fn families() -> Vec<(&'static str, Vec<String>)> {
    let word = |text: &&str| text.split(' ').next().unwrap_or_default().to_owned();
    let mut all = vec![
        (LD, [loads("ld"), spaces("ld"), vec!["ld.param::func.u32".to_owned()]].concat()),
        (LDU, loads("ldu")),
        (
            ST,
            [stores(), spaces("st"), vec!["st.param::func.b32".to_owned(), "st.param.b32".to_owned()]]
                .concat(),
        ),
        (
            "cp.async{.ca|.cg}{.shared|.shared::cta}.global[.L2::cache_hint][.L2::64B|.L2::128B|.L2::256B]",
            COPIES.map(|(name, ..)| name.to_owned()).to_vec(),
        ),
        ("cp.async.commit_group", vec!["cp.async.commit_group".to_owned()]),
        ("cp.async.wait_group", vec!["cp.async.wait_group".to_owned()]),
        ("cp.async.wait_all", vec!["cp.async.wait_all".to_owned()]),
    ];
    all.extend(HINTS.map(|(pattern, texts)| (pattern, texts.iter().map(word).collect())));
    all
}

/// Loads from global memory: every type and vector, then every modifier once.
fn loads(opcode: &str) -> Vec<String> {
    let mut all: Vec<String> =
        TYPES.iter().chain(&VECTORS).map(|shape| format!("{opcode}.global.{shape}")).collect();
    all.push(format!("{opcode}.u32"));
    if opcode == "ldu" {
        return all;
    }
    let caches = [
        "ca",
        "cg",
        "cs",
        "lu",
        "cv",
        "nc",
        "nc.L2::128B",
        "L2::64B",
        "L2::256B",
        "nc.L1::no_allocate.L2::128B",
    ];
    all.extend(caches.iter().chain(&EVICTIONS).map(|word| format!("ld.global.{word}.v4.f32")));
    let strengths = ["weak", "volatile", "relaxed.cta", "relaxed.cluster", "acquire.gpu", "relaxed.sys"];
    all.extend(strengths.map(|word| format!("ld.{word}.global.s16")));
    all.push("ld.global.L2::cache_hint.v2.b64".to_owned());
    all
}

fn stores() -> Vec<String> {
    let mut all: Vec<String> =
        TYPES.iter().chain(&VECTORS).map(|shape| format!("st.global.{shape}")).collect();
    let words = ["wb", "cg", "cs", "wt"];
    all.extend(words.iter().chain(&EVICTIONS).map(|word| format!("st.global.{word}.v4.f32")));
    let strengths = ["weak", "volatile", "relaxed.cta", "relaxed.cluster", "release.gpu", "relaxed.sys"];
    all.extend(strengths.map(|word| format!("st.{word}.global.b16")));
    all.push("st.global.L2::cache_hint.v2.b64".to_owned());
    all.push("st.u8".to_owned());
    all
}

/// The other spaces, which need memory of their own.
fn spaces(opcode: &str) -> Vec<String> {
    let mut spaces = vec!["shared", "shared::cta", "local"];
    if opcode == "ld" {
        spaces.extend(["param", "param::entry", "const"]);
    }
    let shapes = ["s8", "b16", "u32", "v2.b32", "b64", "v4.u8"];
    spaces.iter().flat_map(|space| shapes.map(|shape| format!("{opcode}.{space}.{shape}"))).collect()
}

/// Elements, and the type of one.
fn shape(name: &str) -> (usize, ScalarType) {
    let parts: Vec<&str> = name.split('.').collect();
    let count = if parts.contains(&"v4") {
        4
    } else if parts.contains(&"v2") {
        2
    } else {
        1
    };
    (count, parts.last().and_then(|ty| ScalarType::from_name(ty)).unwrap_or(B32))
}

/// A register that takes a loaded value: wider than an integer that can be extended.
fn container(ty: ScalarType) -> ScalarType {
    match ty {
        ScalarType::F16 | ScalarType::Bf16 | B16 => B16,
        _ if ty.bytes() == 8 => B64,
        ScalarType::F32 => B32,
        ScalarType::S32 | ScalarType::U32 => B64,
        _ => B32,
    }
}

fn element(bytes: &[u8], k: usize, ty: ScalarType) -> u64 {
    let size = ty.bytes() as usize;
    let value = (0..size).rev().fold(0u64, |all, i| all << 8 | u64::from(bytes[k * size + i]));
    let signed = matches!(ty, ScalarType::S8 | ScalarType::S16 | ScalarType::S32 | ScalarType::S64);
    let negative = signed && value >> (8 * size - 1) == 1;
    let extended = if negative && size < 8 { value | u64::MAX << (8 * size) } else { value };
    extended & device::mask(container(ty))
}

fn list(prefix: &str, count: usize) -> String {
    let names: Vec<String> = (0..count).map(|k| format!("%{prefix}{k}")).collect();
    if count == 1 { names.concat() } else { format!("{{{}}}", names.join(", ")) }
}

fn random_words(count: usize, seed: u64) -> Vec<Vec<u64>> {
    let mut random = Random(seed);
    (0..BLOCK).map(|_| (0..count).map(|_| random.next()).collect()).collect()
}

/// 16 bytes of the thread's own in a space, their address in `%p`.
fn scratch(space: &str) -> String {
    match space {
        "local" => ".local .align 16 .b8 own[16];\n.reg .b32 %p;\nmov.u32 %p, own;\n".to_owned(),
        _ => ".shared .align 16 .b8 all[2048];\n.reg .b32 %p;\nmov.u32 %p, %tid.x;\nshl.b32 %p, %p, 4;\n\
              mov.u32 %i3, all;\nadd.u32 %p, %p, %i3;\n"
            .to_owned(),
    }
}

/// Name, instructions and where its bytes come from: the sample, the kernel's parameters or the table.
fn load(name: &str) -> Snippet {
    let (count, ty) = shape(name);
    let space = name.split('.').find(|part| {
        matches!(*part, "shared" | "shared::cta" | "local" | "param" | "param::entry" | "const")
    });
    let target = list("d", count);
    let hint = if name.contains("cache_hint") { ", %a3" } else { "" };
    let setup = match space {
        Some(space @ ("shared" | "shared::cta" | "local")) => {
            format!("{}st.{space}.v2.b64 [%p], {{%s0, %s1}};\n", scratch(space))
        }
        _ => "mov.b64 %a3, 0;\n".to_owned(),
    };
    let address = match space {
        Some("shared" | "shared::cta" | "local") => "%p",
        Some("const") => "table",
        Some(_) => "in",
        None => "%a0",
    };
    let body = format!("{setup}{name} {target}, [{address}]{hint};");
    Snippet { body, src: vec![B64; 2], dst: vec![container(ty); count] }
}

#[test]
fn loads_read_what_is_there() {
    let names = [loads("ld"), loads("ldu"), spaces("ld")].concat();
    // The parameters hold addresses, which are looked at in a test of their own.
    let names: Vec<String> = names.into_iter().filter(|name| !name.contains("param")).collect();
    let snippets: Vec<Snippet> = names.iter().map(|name| load(name)).collect();
    let samples: Vec<_> = (0..names.len()).map(|k| random_words(2, k as u64)).collect();
    let results = device::run(&snippets.iter().collect::<Vec<_>>(), &samples);
    for ((name, samples), results) in names.iter().zip(&samples).zip(results) {
        let (count, ty) = shape(name);
        for (sample, got) in samples.iter().zip(results) {
            let bytes: Vec<u8> = match name.contains("const") {
                true => TABLE.to_vec(),
                false => sample.iter().flat_map(|word| word.to_le_bytes()).collect(),
            };
            let want: Vec<u64> = (0..count).map(|k| element(&bytes, k, ty)).collect();
            assert_eq!(got, want, "{name} of {bytes:02X?}");
        }
    }
}

#[test]
fn parameters_are_read() {
    for space in ["param", "param::entry"] {
        // The first parameter is the address that `%a0` was made of: 96 bytes before it for each thread before this.
        let body = format!(
            "ld.{space}.b64 %a3, [in];\nmul.wide.u32 %a2, %i0, 96;\nadd.u64 %a3, %a3, %a2;\nsub.u64 %d0, %a0, %a3;\n\
             ld.{space}.v2.b32 {{%d1, %d2}}, [in];\nld.{space}.u32 %d3, [in+4];\nld.{space}.s8 %d4, [in];\n\
             ld.{space}.b16 %d5, [in];\nld.{space}.v4.u8 {{%d6, %d7, %d8, %d9}}, [in];"
        );
        let dst = vec![B64, B32, B32, B32, B32, B16, B32, B32, B32, B32];
        let results = device::run(&[&Snippet { body, src: vec![B64], dst }], &[random_words(1, 3)]);
        for got in &results[0] {
            assert_eq!((got[0], got[2]), (0, got[3]));
            let low = got[1];
            assert_eq!(got[4], u64::from((low as u8) as i8 as u32));
            assert_eq!(got[5], low & 0xFFFF);
            assert_eq!(got[6..], [0, 8, 16, 24].map(|shift| low >> shift & 0xFF));
        }
    }
}

fn store(name: &str) -> Snippet {
    let (count, ty) = shape(name);
    let space = name.split('.').find(|part| matches!(*part, "shared" | "shared::cta" | "local"));
    let hint = if name.contains("cache_hint") { ", %a3" } else { "" };
    let (setup, address, read) = match space {
        Some(space) => (scratch(space), "%p", format!("ld.{space}.v2.b64")),
        None => ("mov.b64 %a3, 0;\n".to_owned(), "%a1+32", "ld.global.v2.b64".to_owned()),
    };
    let poison = space
        .map_or(String::new(), |space| format!("st.{space}.v2.b64 [{address}], {{{POISON}, {POISON}}};\n"));
    let body = format!(
        "{setup}{poison}{name} [{address}], {}{hint};\n{read} {{%d0, %d1}}, [{address}];",
        list("s", count)
    );
    let register = if ty.bytes() == 1 { B16 } else { ty };
    Snippet { body, src: vec![register; count], dst: vec![B64; 2] }
}

#[test]
fn stores_change_their_bytes_only() {
    let names = [stores(), spaces("st")].concat();
    let snippets: Vec<Snippet> = names.iter().map(|name| store(name)).collect();
    let samples: Vec<_> = (0..names.len()).map(|k| random_words(4, 100 + k as u64)).collect();
    let results = device::run(&snippets.iter().collect::<Vec<_>>(), &samples);
    for ((name, samples), results) in names.iter().zip(&samples).zip(results) {
        let (count, ty) = shape(name);
        let size = ty.bytes() as usize;
        for (sample, got) in samples.iter().zip(results) {
            let mut want = POISON.to_le_bytes().repeat(2);
            for k in 0..count {
                want[k * size..(k + 1) * size].copy_from_slice(&sample[k].to_le_bytes()[..size]);
            }
            let got: Vec<u8> = got.iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(got, want, "{name} of {sample:X?}");
        }
    }
}

#[test]
fn asynchronous_copies_arrive() {
    let waits = ["cp.async.commit_group;\ncp.async.wait_group 0;", "cp.async.wait_all;"];
    for (k, (name, bytes, rest)) in COPIES.into_iter().enumerate() {
        for wait in waits {
            // A register gives the bytes to read, the others become zero.
            let body = format!(
                "{}st.shared.v2.b64 [%p], {{{POISON}, {POISON}}};\nmov.b64 %a3, 0;\nand.b32 %i3, %s2, {};\n\
                 {name} [%p], [%a0], {bytes}{rest};\n{wait}\nld.shared.v2.b64 {{%d0, %d1}}, [%p];",
                scratch("shared"),
                bytes - 1
            );
            let samples = random_words(3, 200 + k as u64);
            let snippet = Snippet { body, src: vec![B64, B64, B32], dst: vec![B64; 2] };
            let results = device::run(&[&snippet], std::slice::from_ref(&samples));
            for (sample, got) in samples.iter().zip(&results[0]) {
                let read = match rest {
                    ", %i3" => sample[2] as usize & (bytes - 1),
                    ", 0" => 0,
                    _ => bytes,
                };
                let source: Vec<u8> = sample[..2].iter().flat_map(|word| word.to_le_bytes()).collect();
                let mut want = POISON.to_le_bytes().repeat(2);
                want[..bytes].fill(0);
                want[..read].copy_from_slice(&source[..read]);
                let got: Vec<u8> = got.iter().flat_map(|word| word.to_le_bytes()).collect();
                assert_eq!(got, want, "{name} {bytes}{rest}, {read} read, then {wait}");
            }
        }
    }
}

#[test]
fn hints_change_nothing() {
    for text in HINTS.iter().flat_map(|(_, texts)| *texts) {
        let snippet =
            Snippet { body: format!("{text}\nadd.u64 %d0, %s0, 1;"), src: vec![B64], dst: vec![B64] };
        let samples = random_words(1, 5);
        let results = device::run(&[&snippet], std::slice::from_ref(&samples));
        for (sample, got) in samples.iter().zip(&results[0]) {
            assert_eq!(got[0], sample[0].wrapping_add(1), "{text}");
        }
    }
}
