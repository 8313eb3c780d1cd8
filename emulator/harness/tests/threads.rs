//! Many host threads use the driver at once; several contexts live side by side.

mod support;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use support::{allocate, fresh, synchronize};

const PTX: &str = include_str!("ptx/flow.ptx");
const THREADS: u32 = 8;
const ROUNDS: u32 = 20;

#[test]
fn threads_share_a_context() {
    let test = fresh();
    let context = &test.context;
    let module = context.load_module(cudarc::nvrtc::Ptx::from_src(PTX)).expect("loads");
    let increment = &module.load_function("increment").expect("there");
    let worker = move |seed: u32| {
        let stream = context.new_stream()?;
        for round in 0..ROUNDS {
            let input: Vec<f32> = (0..64).map(|index| (seed * 1000 + round * 64 + index) as f32).collect();
            let mut x = stream.clone_htod(&input)?;
            let mut launch = stream.launch_builder(increment);
            launch.arg(&mut x);
            // SAFETY: the kernel takes one buffer of 64 numbers.
            unsafe {
                launch.launch(LaunchConfig {
                    grid_dim: (1, 1, 1),
                    block_dim: (64, 1, 1),
                    shared_mem_bytes: 0,
                })
            }?;
            let expected: Vec<f32> = input.iter().map(|value| value + 1.0).collect();
            assert_eq!(stream.clone_dtoh(&x)?, expected, "thread {seed}, round {round}");
        }
        Ok::<(), cudarc::driver::DriverError>(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|seed| scope.spawn(move || worker(seed))).collect();
        for thread in threads {
            thread.join().expect("no panic").expect("no error");
        }
    });
    assert_eq!(test.emulator.kernels()[0].launches, u64::from(THREADS * ROUNDS));
    assert!(test.emulator.live().is_empty(), "{:?}", test.emulator.live());
}

#[test]
fn a_fault_stays_in_its_context() {
    let test = fresh();
    let other = CudaContext::new_non_primary(0, 0).expect("a second context");
    let module = other.load_module(cudarc::nvrtc::Ptx::from_src(PTX)).expect("loads");
    let stops = module.load_function("stops").expect("there");
    let stream = other.new_stream().expect("a stream");
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the kernel takes no arguments.
    unsafe { stream.launch_builder(&stops).launch(config) }.expect("asynchronous");
    assert_eq!(stream.synchronize().map_err(|error| error.0), Err(CUresult::CUDA_ERROR_LAUNCH_FAILED));
    test.context.bind_to_thread().expect("the first context is healthy");
    assert_eq!(synchronize(), CUresult::CUDA_SUCCESS);
    assert_eq!(allocate(4).0, CUresult::CUDA_SUCCESS);
}

#[test]
fn each_context_has_its_own_memory() {
    let test = fresh();
    let (_, address) = allocate(16);
    let other = CudaContext::new_non_primary(0, 0).expect("a second context");
    other.bind_to_thread().expect("bound");
    let (_, second) = allocate(16);
    // SAFETY: the address is alive; freeing twice is an error of the driver, not undefined.
    assert_eq!(unsafe { sys::cuMemFree_v2(second) }, CUresult::CUDA_SUCCESS);
    test.context.bind_to_thread().expect("bound");
    // SAFETY: as above.
    assert_eq!(unsafe { sys::cuMemFree_v2(address) }, CUresult::CUDA_SUCCESS);
}
