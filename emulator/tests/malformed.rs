//! Hostile PTX: whatever the bytes, the parser and the loader answer, soon, with a module or an error that has a place.

use proptest::prelude::*;
use ptx_emulator::exec::{Program, Settings};
use ptx_emulator::memory::DeviceMemory;
use ptx_emulator::ptx::{ParseError, parse};
use std::time::{Duration, Instant};

const FIXTURES: [&str; 3] = [
    include_str!("fixtures/features.ptx"),
    include_str!("fixtures/tensor.ptx"),
    include_str!("fixtures/hopper.ptx"),
];

/// Parses, and holds the answer to what every caller relies on.
fn probe(source: &str) -> Result<(), ParseError> {
    let start = Instant::now();
    let answer = parse(source).map(drop);
    assert!(start.elapsed() < Duration::from_secs(5), "{} bytes took {:?}", source.len(), start.elapsed());
    if let Err(error) = &answer {
        assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty(), "{error:?}");
        assert!(error.line as usize <= source.lines().count() + 1, "{error:?}");
        assert!(error.text.chars().count() <= 160, "{error:?}");
    }
    answer
}

/// Kernels that load, whose mutants get past the parser more often than not.
const KERNELS: [&str; 3] = [
    include_str!("fixtures/tensor.ptx"),
    include_str!("kernels/basic.ptx"),
    include_str!("kernels/checks.ptx"),
];

/// Loads: parses, resolves every instruction and places the variables in a small memory.
fn load(source: &str) -> bool {
    let memory = DeviceMemory::new(1 << 20);
    let start = Instant::now();
    let answer = Program::load(source, &Settings::default(), &memory);
    assert!(start.elapsed() < Duration::from_secs(5), "{} bytes took {:?}", source.len(), start.elapsed());
    match answer {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.message.is_empty(), "{error:?}");
            false
        }
    }
}

