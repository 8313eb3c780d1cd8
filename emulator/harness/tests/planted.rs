//! The planted-bug suite: kernels and host code with one known defect each, and the same without it. Every defect must be reported by the
//! right name at the right kernel, under every seed; every mended twin must run clean.

mod support;

use cudarc::driver::sys::{self, CUresult};
use support::{Fresh, allocate, fresh_with, function, launch, load, reset, synchronize};

const ASYNC: &str = include_str!("planted/async.ptx");
const BOUNDS: &str = include_str!("planted/bounds.ptx");
const INIT: &str = include_str!("planted/init.ptx");
const RACES: &str = include_str!("planted/races.ptx");
const SYNC: &str = include_str!("planted/sync.ptx");

const SEEDS: u64 = 5;

/// One defect: in the kernel (whose twin is `<kernel>_mended`), or in the host code around a kernel that is right.
struct Defect {
    name: &'static str,
    /// The kind the report must name, or the code with which a call is refused.
    kind: &'static str,
    ptx: &'static str,
    grid: u32,
    block: u32,
    count: usize,
    place: Place,
}

/// Where the defect is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Kernel,
    /// In the host code; the kernel is the one named.
    Host(&'static str, Mistake),
}

#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    /// Only so many bytes of the input are filled.
    FillsOnly(usize),
    /// The input is filled on another stream, and the launch does not wait for it.
    FillsOnOtherStream,
    /// The input is freed before the launch.
    FreesBefore,
    /// The same, in stream order.
    FreesOnStream,
    FreesTwice,
    NeverFrees,
    /// Dynamic shared memory beyond what the function may have.
    TooMuchShared,
    /// More threads than the kernel was compiled for.
    TooManyThreads,
}

impl Mistake {
    /// Whether the call that is wrong, or the context's end, says so, and not a kernel.
    fn is_told_at_once(self) -> bool {
        use Mistake::{FreesTwice, NeverFrees, TooManyThreads, TooMuchShared};
        matches!(self, FreesTwice | NeverFrees | TooManyThreads | TooMuchShared)
    }
}

const fn kernel(
    name: &'static str,
    kind: &'static str,
    ptx: &'static str,
    grid: u32,
    block: u32,
    count: usize,
) -> Defect {
    Defect { name, kind, ptx, grid, block, count, place: Place::Kernel }
}

const fn host(
    name: &'static str,
    kind: &'static str,
    ptx: &'static str,
    kernel: &'static str,
    mistake: Mistake,
) -> Defect {
    Defect { name, kind, ptx, grid: 1, block: 64, count: 64, place: Place::Host(kernel, mistake) }
}

