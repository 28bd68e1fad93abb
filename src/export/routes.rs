//! The routes. They work on a snapshot and never touch an engine thread.

use super::family::Exposed;
use super::negotiate::Format;
use super::{alias, negotiate, overview, protobuf, text};
use crate::health::{self, Probe};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use axum::Router;
use axum::extract::State;
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, RETRY_AFTER, VARY,
};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The page loads nothing and talks to nobody but us.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:";
const PAGE: &str = include_str!("page.html");

/// All routes. GET and HEAD only; anything else is 405.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/api/v1/overview", get(overview))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/health", get(verdict))
        .with_state(shared)
}

/// A scrape: what a client that sent these headers gets.
async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let format = negotiate::format(header(ACCEPT), shared.config.native_histograms);
    let begin = Instant::now();
    let snapshot = shared.snapshot();
    let body = encode(&shared, &snapshot, format);
    shared.aggregator().scraped(begin.elapsed());
    shared.scrapes.fetch_add(1, Ordering::Release);
    let common =
        [(CONTENT_TYPE, format.content_type()), (VARY, "accept, accept-encoding"), NO_STORE];
    if negotiate::takes_gzip(header(ACCEPT_ENCODING)) {
        let mut gzip = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
        if gzip.write_all(&body).is_ok()
            && let Ok(body) = gzip.finish()
        {
            return (common, [(CONTENT_ENCODING, "gzip")], body).into_response();
        }
    }
    (common, body).into_response()
}

const NO_STORE: (HeaderName, &str) = (CACHE_CONTROL, "no-store");

fn encode(shared: &Shared, snapshot: &Snapshot, format: Format) -> Vec<u8> {
    let aliases = match shared.config.vllm_aliases {
        true => alias::aliases(snapshot, &shared.config),
        false => vec![],
    };
    let own = snapshot.families.iter().map(Exposed::of);
    let families = own.chain(aliases.iter().map(|alias| alias.exposed()));
    let created = shared.config.created_series.then_some(snapshot.created);
    match format {
        Format::Text => text::write(families, text::Dialect::Prometheus).into_bytes(),
        Format::OpenMetrics => {
            text::write(families, text::Dialect::OpenMetrics { created }).into_bytes()
        }
        Format::Protobuf => protobuf::write(families, created),
    }
}

async fn page() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        NO_STORE,
    ];
    (headers, PAGE).into_response()
}

async fn overview(State(shared): State<Arc<Shared>>) -> Response {
    let lag_s = lag_seconds(&shared);
    let snapshot = shared.snapshot();
    let mut aggregator = shared.aggregator();
    let history = aggregator.history(snapshot.at);
    let verdict = health::verdict(&shared, &aggregator, &snapshot, lag_s);
    drop(aggregator);
    json(StatusCode::OK, &overview::overview(&shared, &snapshot, &history, verdict))
}

async fn livez(State(shared): State<Arc<Shared>>) -> Response {
    probe(health::live(&shared))
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    probe(health::ready(&shared))
}

/// 200 while it serves, whatever the verdict: a status code must not spread an overload. With
/// `?strict=1` also 503 when the verdict is critical.
async fn verdict(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let lag_s = lag_seconds(&shared);
    let snapshot = shared.snapshot();
    let verdict = health::verdict(&shared, &shared.aggregator(), &snapshot, lag_s);
    let strict = uri.query().is_some_and(|query| query.split('&').any(|item| item == "strict=1"));
    let refuse = !verdict.serving || strict && verdict.overall == health::Status::Critical;
    json(if refuse { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, &verdict)
}

/// How long ago the aggregate thread drained, before this request makes it drain.
fn lag_seconds(shared: &Shared) -> f64 {
    shared.pulse.lag_ns(shared.clock.now()) as f64 * 1e-9
}

fn probe(probe: Probe) -> Response {
    let text = [(CONTENT_TYPE, "text/plain; charset=utf-8"), NO_STORE];
    let body = format!("{}\n", probe.reason);
    if probe.ok {
        return (text, body).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, text, [(RETRY_AFTER, "5")], body).into_response()
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    // Plain structs of numbers and strings cannot fail to serialize.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let headers = [(CONTENT_TYPE, "application/json"), NO_STORE];
    let retry = (status == StatusCode::SERVICE_UNAVAILABLE).then_some([(RETRY_AFTER, "5")]);
    match retry {
        Some(retry) => (status, headers, retry, body).into_response(),
        None => (status, headers, body).into_response(),
    }
}
