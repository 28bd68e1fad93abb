//! The host memory that the GPU writes stamps to: one anonymous mapping, wiped in a forked child.
//!
//! Not `cuMemHostAlloc`: its pages go away with the context, and a late reader would fault. These
//! stay until the last handle is gone, and for ever if the GPU might still write to them.

use super::layout::{ALIVE, MAGIC, WORDS};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[derive(Debug)]
pub(super) struct Region {
    base: NonNull<AtomicU64>,
    bytes: usize,
    /// The driver has forgotten the mapping, so it may go.
    unregistered: AtomicBool,
}

// SAFETY: the mapping is only reached through atomic words, and belongs to this value alone.
unsafe impl Send for Region {}
// SAFETY: as above: shared access is to atomics.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `bytes` zeros, page aligned and present.
    pub(super) fn map(bytes: usize) -> rustix::io::Result<Region> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: a new anonymous mapping at an address the kernel chooses overlaps nothing.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, flags)? };
        // From here on `Drop` unmaps it: the driver does not know of it yet.
        let region = Region {
            base: NonNull::new(base.cast()).ok_or(rustix::io::Errno::NOMEM)?,
            bytes,
            unregistered: AtomicBool::new(true),
        };
        // SAFETY: the range is the mapping made above; wiping in a child changes nothing here.
        unsafe { madvise(base, bytes, Advice::LinuxWipeOnFork)? };
        Ok(region)
    }

    pub(super) fn address(&self) -> *mut c_void {
        self.base.as_ptr().cast()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The word at a byte offset; one beyond the end is the magic word's, so nothing can panic.
    pub(super) fn word(&self, offset: u64) -> &AtomicU64 {
        debug_assert!(
            offset.is_multiple_of(8) && offset as usize + 8 <= self.bytes,
            "word {offset:#x}"
        );
        let inside = (offset as usize).saturating_add(8) <= self.bytes;
        let index = if inside { offset as usize / 8 } else { 0 };
        // SAFETY: index * 8 + 8 <= bytes, the mapping is page aligned and lives as long as self,
        // zeroed memory is a valid AtomicU64.
        unsafe { self.base.add(index).as_ref() }
    }

    /// The four words of the slot at a byte offset.
    pub(super) fn slot(&self, offset: u64) -> [&AtomicU64; WORDS] {
        std::array::from_fn(|i| self.word(offset + 8 * i as u64))
    }

    pub(super) fn magic(&self) -> u64 {
        self.word(MAGIC).load(Ordering::Relaxed)
    }

    pub(super) fn set_magic(&self, magic: u64) {
        self.word(MAGIC).store(magic, Ordering::Relaxed)
    }

    pub(super) fn is_alive(&self) -> bool {
        self.magic() == ALIVE
    }

    /// The driver maps it too: it must stay until the driver has let go of it.
    pub(super) fn registered(&self) {
        self.unregistered.store(false, Ordering::Relaxed)
    }

    pub(super) fn unregistered(&self) {
        self.unregistered.store(true, Ordering::Relaxed)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if *self.unregistered.get_mut() {
            // SAFETY: the mapping made in `map`; no reference to it outlives self, and the driver
            // does not map it (any more).
            let _ = unsafe { munmap(self.address(), self.bytes) };
        }
        // Else leaked on purpose: the GPU may still write to it.
    }
}
