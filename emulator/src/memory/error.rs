use thiserror::Error;

/// Why the host could not allocate, free or copy device memory.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The device has no room left.
    #[error(
        "out of device memory: {requested} bytes asked for, {free} of {total} free; free buffers or raise the capacity"
    )]
    OutOfMemory {
        /// Bytes asked for.
        requested: u64,
        /// Bytes not in use.
        free: u64,
        /// The capacity of the device.
        total: u64,
    },
    /// An allocation of no bytes.
    #[error("an allocation of 0 bytes; ask for at least one")]
    ZeroSize,
    /// An address that is not the start of an allocation was given to `free`.
    #[error("{address:#x} is not the start of an allocation; free the address that alloc returned")]
    NotAnAllocation {
        /// The address given.
        address: u64,
    },
    /// The memory was freed before.
    #[error(
        "{address:#x} lies in an allocation of {bytes} bytes at {base:#x} that was freed; use it before freeing it"
    )]
    UseAfterFree {
        /// The address given.
        address: u64,
        /// Start of the freed allocation.
        base: u64,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A range that is not wholly inside one allocation.
    #[error(
        "{bytes} bytes at {address:#x} are not inside one allocation{nearest}; check the pointer and the size"
    )]
    OutOfBounds {
        /// Start of the range.
        address: u64,
        /// Length of the range.
        bytes: u64,
        /// The allocation nearest to it, in words, or nothing.
        nearest: String,
    },
    /// A fill of 16- or 32-bit values at an address that is not a multiple of the value's size.
    #[error("{address:#x} is not a multiple of {align} bytes; align the destination to the filled value")]
    Misaligned {
        /// The address given.
        address: u64,
        /// The alignment needed.
        align: u64,
    },
}
