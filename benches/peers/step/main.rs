//! This crate's side of the comparison with other implementations: answers the orders of `run.py` on standard input,
//! one JSON line each. `torch_worker.py` speaks the same language and explains it.
//!
//! `step DEVICE DTYPE EXCLUDE FOLDER ROWS COLUMNS DIM TAU`; the CPU's threads come from `RAYON_NUM_THREADS`.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod inputs;

use std::error::Error;
use std::io::{BufRead, Write};
use std::{env, fs, io};

use half::{bf16, f16};
use inputs::{Inputs, Shape};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One side of the comparison, with its problem.
trait Peer {
    /// Milliseconds of one step.
    fn step(&mut self) -> Result<f64>;

    /// The loss and both gradients.
    fn check(&mut self) -> Result<(f32, [Vec<f32>; 2])>;

    /// Bytes that a step needs beside its inputs and outputs, at most.
    fn memory(&mut self) -> Result<u64>;
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [device, dtype, exclude, folder, sizes @ ..] = arguments.as_slice() else {
        return Err("usage: step DEVICE DTYPE EXCLUDE FOLDER ROWS COLUMNS DIM TAU".into());
    };
    let shape = Shape::parse(folder, exclude == "exclude", sizes)?;
    let mut peer: Box<dyn Peer> = match (device.as_str(), dtype.as_str()) {
        ("cpu", "f32") => Box::new(cpu::Cpu::new(Inputs::<f32>::read(&shape)?)?),
        ("cpu", "bf16") => Box::new(cpu::Cpu::new(Inputs::<bf16>::read(&shape)?)?),
        ("cpu", "f16") => Box::new(cpu::Cpu::new(Inputs::<f16>::read(&shape)?)?),
        #[cfg(feature = "cuda")]
        ("cuda", "f32") => Box::new(cuda::Cuda::new(Inputs::<f32>::read(&shape)?)?),
        #[cfg(feature = "cuda")]
        ("cuda", "bf16") => Box::new(cuda::Cuda::new(Inputs::<bf16>::read(&shape)?)?),
        #[cfg(feature = "cuda")]
        ("cuda", "f16") => Box::new(cuda::Cuda::new(Inputs::<f16>::read(&shape)?)?),
        (device, dtype) => return Err(format!("no {device} with {dtype}").into()),
    };
    say(r#"{"ready": true, "excludes": true, "log_q": true}"#)?;
    for line in io::stdin().lock().lines() {
        let answer = match line?.trim() {
            "step" => format!(r#"{{"ms": {}}}"#, peer.step()?),
            "check" => {
                let (loss, gradients) = peer.check()?;
                for (name, gradient) in ["d_users", "d_items"].into_iter().zip(&gradients) {
                    fs::write(shape.folder.join(format!("{name}.f32")), bytemuck::cast_slice(gradient))?;
                }
                format!(r#"{{"loss": {loss}}}"#)
            }
            "memory" => format!(r#"{{"bytes": {}}}"#, peer.memory()?),
            "quit" => break,
            other => return Err(format!("no order {other:?}").into()),
        };
        say(&answer)?;
    }
    Ok(())
}

fn say(answer: &str) -> Result<()> {
    println!("{answer}");
    Ok(io::stdout().flush()?)
}
