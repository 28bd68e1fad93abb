//! A libcupti in C that does what the test says, and the one lock that its users share.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

/// `struct knobs` of the stub.
#[repr(C)]
pub struct Knobs {
    pub version: u32,
    pub subscribe_code: u32,
    pub enable_code: u32,
    pub flush_code: u32,
    pub requests: u32,
    pub strange: u32,
    pub dropped: u64,
    pub canned_size: usize,
    pub calls: u32,
    pub subscribed: u32,
    pub kinds: u32,
    pub driver_calls: u32,
    pub depth: u32,
    pub refused: u32,
    pub misplaced: u32,
    pub last_kind: u32,
    pub last_id: u64,
    pub clock: u64,
    pub canned: [u8; 4096],
}

/// A copy of the stub with its own state, and the lock: a process has one subscription.
pub struct Stub {
    pub file: PathBuf,
    knobs: *mut Knobs,
    lock: unsafe extern "C" fn(),
    unlock: unsafe extern "C" fn(),
    _one_at_a_time: MutexGuard<'static, ()>,
}

/// The knobs while nobody else touches them; the stub's calls from this thread go through.
pub struct Held<'a>(&'a mut Stub);

impl Deref for Held<'_> {
    type Target = Knobs;

    fn deref(&self) -> &Knobs {
        // SAFETY: the stub's static of the same layout, and its lock is held.
        unsafe { &*self.0.knobs }
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Knobs {
        // SAFETY: as in `deref`; the stub is borrowed exclusively, so there is no other guard.
        unsafe { &mut *self.0.knobs }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: the function of this type; this thread has the lock.
        unsafe { (self.0.unlock)() }
    }
}

impl Stub {
    /// Compiles the stub, without what `flags` leave out.
    pub fn build(flags: &[&str]) -> Stub {
        static LOCK: Mutex<()> = Mutex::new(());
        static COPIES: AtomicU32 = AtomicU32::new(0);
        let lock = LOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let copy = COPIES.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir();
        let file = folder.join(format!("stepscope-cupti-stub-{}-{copy}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cupti_stub.c");
        let built = Command::new("cc")
            .args([
                "-std=c11",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-Wno-unused-variable",
                "-O1",
                "-shared",
                "-fPIC",
                "-o",
            ])
            .arg(&file)
            .args(flags)
            .arg(source)
            .status()
            .expect("a C compiler named cc");
        assert!(built.success());
        // SAFETY: our own file, whose constructors do nothing.
        let library = unsafe { libloading::Library::new(&file) }.unwrap();
        type Plain = unsafe extern "C" fn();
        // SAFETY: the functions of these names have these types, see the C file.
        let (knobs, [hold, leave]) = unsafe {
            let knobs = library.get::<unsafe extern "C" fn() -> *mut Knobs>(b"stub_knobs\0");
            let plain = |name: &[u8]| *library.get::<Plain>(name).unwrap();
            (knobs.unwrap()(), [plain(b"stub_lock\0"), plain(b"stub_unlock\0")])
        };
        std::mem::forget(library); // The knobs live in it.
        Stub { file, knobs, lock: hold, unlock: leave, _one_at_a_time: lock }
    }

    /// The knobs; whoever flushes waits until they are let go.
    pub fn knobs(&mut self) -> Held<'_> {
        // SAFETY: the function of this type; the lock is recursive.
        unsafe { (self.lock)() }
        Held(self)
    }

    /// How many ids are pushed now, and the last one.
    pub fn pushed(&mut self) -> (u32, u64) {
        let knobs = self.knobs();
        (knobs.depth, knobs.last_id)
    }

    /// Cans an id, the launch of a graph on a stream, and the graph's time.
    pub fn can(&mut self, correlation: u32, id: u64, stream: u32, start: u64, end: u64) {
        let [low, high] = halves(id);
        self.add(&[39, 3, low, high, correlation, 0]);
        self.add(&[4, 514, 1, 0, 2, 0, 0, 0, correlation, 0]);
        self.can_time(correlation, stream, start, end)
    }

    /// Cans a graph's time alone.
    pub fn can_time(&mut self, correlation: u32, stream: u32, start: u64, end: u64) {
        let ([from_low, from_high], [to_low, to_high]) = (halves(start), halves(end));
        self.add(&[
            51,
            correlation,
            from_low,
            from_high,
            to_low,
            to_high,
            0,
            7,
            0,
            stream,
            0,
            0,
            0,
            0,
        ])
    }

    fn add(&mut self, words: &[u32]) {
        let mut knobs = self.knobs();
        for word in words {
            let at = knobs.canned_size;
            knobs.canned[at..at + 4].copy_from_slice(&word.to_ne_bytes());
            knobs.canned_size += 4;
        }
    }
}

fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

impl Drop for Stub {
    fn drop(&mut self) {
        // A file left behind harms nobody.
        let _ = std::fs::remove_file(&self.file);
    }
}
