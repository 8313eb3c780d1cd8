//! Single kernels, launched by hand out of the embedded PTX.

use std::ffi::{CString, c_void};

use inbatch::Objective;
use inbatch::cuda::View;
use inbatch::cuda::cudarc::driver::result;
use inbatch::objective::{self, Row, RowTerm};

use crate::support::{Gpu, Real, gpu};

/// Runs one kernel of an embedded file with `arguments`, and waits for it.
///
/// # Safety
/// `arguments` is the struct that the kernel takes, and what it points to is as long as the kernel expects.
unsafe fn launch<A>(gpu: &Gpu, file: &str, kernel: &str, (blocks, threads): (u32, u32), mut arguments: A) {
    let stream = gpu.device.stream();
    let file = inbatch::cuda::ptx().iter().find(|known| known.name == file).unwrap();
    let (text, kernel) = (CString::new(file.text).unwrap(), CString::new(kernel).unwrap());
    // SAFETY: the text ends in zero; the caller vouches for the arguments, which are copied before the launch returns.
    unsafe {
        let module = result::module::load_data(text.as_ptr().cast()).unwrap();
        let function = result::module::get_function(module, kernel).unwrap();
        let mut parameters = [(&raw mut arguments).cast::<c_void>()];
        let grid = (blocks, 1, 1);
        result::launch_kernel(function, grid, (threads, 1, 1), 0, stream.cu_stream(), &mut parameters)
            .unwrap();
        stream.synchronize().unwrap();
        result::module::unload(module).unwrap();
    }
}

/// `ObjectiveArguments` of kernels/arguments.cuh.
#[repr(C)]
struct ObjectiveArguments {
    lse: u64,
    maximum: u64,
    sum: u64,
    positive: u64,
    weights: u64,
    negatives: u64,
    log_q: u64,
    scalars: u64,
    other: u64,
    loss: u64,
    a: u64,
    b: u64,
    direct: u64,
    rows: i32,
    offset: i32,
    objective: i32,
    parameter: f32,
    logq_scale: f32,
    padding: i32,
}

/// `ObjectiveKind` and its parameter, as in kernels/objective.cuh.
const OBJECTIVES: [(i32, f32, Objective); 7] = [
    (0, 0.0, Objective::Softmax),
    (1, 1.5, Objective::AdditiveMargin { margin: 1.5 }),
    (2, 0.0, Objective::Decoupled),
    (3, 0.0, Objective::CorrectedLogQ),
    (4, 0.1, Objective::Debiased { positive_prior: 0.1 }),
    (4, 0.0, Objective::Debiased { positive_prior: 0.0 }),
    (5, 0.0, Objective::Sigmoid { bias: -1.0 }),
];

const NEGATIVES: u32 = 7;
const INVERSE_TEMPERATURE: f32 = 4.0;

/// kernels/objective.cuh says the same as src/objective.rs, up to the last bits of exp and log.
#[test]
fn the_objectives_on_a_grid() {
    objectives_on_a_grid(&gpu());
}

pub(crate) fn objectives_on_a_grid(gpu: &Gpu) {
    let values = [
        f32::NEG_INFINITY,
        -1e30,
        -300.0,
        -90.0,
        -17.5,
        -1.0,
        -1e-4,
        0.0,
        1e-6,
        0.3,
        2.0,
        16.6,
        88.9,
        104.0,
        1e30,
        f32::INFINITY,
        f32::NAN,
    ];
    let (lse, positive): (Vec<f32>, Vec<f32>) =
        values.iter().flat_map(|&lse| values.iter().map(move |&z| (lse, z))).unzip();
    let log_q: Vec<f32> = (0..lse.len()).map(|row| -0.01 - 0.3 * row as f32).collect();
    for (kind, parameter, objective) in OBJECTIVES {
        let [loss, a, b, direct] = objective_rows(gpu, kind, parameter, &lse, &positive, &log_q);
        for row in 0..lse.len() {
            let log_rest = match objective {
                Objective::CorrectedLogQ => (-log_q[row].exp()).ln_1p(),
                _ => 0.0,
            };
            let sigmoid = matches!(objective, Objective::Sigmoid { .. });
            let want = if !sigmoid && lse[row] == f32::NEG_INFINITY {
                RowTerm::NOTHING
            } else {
                let row = Row {
                    x: if sigmoid { lse[row] } else { lse[row] - positive[row] },
                    z_positive: positive[row],
                    negatives: NEGATIVES as f32,
                    inverse_temperature: INVERSE_TEMPERATURE,
                    log_rest,
                };
                objective::evaluate(objective, row)
            };
            for (name, got, want) in [
                ("loss", loss[row], want.loss),
                ("a", a[row], want.negative),
                ("b", b[row], want.positive),
                ("d(1/tau)", direct[row], want.inverse_temperature),
            ] {
                // Below the normal range only the absolute error counts.
                let bound = 8.0 * f32::EPSILON * want.abs() + f32::MIN_POSITIVE;
                let same = got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= bound;
                let context = format!("{objective:?}, lse {} z+ {}", lse[row], positive[row]);
                assert!(same, "{context}: {name} {got} is not {want}");
            }
        }
    }
}

