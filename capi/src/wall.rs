//! The wall between C and Rust: no panic crosses it, and every pointer is looked at before use.

use crate::words::*;
use std::borrow::Cow;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static LAST_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
    /// Number of the thread, from 1 on, once it asked; no thread has a number that another had.
    static HERE: Cell<u64> = const { Cell::new(0) };
}

/// This thread's number.
#[inline(always)]
fn here() -> u64 {
    match HERE.get() {
        0 => number(),
        here => here,
    }
}

#[cold]
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let here = NEXT.fetch_add(1, Ordering::Relaxed);
    HERE.set(here);
    here
}

/// Why a call did nothing: a number for the program and a sentence for its log.
pub(crate) struct Refusal {
    pub(crate) status: stepscope_status,
    pub(crate) text: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(status: stepscope_status, text: impl std::fmt::Display) -> Refusal {
        Refusal { status, text: text.to_string().into() }
    }

    /// For what is no error and may come at every step: nothing is allocated.
    pub(crate) fn told(status: stepscope_status) -> Refusal {
        Refusal { status, text: "".into() }
    }

    pub(crate) fn null(what: &str) -> Refusal {
        Refusal::new(STEPSCOPE_ERROR_NULL, format_args!("{what} is NULL or not aligned"))
    }
}

/// Runs the body of a C function: a panic ends here and gives `fallback`.
#[inline(always)]
pub(crate) fn wall<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    // Unwind safe: recorders and scopes hold counters, which are valid at every moment.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(payload) => {
            // The payload's own destructor might panic again.
            std::mem::forget(payload);
            fallback
        }
    }
}

/// The same for a function that answers with a status; what went wrong becomes the last error.
pub(crate) fn status(body: impl FnOnce() -> Result<(), Refusal>) -> stepscope_status {
    let panic = Err(Refusal::new(STEPSCOPE_ERROR_PANIC, "a panic inside stepscope: report it"));
    match wall(panic, body) {
        Ok(()) => STEPSCOPE_OK,
        Err(refusal) => {
            if !refusal.text.is_empty() {
                wall((), || set_last_error(&refusal.text))
            }
            refusal.status
        }
    }
}

pub(crate) fn set_last_error(text: &str) {
    let text = c_text(text);
    // A thread that is ending has no place for it any more.
    let _ = LAST_ERROR.try_with(|last| last.borrow_mut().replace(text));
}

/// Text as C reads it: zero bytes inside are left out.
pub(crate) fn c_text(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}

pub(crate) fn last_error() -> *const c_char {
    let read = |last: &RefCell<Option<CString>>| {
        last.borrow().as_ref().map_or(c"".as_ptr(), |text| text.as_ptr())
    };
    LAST_ERROR.try_with(read).unwrap_or(c"".as_ptr())
}

/// What a pointer of C's leads to, unless it is NULL or cannot be a pointer to a `T`.
///
/// # Safety
/// Otherwise it leads to a `T` that nobody changes meanwhile.
#[inline(always)]
pub(crate) unsafe fn look<'a, T>(pointer: *const T) -> Option<&'a T> {
    // SAFETY: not NULL and aligned; the rest is the caller's promise.
    (!pointer.is_null() && pointer.is_aligned()).then(|| unsafe { &*pointer })
}

/// The same to change it.
///
/// # Safety
/// Otherwise it leads to a `T` that nobody else looks at meanwhile.
#[inline(always)]
pub(crate) unsafe fn look_mut<'a, T>(pointer: *mut T) -> Option<&'a mut T> {
    // SAFETY: not NULL and aligned; the rest is the caller's promise.
    (!pointer.is_null() && pointer.is_aligned()).then(|| unsafe { &mut *pointer })
}

/// [`look`] for a function that says what was missing.
///
/// # Safety
/// As for [`look`].
pub(crate) unsafe fn need<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Refusal> {
    // SAFETY: the caller's promise.
    unsafe { look(pointer) }.ok_or_else(|| Refusal::null(what))
}

/// [`look_mut`] for a function that says what was missing.
///
/// # Safety
/// As for [`look_mut`].
pub(crate) unsafe fn need_mut<'a, T>(pointer: *mut T, what: &str) -> Result<&'a mut T, Refusal> {
    // SAFETY: the caller's promise.
    unsafe { look_mut(pointer) }.ok_or_else(|| Refusal::null(what))
}

/// A string of C's, NULL = none. What is no UTF-8 becomes U+FFFD.
///
/// # Safety
/// Otherwise it ends with a zero byte.
pub(crate) unsafe fn text<'a>(pointer: *const c_char) -> Option<Cow<'a, str>> {
    // SAFETY: not NULL; the rest is the caller's promise.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy())
}

/// A file's path, NULL = none; any bytes may be one.
///
/// # Safety
/// Otherwise it ends with a zero byte.
pub(crate) unsafe fn path(pointer: *const c_char) -> Option<PathBuf> {
    // SAFETY: not NULL; the rest is the caller's promise.
    let bytes = (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) })?.to_bytes();
    Some(OsStr::from_bytes(bytes).into())
}

