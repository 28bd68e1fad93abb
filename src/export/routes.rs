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
use std::sync::atomic::{AtomicU64, Ordering};

/// The page loads nothing and talks to nobody but us.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:";
const PAGE: &str = include_str!("page.html");

/// What the routes answer from.
pub(crate) struct Exporter {
    shared: Arc<Shared>,
    /// Scrapes answered so far.
    scrapes: AtomicU64,
}

impl Exporter {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Exporter> {
        Arc::new(Exporter { shared, scrapes: AtomicU64::new(0) })
    }

    pub(crate) fn scrapes(&self) -> u64 {
        self.scrapes.load(Ordering::Acquire)
    }
}

/// All routes. GET and HEAD only; anything else is 405.
pub(crate) fn router(exporter: Arc<Exporter>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/api/v1/overview", get(overview))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/health", get(verdict))
        .with_state(exporter)
}

/// Work that takes the aggregator's lock or encodes much, off the thread that answers probes: a slow
/// scrape must not starve them.
async fn aside<T: Send + 'static>(
    exporter: Arc<Exporter>,
    work: impl FnOnce(&Exporter) -> T + Send + 'static,
) -> Result<T, StatusCode> {
    // An error is a panic over there, which the panic hook reported, or the end of the runtime.
    let done = tokio::task::spawn_blocking(move || work(&exporter)).await;
    done.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// A scrape: what a client that sent these headers gets.
async fn metrics(State(exporter): State<Arc<Exporter>>, headers: HeaderMap) -> Response {
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let native = exporter.shared.config.native_histograms;
    let format = negotiate::format(header(ACCEPT), native);
    let takes_gzip = negotiate::takes_gzip(header(ACCEPT_ENCODING));
    let scraped = aside(exporter, move |exporter| {
        let shared = &exporter.shared;
        let body = shared.scrape(|snapshot| encode(shared, snapshot, format));
        let zipped = if takes_gzip { gzip(&body) } else { None };
        exporter.scrapes.fetch_add(1, Ordering::Release);
        (body, zipped)
    });
    let common =
        [(CONTENT_TYPE, format.content_type()), (VARY, "accept, accept-encoding"), NO_STORE];
    match scraped.await {
        Ok((_, Some(zipped))) => (common, [(CONTENT_ENCODING, "gzip")], zipped).into_response(),
        Ok((body, None)) => (common, body).into_response(),
        Err(status) => status.into_response(),
    }
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    gzip.write_all(body).ok()?;
    gzip.finish().ok()
}

const NO_STORE: (HeaderName, &str) = (CACHE_CONTROL, "no-store");

/// Room for the smallest page.
const PAGE_MIN: usize = 64 << 10;

fn encode(shared: &Shared, snapshot: &Snapshot, format: Format) -> Vec<u8> {
    let config = &shared.config;
    // Pages grow slowly: what the last one took and a little more spares copying.
    let last = shared.page_bytes.load(Ordering::Relaxed);
    let room = (last + last / 16).max(PAGE_MIN);
    let aliases = match config.vllm_aliases {
        true => alias::aliases(snapshot, config),
        false => vec![],
    };
    let own = snapshot.families.iter().map(Exposed::of);
    let families = own.chain(aliases.iter().map(|alias| alias.exposed()));
    let created = config.created_series.then_some(snapshot.created);
    let page = match format {
        Format::Text => text::write(families, text::Dialect::Prometheus, room).into_bytes(),
        Format::OpenMetrics => {
            text::write(families, text::Dialect::OpenMetrics { created }, room).into_bytes()
        }
        Format::Protobuf => return protobuf::write(families, created),
    };
    shared.page_bytes.store(page.len(), Ordering::Relaxed);
    page
}

async fn page() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        NO_STORE,
    ];
    (headers, PAGE).into_response()
}

async fn overview(State(exporter): State<Arc<Exporter>>) -> Response {
    let seen = aside(exporter, |exporter| {
        let shared = &exporter.shared;
        let verdict = health::verdict(shared);
        let snapshot = shared.snapshot();
        let history = shared.aggregator().history(snapshot.at);
        overview::overview(&shared.config, &snapshot, &history, verdict)
    });
    match seen.await {
        Ok(overview) => json(StatusCode::OK, &overview),
        Err(status) => status.into_response(),
    }
}

async fn livez(State(exporter): State<Arc<Exporter>>) -> Response {
    probe(health::live(&exporter.shared))
}

async fn readyz(State(exporter): State<Arc<Exporter>>) -> Response {
    probe(health::ready(&exporter.shared))
}

/// 200 while it serves, whatever the verdict: a status code must not spread an overload. With
/// `?strict=1` also 503 when the verdict is critical.
async fn verdict(State(exporter): State<Arc<Exporter>>, uri: Uri, headers: HeaderMap) -> Response {
    let verdict = match aside(exporter, |exporter| health::verdict(&exporter.shared)).await {
        Ok(verdict) => verdict,
        Err(status) => return status.into_response(),
    };
    let strict = uri.query().is_some_and(|query| query.split('&').any(|item| item == "strict=1"));
    let refuse = !verdict.serving || strict && verdict.overall == health::Status::Critical;
    let status = if refuse { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    if accept.is_some_and(negotiate::wants_plain_text) {
        return text(status, verdict.text());
    }
    json(status, &verdict)
}

fn probe(probe: Probe) -> Response {
    let status = if probe.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, format!("{}\n", probe.reason))
}

fn text(status: StatusCode, body: String) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), NO_STORE];
    (status, headers, retry(status), body).into_response()
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    // Plain structs of numbers and strings cannot fail to serialize.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let headers = [(CONTENT_TYPE, "application/json"), NO_STORE];
    (status, headers, retry(status), body).into_response()
}

/// When to come again, where the answer is no.
fn retry(status: StatusCode) -> Option<[(HeaderName, &'static str); 1]> {
    (status == StatusCode::SERVICE_UNAVAILABLE).then_some([(RETRY_AFTER, "5")])
}

/// What a client of `/metrics` gets, for an engine that has its own HTTP server.
#[derive(Clone, Debug)]
pub struct Exposition {
    /// Goes into the answer's `Content-Type`.
    pub content_type: &'static str,
    /// The answer's body.
    pub body: Vec<u8>,
}

/// One scrape in the format that the Accept header asks for.
pub(crate) fn exposition(shared: &Shared, accept: Option<&str>) -> Exposition {
    let format = negotiate::format(accept, shared.config.native_histograms);
    let body = shared.scrape(|snapshot| encode(shared, snapshot, format));
    Exposition { content_type: format.content_type(), body }
}