const DEFECTS: &[Defect] = &[
    kernel("missing_barrier", "Race", RACES, 1, 64, 64),
    kernel("missing_second_barrier", "Race", RACES, 1, 64, 64),
    kernel("shared_write_write", "Race", RACES, 1, 64, 64),
    kernel("missing_syncwarp", "Race", RACES, 1, 32, 32),
    kernel("race_between_blocks", "Race", RACES, 4, 32, 128),
    kernel("reads_other_block", "Race", RACES, 4, 32, 128),
    kernel("atomic_and_plain", "Race", RACES, 1, 64, 64),
    kernel("every_lane_stores", "RedundantStore", RACES, 1, 32, 32),
    kernel("wrong_lanes_store", "RedundantStore", RACES, 1, 32, 32),
    kernel("load_past_end", "OutOfBounds", BOUNDS, 2, 64, 100),
    kernel("store_past_end", "OutOfBounds", BOUNDS, 2, 64, 100),
    kernel("shared_past_end", "OutOfBounds", BOUNDS, 1, 64, 64),
    kernel("const_past_end", "OutOfBounds", BOUNDS, 1, 64, 64),
    kernel("index_overflow", "OutOfBounds", BOUNDS, 1, 64, 64),
    kernel("misaligned_vector", "Misaligned", BOUNDS, 1, 32, 128),
    kernel("wrong_address_space", "InvalidAddressSpace", BOUNDS, 1, 32, 32),
    kernel("global_as_shared", "InvalidAddressSpace", BOUNDS, 1, 32, 32),
    kernel("shared_uninitialised", "Uninitialised", INIT, 1, 64, 64),
    kernel("local_uninitialised", "Uninitialised", INIT, 1, 64, 64),
    kernel("copy_not_waited", "AsyncNotWaited", ASYNC, 1, 32, 128),
    kernel("copy_not_committed", "AsyncNotWaited", ASYNC, 1, 32, 128),
    kernel("copy_waits_too_little", "AsyncNotWaited", ASYNC, 1, 32, 128),
    kernel("copy_of_other_thread", "Race", ASYNC, 1, 64, 256),
    kernel("divergent_barrier", "DivergentBarrier", SYNC, 1, 32, 32),
    kernel("named_barrier_count", "Deadlock", SYNC, 1, 64, 64),
    kernel("different_barriers", "Deadlock", SYNC, 1, 64, 64),
    kernel("shuffle_mask", "ShuffleMask", SYNC, 1, 32, 32),
    kernel("vote_mask", "ShuffleMask", SYNC, 1, 32, 32),
    kernel("syncwarp_mask", "ShuffleMask", SYNC, 1, 32, 32),
    kernel("endless_loop", "InstructionLimit", SYNC, 1, 32, 32),
    kernel("failed_check", "Trap", SYNC, 1, 32, 32),
    host("global_uninitialised", "Uninitialised", INIT, "copies", Mistake::FillsOnly(0)),
    host("tail_uninitialised", "Uninitialised", INIT, "copies", Mistake::FillsOnly(252)),
    host("missing_stream_wait", "Uninitialised", INIT, "copies", Mistake::FillsOnOtherStream),
    host("use_after_free", "UseAfterFree", INIT, "copies", Mistake::FreesBefore),
    host("use_after_stream_free", "UseAfterFree", INIT, "copies", Mistake::FreesOnStream),
    host("double_free", "UseAfterFree", INIT, "copies", Mistake::FreesTwice),
    host("leak", "Leak", INIT, "copies", Mistake::NeverFrees),
    host("too_much_shared", "CUDA_ERROR_INVALID_VALUE", SYNC, "roomy", Mistake::TooMuchShared),
    host("too_many_threads", "CUDA_ERROR_INVALID_VALUE", SYNC, "bounded", Mistake::TooManyThreads),
];

/// What became of one run.
#[derive(Debug, PartialEq)]
struct Found {
    /// Empty if nothing was found.
    kind: String,
    kernel: String,
}

fn ok(code: CUresult) {
    assert_eq!(code, CUresult::CUDA_SUCCESS);
}

fn filled(count: usize) -> u64 {
    let (code, address) = allocate(count * 4);
    ok(code);
    let values: Vec<f32> =
        (0..count).map(|index| ((index * 7919 + 13) % 1009) as f32 / 16.0 - 30.0).collect();
    // SAFETY: both sides hold `count` numbers.
    ok(unsafe { sys::cuMemcpyHtoD_v2(address, values.as_ptr().cast(), count * 4) });
    address
}

/// A buffer filled on a stream of its own, which the legacy default stream waits for if `waits`.
fn filled_on_other_stream(count: usize, waits: bool) -> u64 {
    let (code, address) = allocate(count * 4);
    ok(code);
    let (mut stream, mut event) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: results are written to local variables, handles are alive, the buffer has the size that is filled.
    unsafe {
        ok(sys::cuStreamCreate(&raw mut stream, 1));
        ok(sys::cuEventCreate(&raw mut event, 2));
        ok(sys::cuMemsetD8Async(address, 1, count * 4, stream));
        ok(sys::cuEventRecord(event, stream));
        if waits {
            ok(sys::cuStreamWaitEvent(std::ptr::null_mut(), event, 0));
        }
    }
    address
}

fn free(address: u64) -> CUresult {
    // SAFETY: a stale address is an error of the driver, not undefined.
    unsafe { sys::cuMemFree_v2(address) }
}

