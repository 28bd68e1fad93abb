//! Our own HTTP server: one named thread, a current-thread runtime, an accept loop with limits; a
//! second thread of that name while a scrape is encoded, so that probes are answered meanwhile.
//!
//! A metrics port must survive whatever talks to it. Limits:
//! 1. a header must be complete within `HEADER_WAIT`, and its size is bounded;
//! 2. a connection lives at most `CONNECTION_LIFE`, then it is closed when its answer is out, and
//!    after `CLOSE_WAIT` in any case: a client that reads nothing cannot hold memory longer;
//! 3. at most `CONNECTIONS_MAX` at a time: the oldest makes room for the newest, so sockets that
//!    are held open cannot shut a scraper out;
//! 4. `BACKLOG` connections wait to be accepted: the system ignores more, and an ignored scraper
//!    comes again only after a second;
//! 5. at the end, answers under way go out whole within `LAST_ANSWER_WAIT`; whoever has not asked
//!    yet is hung up on.

use super::routes::{self, Exporter};
use crate::shared::{Shared, StartError};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

const HEADER_WAIT: Duration = Duration::from_secs(5);
const HEADER_BYTES_MAX: usize = 16 << 10;
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
const CLOSE_WAIT: Duration = Duration::from_secs(5);
const LAST_ANSWER_WAIT: Duration = Duration::from_secs(2);
const CONNECTIONS_MAX: usize = 256;
const BACKLOG: u32 = 1_024;
const WORKER_REST: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Server {
    addr: SocketAddr,
    /// Whether it ends; every connection holds a receiver.
    stop: Arc<watch::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
    exporter: Arc<Exporter>,
}

impl Server {
    /// Binds on the caller's thread, so that a busy port is an error of `start`.
    pub(crate) fn start(addr: SocketAddr, shared: Arc<Shared>) -> Result<Server, StartError> {
        let refuse = |cause: std::io::Error| {
            let advice = advice(&cause);
            StartError::Listen { addr, cause, advice }
        };
        let runtime = OwnRuntime::new().map_err(StartError::Thread)?;
        let listener = {
            let _inside = runtime.0.as_ref().map(Runtime::enter);
            listen(addr).map_err(refuse)?
        };
        let addr = listener.local_addr().map_err(refuse)?;
        let stop = Arc::new(watch::Sender::new(false));
        let exporter = Exporter::new(shared);
        let serve = serve(listener, routes::router(exporter.clone()), stop.clone());
        let thread = std::thread::Builder::new()
            .name("stepscope-http".into())
            .spawn(move || runtime.block_on(serve))
            .map_err(StartError::Thread)?;
        Ok(Server { addr, stop, thread: Some(thread), exporter })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits up to `patience` for one more scrape if anybody ever scraped, then ends the thread.
    pub(crate) fn stop(&mut self, patience: Duration) {
        let scrapes = || self.exporter.scrapes();
        let (before, deadline) = (scrapes(), Instant::now() + patience);
        while before > 0 && scrapes() == before && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5))
        }
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    /// A start that fails after this point must not leave the port open.
    fn drop(&mut self) {
        self.stop(Duration::ZERO)
    }
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another process, or a second engine in this one, holds the port: set Config::listen or STEPSCOPE_LISTEN to another port, or to port 0 for a free one"
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has that address: use 127.0.0.1, [::1], 0.0.0.0 or one of its own"
        }
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege: use a higher one, such as 9464"
        }
        _ => "set Config::listen or STEPSCOPE_LISTEN to an address that can be listened on",
    }
}

/// A runtime that may be dropped where an engine calls `start` from async code and it fails:
/// dropping a plain one panics there.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new() -> std::io::Result<OwnRuntime> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        // For work that must not keep probes waiting: see `routes::aside`.
        builder
            .max_blocking_threads(1)
            .thread_name("stepscope-http")
            .thread_keep_alive(WORKER_REST);
        builder.enable_io().enable_time().build().map(|runtime| OwnRuntime(Some(runtime)))
    }

    /// Runs to the end, its helper thread included.
    fn block_on(mut self, future: impl Future<Output = ()>) {
        if let Some(runtime) = self.0.take() {
            runtime.block_on(future);
            runtime.shutdown_timeout(LAST_ANSWER_WAIT)
        }
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background()
        }
    }
}

fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The port of a worker that just ended is free at once.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Until it is told to end. Leaving drops the runtime, and with it every connection that is left.
async fn serve(listener: TcpListener, router: axum::Router, stop: Arc<watch::Sender<bool>>) {
    let accepting = tokio::spawn(accept(listener, router, stop.subscribe()));
    // An error means that the sender is gone, and we hold one.
    let _ = stop.subscribe().wait_for(|stop| *stop).await;
    accepting.abort();
    let _ = timeout(LAST_ANSWER_WAIT, stop.closed()).await;
}

async fn accept(listener: TcpListener, router: axum::Router, stop: watch::Receiver<bool>) {
    let mut connections = VecDeque::<AbortHandle>::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: trying again at once would only spin.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= CONNECTIONS_MAX
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort()
        }
        let connection = tokio::spawn(answer(stream, router.clone(), stop.clone()));
        connections.push_back(connection.abort_handle())
    }
}

/// One connection, from accept to close.
async fn answer(stream: TcpStream, router: axum::Router, mut stop: watch::Receiver<bool>) {
    // A scrape is one small request and one answer: nothing to gain from waiting for more.
    let _ = stream.set_nodelay(true);
    let asked = AtomicBool::new(false);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut enough = pin!(timeout(CONNECTION_LIFE, stop.wait_for(|stop| *stop)));
    // Errors are the client's: a reset, a half-sent header, garbage. There is nobody to tell.
    let ended = poll_fn(|cx| match connection.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending => enough.as_mut().poll(cx).map(|_| false),
    });
    if !ended.await && asked.load(Ordering::Relaxed) {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(CLOSE_WAIT, connection).await;
    }
}
