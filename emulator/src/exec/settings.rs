//! What the emulated device is, and what is checked.

/// Which checks run. All are on by default; each costs time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checks {
    /// Accesses outside allocations and windows are reported; off, such reads give 0 and such writes are dropped.
    pub bounds: bool,
    /// Reads of bytes nobody wrote are reported.
    pub init: bool,
    /// Data races in shared and global memory are reported.
    pub race: bool,
    /// Barriers that not all threads reach and warp operations with lanes missing are reported. Off, only a
    /// deadlock is.
    pub barrier: bool,
    /// With `race`: plain stores by which several lanes write one value to one place are reported. Such a kernel is right, so
    /// this is not among [`Checks::ALL`]; but where one lane is meant to write, it is the only trace of a wrong condition.
    pub redundant: bool,
}

impl Checks {
    /// Every check of what is wrong in any kernel.
    pub const ALL: Checks = Checks { bounds: true, init: true, race: true, barrier: true, redundant: false };
    /// Every check off.
    pub const NONE: Checks =
        Checks { bounds: false, init: false, race: false, barrier: false, redundant: false };
}

impl Default for Checks {
    fn default() -> Self {
        Checks::ALL
    }
}

/// The emulated device and how a launch runs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Compute capability: a module for a newer one is refused.
    pub compute_capability: (u32, u32),
    /// Number of multiprocessors that the device claims to have.
    pub multiprocessors: u32,
    /// Sets the order of blocks and the interleaving of warps.
    pub seed: u64,
    /// What is checked.
    pub checks: Checks,
    /// Host threads that run blocks. Correct kernels give the same results for any number.
    pub workers: usize,
    /// A launch is stopped and reported as a hang after this many warp instructions in one block.
    pub instruction_limit: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            compute_capability: (8, 0),
            multiprocessors: 4,
            seed: 0,
            checks: Checks::ALL,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            instruction_limit: Some(10_000_000_000),
        }
    }
}