/// Runs a defect, or its mended twin, and says what was reported.
fn run(defect: &Defect, mended: bool, seed: u64) -> Found {
    // With every check there is: those that `all` leaves out must not blame what is right either.
    let test = fresh_with(&[("seed", &seed.to_string()), ("checks", "all,redundant")]);
    let mistake = match defect.place {
        Place::Host(_, mistake) if !mended => Some(mistake),
        _ => None,
    };
    let name = match defect.place {
        Place::Host(kernel, _) => kernel.to_owned(),
        Place::Kernel if mended => format!("{}_mended", defect.name),
        Place::Kernel => defect.name.to_owned(),
    };
    let (code, module) = load(defect.ptx);
    assert_eq!(code, CUresult::CUDA_SUCCESS, "{name}: {:?}", test.emulator.report());
    let output = filled(defect.count);
    let input = match mistake {
        Some(Mistake::FillsOnly(bytes)) => {
            let (code, address) = allocate(defect.count * 4);
            ok(code);
            // SAFETY: at most the buffer's size is filled.
            ok(unsafe { sys::cuMemsetD8_v2(address, 1, bytes) });
            address
        }
        _ if matches!(defect.place, Place::Host(_, Mistake::FillsOnOtherStream)) => {
            filled_on_other_stream(defect.count, mended)
        }
        _ => filled(defect.count),
    };
    match mistake {
        Some(Mistake::FreesBefore) => ok(free(input)),
        // SAFETY: the address is alive; null is the legacy default stream.
        Some(Mistake::FreesOnStream) => ok(unsafe { sys::cuMemFreeAsync(input, std::ptr::null_mut()) }),
        _ => {}
    }
    let block = if mistake == Some(Mistake::TooManyThreads) { defect.block + 1 } else { defect.block };
    let shared = if mistake == Some(Mistake::TooMuchShared) { 49 << 10 } else { 48 << 10 };
    let shared = if name == "roomy" { shared } else { 0 };
    let grid = [defect.grid, 1, 1];
    let parameters = &mut [output, input, defect.count as u64];
    let launched = launch(function(module, &name), grid, [block, 1, 1], shared, parameters);
    let finished = synchronize();
    let found = finish(&test, mistake, launched, finished, [output, input]);
    if found.kind.is_empty() {
        let ran = test.emulator.kernels().iter().any(|kernel| kernel.name == name && kernel.launches == 1);
        assert!(ran, "{name} did not run");
    }
    found
}

/// Frees, ends the context, and gathers what was reported on the way.
fn finish(
    test: &Fresh,
    mistake: Option<Mistake>,
    launched: CUresult,
    finished: CUresult,
    buffers: [u64; 2],
) -> Found {
    let freed_early = matches!(mistake, Some(Mistake::FreesBefore | Mistake::FreesOnStream));
    if finished == CUresult::CUDA_SUCCESS {
        let kept = mistake == Some(Mistake::NeverFrees);
        for address in buffers.iter().take(if freed_early || kept { 1 } else { 2 }) {
            ok(free(*address));
        }
        if mistake == Some(Mistake::FreesTwice) {
            assert_eq!(free(buffers[0]), CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        ok(reset());
    }
    if launched != CUresult::CUDA_SUCCESS {
        return Found { kind: format!("{launched:?}"), kernel: String::new() };
    }
    if let Some(report) = test.emulator.report() {
        let from_host = report.kernel.is_empty();
        assert!(from_host != (finished != CUresult::CUDA_SUCCESS), "{report:?} but {finished:?}");
        return Found { kind: report.kind, kernel: report.kernel };
    }
    assert_eq!(finished, CUresult::CUDA_SUCCESS, "a fault without a report");
    let kind = if test.emulator.leaks().is_empty() { "" } else { "Leak" };
    Found { kind: kind.to_owned(), kernel: String::new() }
}

/// The kernel a report must name; none for what the host is told at once.
fn guilty(defect: &Defect) -> &'static str {
    match defect.place {
        Place::Kernel => defect.name,
        Place::Host(kernel, mistake) if !mistake.is_told_at_once() => kernel,
        Place::Host(..) => "",
    }
}

#[test]
fn every_planted_defect_is_named() {
    let mut wrong = Vec::new();
    println!("{:24} {:26} found", "defect", "expected");
    for defect in DEFECTS {
        let found: Vec<Found> = (0..SEEDS).map(|seed| run(defect, false, seed)).collect();
        println!("{:24} {:26} {}", defect.name, defect.kind, found[0].kind);
        let right = |found: &Found| found.kind == defect.kind && found.kernel == guilty(defect);
        if !found.iter().all(right) {
            wrong.push(format!(
                "{}: expected {} at `{}`, found {found:?}",
                defect.name,
                defect.kind,
                guilty(defect)
            ));
        }
    }
    println!("{} of {} defects named", DEFECTS.len() - wrong.len(), DEFECTS.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_mended_twin_is_clean() {
    let mut wrong = Vec::new();
    for defect in DEFECTS {
        for seed in 0..SEEDS {
            let found = run(defect, true, seed);
            if !found.kind.is_empty() {
                wrong.push(format!("{} mended, seed {seed}: {found:?}", defect.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
