//! `stepscope_scope`: start, names, states, shutdown.

use crate::config;
use crate::config::stepscope_config;
use crate::wall::*;
use crate::words::*;
use std::ffi::c_char;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, TryLockError};
use std::time::Duration;
use stepscope_rs::{Class, Pool, Priority, Series, StartError, Stepscope, Time};

/// Telemetry of one worker: one model, one port. Several may live in one process.
pub struct stepscope_scope {
    /// `None` once it was shut down.
    scope: RwLock<Option<Stepscope>>,
    /// The process that started it.
    process: u32,
    /// A forked child shut its copy down: there the lock may be held for ever.
    childs_end: AtomicBool,
}

impl stepscope_scope {
    fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// Runs a body with the scope, unless it was shut down.
    fn with<R>(&self, body: impl FnOnce(&Stepscope) -> R) -> Option<R> {
        let scope = if !self.is_forked() {
            self.scope.read().unwrap_or_else(PoisonError::into_inner)
        } else if self.childs_end.load(Ordering::Acquire) {
            return None;
        } else {
            match self.scope.try_read() {
                Ok(scope) => scope,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // The parent was ending it.
                Err(TryLockError::WouldBlock) => return None,
            }
        };
        scope.as_ref().map(body)
    }

    /// Ends it; false = it was ended before.
    fn end(&self, patience: Duration) -> bool {
        if self.is_forked() {
            return !self.childs_end.swap(true, Ordering::AcqRel);
        }
        let scope = self.scope.write().unwrap_or_else(PoisonError::into_inner).take();
        scope.map(|scope| scope.shutdown(patience)).is_some()
    }
}

/// A class of requests (endpoint and priority). Plain data; the zeroed one is the class `other`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_series {
    /// The library's.
    pub opaque: u32,
}

/// A priority level. Plain data; the zeroed one is `default`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_priority {
    /// The library's.
    pub opaque: u32,
}

/// A KV pool. Plain data; the zeroed one is `kv`, the attention cache.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_pool {
    /// The library's.
    pub opaque: u32,
}

impl stepscope_series {
    fn of(series: Series) -> stepscope_series {
        // SAFETY: both are four bytes of plain numbers.
        stepscope_series { opaque: unsafe { std::mem::transmute::<Series, u32>(series) } }
    }

    pub(crate) fn get(self) -> Series {
        // SAFETY: four bytes of plain numbers; verbs check what they name.
        unsafe { std::mem::transmute::<u32, Series>(self.opaque) }
    }
}

impl stepscope_priority {
    fn of(priority: Priority) -> stepscope_priority {
        // SAFETY: one byte, transparent.
        let level = unsafe { std::mem::transmute::<Priority, u8>(priority) };
        stepscope_priority { opaque: level.into() }
    }

    pub(crate) fn get(self) -> Priority {
        // SAFETY: one byte, transparent; verbs mask it.
        unsafe { std::mem::transmute::<u8, Priority>(self.opaque as u8) }
    }
}

impl stepscope_pool {
    fn of(pool: Pool) -> stepscope_pool {
        // SAFETY: one byte, transparent.
        stepscope_pool { opaque: unsafe { std::mem::transmute::<Pool, u8>(pool) }.into() }
    }

    pub(crate) fn get(self) -> Pool {
        // SAFETY: one byte, transparent; verbs mask it.
        unsafe { std::mem::transmute::<u8, Pool>(self.opaque as u8) }
    }
}

/// Runs a body with a scope that was not shut down.
///
/// # Safety
/// The pointer leads nowhere or to a handle that was not freed.
pub(crate) unsafe fn with<R>(
    scope: *const stepscope_scope,
    body: impl FnOnce(&Stepscope) -> Result<R, Refusal>,
) -> Result<R, Refusal> {
    // SAFETY: the caller's promise.
    let handle = unsafe { need(scope, "the scope") }?;
    let ended = || Refusal::new(STEPSCOPE_ERROR_ENDED, "the scope was shut down");
    handle.with(body).ok_or_else(ended)?
}

/// Tells it something that cannot fail.
///
/// # Safety
/// As for `with`.
unsafe fn tell(
    scope: *const stepscope_scope,
    body: impl FnOnce(&Stepscope),
) -> Result<(), Refusal> {
    let told = |scope: &Stepscope| {
        body(scope);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(scope, told) }
}

fn start(config: stepscope_rs::Config) -> Result<stepscope_scope, Refusal> {
    let status = |why: &StartError| match why {
        StartError::Listen { .. } => STEPSCOPE_ERROR_LISTEN,
        StartError::Thread(_) => STEPSCOPE_ERROR_RESOURCES,
        _ => STEPSCOPE_ERROR_INVALID,
    };
    let scope = Stepscope::start(config).map_err(|why| Refusal::new(status(&why), why))?;
    let (process, childs_end) = (std::process::id(), AtomicBool::new(false));
    Ok(stepscope_scope { scope: RwLock::new(Some(scope)), process, childs_end })
}

