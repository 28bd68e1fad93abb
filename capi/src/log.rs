//! What the library says in words: the last error, its version, its log.

use crate::wall::*;
use crate::words::*;
use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::fmt::Write;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{PoisonError, RwLock};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Takes one line of the log, with a zero behind it, valid during the call. Called on any thread,
/// the library's own among them and those that are inside of one of its functions, one line at a time per
/// thread. It must not throw or jump out, and call nothing of the library but `stepscope_now`.
pub type stepscope_log = Option<
    unsafe extern "C" fn(user: *mut c_void, level: stepscope_log_level, line: *const c_char),
>;

#[derive(Clone, Copy)]
struct Sink {
    log: unsafe extern "C" fn(*mut c_void, stepscope_log_level, *const c_char),
    user: *mut c_void,
    least: stepscope_log_level,
}

// SAFETY: the header asks for a callback that any thread may call with this pointer.
unsafe impl Send for Sink {}
// SAFETY: the same.
unsafe impl Sync for Sink {}

/// What one process logs to. A forked child begins without: a thread that held the lock is gone there.
struct Log {
    process: u32,
    sink: RwLock<Option<Sink>>,
}

/// The log of this process; never freed, as others may be reading it.
static LOG: AtomicPtr<Log> = AtomicPtr::new(std::ptr::null_mut());

fn log() -> &'static Log {
    let process = std::process::id();
    loop {
        let known = LOG.load(Ordering::Acquire);
        // SAFETY: from `Box::into_raw` below, and never freed.
        if let Some(log) = unsafe { known.as_ref() }
            && log.process == process
        {
            return log;
        }
        let new = Box::into_raw(Box::new(Log { process, sink: RwLock::new(None) }));
        if LOG.compare_exchange(known, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: nobody has seen it.
            drop(unsafe { Box::from_raw(new) })
        }
    }
}

thread_local! {
    /// This thread is inside the callback.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The last failure on this thread in words: what is wrong and what to do. Empty if there was none.
/// Valid until the next failure on this thread.
///
/// Thread: any; each has its own.
#[unsafe(no_mangle)]
pub extern "C" fn stepscope_last_error() -> *const c_char {
    wall(c"".as_ptr(), last_error)
}

/// Version of the library, such as `0.1.0`. A constant.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub extern "C" fn stepscope_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Sends the log of all scopes to `log`, lines as important as `least` or more; NULL = no log, as at
/// the start. When it returns, the callback before is not running and will not be called again.
///
/// A forked child begins without a log.
///
/// Thread: any but from inside the callback, which gets `STEPSCOPE_ERROR_BUSY`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_set_log(
    log: stepscope_log,
    user: *mut c_void,
    least: stepscope_log_level,
) -> stepscope_status {
    status(|| {
        if INSIDE.get() {
            let text = "the log cannot be changed from inside its callback";
            return Err(Refusal::new(STEPSCOPE_ERROR_BUSY, text));
        }
        // Once: it takes a lock that a forked child might find held.
        if !tracing::dispatcher::has_been_set() {
            // Only a second subscriber in this library could refuse it.
            let _ = tracing::subscriber::set_global_default(Lines);
        }
        let sink = log.map(|log| Sink { log, user, least });
        *self::log().sink.write().unwrap_or_else(PoisonError::into_inner) = sink;
        Ok(())
    })
}

/// Every event as one line.
struct Lines;

fn level(level: &Level) -> stepscope_log_level {
    match *level {
        Level::ERROR => STEPSCOPE_LOG_ERROR,
        Level::WARN => STEPSCOPE_LOG_WARN,
        _ => STEPSCOPE_LOG_INFO,
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        if INSIDE.replace(true) {
            return;
        }
        wall((), || say(event));
        INSIDE.set(false)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn say(event: &Event<'_>) {
    let sink = log().sink.read().unwrap_or_else(PoisonError::into_inner);
    let Some(sink) = &*sink else { return };
    let level = level(event.metadata().level());
    if level <= sink.least {
        let mut line = Line(String::new());
        event.record(&mut line);
        // SAFETY: as the header asks: a function of this type, for any thread.
        unsafe { (sink.log)(sink.user, level, c_text(&line.0).as_ptr()) }
    }
}

/// The message first, then `name=value` of the rest.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => {
                let rest = std::mem::take(&mut self.0);
                write!(self.0, "{value:?}{rest}")
            }
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
