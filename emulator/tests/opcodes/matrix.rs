//! `ldmatrix`, `stmatrix` and `mma.sync`, by the PTX manual's tables of fragments.

use crate::device::{self, BLOCK, Snippet};
use crate::exact::Random;
use ptx_emulator::ptx::ast::ScalarType::B32;

const PATTERNS: [&str; 5] = [
    "ldmatrix.sync.aligned.m8n8{.x1|.x2|.x4}[.trans][.shared|.shared::cta].b16",
    "stmatrix.sync.aligned.m8n8{.x1|.x2|.x4}[.trans][.shared|.shared::cta].b16",
    "mma.sync.aligned{.m16n8k4|.m16n8k8}.row.col.f32.tf32.tf32.f32",
    "mma.sync.aligned{.m16n8k8|.m16n8k16}.row.col.f32.bf16.bf16.f32",
    "mma.sync.aligned{.m16n8k8|.m16n8k16}.row.col{.f32|.f16}.f16.f16{.f32|.f16}",
];

pub(crate) fn families() -> Vec<(&'static str, Vec<String>)> {
    let products = |ty: &str| products().into_iter().filter(|name| name.contains(ty)).collect();
    vec![
        (PATTERNS[0], moves("ldmatrix")),
        (PATTERNS[1], moves("stmatrix")),
        (PATTERNS[2], products(".tf32")),
        (PATTERNS[3], products(".bf16")),
        (PATTERNS[4], products(".f16.f16")),
    ]
}

fn moves(opcode: &str) -> Vec<String> {
    let mut all = Vec::new();
    for count in ["x1", "x2", "x4"] {
        for rest in [".shared.b16", ".trans.shared.b16", ".shared::cta.b16", ".trans.b16", ".b16"] {
            all.push(format!("{opcode}.sync.aligned.m8n8.{count}{rest}"));
        }
    }
    all
}

fn products() -> Vec<String> {
    let shapes = [
        ("m16n8k4", "f32.tf32.tf32.f32"),
        ("m16n8k8", "f32.tf32.tf32.f32"),
        ("m16n8k8", "f32.bf16.bf16.f32"),
        ("m16n8k16", "f32.bf16.bf16.f32"),
        ("m16n8k8", "f32.f16.f16.f32"),
        ("m16n8k16", "f32.f16.f16.f32"),
        ("m16n8k8", "f16.f16.f16.f16"),
        ("m16n8k16", "f16.f16.f16.f16"),
    ];
    shapes.iter().map(|(shape, types)| format!("mma.sync.aligned.{shape}.row.col.{types}")).collect()
}

fn list(prefix: &str, from: usize, count: usize) -> String {
    let names: Vec<String> = (from..from + count).map(|k| format!("%{prefix}{k}")).collect();
    format!("{{{}}}", names.join(", "))
}

fn random_samples(words: usize) -> Vec<Vec<u64>> {
    let mut random = Random(32);
    (0..2 * BLOCK).map(|_| (0..words).map(|_| random.next() & 0xFFFF_FFFF).collect()).collect()
}

/// The lane's own 16 bytes of shared memory at `%p`, or at the generic address `%g`.
const ROWS: &str = ".shared .align 16 .b8 rows[2048];\n.reg .b32 %p;\n.reg .b64 %g;\nmov.u32 %p, %tid.x;\nshl.b32 %p, %p, 4;\n\
    mov.u32 %i3, rows;\nadd.u32 %p, %p, %i3;\ncvt.u64.u32 %g, %p;\ncvta.shared.u64 %g, %g;\n";

/// Half `part` of the word that `lane` holds of the matrix whose rows are `rows`: rows of four words.
fn half(rows: &[Vec<u64>], row: usize, column: usize) -> u64 {
    rows[row][column / 2] >> (16 * (column % 2)) & 0xFFFF
}

