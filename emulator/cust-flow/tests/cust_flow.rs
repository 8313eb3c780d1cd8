//! cust, unchanged, in a full flow: context, module, buffers, streams, events, launch.

use cust::context::CurrentContext;
use cust::error::CudaResult;
use cust::event::{Event, EventFlags};
use cust::function::{BlockSize, FunctionAttribute, GridSize};
use cust::launch;
use cust::memory::{AsyncCopyDestination, CopyDestination, DeviceBuffer, LockedBuffer};
use cust::module::Module;
use cust::stream::{Stream, StreamFlags};

const PTX: &str = include_str!("../../harness/tests/ptx/flow.ptx");

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|index| ((index * 7919 + 13) % 1009) as f32 / 64.0 - 7.5).collect()
}

#[test]
fn a_full_flow() -> CudaResult<()> {
    let _context = cust::quick_init()?;
    let device = CurrentContext::get_device()?;
    println!("device: {}, {} bytes", device.name()?, device.total_memory()?);

    let module = Module::from_ptx(PTX, &[])?;
    let scale = module.get_function("scale")?;
    assert_eq!(module.get_function("increment")?.get_attribute(FunctionAttribute::MaxThreadsPerBlock)?, 64);
    assert!(module.get_function("no_such_kernel").is_err());

    let stream = Stream::new(StreamFlags::NON_BLOCKING, None)?;
    let (start, end) = (Event::new(EventFlags::DEFAULT)?, Event::new(EventFlags::DEFAULT)?);
    for count in [1_usize, 33, 1000] {
        let input = numbers(count);
        let x = DeviceBuffer::from_slice(&input)?;
        let y = DeviceBuffer::from_slice(&vec![f32::NAN; count])?;
        let (grid, block) = (GridSize::x((count as u32).div_ceil(64)), BlockSize::x(64));
        start.record(&stream)?;
        // SAFETY: the arguments are those of the kernel, and the last one is the length of both buffers.
        unsafe { launch!(scale<<<grid, block, 0, stream>>>(y.as_device_ptr(), x.as_device_ptr(), 1.5_f32, count as u32)) }?;
        end.record(&stream)?;
        stream.synchronize()?;
        assert!(end.elapsed_time_f32(&start)? >= 0.0);
        let expected: Vec<f32> = input.iter().map(|value| value * 1.5).collect();
        assert_eq!(y.as_host_vec()?, expected, "{count} numbers");
    }
    Ok(())
}

#[test]
fn locked_memory_and_asynchronous_copies() -> CudaResult<()> {
    let _context = cust::quick_init()?;
    let stream = Stream::new(StreamFlags::NON_BLOCKING, None)?;
    let input = LockedBuffer::from_slice(&numbers(257))?;
    let mut output = LockedBuffer::new(&f32::NAN, 257)?;
    let mut buffer = DeviceBuffer::<f32>::zeroed(257)?;
    // SAFETY: host and device memory live until the stream is synchronised.
    unsafe {
        buffer.async_copy_from(&input, &stream)?;
        buffer.async_copy_to(&mut output, &stream)?;
    }
    stream.synchronize()?;
    assert_eq!(output.as_slice(), input.as_slice());
    let mut back = vec![0.0; 257];
    buffer.copy_to(&mut back)?;
    assert_eq!(back, input.as_slice());
    Ok(())
}
