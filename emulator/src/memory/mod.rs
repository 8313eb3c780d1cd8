//! Device memory with bounds and initialisation shadows, and the shadows that find data races.
mod allocation;
mod bitmap;
mod device;
mod error;
mod local;
pub(crate) mod race;
mod shared;

pub(crate) use allocation::Allocation;
pub(crate) use device::View;
pub use device::{AllocationInfo, DeviceMemory};
pub use error::MemoryError;
pub(crate) use local::LocalMemory;
pub(crate) use shared::{SharedMemory, Unready};

/// What a word holds before anything is written to it: a NaN in f64, f32, f16 and bf16, and a large integer, so
/// that the use of memory nobody wrote shows in the results even where the check for it is off.
pub(crate) const POISON: u32 = 0x7fff_7fff;

/// The positions of the bits that are set, lowest first.
#[inline(always)]
pub(crate) fn set_bits(mask: u32) -> impl Iterator<Item = usize> + Clone {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let bit = rest.trailing_zeros() as usize;
        let some = rest != 0;
        rest &= rest.wrapping_sub(1);
        some.then_some(bit)
    })
}
