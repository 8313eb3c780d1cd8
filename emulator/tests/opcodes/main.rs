//! Every instruction form that the emulator accepts, run in a kernel of its own and compared with an independent
//! statement of what it computes. One mechanism: a form's name gives its operands (`signature`), an oracle gives the
//! results (`oracle`), and a generated kernel applies the instruction to one sample per thread (`device`).

mod arithmetic;
mod atomics;
mod barriers;
mod control;
mod convert;
mod device;
#[path = "../scalar/oracle.rs"]
mod exact;
mod matrix;
mod memory;
mod oracle;
mod samples;
mod signature;
mod spaces;
mod warp;

use std::collections::{BTreeMap, BTreeSet};

/// The list of accepted forms cannot grow without a case here: neither by a form, nor by a word in a family's pattern.
#[test]
fn every_accepted_form_has_a_case() {
    let lists = [
        atomics::families(),
        barriers::families(),
        control::families(),
        convert::families(),
        matrix::families(),
        memory::families(),
        spaces::families(),
        warp::families(),
    ];
    let families: BTreeMap<&str, Vec<String>> = lists.into_iter().flatten().collect();
    let accepted = ptx_emulator::exec::accepted_forms();
    let missing: Vec<&String> = accepted
        .iter()
        .filter(|form| !families.contains_key(form.as_str()) && !arithmetic::has_case(form))
        .collect();
    assert!(missing.is_empty(), "forms without a test: {missing:#?}");
    for (pattern, names) in families {
        assert!(accepted.iter().any(|form| form == pattern), "{pattern} is tested but not accepted");
        let tested: BTreeSet<&str> = names.iter().flat_map(|name| name.split('.')).collect();
        let words = pattern.split(['.', '[', ']', '{', '}', '|']).filter(|word| !word.is_empty());
        let untested: Vec<&str> = words.filter(|word| !tested.contains(word)).collect();
        assert!(untested.is_empty(), "{pattern}: no test has {untested:?}");
    }
}
