//! What a scope knows: the exposition, health, probes, and single values of a snapshot.

use crate::scope::{self, stepscope_scope};
use crate::wall::*;
use crate::words::*;
use std::ffi::{CString, c_char, c_void};
use std::sync::OnceLock;
use stepscope_rs::snapshot::{Labels, Snapshot};
use stepscope_rs::{catalog, health};

/// Takes a text piece by piece, on the calling thread: `length` bytes at `data`, no zero behind
/// them, valid during the call. It must not throw or jump out.
pub type stepscope_write =
    Option<unsafe extern "C" fn(user: *mut c_void, data: *const c_char, length: usize)>;

/// Everything a scope exports, at one moment.
pub struct stepscope_snapshot {
    snapshot: Snapshot,
}

/// A label that a series must have.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_label {
    /// Such as `status`.
    pub name: *const c_char,
    /// Such as `stop`.
    pub value: *const c_char,
}

/// Most labels that one question may name.
pub const STEPSCOPE_LABELS_MAX: usize = 64;

/// Hands a text to a callback.
///
/// # Safety
/// `write` is a function of that type.
unsafe fn give(write: stepscope_write, user: *mut c_void, text: &[u8]) -> Result<(), Refusal> {
    let write = write.ok_or_else(|| Refusal::null("the callback"))?;
    // SAFETY: the caller's promise.
    unsafe { write(user, text.as_ptr().cast(), text.len()) };
    Ok(())
}

/// Puts a text and a zero byte into C's buffer, if it has room for them.
///
/// # Safety
/// `buffer` has room for `size` bytes, and `needed` leads nowhere or to a number.
unsafe fn fill(
    text: &[u8],
    buffer: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> Result<(), Refusal> {
    // SAFETY: the caller's promise.
    if let Some(needed) = unsafe { look_mut(needed) } {
        *needed = text.len() + 1
    }
    if buffer.is_null() || size <= text.len() {
        let words = format!("the buffer needs {} bytes", text.len() + 1);
        return Err(Refusal::new(STEPSCOPE_ERROR_TOO_SMALL, words));
    }
    // SAFETY: there is room for the text and one byte more.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), text.len());
        buffer.add(text.len()).write(0)
    };
    Ok(())
}

/// # Safety
/// As for `scope::with`; `accept` is NULL or ends.
unsafe fn exposition(
    scope: *const stepscope_scope,
    accept: *const c_char,
) -> Result<stepscope_rs::Exposition, Refusal> {
    // SAFETY: the caller's promise.
    unsafe {
        let accept = text(accept);
        scope::with(scope, |scope| Ok(scope.exposition(accept.as_deref())))
    }
}

/// # Safety
/// As for `scope::with`.
unsafe fn health_json(scope: *const stepscope_scope) -> Result<Vec<u8>, Refusal> {
    let fault = |why| Refusal::new(STEPSCOPE_ERROR_PANIC, why);
    // SAFETY: the caller's promise.
    unsafe { scope::with(scope, |scope| serde_json::to_vec(&scope.health()).map_err(fault)) }
}

/// Answers a scrape from the engine's own HTTP server: hands the body to `write`, and stores the
/// value of `Content-Type` (a constant; never free it) in `*content_type` unless that is NULL.
/// `accept` is the client's Accept header; NULL = text 0.0.4.
///
/// Thread: any but an engine's hot one: it takes milliseconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_metrics_write(
    scope: *const stepscope_scope,
    accept: *const c_char,
    content_type: *mut *const c_char,
    write: stepscope_write,
    user: *mut c_void,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let answer = exposition(scope, accept)?;
        if let Some(place) = look_mut(content_type) {
            *place = constant(answer.content_type)
        }
        give(write, user, &answer.body)
    })
}

/// A content type as a text of C's that lives for ever.
fn constant(content_type: &str) -> *const c_char {
    static KNOWN: [OnceLock<CString>; 8] = [const { OnceLock::new() }; 8];
    let wanted = c_text(content_type);
    // There are three. No lock: in a forked child it might be held for ever.
    let same = KNOWN.iter().map(|place| place.get_or_init(|| wanted.clone()));
    same.into_iter().find(|text| **text == wanted).map_or(c"".as_ptr(), |text| text.as_ptr())
}

/// The exposition as text 0.0.4 in the caller's buffer, with a zero byte behind it. `*needed` (may
/// be NULL) becomes the size it takes; with `STEPSCOPE_ERROR_TOO_SMALL` nothing was written. It may
/// have grown when you ask again: ask with room to spare, or use `stepscope_metrics_write`.
///
/// Thread: any but an engine's hot one: it takes milliseconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_metrics_text(
    scope: *const stepscope_scope,
    buffer: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { fill(&exposition(scope, std::ptr::null())?.body, buffer, size, needed) })
}

/// What is wrong, with evidence and first advice, as the JSON of `/health`.
///
/// Thread: any but an engine's hot one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_health_write(
    scope: *const stepscope_scope,
    write: stepscope_write,
    user: *mut c_void,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { give(write, user, &health_json(scope)?) })
}

/// The same in the caller's buffer; as for `stepscope_metrics_text`.
///
/// Thread: any but an engine's hot one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_health_text(
    scope: *const stepscope_scope,
    buffer: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { fill(&health_json(scope)?, buffer, size, needed) })
}