/// Changes bytes here and there: replaced, flipped, removed, punctuation or a copied word put in.
fn mutate(source: &str, edits: &[(f64, u8, u8)]) -> String {
    let mut bytes = source.as_bytes().to_vec();
    let words: Vec<&str> = source.split_whitespace().collect();
    for (place, edit, byte) in edits {
        let at = (bytes.len() as f64 * place) as usize;
        match edit % 5 {
            0 => bytes[at] = *byte,
            1 => bytes[at] ^= 1 << (byte % 8),
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, b"{}[]();,.:@!|%<>0\"\n"[usize::from(*byte) % 19]),
            _ => {
                // A word of the same text in place of the rest of this one: often still good grammar.
                let end = bytes[at..]
                    .iter()
                    .position(u8::is_ascii_whitespace)
                    .map_or(bytes.len(), |length| at + length);
                let word = words[(place * 1e9) as usize % words.len()];
                bytes.splice(at..end, word.bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn kernel(statements: &str) -> String {
    format!(".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{{\n{statements}\n}}\n")
}

fn rejected(source: &str, message: &str) {
    match probe(source) {
        Ok(()) => panic!("accepted: {}", source.chars().take(80).collect::<String>()),
        Err(error) => assert!(error.message.contains(message), "{error}"),
    }
}

#[test]
fn every_truncation() {
    for source in FIXTURES {
        // Every cut near the ends, where the directives are, and one in seven between.
        let cuts = (0..source.len()).filter(|cut| *cut < 3000 || cut % 7 == 0);
        for cut in cuts {
            let text = source.get(..cut).unwrap_or_default();
            let depth = text.matches('{').count() as i64 - text.matches('}').count() as i64;
            // Cut inside a body, a truncation can never pass.
            assert!(probe(text).is_err() || depth <= 0, "cut at {cut} accepted");
        }
    }
}

#[test]
fn errors_name_the_place() {
    let error =
        probe(&kernel("mov.u32 %r1, 1;\n  add.u32 %r1, %r1 %r2;\nret;")).expect_err("a comma is missing");
    assert_eq!((error.line, error.column), (7, 20));
    assert_eq!(error.text, "add.u32 %r1, %r1 %r2;");
    assert_eq!(
        error.to_string(),
        "PTX line 7, column 20: `;` expected, `%r2` found\n    add.u32 %r1, %r1 %r2;"
    );
    rejected(&kernel(".frobnicate 3;"), "directive that this emulator knows");
    rejected(".version 8.0\n.target sm_80\n.address_size 32\n", "not supported");
    rejected(".version 8.0\n.target compute_80\n", "no target");
    rejected("\u{feff}.version 8.0", "no place in PTX");
    rejected("", "`.version` expected, the end of the text found");
}

#[test]
fn depth_is_bounded() {
    let deep = 200_000;
    rejected(&kernel(&"{".repeat(deep)), "nested too deeply");
    rejected(&kernel(&format!("mov.b32 %r1, {};", "{".repeat(deep))), "nested too deeply");
    rejected(&kernel(&format!("mov.b32 %r1, {}1;", "(".repeat(deep))), "nested too deeply");
    rejected(&kernel(&format!("mov.b32 %r1, {}1;", "-".repeat(deep))), "nested too deeply");
    rejected(&kernel(&format!("mov.b32 {}_;", "_|".repeat(deep))), "nested too deeply");
    rejected(&kernel(&format!("call {};", "(a,".repeat(deep))), "nested too deeply");
    rejected(
        &format!(".version 8.0\n.target sm_80\n.global .b8 x[] = {};", "{".repeat(deep)),
        "nested too deeply",
    );
    let section = format!(".version 8.0\n.target sm_80\n.section .debug {}", "{".repeat(deep));
    rejected(&section, "end of the section");
}

#[test]
fn counts_are_bounded() {
    rejected(&kernel(".reg .b32 %r<4294967295>;"), "2^20 registers");
    rejected(&kernel(&".reg .b32 %r<65536>;".repeat(17)), "2^20 registers");
    rejected(&kernel(".shared .b64 x[4294967295][4294967295][4294967295];"), "larger than any device");
    rejected(&kernel(".shared .b64 x[-1];"), "larger than any device");
    rejected(&kernel(".local .b64 x[9223372036854775807 * 2];"), "larger than any device");
    rejected(&kernel(&format!("mov.b32 {}%r1;", "%r1, ".repeat(600))), "more than 512 operands");
    rejected(&kernel(&format!("mov{} %r1;", ".b32".repeat(40))), "more than 32 modifiers");
    rejected(".version 8.0\n.target sm_80\n.global .b8 x[2] = {1, 2, 3};", "3 initial values for 2 elements");
    rejected(&kernel("mov.b64 %rd1, 18446744073709551616;"), "64 bits");
    rejected(&kernel("mov.b64 %rd1, 18446744073709551615 * 2;"), "does not fit");
    rejected(&kernel("mov.b64 %rd1, 1 / 0;"), "divides by zero");
    rejected(&kernel("mov.b64 %rd1, 1 << 200;"), "cannot be computed");
    rejected(&kernel(".shared .align 3 .b8 x;"), "power of two");
    rejected(&" ".repeat((64 << 20) + 1), "longer than 64 MiB");
}

#[test]
fn long_inputs_stay_linear() {
    let statement = "add.u32 %r1, %r1, %r2;\n";
    assert_eq!(probe(&kernel(&statement.repeat(100_000))), Ok(()));
    assert_eq!(probe(&kernel(&format!("mov.b32 %r1, {}1;", "1+".repeat(1 << 20)))), Ok(()));
}

/// Words that lead deep into the grammar when strung together at random.
fn word() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        ".reg",
        ".b32",
        ".pred",
        "%r<4>",
        ".shared",
        ".align",
        "16",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        ";",
        ",",
        ":",
        "@",
        "!",
        "|",
        "+",
        "-",
        "*",
        "<<",
        "=",
        "ld.global.v4.f32",
        "bra",
        "call",
        "mov.u32",
        "%r1",
        "%tid.x",
        "_",
        "0f3F800000",
        "0x10",
        "1.5",
        ".entry",
        ".func",
        ".visible",
        "name",
        "generic",
        ".branchtargets",
        ".callprototype",
        ".pragma",
        "\"x\"",
        ".loc",
        ".section",
        "\n",
        "WARP_SZ",
        ".maxntid",
        ".param",
        ".L2::128B",
        "//",
        "/*",
        "*/",
    ]);
    prop_oneof![9 => fixed.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = probe(&text);
        let _ = probe(&kernel(&text));
    }

    #[test]
    fn random_words(words in prop::collection::vec(word(), 0..120)) {
        let text = words.join(" ");
        let _ = probe(&format!(".version 8.0\n.target sm_80\n{text}"));
        let _ = probe(&kernel(&text));
    }

    #[test]
    fn spliced(first in 0..3usize, second in 0..3usize, cut in 0.0..1.0f64, resume in 0.0..1.0f64) {
        let at = |text: &str, share: f64| (text.len() as f64 * share) as usize;
        let (head, tail) = (FIXTURES[first], FIXTURES[second]);
        let text = [head.get(..at(head, cut)), tail.get(at(tail, resume)..)].map(Option::unwrap_or_default).concat();
        let _ = probe(&text);
    }

    #[test]
    fn mutated(which in 0..3usize, edits in prop::collection::vec((0.0..1.0f64, any::<u8>(), any::<u8>()), 1..8)) {
        let _ = probe(&mutate(FIXTURES[which], &edits));
    }

    #[test]
    fn mutated_and_loaded(which in 0..3usize, edits in prop::collection::vec((0.0..1.0f64, any::<u8>(), any::<u8>()), 1..5)) {
        load(&mutate(KERNELS[which], &edits));
    }

    #[test]
    fn random_words_loaded(words in prop::collection::vec(word(), 0..60)) {
        load(&format!(".version 8.0\n.target sm_80\n{}", words.join(" ")));
        load(&kernel(&words.join(" ")));
    }
}

#[test]
fn the_kernels_load_unharmed() {
    for source in KERNELS {
        assert!(load(source));
    }
}

#[test]
fn sizes_that_no_device_has_are_refused() {
    let module =
        |variable: &str| format!(".version 8.0\n.target sm_80\n{variable}\n.visible .entry k() {{ ret; }}\n");
    for variable in [".global .b64 x[100000000000];", ".const .b8 x[1099511627776];"] {
        assert!(!load(&module(variable)), "{variable}");
    }
    for variable in [".shared .b64 x[100000000000];", ".local .b64 x[100000000000];"] {
        assert!(!load(&kernel(&format!("{variable}\nmov.u64 %rd1, x;"))), "{variable}");
    }
}

#[test]
fn operands_that_no_form_takes_are_refused() {
    let registers =
        ".reg .pred %p<4>;\n.reg .b16 %h<4>;\n.reg .b32 %r<4>;\n.reg .b64 %d<4>;\n.shared .b32 x;\nL:\n";
    let operands = [
        "%p0",
        "!%p1",
        "%h0",
        "%r0",
        "%d0",
        "_",
        "5",
        "1.5",
        "0f3F800000",
        "x",
        "L",
        "[x]",
        "[%r1]",
        "[%d1+4]",
        "{%r0, %r1}",
        "{}",
        "%r0|%p0",
        "%tid.x",
        "(%r0)",
        "[%d0, {%r0}]",
        "%nothing",
    ];
    let forms = ptx_emulator::exec::accepted_forms();
    for form in &forms {
        // The first alternative of each part of a pattern.
        let name =
            form.split(['[', '{', '|', ']', '}', ' ']).find(|part| !part.is_empty()).unwrap_or_default();
        for count in 0..6 {
            for shift in (count % 4..operands.len()).step_by(4) {
                let list: Vec<&str> =
                    (0..count).map(|k| operands[(shift + k * 5) % operands.len()]).collect();
                load(&kernel(&format!("{registers}{name} {};", list.join(", "))));
            }
        }
    }
}
