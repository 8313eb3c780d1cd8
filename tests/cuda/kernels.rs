//! Single kernels, launched by hand out of the embedded PTX.

use std::ffi::{CString, c_void};

use inbatch::Objective;
use inbatch::cuda::View;
use inbatch::cuda::cudarc::driver::result;
use inbatch::objective::{self, Row, RowTerm};

use crate::support::{Gpu, gpu};

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
    let gpu = gpu();
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
        let [loss, a, b, direct] = launch(&gpu, kind, parameter, &lse, &positive, &log_q);
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
fn launch(
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
    let mut arguments = ObjectiveArguments {
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
    let file = inbatch::cuda::ptx().iter().find(|file| file.name == "rows").unwrap();
    let text = CString::new(file.text).unwrap();
    // SAFETY: the text ends in zero; the kernel takes this struct, and every array has `rows` elements.
    unsafe {
        let module = result::module::load_data(text.as_ptr().cast()).unwrap();
        let name = CString::new("objective_rows").unwrap();
        let function = result::module::get_function(module, name).unwrap();
        let mut parameters = [(&raw mut arguments).cast::<c_void>()];
        let blocks = rows.div_ceil(256) as u32;
        result::launch_kernel(function, (blocks, 1, 1), (256, 1, 1), 0, stream.cu_stream(), &mut parameters)
            .unwrap();
        stream.synchronize().unwrap();
        result::module::unload(module).unwrap();
    }
    out.each_ref().map(|slice| stream.clone_dtoh(slice).unwrap())
}
