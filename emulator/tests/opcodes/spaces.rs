//! `cvta` and `isspacep`: generic addresses and back.

use crate::device::{self, BLOCK, Snippet};
use ptx_emulator::ptx::ast::ScalarType::{B32, B64, Pred};

const SPACES: [&str; 7] = ["global", "shared", "shared::cta", "local", "const", "param", "param::entry"];

pub(crate) fn families() -> Vec<(&'static str, Vec<String>)> {
    let named = |prefix: &str, suffix: &str| SPACES.map(|space| format!("{prefix}.{space}{suffix}"));
    vec![
        (
            "cvta[.to]{.global|.shared|.shared::cta|.local|.const|.param|.param::entry}.u64",
            [named("cvta", ".u64"), named("cvta.to", ".u64")].concat(),
        ),
        (
            "isspacep{.global|.shared|.shared::cta|.local|.const|.param|.param::entry}",
            named("isspacep", "").to_vec(),
        ),
    ]
}

/// An address in the space, in `%p`, with the first source stored there where that is possible.
fn address(space: &str) -> &'static str {
    match space {
        "global" => "st.global.b32 [%a1+32], %s0;\nadd.u64 %p, %a1, 32;\n",
        "shared" | "shared::cta" => {
            ".shared .align 4 .b32 slots[128];\nmov.u64 %p, slots;\nmov.u32 %i3, %tid.x;\nmul.wide.u32 %a2, %i3, 4;\n\
             add.u64 %p, %p, %a2;\nst.shared.b32 [%p], %s0;\n"
        }
        "local" => ".local .align 4 .b32 own;\nmov.u64 %p, own;\nst.local.b32 [%p], %s0;\n",
        "const" => "mov.u64 %p, table;\n",
        _ => "mov.b64 %p, in;\n",
    }
}

#[test]
fn generic_addresses_lead_to_the_same_place() {
    for space in SPACES {
        let body = format!(
            ".reg .b64 %p, %g, %back;\n{}cvta.{space}.u64 %g, %p;\nld.b32 %d0, [%g];\ncvta.to.{space}.u64 %back, %g;\n\
             sub.u64 %d1, %back, %p;\nld.{space}.b32 %d2, [%back];",
            address(space)
        );
        let snippet = Snippet { body, src: vec![B32], dst: vec![B32, B64, B32] };
        let samples: Vec<Vec<u64>> = (0..BLOCK as u64).map(|thread| vec![thread * 7 + 5]).collect();
        let results = device::run(&[&snippet], std::slice::from_ref(&samples));
        for (sample, got) in samples.iter().zip(&results[0]) {
            let want = match space {
                "const" => 0x0403_82F1,
                // The address of the input, which no oracle knows.
                "param" | "param::entry" => got[2],
                _ => sample[0],
            };
            assert_eq!(*got, [want, 0, want], "{space}");
        }
    }
}

#[test]
fn a_space_knows_its_own_addresses() {
    for space in ["global", "shared", "local", "param"] {
        let body = format!(
            ".reg .b64 %p, %g;\n{}cvta.{space}.u64 %g, %p;\nisspacep.global %d0, %g;\nisspacep.shared %d1, %g;\n\
             isspacep.shared::cta %d2, %g;\nisspacep.local %d3, %g;\nisspacep.param %d4, %g;\n\
             isspacep.param::entry %d5, %g;\nisspacep.const %d6, %g;",
            address(space)
        );
        let results =
            device::run(&[&Snippet { body, src: vec![B32], dst: vec![Pred; 7] }], &[vec![vec![3]; BLOCK]]);
        let is = |name: &str| u64::from(space == name);
        let want = [is("global"), is("shared"), is("shared"), is("local"), is("param"), is("param")];
        // Constant memory shares its addresses with global memory here, so that the last answer is not looked at.
        assert!(results[0].iter().all(|got| got[..6] == want), "{space}: {:?}", results[0][0]);
    }
}
