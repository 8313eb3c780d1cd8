//! What a device of a given compute capability allows: the numbers of the CUDA programming guide's table of technical specifications.

/// Limits that do not depend on the compute capability (7.0 and up).
pub(crate) const MAX_THREADS_PER_BLOCK: u32 = 1024;
pub(crate) const MAX_BLOCK_DIM: [u32; 3] = [1024, 1024, 64];
pub(crate) const MAX_GRID_DIM: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];
pub(crate) const WARP_SIZE: u32 = 32;
pub(crate) const REGISTERS: u32 = 65_536;
/// Shared memory a block may have without opting in to more.
pub(crate) const SHARED_PER_BLOCK: u32 = 48 * 1024;

/// Limits that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Shared memory a block may have after `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`, bytes.
    pub(crate) shared_opt_in: u32,
    /// Shared memory of one multiprocessor, bytes.
    pub(crate) shared_per_multiprocessor: u32,
    /// Shared memory the system keeps in each block, bytes.
    pub(crate) shared_reserved: u32,
    pub(crate) threads_per_multiprocessor: u32,
    pub(crate) blocks_per_multiprocessor: u32,
    /// Bytes of kernel parameters.
    pub(crate) parameter_bytes: usize,
    pub(crate) l2_bytes: u32,
}

const KIB: u32 = 1024;

impl Limits {
    /// The limits of `(major, minor)`; an unknown capability gets those of the nearest older one.
    pub(crate) fn of(capability: (u32, u32)) -> Limits {
        let (opt_in, per_sm, threads, blocks, l2_mib) = match capability {
            (0..=6, _) => (48, 96, 2048, 32, 4),
            (7, 0..=4) => (96, 96, 2048, 32, 6),
            (7, _) => (64, 64, 1024, 16, 6),
            (8, 0..=5) => (163, 164, 2048, 32, 40),
            (8, 6) => (99, 100, 1536, 16, 6),
            (8, 7 | 8) => (163, 164, 1536, 16, 4),
            (8, _) => (99, 100, 1536, 24, 72),
            (9..=11, _) => (227, 228, 2048, 32, 50),
            _ => (99, 100, 1536, 24, 96),
        };
        Limits {
            shared_opt_in: opt_in * KIB,
            shared_per_multiprocessor: per_sm * KIB,
            shared_reserved: if capability >= (8, 0) { KIB } else { 0 },
            threads_per_multiprocessor: threads,
            blocks_per_multiprocessor: blocks,
            // 32764 bytes from PTX 8.1 on sm_70 and later; the older limit is what every driver accepts.
            parameter_bytes: if capability >= (7, 0) { 32_764 } else { 4_096 },
            l2_bytes: l2_mib * KIB * KIB,
        }
    }
}

/// The newest PTX ISA version (major, minor) that a driver of CUDA `version` (1000 major + 10 minor) takes.
pub(crate) fn newest_ptx(version: u32) -> (u32, u32) {
    match (version / 1000, version % 1000 / 10) {
        (11, minor) => (7, minor.min(8)),
        (12, minor @ 0..=5) => (8, minor),
        (12, 6) => (8, 5),
        (12, minor) => (8, minor.min(9) - 1),
        (major @ 13.., minor) => (major - 4, minor),
        _ => (6, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ptx_versions_follow_the_release_notes() {
        let pairs = [
            (11_080, (7, 8)),
            (12_000, (8, 0)),
            (12_060, (8, 5)),
            (12_080, (8, 7)),
            (12_090, (8, 8)),
            (13_000, (9, 0)),
        ];
        for (driver, ptx) in pairs {
            assert_eq!(newest_ptx(driver), ptx, "CUDA {driver}");
        }
    }

    #[test]
    fn opt_in_leaves_the_reserved_kilobyte() {
        for capability in [(8, 0), (8, 6), (8, 9), (9, 0)] {
            let limits = Limits::of(capability);
            assert_eq!(limits.shared_opt_in + limits.shared_reserved, limits.shared_per_multiprocessor);
        }
    }
}
