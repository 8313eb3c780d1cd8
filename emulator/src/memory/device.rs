//! The device's memory as the host sees it: allocations at virtual addresses with gaps between them.
use super::{Allocation, MemoryError};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Where the first allocation lies. Addresses are never host addresses and never given out twice.
const FIRST: u64 = 0x10_0000_0000;
/// Starts are multiples of this, as cuMemAlloc's are.
const ALIGN: u64 = 512;
/// At least this much lies unused between two allocations, so that small overruns hit nothing.
const GAP: u64 = 1 << 20;

/// An allocation, as reports and the leak check name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocationInfo {
    /// Its first address.
    pub base: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The module variable it holds, or nothing for memory the host asked for.
    pub name: Option<String>,
}

/// The global memory of one device. Cheap to share: streams and blocks use it at once.
pub struct DeviceMemory {
    table: RwLock<Table>,
    capacity: u64,
}

struct Table {
    live: BTreeMap<u64, Arc<Allocation>>,
    freed: BTreeMap<u64, u64>,
    next: u64,
    used: u64,
}

impl DeviceMemory {
    /// Memory of `capacity` bytes in all; gaps and shadows do not count.
    pub fn new(capacity: u64) -> Self {
        let table = Table { live: BTreeMap::new(), freed: BTreeMap::new(), next: FIRST, used: 0 };
        DeviceMemory { table: RwLock::new(table), capacity }
    }

    /// Allocates `bytes` bytes, at a multiple of 512.
    ///
    /// # Errors
    /// `ZeroSize` and `OutOfMemory`.
    pub fn alloc(&self, bytes: u64) -> Result<u64, MemoryError> {
        self.alloc_named(bytes, None)
    }

    /// Allocates a module's variable: a leak check leaves it out.
    pub(crate) fn alloc_named(&self, bytes: u64, name: Option<String>) -> Result<u64, MemoryError> {
        if bytes == 0 {
            return Err(MemoryError::ZeroSize);
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let free = self.capacity - table.used;
        if bytes > free {
            return Err(MemoryError::OutOfMemory { requested: bytes, free, total: self.capacity });
        }
        let base = table.next;
        table.next += (bytes + GAP).next_multiple_of(ALIGN);
        table.used += bytes;
        table.live.insert(base, Arc::new(Allocation::new(base, bytes, name)));
        Ok(base)
    }

    /// Frees an allocation by its first address.
    ///
    /// # Errors
    /// `UseAfterFree` for memory freed before, `NotAnAllocation` for any other address.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        match table.live.remove(&address) {
            Some(allocation) => {
                table.used -= allocation.bytes;
                table.freed.insert(address, allocation.bytes);
                Ok(())
            }
            None => Err(table
                .freed_at(address)
                .map(|(base, bytes)| MemoryError::UseAfterFree { address, base, bytes })
                .unwrap_or(MemoryError::NotAnAllocation { address })),
        }
    }

    /// Copies host bytes to the device.
    ///
    /// # Errors
    /// `OutOfBounds` or `UseAfterFree` unless the whole range is in one live allocation.
    pub fn copy_from_host(&self, dst: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let allocation = self.range(dst, bytes.len() as u64)?;
        if let Some(allocation) = allocation {
            allocation.write(dst - allocation.base, bytes);
        }
        Ok(())
    }

    /// Copies device bytes to the host. Bytes never written read as a poison pattern.
    ///
    /// # Errors
    /// `OutOfBounds` or `UseAfterFree` unless the whole range is in one live allocation.
    pub fn copy_to_host(&self, bytes: &mut [u8], src: u64) -> Result<(), MemoryError> {
        let allocation = self.range(src, bytes.len() as u64)?;
        if let Some(allocation) = allocation {
            allocation.read(src - allocation.base, bytes);
        }
        Ok(())
    }

    /// Copies between two device ranges, which may overlap. Bytes never written stay marked as such.
    ///
    /// # Errors
    /// `OutOfBounds` or `UseAfterFree` unless each range is in one live allocation.
    pub fn copy(&self, dst: u64, src: u64, bytes: u64) -> Result<(), MemoryError> {
        let (Some(to), Some(from)) = (self.range(dst, bytes)?, self.range(src, bytes)?) else {
            return Ok(());
        };
        let mut buffer = vec![0; bytes as usize];
        from.read(src - from.base, &mut buffer);
        let whole = from.init.has_range(src - from.base, bytes);
        let marks = if whole { Vec::new() } else { from.init.marks(src - from.base, bytes) };
        to.write(dst - to.base, &buffer);
        to.init.clear_unwritten(dst - to.base, &marks);
        Ok(())
    }

    /// Writes `count` copies of a byte.
    ///
    /// # Errors
    /// As [`copy_from_host`](Self::copy_from_host).
    pub fn fill8(&self, dst: u64, value: u8, count: u64) -> Result<(), MemoryError> {
        self.fill(dst, &[value], count)
    }

    /// Writes `count` copies of a 16-bit value.
    ///
    /// # Errors
    /// As [`copy_from_host`](Self::copy_from_host), and `Misaligned`.
    pub fn fill16(&self, dst: u64, value: u16, count: u64) -> Result<(), MemoryError> {
        self.fill(dst, &value.to_le_bytes(), count)
    }

    /// Writes `count` copies of a 32-bit value.
    ///
    /// # Errors
    /// As [`copy_from_host`](Self::copy_from_host), and `Misaligned`.
    pub fn fill32(&self, dst: u64, value: u32, count: u64) -> Result<(), MemoryError> {
        self.fill(dst, &value.to_le_bytes(), count)
    }

    fn fill(&self, dst: u64, value: &[u8], count: u64) -> Result<(), MemoryError> {
        let align = value.len() as u64;
        if !dst.is_multiple_of(align) {
            return Err(MemoryError::Misaligned { address: dst, align });
        }
        // A count beyond u64 is out of bounds of any allocation: saturating keeps it so.
        if let Some(allocation) = self.range(dst, align.saturating_mul(count))? {
            allocation.write(dst - allocation.base, &value.repeat(count as usize));
        }
        Ok(())
    }

    /// The live allocation that holds an address.
    pub fn allocation_of(&self, address: u64) -> Option<AllocationInfo> {
        self.view().find(address).map(|allocation| allocation.info())
    }

    /// All live allocations of the host, lowest address first: what leaks if the context ends now.
    pub fn live(&self) -> Vec<AllocationInfo> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table
            .live
            .values()
            .filter(|allocation| allocation.name.is_none())
            .map(|allocation| allocation.info())
            .collect()
    }

    /// The capacity in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.capacity
    }

    /// Bytes not in use.
    pub fn free_bytes(&self) -> u64 {
        self.capacity - self.table.read().unwrap_or_else(PoisonError::into_inner).used
    }

    /// What a launch sees: the allocations that exist now.
    pub(crate) fn view(&self) -> View {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        View {
            live: table.live.values().cloned().collect(),
            freed: table.freed.iter().map(|(base, bytes)| (*base, *bytes)).collect(),
        }
    }

    /// The allocation that holds a whole range; nothing for an empty range, which touches no memory.
    fn range(&self, address: u64, bytes: u64) -> Result<Option<Arc<Allocation>>, MemoryError> {
        if bytes == 0 {
            return Ok(None);
        }
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let nearest = table.live.range(..=address).next_back().map(|(_, allocation)| allocation);
        if let Some(allocation) = nearest
            && bytes <= allocation.bytes
            && address - allocation.base <= allocation.bytes - bytes
        {
            return Ok(Some(allocation.clone()));
        }
        if let Some((base, size)) = table.freed_at(address) {
            return Err(MemoryError::UseAfterFree { address, base, bytes: size });
        }
        let nearest = nearest.map_or(String::new(), |allocation| {
            format!(" (the nearest below is {} bytes at {:#x})", allocation.bytes, allocation.base)
        });
        Err(MemoryError::OutOfBounds { address, bytes, nearest })
    }
}