/// `objective_rows` on rows of sum 1: loss, a, b and the direct part of d(1/tau).
fn objective_rows(
    gpu: &Gpu,
    objective: i32,
    parameter: f32,
    lse: &[f32],
    positive: &[f32],
    log_q: &[f32],
) -> [Vec<f32>; 4] {
    let rows = lse.len();
    let stream = gpu.device.stream();
    let upload = |values: &[f32]| stream.clone_htod(values).unwrap();
    let (lse, positive, log_q) = (upload(lse), upload(positive), upload(log_q));
    // A sum of 1 adds log 1 = 0 to the maximum.
    let ones = upload(&vec![1.0f32; rows]);
    let negatives = stream.clone_htod(&vec![NEGATIVES; rows]).unwrap();
    let scalars = upload(&[INVERSE_TEMPERATURE; 8]);
    let out = [(); 4].map(|()| upload(&vec![f32::from_bits(0x7fff_dead); rows]));
    let pointer = |slice| View::<f32>::from(slice).device_pointer();
    let [loss, a, b, direct] = out.each_ref().map(pointer);
    let arguments = ObjectiveArguments {
        lse: pointer(&lse),
        maximum: pointer(&lse),
        sum: pointer(&ones),
        positive: pointer(&positive),
        weights: 0,
        negatives: View::<u32>::from(&negatives).device_pointer(),
        log_q: if objective == 3 { pointer(&log_q) } else { 0 },
        scalars: pointer(&scalars),
        other: 0,
        loss,
        a,
        b,
        direct,
        rows: rows as i32,
        offset: 0,
        objective,
        parameter,
        logq_scale: 1.0,
        padding: 0,
    };
    let blocks = rows.div_ceil(256) as u32;
    // SAFETY: the kernel takes this struct, and every array has `rows` elements.
    unsafe { launch(gpu, "rows", "objective_rows", (blocks, 256), arguments) };
    out.each_ref().map(|slice| stream.clone_dtoh(slice).unwrap())
}

/// `BankPushArguments` of kernels/arguments.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
struct Push {
    embeddings: u64,
    log_q: u64,
    item_ids: u64,
    ring: u64,
    ring_log_q: u64,
    ring_item_ids: u64,
    entered: u64,
    state: u64,
    capacity: u64,
    count: u64,
    dim: i32,
    padding: i32,
}

#[test]
fn bank_positions_beyond_32_bits() {
    let gpu = gpu();
    beyond_32_bits::<f32>(&gpu, "f32");
    beyond_32_bits::<half::f16>(&gpu, "f16");
    beyond_32_bits::<half::bf16>(&gpu, "bf16");
}

