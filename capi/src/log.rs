//! What the library says in words: the last error, its version, its log.

use crate::wall::*;
use crate::words::*;
use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::fmt::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, PoisonError, RwLock};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Takes one line of the log, with a zero behind it, valid during the call. Called on any thread,
/// the library's own among them, one line at a time per thread; it must not call
/// `stepscope_set_log`.
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

static SINK: RwLock<Option<Sink>> = RwLock::new(None);

/// The process that asked for a log first; 0 = none did.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// In a forked child a thread of the parent's may hold the lock for ever.
fn is_forked() -> bool {
    let first = PROCESS.load(Ordering::Relaxed);
    first != 0 && first != std::process::id()
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
/// Thread: any but from inside the callback, which gets `STEPSCOPE_ERROR_BUSY`; so does a forked child
/// if the callback was running at the fork, and it has no log then.
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
        subscribe();
        let sink = log.map(|log| Sink { log, user, least });
        if is_forked() {
            let text = "the log was in use when this process was forked";
            let busy = |_| Refusal::new(STEPSCOPE_ERROR_BUSY, text);
            *SINK.try_write().map_err(busy)? = sink
        } else {
            *SINK.write().unwrap_or_else(PoisonError::into_inner) = sink
        }
        Ok(())
    })
}

/// Listens to the library's own events, once for the life of the process.
fn subscribe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        PROCESS.store(std::process::id(), Ordering::Relaxed);
        // Only a second subscriber in this library could refuse it.
        let _ = tracing::subscriber::set_global_default(Lines);
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
    // Only who changes the log keeps it for himself, and in a forked child he may be gone.
    let sink = if is_forked() { SINK.try_read().ok() } else { SINK.read().ok() };
    let Some(Some(sink)) = sink.as_deref() else { return };
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
