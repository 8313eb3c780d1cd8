//! Shuffles, votes, matches and reductions over the lanes of a warp that take part.

use crate::device::{self, BLOCK, Snippet};
use crate::exact::Random;
use ptx_emulator::ptx::ast::ScalarType::{self, B32, B64, Pred, U32};

/// One warp's inputs: operands by lane, and the mask of the lanes that take part.
struct Warp<'a> {
    lanes: &'a [Vec<u64>],
    members: u32,
}

impl Warp<'_> {
    fn takes_part(&self, lane: usize) -> bool {
        self.members >> lane & 1 == 1
    }

    fn members(&self) -> impl Iterator<Item = usize> {
        (0..32).filter(|lane| self.takes_part(*lane))
    }
}

struct Case {
    name: String,
    /// The instruction; `%m` holds the mask.
    text: &'static str,
    src: &'static [ScalarType],
    dst: &'static [ScalarType],
    /// What lane `lane` gets.
    expected: fn(&str, &Warp<'_>, usize) -> Vec<u64>,
    /// Whether a few lanes stay out.
    partial: bool,
}

const PATTERNS: [&str; 9] = [
    "shfl.sync{.up|.down|.bfly|.idx}.b32",
    "vote.sync{.all|.any|.uni}.pred",
    "vote.sync.ballot.b32",
    "match{.any|.all}.sync{.b32|.b64}",
    "redux.sync{.add|.min|.max}{.u32|.s32}",
    "redux.sync{.and|.or|.xor}.b32",
    "elect.sync",
    "activemask.b32",
    "bar.warp.sync",
];

pub(crate) fn families() -> Vec<(&'static str, Vec<String>)> {
    let names: Vec<String> = cases().into_iter().map(|case| case.name).collect();
    let of = |pattern: &str| -> Vec<String> {
        let opcode = pattern.split(['.', '{']).next().unwrap_or_default();
        names.iter().filter(|name| name.split('.').next() == Some(opcode)).cloned().collect()
    };
    PATTERNS.into_iter().map(|pattern| (pattern, of(pattern))).collect()
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |names: &[&str], text, src, dst, expected, partial| {
        all.extend(names.iter().map(|name| Case {
            name: (*name).to_owned(),
            text,
            src,
            dst,
            expected,
            partial,
        }));
    };
    let shuffles = ["shfl.sync.up.b32", "shfl.sync.down.b32", "shfl.sync.bfly.b32", "shfl.sync.idx.b32"];
    add(&shuffles, "%d0|%d1, %s0, %s1, %s2, %m;", &[B32, U32, U32], &[B32, Pred], shuffle, false);
    let votes = ["vote.sync.all.pred", "vote.sync.any.pred", "vote.sync.uni.pred"];
    add(&votes, "%d0, %s0, %m;", &[Pred], &[Pred], vote, true);
    add(&["vote.sync.ballot.b32"], "%d0, !%s0, %m;", &[Pred], &[B32], ballot, true);
    add(&["match.any.sync.b32"], "%d0, %s0, %m;", &[B32], &[B32], matching, true);
    add(&["match.any.sync.b64"], "%d0, %s0, %m;", &[B64], &[B32], matching, true);
    add(&["match.all.sync.b32"], "%d0|%d1, %s0, %m;", &[B32], &[B32, Pred], matching, true);
    add(&["match.all.sync.b64"], "%d0|%d1, %s0, %m;", &[B64], &[B32, Pred], matching, true);
    let sums = [
        "redux.sync.add.u32",
        "redux.sync.min.u32",
        "redux.sync.max.u32",
        "redux.sync.add.s32",
        "redux.sync.min.s32",
        "redux.sync.max.s32",
        "redux.sync.and.b32",
        "redux.sync.or.b32",
        "redux.sync.xor.b32",
    ];
    add(&sums, "%d0, %s0, %m;", &[B32], &[B32], reduction, true);
    add(&["elect.sync"], "%d0|%d1, %m;", &[B32], &[B32, Pred], election, true);
    add(&["activemask.b32"], "%d0;", &[B32], &[B32], active, true);
    add(&["bar.warp.sync"], "%m;", &[B32], &[], |_, _, _| Vec::new(), true);
    all
}

/// PTX's own pseudo code.
fn shuffle(name: &str, warp: &Warp<'_>, lane: usize) -> Vec<u64> {
    let (b, c) = (warp.lanes[lane][1] as i64 & 31, warp.lanes[lane][2]);
    let (clamp, segment) = (c as i64 & 31, (c >> 8) as i64 & 31);
    let lane = lane as i64;
    let (most, least) = ((lane & segment) | (clamp & !segment), lane & segment);
    let (from, valid) = match name.split('.').nth(2) {
        Some("up") => (lane - b, lane - b >= most),
        Some("down") => (lane + b, lane + b <= most),
        Some("bfly") => (lane ^ b, lane ^ b <= most),
        _ => (least | (b & !segment), (least | (b & !segment)) <= most),
    };
    let source = if valid { from } else { lane };
    vec![warp.lanes[source as usize][0], u64::from(valid)]
}

fn vote(name: &str, warp: &Warp<'_>, _: usize) -> Vec<u64> {
    let yes = warp.members().filter(|lane| warp.lanes[*lane][0] == 1).count();
    let count = warp.members().count();
    vec![u64::from(match name.split('.').nth(2) {
        Some("all") => yes == count,
        Some("any") => yes > 0,
        _ => yes == 0 || yes == count,
    })]
}

/// Of the negated predicate.
fn ballot(_: &str, warp: &Warp<'_>, _: usize) -> Vec<u64> {
    vec![warp.members().filter(|lane| warp.lanes[*lane][0] == 0).fold(0, |mask, lane| mask | 1 << lane)]
}

fn matching(name: &str, warp: &Warp<'_>, lane: usize) -> Vec<u64> {
    let same = warp.members().filter(|other| warp.lanes[*other][0] == warp.lanes[lane][0]);
    let same = same.fold(0, |mask, lane| mask | 1u32 << lane);
    if name.contains("any") {
        return vec![u64::from(same)];
    }
    let all = same == warp.members;
    vec![if all { u64::from(same) } else { 0 }, u64::from(all)]
}

fn reduction(name: &str, warp: &Warp<'_>, _: usize) -> Vec<u64> {
    let values: Vec<u32> = warp.members().map(|lane| warp.lanes[lane][0] as u32).collect();
    let signed = values.iter().map(|value| *value as i32);
    let parts: Vec<&str> = name.split('.').collect();
    let result = match (parts[2], parts[3]) {
        ("add", _) => values.iter().fold(0u32, |sum, value| sum.wrapping_add(*value)),
        ("min", "u32") => values.iter().copied().min().unwrap_or_default(),
        ("max", "u32") => values.iter().copied().max().unwrap_or_default(),
        ("min", _) => signed.min().unwrap_or_default() as u32,
        ("max", _) => signed.max().unwrap_or_default() as u32,
        ("and", _) => values.iter().fold(u32::MAX, |all, value| all & value),
        ("or", _) => values.iter().fold(0, |all, value| all | value),
        _ => values.iter().fold(0, |all, value| all ^ value),
    };
    vec![u64::from(result)]
}

/// PTX leaves open who is elected; here it is the lowest lane.
fn election(_: &str, warp: &Warp<'_>, lane: usize) -> Vec<u64> {
    let leader = warp.members.trailing_zeros() as u64;
    vec![leader, u64::from(lane as u64 == leader)]
}

fn active(_: &str, warp: &Warp<'_>, _: usize) -> Vec<u64> {
    vec![u64::from(warp.members)]
}

/// The instruction under a guard that lanes without a 1 in the last operand fail; those keep 7 in the results.
fn snippet(case: &Case) -> Snippet {
    let guard = case.src.len();
    let mut body = ".reg .b32 %m;\n".to_owned();
    for (k, ty) in case.dst.iter().enumerate() {
        body += &match ty {
            Pred => format!("setp.ne.u32 %d{k}, 0, 0;\n"),
            _ => format!("mov.b32 %d{k}, 7;\n"),
        };
    }
    body +=
        &format!("vote.sync.ballot.b32 %m, %s{guard}, 0xFFFFFFFF;\n@%s{guard} {} {}", case.name, case.text);
    Snippet { body, src: [case.src, &[Pred]].concat(), dst: case.dst.to_vec() }
}

fn samples(case: &Case, random: &mut Random) -> Vec<Vec<u64>> {
    (0..8 * BLOCK)
        .map(|thread| {
            let warp = thread / 32;
            let operand = |k: usize, random: &mut Random| match (case.src[k], k) {
                // Some warps agree, most do not.
                (Pred, _) => [0, 1, random.next() & 1, u64::from(thread % 32 != 9)][warp % 4],
                // Amounts beyond a lane number, segments of every width.
                (U32, 1) => random.next() % 40,
                (U32, _) => (random.next() & 31) | (random.next() & 31) << 8,
                _ if case.name.starts_with("match") => [5, 5 + random.next() % 3, 5 << 32 | 5][warp % 3],
                _ => random.next(),
            };
            let mut sample: Vec<u64> = (0..case.src.len()).map(|k| operand(k, random)).collect();
            let out = case.partial && warp % 2 == 1 && thread % 32 != 4 && random.next().is_multiple_of(4);
            sample.push(u64::from(!out));
            sample
        })
        .collect()
}

#[test]
fn lanes_of_a_warp() {
    let (cases, mut random) = (cases(), Random(30));
    let snippets: Vec<Snippet> = cases.iter().map(snippet).collect();
    let samples: Vec<_> = cases.iter().map(|case| samples(case, &mut random)).collect();
    let results = device::run(&snippets.iter().collect::<Vec<_>>(), &samples);
    for ((case, samples), results) in cases.iter().zip(&samples).zip(results) {
        for (warp, (inputs, results)) in samples.chunks(32).zip(results.chunks(32)).enumerate() {
            let lanes: Vec<Vec<u64>> = inputs
                .iter()
                .map(|one| one.iter().zip(case.src).map(|(bits, ty)| bits & device::mask(*ty)).collect())
                .collect();
            let taking = inputs.iter().enumerate().filter(|(_, one)| one.last() == Some(&1));
            let members = taking.fold(0u32, |mask, (lane, _)| mask | 1 << lane);
            let warp_inputs = Warp { lanes: &lanes, members };
            for (lane, got) in results.iter().enumerate() {
                let untouched = || case.dst.iter().map(|ty| if *ty == Pred { 0 } else { 7 }).collect();
                let takes_part = warp_inputs.takes_part(lane);
                let want =
                    if takes_part { (case.expected)(&case.name, &warp_inputs, lane) } else { untouched() };
                assert_eq!(*got, want, "{} in warp {warp}, lane {lane} of {members:08X}", case.name);
            }
        }
    }
}

#[test]
fn a_warp_barrier_orders_shared_memory() {
    let body = ".shared .align 4 .b32 slots[128];\n.reg .b32 %p, %q;\nmov.u32 %p, %tid.x;\nshl.b32 %p, %p, 2;\n\
                xor.b32 %q, %p, 124;\nmov.u32 %i3, slots;\nadd.u32 %p, %p, %i3;\nadd.u32 %q, %q, %i3;\n\
                st.shared.b32 [%p], %s0;\nbar.warp.sync 0xFFFFFFFF;\nld.shared.b32 %d0, [%q];";
    let snippet = Snippet { body: body.to_owned(), src: vec![B32], dst: vec![B32] };
    let samples: Vec<Vec<u64>> = (0..BLOCK as u64).map(|thread| vec![thread * 3 + 1]).collect();
    let results = device::run(&[&snippet], &[samples]);
    for (thread, got) in results[0].iter().enumerate() {
        assert_eq!(got[0], (thread as u64 ^ 31) * 3 + 1);
    }
}
