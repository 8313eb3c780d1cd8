//! Branches, tables, calls and the ends of a thread.

use crate::device::{self, BLOCK, HEAD, Snippet, settings};
use ptx_emulator::exec::{FaultKind, LaunchConfig, Program, launch};
use ptx_emulator::memory::DeviceMemory;
use ptx_emulator::ptx::ast::ScalarType::B32;

pub(crate) fn families() -> Vec<(&'static str, Vec<String>)> {
    let plain = ["exit", "trap", "brkpt", "nanosleep.u32"];
    let mut all: Vec<(&'static str, Vec<String>)> = plain.map(|name| (name, vec![name.to_owned()])).to_vec();
    for (pattern, names) in [
        ("bra[.uni]", ["bra", "bra.uni"]),
        ("brx.idx[.uni]", ["brx.idx", "brx.idx.uni"]),
        ("call[.uni]", ["call", "call.uni"]),
        ("ret[.uni]", ["ret", "ret.uni"]),
        ("pmevent[.mask]", ["pmevent", "pmevent.mask"]),
    ] {
        all.push((pattern, names.map(str::to_owned).to_vec()));
    }
    all
}

/// Runs a snippet on the thread numbers; `expected` says what each gets.
fn check(body: &str, expected: impl Fn(u64) -> u64) {
    let snippet = Snippet { body: body.to_owned(), src: vec![B32], dst: vec![B32] };
    let samples: Vec<Vec<u64>> = (0..BLOCK as u64).map(|thread| vec![thread]).collect();
    for (thread, got) in device::run(&[&snippet], &[samples])[0].iter().enumerate() {
        assert_eq!(got[0], expected(thread as u64) & 0xFFFF_FFFF, "thread {thread} of\n{body}");
    }
}

#[test]
fn branches() {
    // A loop of as many rounds as the thread's number, then an even-odd choice.
    let body = ".reg .pred %p;\nmov.b32 %d0, 0;\nmov.b32 %i3, %s0;\nLOOP:\nsetp.eq.u32 %p, %i3, 0;\n@%p bra OUT;\n\
                add.u32 %d0, %d0, %i3;\nsub.u32 %i3, %i3, 1;\nbra.uni LOOP;\nOUT:\nand.b32 %i3, %s0, 1;\n\
                setp.ne.u32 %p, %i3, 0;\n@!%p bra EVEN;\nadd.u32 %d0, %d0, 1000;\nEVEN:";
    check(body, |thread| thread * (thread + 1) / 2 + if thread % 2 == 1 { 1000 } else { 0 });
}

#[test]
fn branch_tables() {
    let body = |name: &str, index: &str| {
        format!(
            "{index}\nTABLE: .branchtargets A, B, C, B;\n{name} %i3, TABLE;\nA:\nmov.b32 %d0, 10;\nbra E;\n\
             B:\nmov.b32 %d0, 20;\nbra E;\nC:\nmov.b32 %d0, 30;\nE:"
        )
    };
    check(&body("brx.idx", "and.b32 %i3, %s0, 3;"), |thread| [10, 20, 30, 20][thread as usize % 4]);
    check(&body("brx.idx.uni", "mov.b32 %i3, 2;"), |_| 30);
}

#[test]
fn calls() {
    for call in ["call", "call.uni"] {
        let body = format!(
            "{{\n.param .b32 number;\n.param .b32 doubled;\nst.param.b32 [number], %s0;\n{call} (doubled), twice, (number);\n\
             ld.param.b32 %d0, [doubled];\n}}\nadd.u32 %d0, %d0, 1;"
        );
        check(&body, |thread| 2 * thread + 1);
    }
}

#[test]
fn waiting_and_counting_change_nothing() {
    check("nanosleep.u32 100;\npmevent 3;\npmevent.mask 7;\nadd.u32 %d0, %s0, 1;", |thread| thread + 1);
}

/// A kernel of its own: each thread writes its number, some end before they overwrite it.
fn ended(statement: &str) -> Vec<u32> {
    let text = format!(
        "{HEAD}.visible .entry k(.param .u64 out)\n{{\n.reg .b64 %a<3>;\n.reg .b32 %r<2>;\n.reg .pred %p;\n\
         ld.param.u64 %a0, [out];\nmov.u32 %r0, %tid.x;\nmul.wide.u32 %a1, %r0, 4;\nadd.u64 %a0, %a0, %a1;\n\
         st.global.u32 [%a0], %r0;\nsetp.lt.u32 %p, %r0, 40;\n@%p {statement};\nst.global.u32 [%a0], 999;\nret;\n}}\n"
    );
    let (memory, settings) = (DeviceMemory::new(1 << 20), settings());
    let program = Program::load(&text, &settings, &memory).unwrap_or_else(|error| panic!("{error}"));
    let out = device::allocate(&memory, 256);
    let config = LaunchConfig { grid: [1, 1, 1], block: [64, 1, 1], dynamic_shared: 0 };
    let kernel = program.kernel("k").unwrap_or_else(|| panic!("no kernel"));
    launch(&program, kernel, &config, &out.to_le_bytes(), &memory, &settings)
        .unwrap_or_else(|report| panic!("{report}"));
    let mut bytes = vec![0; 256];
    memory.copy_to_host(&mut bytes, out).unwrap_or_else(|error| panic!("{error}"));
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap_or_default())).collect()
}

#[test]
fn ends_of_a_thread() {
    let want: Vec<u32> = (0..64).map(|thread| if thread < 40 { thread } else { 999 }).collect();
    for statement in ["ret", "ret.uni", "exit"] {
        assert_eq!(ended(statement), want, "{statement}");
    }
}

#[test]
fn traps_are_reported() {
    for statement in ["trap", "brkpt"] {
        let text = format!("{HEAD}.visible .entry k()\n{{\n{statement};\nret;\n}}\n");
        let (memory, settings) = (DeviceMemory::new(1 << 20), settings());
        let program = Program::load(&text, &settings, &memory).unwrap_or_else(|error| panic!("{error}"));
        let config = LaunchConfig { grid: [1, 1, 1], block: [32, 1, 1], dynamic_shared: 0 };
        let kernel = program.kernel("k").unwrap_or_else(|| panic!("no kernel"));
        let report =
            launch(&program, kernel, &config, &[], &memory, &settings).expect_err("the kernel traps");
        assert_eq!(report.kind, FaultKind::Trap, "{statement}");
        assert_eq!(report.line as usize, HEAD.lines().count() + 3, "{statement}");
    }
}