impl Table {
    fn freed_at(&self, address: u64) -> Option<(u64, u64)> {
        let (base, bytes) = self.freed.range(..=address).next_back()?;
        (address - base < *bytes).then_some((*base, *bytes))
    }
}

impl Allocation {
    pub(crate) fn info(&self) -> AllocationInfo {
        AllocationInfo { base: self.base, bytes: self.bytes, name: self.name.clone() }
    }
}

/// The allocations as they were when a launch began.
pub(crate) struct View {
    live: Vec<Arc<Allocation>>,
    freed: Vec<(u64, u64)>,
}

impl View {
    /// The allocation that holds an address.
    pub(crate) fn find(&self, address: u64) -> Option<&Arc<Allocation>> {
        let allocation = self.nearest_below(address)?;
        (address - allocation.base < allocation.bytes).then_some(allocation)
    }

    /// The last allocation that starts at or below an address.
    pub(crate) fn nearest_below(&self, address: u64) -> Option<&Arc<Allocation>> {
        let count = self.live.partition_point(|allocation| allocation.base <= address);
        count.checked_sub(1).and_then(|k| self.live.get(k))
    }

    /// The first allocation that starts above an address.
    pub(crate) fn nearest_above(&self, address: u64) -> Option<&Arc<Allocation>> {
        self.live.get(self.live.partition_point(|allocation| allocation.base <= address))
    }

    /// The freed allocation, as base and bytes, that held an address.
    pub(crate) fn freed(&self, address: u64) -> Option<(u64, u64)> {
        let count = self.freed.partition_point(|(base, _)| *base <= address);
        let (base, bytes) = *self.freed.get(count.checked_sub(1)?)?;
        (address - base < bytes).then_some((base, bytes))
    }
}