/// Gives a handle to C. `out` is NULL after every failure before this.
///
/// # Safety
/// `out` leads to a place for a pointer, or nowhere.
pub(crate) unsafe fn hand_out<T>(
    out: *mut *mut T,
    make: impl FnOnce() -> Result<T, Refusal>,
) -> Result<(), Refusal> {
    // SAFETY: the caller's promise.
    let place = unsafe { need_mut(out, "the place for the handle") }?;
    *place = std::ptr::null_mut();
    *place = Box::into_raw(Box::new(make()?));
    Ok(())
}

/// Takes a handle back from C and leaves NULL in its place.
///
/// # Safety
/// `place` leads nowhere, or to a handle that `hand_out` gave, or to NULL.
pub(crate) unsafe fn take_back<T>(place: *mut *mut T) -> Option<Box<T>> {
    // SAFETY: the caller's promise.
    let handle = std::mem::replace(unsafe { look_mut(place) }?, std::ptr::null_mut());
    // SAFETY: from `Box::into_raw`, and taken back once, as NULL stays behind.
    (!handle.is_null()).then(|| unsafe { Box::from_raw(handle) })
}

/// Frees a handle.
///
/// # Safety
/// As for [`take_back`].
pub(crate) unsafe fn free<T>(place: *mut *mut T) {
    // SAFETY: the caller's promise.
    wall((), || drop(unsafe { take_back(place) }))
}

/// A value that one thread uses at a time: the first one that comes keeps it until it lets go.
pub(crate) struct OneThread<T> {
    /// The owner's number; 0 = nobody's.
    owner: AtomicU64,
    value: UnsafeCell<T>,
}

// SAFETY: `with` lets one thread in at a time.
unsafe impl<T: Send> Sync for OneThread<T> {}

impl<T> OneThread<T> {
    pub(crate) fn new(value: T) -> OneThread<T> {
        OneThread { owner: AtomicU64::new(0), value: UnsafeCell::new(value) }
    }

    /// `None` on a thread that is not the owner.
    #[inline(always)]
    pub(crate) fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> Option<R> {
        let here = here();
        let owner = self.owner.load(Ordering::Relaxed);
        if owner != here && !self.claim(here) {
            return None;
        }
        // SAFETY: this thread owns it, and no body calls back into C.
        Some(body(unsafe { &mut *self.value.get() }))
    }

    /// Acquire: sees what the owner before wrote until it let go.
    #[cold]
    fn claim(&self, here: u64) -> bool {
        self.owner.compare_exchange(0, here, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// The owner lets go; the next thread that comes owns it.
    pub(crate) fn let_go(&self) -> Option<()> {
        self.with(|_| ())?;
        self.owner.store(0, Ordering::Release);
        Some(())
    }

    pub(crate) fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status_with_a_sentence() {
        assert_eq!(wall(7, || panic!("inside")), 7);
        assert_eq!(status(|| panic!("inside")), STEPSCOPE_ERROR_PANIC);
        // SAFETY: valid until the next failure on this thread.
        let said = unsafe { CStr::from_ptr(last_error()) };
        assert!(said.to_str().unwrap().contains("report it"));
    }

    #[test]
    fn a_second_thread_is_refused_until_the_first_lets_go() {
        let value = OneThread::new(1);
        assert_eq!(value.with(|n| *n += 1), Some(()));
        std::thread::scope(|scope| {
            let refused = scope.spawn(|| value.with(|n| *n)).join().unwrap();
            assert_eq!(refused, None);
            assert_eq!(scope.spawn(|| value.let_go()).join().unwrap(), None);
        });
        value.let_go().unwrap();
        std::thread::scope(|scope| {
            assert_eq!(scope.spawn(|| value.with(|n| *n)).join().unwrap(), Some(2));
        });
        assert_eq!(value.with(|n| *n), None);
    }

    /// The system gives a new thread the memory of one that ended.
    #[test]
    fn a_thread_that_ended_is_no_thread_that_comes_later() {
        let value = OneThread::new(1);
        std::thread::scope(|scope| {
            assert_eq!(scope.spawn(|| value.with(|n| *n)).join().unwrap(), Some(1));
        });
        for _ in 0..20 {
            let later = std::thread::scope(|scope| scope.spawn(|| value.with(|n| *n)).join());
            assert_eq!(later.unwrap(), None);
        }
    }

    #[test]
    fn null_and_crooked_pointers_lead_nowhere() {
        let words = [0u64; 2];
        let crooked = words.as_ptr().wrapping_byte_add(1);
        // SAFETY: neither is followed.
        unsafe {
            assert!(look::<u64>(std::ptr::null()).is_none() && look(crooked).is_none());
            assert_eq!(text(std::ptr::null()), None);
            assert_eq!(text(c"caf\xe9".as_ptr()).unwrap(), "caf\u{fffd}");
            assert!(take_back::<u64>(std::ptr::null_mut()).is_none());
        }
    }
}