fn probe(probe: health::Probe) -> Result<(), Refusal> {
    if probe.ok { Ok(()) } else { Err(Refusal::new(STEPSCOPE_NO, probe.reason)) }
}

/// Must this process be restarted? `STEPSCOPE_OK` = no, it lives; `STEPSCOPE_NO` = yes, and
/// `stepscope_last_error` says why. The answer of `/livez`.
///
/// Thread: any; never waits for a scrape.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_live(scope: *const stepscope_scope) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { scope::with(scope, |scope| probe(scope.live())) })
}

/// May it get new requests? `STEPSCOPE_OK` or `STEPSCOPE_NO`; `stepscope_last_error` says why not.
/// The answer of `/readyz`.
///
/// Thread: any; never waits for a scrape.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_ready(scope: *const stepscope_scope) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { scope::with(scope, |scope| probe(scope.ready())) })
}

/// Everything the scope exports, now, for `stepscope_snapshot_sum` and
/// `stepscope_snapshot_quantile`.
///
/// Thread: any but an engine's hot one. Ownership: free it with `stepscope_snapshot_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_snapshot_take(
    scope: *const stepscope_scope,
    out: *mut *mut stepscope_snapshot,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let take =
            |scope: &stepscope_rs::Stepscope| Ok(stepscope_snapshot { snapshot: scope.snapshot() });
        hand_out(out, || scope::with(scope, take))
    })
}

/// Frees a snapshot. `*snapshot` becomes NULL. NULL, and a pointer to NULL, are fine.
///
/// Thread: any, when no other call with this snapshot is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_snapshot_free(snapshot: *mut *mut stepscope_snapshot) {
    // SAFETY: as the header asks.
    unsafe { free(snapshot) }
}

/// The family of this name.
///
/// # Safety
/// `name` is NULL or ends.
unsafe fn row(name: *const c_char) -> Result<&'static catalog::Row, Refusal> {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) }.ok_or_else(|| Refusal::null("the family's name"))?;
    let found = catalog::ROWS.iter().find(|row| row.name == name);
    found.ok_or_else(|| Refusal::new(STEPSCOPE_ERROR_INVALID, format_args!("no family {name}")))
}

/// The labels that C asks for.
///
/// # Safety
/// `labels` leads to `n` of them, whose texts end.
unsafe fn wanted(labels: *const stepscope_label, n: usize) -> Result<Vec<[String; 2]>, Refusal> {
    if n == 0 {
        return Ok(vec![]);
    }
    if n > STEPSCOPE_LABELS_MAX {
        return Err(Refusal::new(STEPSCOPE_ERROR_INVALID, "too many labels"));
    }
    // SAFETY: the caller's promise.
    unsafe {
        let labels = std::slice::from_raw_parts(need(labels, "the labels")?, n);
        let owned = |given| text(given).map(|text| text.into_owned());
        let pair = |label: &stepscope_label| Some([owned(label.name)?, owned(label.value)?]);
        let pairs: Option<Vec<_>> = labels.iter().map(pair).collect();
        pairs.ok_or_else(|| Refusal::null("a label"))
    }
}

fn has(labels: &Labels, wanted: &[[String; 2]]) -> bool {
    wanted.iter().all(|[name, value]| labels.get(name) == Some(value))
}

/// The sum of a family's series that have all `n` labels: of counters and levels the values, of
/// histograms the numbers of samples. `name` is the family's without a suffix. `STEPSCOPE_ABSENT`
/// and 0 if there is no such series.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_snapshot_sum(
    snapshot: *const stepscope_snapshot,
    name: *const c_char,
    labels: *const stepscope_label,
    n: usize,
    out: *mut f64,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let out = need_mut(out, "the place for the sum")?;
        *out = 0.0;
        let snapshot = &need(snapshot, "the snapshot")?.snapshot;
        let (row, wanted) = (row(name)?, wanted(labels, n)?);
        let series = snapshot.family(row.id).map_or(&[][..], |family| &family.series);
        if !series.iter().any(|series| has(&series.labels, &wanted)) {
            return Err(absent());
        }
        *out = snapshot.sum(row.id, |labels| has(labels, &wanted));
        Ok(())
    })
}

/// The smallest bucket bound that at least a share `q` (0 to 1) of the samples does not exceed, in
/// the family's exported unit, over the series that have all `n` labels. `STEPSCOPE_ABSENT` and 0
/// without samples, or above the last bound.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_snapshot_quantile(
    snapshot: *const stepscope_snapshot,
    name: *const c_char,
    labels: *const stepscope_label,
    n: usize,
    q: f64,
    out: *mut f64,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let out = need_mut(out, "the place for the quantile")?;
        *out = 0.0;
        let snapshot = &need(snapshot, "the snapshot")?.snapshot;
        let (row, wanted) = (row(name)?, wanted(labels, n)?);
        if !(0.0..=1.0).contains(&q) {
            return Err(Refusal::new(STEPSCOPE_ERROR_INVALID, "q: say 0 to 1"));
        }
        let all = snapshot.merged(row.id, |labels| has(labels, &wanted)).ok_or_else(absent)?;
        let bound = all.quantile_bound(row.grid(), q).ok_or_else(absent)?;
        *out = bound as f64 / row.unit.scale() as f64;
        Ok(())
    })
}

fn absent() -> Refusal {
    Refusal::new(STEPSCOPE_ABSENT, "there is no such value now")
}
