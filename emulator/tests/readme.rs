//! The README's list of accepted instruction forms is the code's.

use ptx_emulator::exec::{accepted_forms, special_registers};
use std::collections::BTreeMap;
use std::path::Path;

const BEGIN: &str = "<!-- forms: begin -->\n";
const END: &str = "<!-- forms: end -->";

/// The accepted forms, an opcode's forms together. Plain names that differ in their last modifier only, or in those between, are drawn together:
/// `add.rm.f32`, `add.rn.f32`, `add.rm.f64`, `add.rn.f64` become `add{.rm|.rn}{.f32|.f64}`.
fn list() -> String {
    let forms = accepted_forms();
    let (plain, patterns): (Vec<_>, Vec<_>) = forms.iter().partition(|form| !form.contains(['[', '{', ' ']));
    // Opcode and last modifiers -> what stands between.
    let mut by_ends: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for form in plain {
        let (opcode, rest) = form.split_once('.').unwrap_or((form, ""));
        let (middle, last) = rest.rsplit_once('.').unwrap_or(("", rest));
        by_ends.entry((opcode, last)).or_default().push(middle);
    }
    let mut drawn: BTreeMap<(&str, Vec<&str>), Vec<&str>> = BTreeMap::new();
    for ((opcode, last), middles) in by_ends {
        drawn.entry((opcode, middles)).or_default().push(last);
    }
    let mut lines: Vec<String> = patterns.into_iter().cloned().collect();
    lines.extend(
        drawn
            .iter()
            .map(|((opcode, middles), lasts)| format!("{opcode}{}{}", choice(middles), choice(lasts))),
    );
    lines.sort();
    let registers = special_registers().join(", ");
    format!("```text\n{}\n```\n\nSpecial registers: {registers}.\n\n", lines.join("\n"))
}

/// `.a`, or `{.a|.b}`; what may be missing stands as an empty alternative.
fn choice(words: &[&str]) -> String {
    let dotted: Vec<String> =
        words.iter().map(|word| if word.is_empty() { String::new() } else { format!(".{word}") }).collect();
    if dotted.len() == 1 { dotted.concat() } else { format!("{{{}}}", dotted.join("|")) }
}

#[test]
fn the_readme_lists_the_accepted_forms() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).expect("the README is there");
    let (before, rest) = readme.split_once(BEGIN).expect("the list's beginning is marked");
    let (_, after) = rest.split_once(END).expect("the list's end is marked");
    let expected = format!("{before}{BEGIN}\n{}{END}{after}", list());
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, expected).expect("written");
    } else {
        assert!(
            readme == expected,
            "the list is out of date: UPDATE_README=1 cargo test -p ptx-emulator --test readme"
        );
    }
}