/// A ring of more than 2^32 slots of which only those around the head are in memory: the pointers to its start are
/// so far below what is allocated.
pub(crate) fn beyond_32_bits<T: Real>(gpu: &Gpu, suffix: &str) {
    const CAPACITY: u64 = (1 << 33) + 12_345;
    const HEAD: u64 = CAPACITY - (1 << 32) - 2;
    let (dim, count) = (3, 5);
    let stream = gpu.device.stream();
    let embeddings: Vec<T> = (0..count * dim).map(|k| T::from_f32(k as f32 - 7.0)).collect();
    let log_q: Vec<f32> = (0..count).map(|k| -(k as f32)).collect();
    let item_ids: Vec<i64> = (0..count as i64).map(|k| k - (1 << 40)).collect();
    let (pushed, pushed_log_q) =
        (stream.clone_htod(&embeddings).unwrap(), stream.clone_htod(&log_q).unwrap());
    let pushed_ids = stream.clone_htod(&item_ids).unwrap();
    let ring = stream.clone_htod(&vec![T::from_f32(f32::NAN); count * dim]).unwrap();
    let ring_log_q = stream.clone_htod(&vec![f32::NAN; count]).unwrap();
    let ring_ids = stream.clone_htod(&vec![i64::MIN; count]).unwrap();
    let entered = stream.clone_htod(&vec![u64::MAX; count]).unwrap();
    let state = stream.clone_htod(&[HEAD, HEAD, 77u64]).unwrap();
    let before = |pointer: u64, bytes: usize| pointer.wrapping_sub(HEAD.wrapping_mul(bytes as u64));
    let mut push = Push {
        embeddings: View::from(&pushed).device_pointer(),
        log_q: View::from(&pushed_log_q).device_pointer(),
        item_ids: View::from(&pushed_ids).device_pointer(),
        ring: before(View::from(&ring).device_pointer(), dim * size_of::<T>()),
        ring_log_q: before(View::from(&ring_log_q).device_pointer(), 4),
        ring_item_ids: before(View::from(&ring_ids).device_pointer(), 8),
        entered: before(View::from(&entered).device_pointer(), 8),
        state: View::from(&state).device_pointer(),
        capacity: CAPACITY,
        count: count as u64,
        dim: dim as i32,
        padding: 0,
    };
    // SAFETY: the slots from the head on, `count` of them, are in memory, and no others are touched.
    unsafe { launch(gpu, "bank", &format!("bank_push_{suffix}"), (1, 256), push) };
    assert_eq!(stream.clone_dtoh(&ring).unwrap(), embeddings);
    assert_eq!(stream.clone_dtoh(&ring_log_q).unwrap(), log_q);
    assert_eq!(stream.clone_dtoh(&ring_ids).unwrap(), item_ids);
    assert_eq!(stream.clone_dtoh(&entered).unwrap(), vec![77; count]);

    // Past the end of the ring, and from a head whose sum with the count needs more than 32 bits.
    push.count = (1 << 32) + 9;
    // SAFETY: the kernel touches nothing but the state.
    unsafe { launch(gpu, "bank", "bank_advance", (1, 1), push) };
    assert_eq!(stream.clone_dtoh(&state).unwrap(), [7, CAPACITY, 78]);
}

/// `MergeArguments` of kernels/arguments.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
struct Merge {
    maximum: u64,
    sum: u64,
    moment: u64,
    counts: u64,
    output: u64,
    lse: u64,
    row_maximum: u64,
    row_sum: u64,
    row_mass: u64,
    row_moment: u64,
    row_counts: u64,
    more: i64,
    /// The tile, the owner tiles, the streamed tiles, the ranges, the splits and the owners.
    cut: [i32; 6],
    rows: i32,
    dim: i32,
    link: i32,
    padding: i32,
}

#[test]
fn merges_of_more_than_2_32_units() {
    merges_beyond_32_bits(&gpu());
}

/// Three owners of 2^31 - 1 streamed tiles each, in four ranges: no sweep is that long, but its partials are few.
pub(crate) fn merges_beyond_32_bits(gpu: &Gpu) {
    let stream = gpu.device.stream();
    let upload = |values: &[f32]| stream.clone_htod(values).unwrap();
    let pointer = |slice| View::<f32>::from(slice).device_pointer();
    // Of each owner the two ranges that it meets, 0 and 1, 1 and 2, 2 and 3.
    let (maximum, sum) = ([0.5f32, -1.0, 2.0, 7.0, 4.0, 3.5], [1.0f32, 2.0, 3.0, 1.5, 2.5, 9.0]);
    let (maximum_d, sum_d) = (upload(&maximum), upload(&sum));
    let out = [(); 3].map(|()| upload(&[f32::NAN; 3]));
    let [lse, row_maximum, row_sum] = out.each_ref().map(pointer);
    let merge = Merge {
        maximum: pointer(&maximum_d),
        sum: pointer(&sum_d),
        moment: 0,
        counts: 0,
        output: 0,
        lse,
        row_maximum,
        row_sum,
        row_mass: 0,
        row_moment: 0,
        row_counts: 0,
        more: -1,
        cut: [1, 3, i32::MAX, 4, 0, 3],
        rows: 3,
        dim: 1,
        link: 0,
        padding: 0,
    };
    // SAFETY: the kernel takes this struct, and there are as many partials as ranges and owner tiles meet.
    unsafe { launch(gpu, "rows", "merge_partials", (1, 256), merge) };
    let [lse, row_maximum, row_sum] = out.each_ref().map(|slice| stream.clone_dtoh(slice).unwrap());
    for owner in 0..3 {
        let (m, l) = (&maximum[2 * owner..][..2], &sum[2 * owner..][..2]);
        let largest = m[0].max(m[1]);
        let expected = l[0] * (m[0] - largest).exp() + l[1] * (m[1] - largest).exp();
        assert_eq!(row_maximum[owner], largest);
        assert!((row_sum[owner] - expected).abs() <= 1e-6 * expected, "{row_sum:?}");
        assert!((lse[owner] - largest - expected.ln()).abs() <= 1e-6 * lse[owner].abs(), "{lse:?}");
    }
}