fn fragment(rows: &[Vec<u64>], lane: usize, transposed: bool) -> u64 {
    let (row, column) = (lane / 4, lane % 4 * 2);
    let at = |part: usize| {
        if transposed { half(rows, column + part, row) } else { half(rows, row, column + part) }
    };
    at(0) | at(1) << 16
}

fn count(name: &str) -> usize {
    if name.contains("x1") {
        1
    } else if name.contains("x2") {
        2
    } else {
        4
    }
}

fn address(name: &str) -> &'static str {
    if name.contains("shared") { "[%p]" } else { "[%g]" }
}

#[test]
fn matrices_are_loaded() {
    for name in moves("ldmatrix") {
        let count = count(&name);
        let body = format!(
            "{ROWS}st.shared.v4.b32 [%p], {};\nbar.sync 0;\n{name} {}, {};",
            list("s", 0, 4),
            list("d", 0, count),
            address(&name)
        );
        let snippet = Snippet { body, src: vec![B32; 4], dst: vec![B32; count] };
        let samples = random_samples(4);
        let results = device::run(&[&snippet], std::slice::from_ref(&samples));
        for (rows, results) in samples.chunks(32).zip(results[0].chunks(32)) {
            for (lane, got) in results.iter().enumerate() {
                let want: Vec<u64> = rows
                    .chunks(8)
                    .take(count)
                    .map(|rows| fragment(rows, lane, name.contains("trans")))
                    .collect();
                assert_eq!(*got, want, "{name}, lane {lane}");
            }
        }
    }
}

#[test]
fn matrices_are_stored() {
    for name in moves("stmatrix") {
        let count = count(&name);
        let body = format!(
            "{ROWS}st.shared.v4.b32 [%p], {};\nbar.sync 0;\n{name} {}, {};\nbar.sync 0;\nld.shared.v4.b32 {}, [%p];",
            list("s", 0, 4),
            address(&name),
            list("s", 0, count),
            list("d", 0, 4)
        )
        .replace(&format!("{name} {}, {};", address(&name), list("s", 0, count)), &format!("{name} {}, {};", address(&name), list("s", 4, count)));
        let snippet = Snippet { body, src: vec![B32; 4 + count], dst: vec![B32; 4] };
        let samples = random_samples(4 + count);
        let results = device::run(&[&snippet], std::slice::from_ref(&samples));
        for (inputs, results) in samples.chunks(32).zip(results[0].chunks(32)) {
            for matrix in 0..4 {
                let rows = &results[8 * matrix..8 * matrix + 8];
                for (lane, input) in inputs.iter().enumerate() {
                    if matrix < count {
                        assert_eq!(
                            fragment(rows, lane, name.contains("trans")),
                            input[4 + matrix],
                            "{name}, lane {lane}"
                        );
                    }
                }
                // Rows that no matrix takes keep what was there.
                let kept = rows.iter().zip(&inputs[8 * matrix..]).all(|(row, input)| row[..] == input[..4]);
                assert_eq!(kept, matrix >= count, "{name}, matrix {matrix}");
            }
        }
    }
}

/// Elements to a register, and the inner dimension.
fn shape(name: &str) -> (usize, usize) {
    let k = if name.contains("k16") {
        16
    } else if name.contains("k8") {
        8
    } else {
        4
    };
    (if name.contains("tf32") { 1 } else { 2 }, k)
}

/// Row and column in A, and row in B, of element `i` of lane `lane`; the manual's cases in one formula each.
fn places(name: &str, lane: usize, i: usize) -> ((usize, usize), (usize, usize)) {
    let (width, _) = shape(name);
    let (group, member) = (lane / 4, lane % 4);
    let (lower, right) = match width {
        1 => (i == 1 || i == 3, 4 * usize::from(i >= 2)),
        _ => (matches!(i, 2 | 3 | 6 | 7), 8 * usize::from(i >= 4)),
    };
    let inner = member * width + i % width;
    let b_row = inner + 4 * width * (i / width);
    ((group + 8 * usize::from(lower), inner + right), (b_row, group))
}

