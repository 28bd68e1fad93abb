//! Which memory a kernel may touch, and how stores become visible.
//!
//! Device memory is ordinary memory of this process, so an allocation's address also works on the host. A registered
//! host range gets another address for the device ([`DEVICE_VIEW`] higher): whoever forgets
//! `cuMemHostGetDevicePointer` meets error 700 here, as on the machines where the two differ.
//!
//! Every access holds the table's lock for reading, and whoever takes memory away holds it for writing: no access can
//! hit memory that is gone.

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::sync::RwLock;

use crate::codes::{self, Code};
use crate::lock::{read, write};

/// Device address of registered host memory, minus its host address.
pub const DEVICE_VIEW: u64 = 1 << 52;

/// What the driver promises for each allocation.
const ALLOCATION_ALIGN: usize = 256;

/// New memory holds this byte, not zeros: nobody may rely on zeros.
const UNINITIALISED: u8 = 0xDB;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `cuMemAlloc`
    Device,
    /// `cuMemHostAlloc`: pinned host memory of the driver; one address for both sides.
    HostAllocated,
    /// `cuMemHostRegister`: pinned host memory of the caller.
    HostRegistered,
}

#[derive(Debug)]
struct Range {
    length: u64,
    host: u64,
    context: usize,
    kind: Kind,
}

/// All memory of all contexts, by device address.
#[derive(Debug)]
pub struct Memory(RwLock<BTreeMap<u64, Range>>);

impl Memory {
    pub const fn new() -> Memory {
        Memory(RwLock::new(BTreeMap::new()))
    }

    /// New memory for `context`.
    pub fn allocate(&self, context: usize, length: usize, kind: Kind) -> Result<u64, Code> {
        let layout = layout(length).ok_or(codes::INVALID_VALUE)?;
        // SAFETY: layout() refuses a length of 0.
        let start = unsafe { std::alloc::alloc(layout) };
        if start.is_null() {
            return Err(codes::OUT_OF_MEMORY);
        }
        // SAFETY: `start` has just been allocated with `length` bytes.
        unsafe { start.write_bytes(UNINITIALISED, length) };
        let address = start as u64;
        let range = Range { length: length as u64, host: address, context, kind };
        write(&self.0).insert(address, range);
        Ok(address)
    }

    /// Makes the caller's memory visible to the kernels of `context`.
    pub fn register(&self, context: usize, host: u64, length: usize) -> Result<(), Code> {
        if host == 0 || length == 0 {
            return Err(codes::INVALID_VALUE);
        }
        let length = length as u64;
        let mut ranges = write(&self.0);
        let overlaps = ranges
            .values()
            .any(|range| host < range.host + range.length && range.host < host + length);
        if overlaps {
            return Err(codes::HOST_MEMORY_ALREADY_REGISTERED);
        }
        let range = Range { length, host, context, kind: Kind::HostRegistered };
        ranges.insert(host + DEVICE_VIEW, range);
        Ok(())
    }

    /// Takes away what starts at device address `start`; false if no memory of that kind starts there.
    pub fn release(&self, start: u64, kind: Kind) -> bool {
        let mut ranges = write(&self.0);
        if ranges.get(&start).is_none_or(|range| range.kind != kind) {
            return false;
        }
        ranges.remove(&start).is_some_and(|range| {
            range.free();
            true
        })
    }

    /// Takes away all memory of a context that has ended.
    pub fn forget(&self, context: usize) {
        write(&self.0).retain(|_, range| {
            let kept = range.context != context;
            if !kept {
                range.free();
            }
            kept
        });
    }

    /// Device address of pinned host memory, or `None` if `host` is not pinned.
    pub fn device_address(&self, host: u64) -> Option<u64> {
        read(&self.0).iter().find_map(|(start, range)| {
            let pinned = range.kind != Kind::Device;
            let inside = (range.host..range.host + range.length).contains(&host);
            (pinned && inside).then(|| start + (host - range.host))
        })
    }

    /// Calls `access` with a pointer to `length` bytes at a device address that `context` may touch.
    ///
    /// The memory stays where it is until `access` returns.
    pub fn with<T>(
        &self,
        context: usize,
        address: u64,
        length: usize,
        access: impl FnOnce(*mut u8) -> T,
    ) -> Result<T, Code> {
        let ranges = read(&self.0);
        let (start, range) = ranges.range(..=address).next_back().ok_or(codes::ILLEGAL_ADDRESS)?;
        let offset = address - start;
        let fits = offset.checked_add(length as u64).is_some_and(|end| end <= range.length);
        if !fits || range.context != context {
            return Err(codes::ILLEGAL_ADDRESS);
        }
        Ok(access((range.host + offset) as *mut u8))
    }
}

impl Range {
    fn free(&self) {
        if self.kind == Kind::HostRegistered {
            return;
        }
        let Some(layout) = layout(self.length as usize) else { return };
        // SAFETY: allocate() got `host` with this very layout, and the range leaves the table with this call.
        unsafe { std::alloc::dealloc(self.host as *mut u8, layout) };
    }
}

fn layout(length: usize) -> Option<Layout> {
    Layout::from_size_align(length, ALLOCATION_ALIGN).ok().filter(|layout| layout.size() > 0)
}
