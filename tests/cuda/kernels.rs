//! Single kernels, launched by hand out of the embedded PTX.

use std::ffi::{CString, c_void};

use inbatch::cuda::cudarc::driver::result;
use inbatch::objective::sampled_softmax;

use crate::support::gpu;

/// `ObjectiveArguments` of kernels/arguments.cuh.
#[repr(C)]
struct Objective {
    lse: u64,
    maximum: u64,
    sum: u64,
    positive: u64,
    weights: u64,
    loss: u64,
    a: u64,
    b: u64,
    rows: i32,
    padding: i32,
}

/// kernels/objective.cuh says the same as src/objective.rs, up to the last bits of exp and log1p.
#[test]
fn the_objective_on_a_grid() {
    let gpu = gpu();
    let stream = gpu.device.stream();
    let values: Vec<f32> = [
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
    ]
    .to_vec();
    let (lse, positive): (Vec<f32>, Vec<f32>) =
        values.iter().flat_map(|&lse| values.iter().map(move |&z| (lse, z))).unzip();
    let rows = lse.len();
    let (lse_d, positive_d) = (stream.clone_htod(&lse).unwrap(), stream.clone_htod(&positive).unwrap());
    // A sum of 1 adds log 1 = 0 to the maximum.
    let ones = stream.clone_htod(&vec![1.0f32; rows]).unwrap();
    let poison = || stream.clone_htod(&vec![f32::from_bits(0x7fff_dead); rows]).unwrap();
    let (loss, a, b) = (poison(), poison(), poison());
    let pointer = |slice| inbatch::cuda::View::<f32>::from(slice).device_pointer();
    let mut arguments = Objective {
        lse: pointer(&lse_d),
        maximum: pointer(&lse_d),
        sum: pointer(&ones),
        positive: pointer(&positive_d),
        weights: 0,
        loss: pointer(&loss),
        a: pointer(&a),
        b: pointer(&b),
        rows: rows as i32,
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
    let read = |slice| stream.clone_dtoh(slice).unwrap();
    let (loss, a, b): (Vec<f32>, Vec<f32>, Vec<f32>) = (read(&loss), read(&a), read(&b));
    let same = |got: f32, want: f32| {
        // Below the normal range only the absolute error counts.
        let bound = 4.0 * f32::EPSILON * want.abs() + f32::MIN_POSITIVE;
        got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= bound
    };
    for row in 0..rows {
        let want = sampled_softmax(lse[row], positive[row]);
        let context = format!("lse {} z+ {}", lse[row], positive[row]);
        assert!(same(loss[row], want.loss), "{context}: loss {} is not {}", loss[row], want.loss);
        assert!(same(a[row], want.negative), "{context}: a {} is not {}", a[row], want.negative);
        assert!(same(b[row], want.positive), "{context}: b {} is not {}", b[row], want.positive);
    }
}