fn decode(name: &str, word: u64, part: usize) -> f64 {
    match name {
        _ if name.contains("tf32") => f64::from(f32::from_bits(word as u32 & 0xFFFF_E000)),
        _ if name.contains("bf16") => half::bf16::from_bits((word >> (16 * part)) as u16).to_f64(),
        _ => half::f16::from_bits((word >> (16 * part)) as u16).to_f64(),
    }
}

/// Small multiples of 1/8: products and sums of sixteen are exact.
fn small(name: &str, random: &mut Random) -> u64 {
    let mut number = || (random.next() % 65) as f32 / 8.0 - 4.0;
    match name {
        // The bits below tf32's must not count.
        _ if name.contains("tf32") => u64::from(number().to_bits() | 0x1555),
        _ if name.contains("bf16") => [number(), number()]
            .iter()
            .rev()
            .fold(0, |all, x| all << 16 | u64::from(half::bf16::from_f32(*x).to_bits())),
        _ => [number(), number()]
            .iter()
            .rev()
            .fold(0, |all, x| all << 16 | u64::from(half::f16::from_f32(*x).to_bits())),
    }
}

#[test]
fn products_of_fragments() {
    let mut random = Random(33);
    for name in products() {
        let (width, k) = shape(&name);
        let (a, b) = (k / 2 / width, k / 4 / width);
        let half_sums = name.ends_with("f16.f16");
        let sums = if half_sums { 2 } else { 4 };
        let operands =
            [list("d", 0, sums), list("s", 0, a), list("s", a, b), list("s", a + b, sums)].join(", ");
        let snippet = Snippet {
            body: format!("{name} {operands};"),
            src: vec![B32; a + b + sums],
            dst: vec![B32; sums],
        };
        let samples: Vec<Vec<u64>> = (0..BLOCK)
            .map(|_| {
                let sum = |random: &mut Random| {
                    if half_sums {
                        small(&name, random)
                    } else {
                        u64::from(((random.next() % 9) as f32 - 4.0).to_bits())
                    }
                };
                (0..a + b)
                    .map(|_| small(&name, &mut random))
                    .chain((0..sums).map(|_| 0))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .enumerate()
                    .map(|(k, word)| if k < a + b { word } else { sum(&mut random) })
                    .collect()
            })
            .collect();
        let results = device::run(&[&snippet], std::slice::from_ref(&samples));
        for (inputs, results) in samples.chunks(32).zip(results[0].chunks(32)) {
            check_product(&name, (a, b, sums), inputs, results);
        }
    }
}

fn check_product(name: &str, (a, b, sums): (usize, usize, usize), inputs: &[Vec<u64>], results: &[Vec<u64>]) {
    let (width, k) = shape(name);
    let (mut left, mut right) = ([[0.0; 16]; 16], [[0.0; 8]; 16]);
    for (lane, input) in inputs.iter().enumerate() {
        for i in 0..a * width {
            let (row, column) = places(name, lane, i).0;
            left[row][column] = decode(name, input[i / width], i % width);
        }
        for i in 0..b * width {
            let (row, column) = places(name, lane, i).1;
            right[row][column] = decode(name, input[a + i / width], i % width);
        }
    }
    for (lane, (input, got)) in inputs.iter().zip(results).enumerate() {
        for i in 0..4 {
            let (row, column) = (lane / 4 + 8 * (i / 2), lane % 4 * 2 + i % 2);
            let product: f64 = (0..k).map(|inner| left[row][inner] * right[inner][column]).sum();
            let number = |words: &[u64]| match sums {
                4 => f64::from(f32::from_bits(words[i] as u32)),
                _ => half::f16::from_bits((words[i / 2] >> (16 * (i % 2))) as u16).to_f64(),
            };
            let exact = number(&input[a + b..]) + product;
            let want = if sums == 4 { exact } else { half::f16::from_f64(exact).to_f64() };
            assert_eq!(number(got), want, "{name}, lane {lane}, element {i}");
        }
    }
}
