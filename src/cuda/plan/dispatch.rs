//! Which kind of kernels a problem gets.

use super::sweep::{LARGEST, block_bytes};
use crate::config::Link;
use crate::{Dtype, LossConfig, Problem};

/// What of a device decides the kernels; see [`Device::hardware`](crate::cuda::Device::hardware).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hardware {
    /// Compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Whether tensor cores may be used.
    pub tensor_cores: bool,
}

impl Hardware {
    /// A device of this compute capability, tensor cores in use where it has them.
    pub const fn new(compute_capability: (u32, u32), multiprocessors: usize) -> Self {
        Self { compute_capability, multiprocessors, tensor_cores: true }
    }

    /// Bytes of shared memory that the blocks of one multiprocessor have together. A capability that is not known here
    /// counts as one with little.
    pub(super) fn shared_bytes(&self) -> usize {
        match self.compute_capability {
            (8, 0 | 7) => 164 << 10,
            (9, _) | (10, _) => 228 << 10,
            _ => 100 << 10,
        }
    }
}

/// The stream's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kernels {
    /// Plain f32 arithmetic: every type, every dimension, every feature.
    Simt,
    /// `mma.sync` on tensor cores: f16 and bf16 at dimensions that it takes.
    Mma,
}

/// Why a problem cannot have the tensor cores, the first reason that applies: the whole table of the dispatch.
pub(super) fn obstacle(
    hardware: &Hardware,
    problem: &Problem,
    config: &LossConfig,
    aligned: bool,
) -> Option<&'static str> {
    let copied = config.normalizes();
    [
        (!hardware.tensor_cores, "tensor cores are switched off"),
        (hardware.compute_capability < (8, 0), "the compute capability is below 8.0"),
        (problem.dtype == Dtype::F32, "the embeddings are f32"),
        (!problem.dim.is_multiple_of(16), "the dimension is no multiple of 16"),
        (problem.dim < 32 || problem.dim > LARGEST, "the dimension is outside 32 to 1024"),
        (
            block_bytes(problem.dim) > hardware.shared_bytes(),
            "the device has too little shared memory for the dimension",
        ),
        (!aligned && !copied, "an embedding starts at no multiple of 16 bytes"),
        (!mma_has(config), "the configuration asks for what only the SIMT kernels have"),
    ]
    .into_iter()
    .find_map(|(applies, why)| applies.then_some(why))
}

/// Whether the tensor-core kernels have everything that a configuration asks for.
fn mma_has(config: &LossConfig) -> bool {
    let features = config.sweep_features();
    let mines = config.get_hard_negatives().is_some();
    features.link == Link::Softmax && !features.counts && !features.moment && !features.symmetric && !mines
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, problem};
    use super::*;
    use crate::cuda::Plan;

    /// The table, one row for each reason.
    #[test]
    fn the_dispatch_table() {
        let ampere = Hardware::new((8, 0), 108);
        let ada = Hardware::new((8, 9), 128);
        let no_tensor_cores = Hardware { tensor_cores: false, ..ampere };
        let (bf16, f16, f32) = (Dtype::Bf16, Dtype::F16, Dtype::F32);
        let normalized = config().normalize(true);
        let (plain, mma) = (config(), None);
        for (hardware, dim, dtype, config, aligned, expected) in [
            (ampere, 128, bf16, plain, true, mma),
            (ampere, 32, f16, plain, true, mma),
            (ampere, 256, f16, normalized, true, mma),
            (Hardware::new((12, 0), 170), 80, bf16, plain, true, mma),
            (ampere, 64, bf16, normalized, false, mma),
            (ampere, 272, bf16, plain, true, mma),
            (ampere, 1024, f16, plain, true, mma),
            (ada, 512, f16, plain, true, mma),
            (ada, 528, f16, plain, true, Some("shared memory")),
            (no_tensor_cores, 128, bf16, plain, true, Some("switched off")),
            (Hardware::new((7, 5), 40), 128, f16, plain, true, Some("below 8.0")),
            (ampere, 128, f32, plain, true, Some("f32")),
            (ampere, 40, bf16, plain, true, Some("multiple of 16")),
            (ampere, 16, bf16, plain, true, Some("outside")),
            (ampere, 1040, bf16, plain, true, Some("outside")),
            (ampere, 64, bf16, plain, false, Some("16 bytes")),
        ] {
            let plan = Plan::with_alignment(&hardware, &problem(5, 9, dim, dtype), &config, aligned);
            match (plan.obstacle(), expected) {
                (None, None) => assert_eq!(plan.kernels(), Kernels::Mma),
                (Some(why), Some(word)) => assert!(why.contains(word), "{why} is not {word}"),
                other => panic!("{dim} {dtype}: {other:?}"),
            }
            let wanted = if expected.is_none() { "stream_mma_" } else { "stream_" };
            for sweep in [plan.loss(), plan.forward(), plan.backward()] {
                assert!(sweep.kernel.starts_with(wanted), "{plan}");
                assert_eq!(sweep.kernel.starts_with("stream_mma_"), expected.is_none(), "{plan}");
                assert!(sweep.kernel.ends_with(dtype.name()), "{plan}");
                assert!(plan.to_string().contains(&sweep.to_string()));
            }
            assert!(plan.to_string().contains(&format!("workspace: {} bytes", plan.workspace_bytes())));
        }
    }
}