/// Starts a scope: one thread that aggregates and one that answers HTTP (`stepscope_config.listen`).
/// Start it after a fork, in the process that serves. In a child that is forked later it is a shell:
/// verbs reach nobody, readers see an empty scope, nothing waits, and a new scope may be started.
/// `config` NULL = all defaults. On failure `*out` is NULL, which every function accepts, so an
/// engine may log `stepscope_last_error` and serve on.
///
/// Thread: any. Ownership: end it with `stepscope_shutdown`, free it with `stepscope_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_start(
    config: *const stepscope_config,
    out: *mut *mut stepscope_scope,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { hand_out(out, || start(config::read(config)?)) })
}

/// Ends a scope: drains once more, waits up to `patience_ms` for one more scrape if anybody ever
/// scraped, and joins the threads. The handle stays valid, and every function that gets it answers
/// `STEPSCOPE_ERROR_ENDED`; so does a second call. Recorders go on without harm and record nothing
/// that anybody reads.
///
/// Thread: any; waits for calls of other threads that are under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_shutdown(
    scope: *mut stepscope_scope,
    patience_ms: u32,
) -> stepscope_status {
    status(|| {
        // SAFETY: as the header asks.
        let handle = unsafe { need(scope, "the scope") }?;
        let ended = || Refusal::new(STEPSCOPE_ERROR_ENDED, "the scope was shut down before");
        handle.end(Duration::from_millis(patience_ms.into())).then_some(()).ok_or_else(ended)
    })
}

/// Frees a scope, which it shuts down with a patience of 100 ms if nobody did; `*scope` becomes
/// NULL. NULL, and a pointer to NULL, are fine.
///
/// Thread: any, when no other call with this scope is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_free(scope: *mut *mut stepscope_scope) {
    // SAFETY: as the header asks.
    unsafe { free(scope) }
}

/// Names a class of requests. Do it up front, not per request: it takes a lock. The same names give
/// the same class; when the table is full it is `other`, and counted. `priority` NULL = `default`.
///
/// Thread: any. `*out` is `other` after a failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_intern_series(
    scope: *const stepscope_scope,
    endpoint: *const c_char,
    priority: *const c_char,
    out: *mut stepscope_series,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let out = need_mut(out, "the place for the class")?;
        out.opaque = 0;
        let class = Class::endpoint(text(endpoint).ok_or_else(|| Refusal::null("the endpoint"))?);
        let class = match text(priority) {
            Some(name) => class.priority(name),
            None => class,
        };
        *out = with(scope, |scope| Ok(stepscope_series::of(scope.series(class))))?;
        Ok(())
    })
}

/// Names a priority level, one of at most eight.
///
/// Thread: any. `*out` is `default` after a failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_intern_priority(
    scope: *const stepscope_scope,
    name: *const c_char,
    out: *mut stepscope_priority,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let out = need_mut(out, "the place for the level")?;
        out.opaque = 0;
        let name = text(name).ok_or_else(|| Refusal::null("the name"))?;
        *out = with(scope, |scope| Ok(stepscope_priority::of(scope.priority(&name))))?;
        Ok(())
    })
}

/// Names a KV pool, one of at most eight. The attention cache needs no name: it is the zeroed pool.
///
/// Thread: any. `*out` is `kv` after a failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_intern_pool(
    scope: *const stepscope_scope,
    name: *const c_char,
    out: *mut stepscope_pool,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let out = need_mut(out, "the place for the pool")?;
        out.opaque = 0;
        let name = text(name).ok_or_else(|| Refusal::null("the name"))?;
        *out = with(scope, |scope| Ok(stepscope_pool::of(scope.pool(&name))))?;
        Ok(())
    })
}

/// The engine can serve: `/readyz` answers 200 from here on.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_mark_ready(scope: *const stepscope_scope) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { tell(scope, |scope| scope.mark_ready()) })
}

/// The engine finishes what it has and takes nothing new: `/readyz` answers 503.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_mark_draining(
    scope: *const stepscope_scope,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { tell(scope, |scope| scope.mark_draining()) })
}

/// The engine cannot go on: `/livez` answers 503, so that it is restarted.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_mark_failed(scope: *const stepscope_scope) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { tell(scope, |scope| scope.mark_failed()) })
}

/// Moves a simulated clock to `to_ns` and drains; nothing with the real one.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_advance(
    scope: *const stepscope_scope,
    to_ns: u64,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { tell(scope, |scope| scope.advance(Time::from_nanos(to_ns))) })
}

/// The port our HTTP server listens on, for `listen` with port 0; `STEPSCOPE_ABSENT` without one.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_port(
    scope: *const stepscope_scope,
    out: *mut u16,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let out = need_mut(out, "the place for the port")?;
        let absent = || Refusal::new(STEPSCOPE_ABSENT, "no server: listen is off");
        *out = with(scope, |scope| Ok(scope.local_addr()))?.ok_or_else(absent)?.port();
        Ok(())
    })
}

/// Now, on the clock of every verb: CLOCK_MONOTONIC in ns, never 0. About 25 ns, no system call.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub extern "C" fn stepscope_now() -> u64 {
    wall(0, || Time::now().as_nanos())
}
