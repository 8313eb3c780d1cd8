//! Barriers of a block, named and counted, with and without a reduction; fences.

use crate::device::{self, BLOCK, Snippet};
use crate::exact::Random;
use ptx_emulator::ptx::ast::ScalarType::{B32, Pred, U32};

const SYNCS: [&str; 5] = [
    "bar.sync 0;",
    "bar.cta.sync 3, 128;",
    "barrier.sync 0;",
    "barrier.cta.sync.aligned 5;",
    "barrier.sync.aligned 7, 128;",
];
const ARRIVALS: [(&str, &str); 3] = [
    ("bar.arrive 2, 128;", "bar.sync 2, 128;"),
    ("barrier.arrive.aligned 2, 128;", "barrier.sync.aligned 2, 128;"),
    ("barrier.cta.arrive 4, 128;", "barrier.cta.sync 4, 128;"),
];
const REDUCTIONS: [(&str, &str); 6] = [
    ("bar.red.popc.u32", "%d0, 0, %s0;"),
    ("bar.cta.red.and.pred", "%d0, 1, %s0;"),
    ("bar.red.or.pred", "%d0, 0, 128, %s0;"),
    ("barrier.red.popc.aligned.u32", "%d0, 0, 128, !%s0;"),
    ("barrier.cta.red.and.aligned.pred", "%d0, 0, %s0;"),
    ("barrier.red.or.pred", "%d0, 6, %s0;"),
];
const FENCES: [&str; 10] = [
    "membar.cta",
    "membar.gl",
    "membar.sys",
    "fence.sc.gpu",
    "fence.acq_rel.cta",
    "fence.acquire.cluster",
    "fence.release.sys",
    "fence.cta",
    "fence.sc.sys",
    "fence.acq_rel.gpu",
];

pub(crate) fn families() -> Vec<(&'static str, Vec<String>)> {
    let word = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    let syncs =
        SYNCS.into_iter().chain(ARRIVALS.into_iter().flat_map(|(first, second)| [first, second])).map(word);
    let reductions = REDUCTIONS.map(|(name, _)| name.to_owned());
    let (bar, barrier): (Vec<String>, Vec<String>) = syncs.partition(|name| name.starts_with("bar."));
    let (bar_red, barrier_red) = reductions.into_iter().partition(|name| name.starts_with("bar."));
    let (membar, fence) = FENCES.map(str::to_owned).into_iter().partition(|name| name.starts_with("membar"));
    vec![
        ("bar[.cta]{.sync|.arrive}", bar),
        ("barrier[.cta]{.sync|.arrive}[.aligned]", barrier),
        ("bar[.cta].red{.popc|.and|.or}{.u32|.pred}", bar_red),
        ("barrier[.cta].red{.popc|.and|.or}[.aligned]{.u32|.pred}", barrier_red),
        ("membar{.cta|.gl|.sys}", membar),
        ("fence[.sc|.acq_rel|.acquire|.release]{.cta|.cluster|.gpu|.sys}", fence),
    ]
}

const EXCHANGE: &str = ".shared .align 4 .b32 slots[128];\n.reg .b32 %p, %q;\n.reg .pred %first;\nmov.u32 %q, %tid.x;\n\
    setp.lt.u32 %first, %q, 64;\nshl.b32 %p, %q, 2;\nxor.b32 %q, %p, 508;\nmov.u32 %i3, slots;\n\
    add.u32 %p, %p, %i3;\nadd.u32 %q, %q, %i3;\n";

fn exchanged(body: String) -> Vec<u64> {
    let snippet = Snippet { body, src: vec![B32], dst: vec![B32] };
    let samples: Vec<Vec<u64>> = (0..BLOCK as u64).map(|thread| vec![thread * 5 + 2]).collect();
    device::run(&[&snippet], &[samples])[0].iter().map(|results| results[0]).collect()
}

#[test]
fn a_barrier_orders_shared_memory() {
    for sync in SYNCS {
        let got = exchanged(format!("{EXCHANGE}st.shared.b32 [%p], %s0;\n{sync}\nld.shared.b32 %d0, [%q];"));
        let want: Vec<u64> = (0..128).map(|thread| (127 - thread) * 5 + 2).collect();
        assert_eq!(got, want, "{sync}");
    }
}

#[test]
fn arrivals_release_those_that_wait() {
    for (arrive, sync) in ARRIVALS {
        // The first two warps write and arrive; the last two wait and read.
        let body = format!(
            "{EXCHANGE}mov.b32 %d0, 9;\n@!%first bra WAIT;\nst.shared.b32 [%p], %s0;\n{arrive}\nbra DONE;\n\
             WAIT:\n{sync}\nld.shared.b32 %d0, [%q];\nDONE:"
        );
        let want: Vec<u64> =
            (0..128).map(|thread| if thread < 64 { 9 } else { (127 - thread) * 5 + 2 }).collect();
        assert_eq!(exchanged(body), want, "{arrive}");
    }
}

#[test]
fn reductions_over_the_block() {
    let mut random = Random(31);
    for (name, operands) in REDUCTIONS {
        let popc = name.contains("popc");
        let body = format!("{name} {operands}");
        let snippet = Snippet { body, src: vec![Pred], dst: vec![if popc { U32 } else { Pred }] };
        // Blocks that agree on 0 or 1, one that differs by a thread, and a mixed one.
        let samples: Vec<Vec<u64>> = (0..4 * BLOCK)
            .map(|thread| vec![[0, 1, u64::from(thread % BLOCK != 77), random.next() & 1][thread / BLOCK]])
            .collect();
        let results = device::run(&[&snippet], std::slice::from_ref(&samples));
        for (inputs, results) in samples.chunks(BLOCK).zip(results[0].chunks(BLOCK)) {
            let ones = inputs.iter().filter(|one| (one[0] == 1) != operands.contains('!')).count();
            let want = match name.split('.').find(|part| matches!(*part, "popc" | "and" | "or")) {
                Some("popc") => ones,
                Some("and") => usize::from(ones == BLOCK),
                _ => usize::from(ones > 0),
            };
            assert!(results.iter().all(|got| got[0] == want as u64), "{name}: {results:?}, not {want}");
        }
    }
}

#[test]
fn fences_leave_values_alone() {
    for fence in FENCES {
        let got = exchanged(format!("{fence};\nadd.u32 %d0, %s0, 1;"));
        assert_eq!(got, (0..128).map(|thread| thread * 5 + 3).collect::<Vec<u64>>(), "{fence}");
    }
}
