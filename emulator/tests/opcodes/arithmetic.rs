//! The arithmetic forms of the table.

use crate::device::{self, mask};
use crate::oracle;
use crate::samples;
use crate::signature::form;
use ptx_emulator::exec::accepted_forms;
use ptx_emulator::ptx::ast::ScalarType;

/// Whether a form has operands and an oracle.
pub(crate) fn has_case(name: &str) -> bool {
    form(name).is_some_and(|form| {
        let sample: Vec<u64> = form.snippet.src.iter().map(|_| 1).collect();
        oracle::expected(&form, &sample).is_some()
    })
}

/// Runs all forms of a group on edge values and random ones.
fn check(group: impl Fn(&str, ScalarType) -> bool) {
    let names = accepted_forms();
    let forms: Vec<_> = names
        .iter()
        .filter_map(|name| form(name).map(|form| (name, form)))
        .filter(|(_, form)| group(form.opcode, form.ty))
        .collect();
    assert!(!forms.is_empty(), "the group is empty");
    let snippets: Vec<_> = forms.iter().map(|(_, form)| &form.snippet).collect();
    let samples: Vec<_> = forms.iter().map(|(_, form)| samples::tuples(&form.snippet.src)).collect();
    let results = device::run(&snippets, &samples);
    for (((name, form), samples), results) in forms.iter().zip(&samples).zip(results) {
        for (sample, got) in samples.iter().zip(results) {
            let operands: Vec<u64> =
                sample.iter().zip(&form.snippet.src).map(|(bits, ty)| bits & mask(*ty)).collect();
            let expected =
                oracle::expected(form, &operands).unwrap_or_else(|| panic!("no oracle for {name}"));
            assert_eq!(expected.len(), got.len(), "{name}");
            for ((got, want), ty) in got.iter().zip(&expected).zip(&form.snippet.dst) {
                assert!(want.admits(*got, *ty), "{name} of {operands:X?}: {got:X}, not {want:X?}");
            }
        }
    }
}

fn is_half(ty: ScalarType) -> bool {
    matches!(ty, ScalarType::F16 | ScalarType::F16x2 | ScalarType::Bf16 | ScalarType::Bf16x2)
}

fn is_float(ty: ScalarType) -> bool {
    is_half(ty) || matches!(ty, ScalarType::F32 | ScalarType::F64 | ScalarType::Tf32)
}

fn compares(opcode: &str) -> bool {
    matches!(opcode, "set" | "setp" | "testp")
}

#[test]
fn integers_and_bits() {
    check(|opcode, ty| !is_float(ty) && !compares(opcode) && opcode != "cvt");
}

#[test]
fn comparisons() {
    check(|opcode, _| compares(opcode));
}

#[test]
fn singles() {
    check(|opcode, ty| ty == ScalarType::F32 && !compares(opcode) && opcode != "cvt");
}

#[test]
fn doubles() {
    check(|opcode, ty| ty == ScalarType::F64 && !compares(opcode) && opcode != "cvt");
}

#[test]
fn halves() {
    check(|opcode, ty| is_half(ty) && !compares(opcode) && opcode != "cvt");
}

#[test]
fn conversions() {
    check(|opcode, _| opcode == "cvt");
}
