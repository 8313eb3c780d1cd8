//! Which kernels a problem gets and how it is cut for the device: a pure function of the device's properties, the
//! problem and the configuration, so that equal calls give equal bits.

mod dispatch;
mod sweep;

pub use dispatch::{Hardware, Kernels};
pub use sweep::Sweep;

use std::fmt;

use super::workspace::{Purpose, Sizes};
use crate::{LossConfig, Problem};
use dispatch::obstacle;
use sweep::Mode;

/// The kernels, grids and memory of calls on one problem. Prints as a short table.
///
/// ```
/// use inbatch::cuda::{Hardware, Kernels, Plan};
/// use inbatch::{Dtype, LossConfig, Problem};
/// # fn main() -> Result<(), inbatch::Error> {
/// let problem = Problem {
///     rows: 16_384,
///     dim: 128,
///     batch_columns: 16_384,
///     extra_columns: 0,
///     bank_columns: 0,
///     row_negatives: 0,
///     pool: None,
///     offset: 0,
///     dtype: Dtype::Bf16,
/// };
/// let plan = Plan::new(&Hardware::new((9, 0), 132), &problem, &LossConfig::new(0.05)?);
/// assert_eq!(plan.kernels(), Kernels::Mma);
/// assert_eq!(plan.forward().kernel, "stream_mma_forward_128_bf16");
/// println!("{plan}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    hardware: Hardware,
    problem: Problem,
    config: LossConfig,
    /// Why the tensor cores stay idle.
    obstacle: Option<&'static str>,
}

impl Plan {
    /// The plan for embeddings whose rows all start at multiples of 16 bytes, as allocations do. Others are read by
    /// the SIMT kernels, unless they are normalised.
    pub fn new(hardware: &Hardware, problem: &Problem, config: &LossConfig) -> Self {
        Self::with_alignment(hardware, problem, config, true)
    }

    /// `aligned` says whether every embedding that is read starts at a multiple of 16 bytes.
    pub(super) fn with_alignment(
        hardware: &Hardware,
        problem: &Problem,
        config: &LossConfig,
        aligned: bool,
    ) -> Self {
        let obstacle = obstacle(hardware, problem, config, aligned);
        Self { hardware: *hardware, problem: *problem, config: *config, obstacle }
    }

    /// The kernels chosen.
    pub fn kernels(&self) -> Kernels {
        if self.obstacle.is_some() { Kernels::Simt } else { Kernels::Mma }
    }

    /// Why the tensor cores are not used, if they are not.
    pub fn obstacle(&self) -> Option<&'static str> {
        self.obstacle
    }

    /// The sweep of an evaluation.
    pub fn loss(&self) -> Sweep {
        self.first_sweep(Mode::Loss)
    }

    /// The first sweep of a step.
    pub fn forward(&self) -> Sweep {
        self.first_sweep(Mode::Forward)
    }

    /// The second sweep of a step, over all columns that have a gradient.
    pub fn backward(&self) -> Sweep {
        self.backward_of(self.problem.gradient_columns(), false)
    }

    /// The second sweep over the first `owned` columns. Their masses, which gradients of log q need, are added up by
    /// the SIMT kernels alone.
    pub(super) fn backward_of(&self, owned: usize, with_masses: bool) -> Sweep {
        if self.config.get_hard_negatives().is_some() {
            return self.gathered_backward(owned);
        }
        let kernels = if with_masses { Kernels::Simt } else { self.kernels() };
        self.sweep_by(kernels, Mode::Backward, owned, self.problem.rows)
    }

    /// Bytes of device memory beside inputs and outputs, for any call on the problem.
    pub fn workspace_bytes(&self) -> usize {
        self.bytes(&Sizes::all(self))
    }

    /// Bytes of all workspaces where the main one has these sizes.
    pub(super) fn bytes(&self, sizes: &Sizes) -> usize {
        // Both directions of a symmetric loss have a workspace.
        let other = if self.config.is_symmetric() { sizes.without_scalars().bytes() } else { 0 };
        let row_negatives = Sizes::of_row_negatives(self, Purpose::Backward).bytes();
        sizes.bytes().saturating_add(other).saturating_add(row_negatives)
    }

    /// `K`, where each row has negatives for itself: row negatives, or those that mining keeps.
    pub(super) fn gathered(&self) -> Option<usize> {
        let row_negatives = self.problem.row_negatives;
        self.config.get_hard_negatives().or((row_negatives > 0).then_some(row_negatives))
    }

    pub(super) fn problem(&self) -> &Problem {
        &self.problem
    }

    pub(super) fn config(&self) -> &LossConfig {
        &self.config
    }

    /// Whether the sweeps read scaled copies of the embeddings, which the workspace holds.
    pub(super) fn copies_embeddings(&self) -> bool {
        self.kernels() == Kernels::Mma && self.config.normalizes()
    }

    fn first_sweep(&self, mode: Mode) -> Sweep {
        if self.config.get_hard_negatives().is_some() {
            return self.hard_negatives();
        }
        let (owned, streamed) = (self.problem.rows, self.problem.columns());
        self.sweep_by(self.kernels(), mode, owned, streamed)
    }

    fn sweep_by(&self, kernels: Kernels, mode: Mode, owned: usize, streamed: usize) -> Sweep {
        match kernels {
            Kernels::Simt => self.simt(mode, owned, streamed),
            Kernels::Mma => self.mma(mode, owned, streamed),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { rows, dim, dtype, .. } = self.problem;
        let (major, minor) = self.hardware.compute_capability;
        let multiprocessors = self.hardware.multiprocessors;
        writeln!(
            f,
            "{rows} x {} x {dim} {dtype}, compute capability {major}.{minor}, {multiprocessors} multiprocessors",
            self.problem.columns()
        )?;
        match self.obstacle {
            Some(why) => writeln!(f, "kernels:   SIMT ({why})")?,
            None => writeln!(f, "kernels:   tensor cores (mma.sync)")?,
        }
        writeln!(f, "loss only: {}", self.loss())?;
        writeln!(f, "forward:   {}", self.forward())?;
        writeln!(f, "backward:  {}", self.backward())?;
        write!(f, "workspace: {} bytes", self.workspace_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;

    pub(super) fn problem(rows: usize, columns: usize, dim: usize, dtype: Dtype) -> Problem {
        Problem {
            rows,
            dim,
            batch_columns: columns,
            extra_columns: 0,
            bank_columns: 0,
            row_negatives: 0,
            pool: None,
            offset: 0,
            dtype,
        }
    }

    pub(super) fn config() -> LossConfig {
        LossConfig::new(0.1).unwrap()
    }

    /// Beside inputs and outputs the workspace is below 3 (B + N) D floats at the sizes that matter.
    #[test]
    fn the_workspace_stays_small() {
        let hardware = Hardware::new((9, 0), 132);
        for (n, dim) in [(16_384, 64), (16_384, 128), (65_536, 128), (65_536, 256)] {
            for config in [config(), config().normalize(true).exclude_same_item(true)] {
                let plan = Plan::new(&hardware, &problem(n, n, dim, Dtype::Bf16), &config);
                assert!(plan.workspace_bytes() < 3 * 2 * n * dim * 4, "{plan}");
            }
        }
    }
}
