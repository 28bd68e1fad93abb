//! Whatever talks to the metrics port: scrapers are answered, memory and threads stay bounded, and
//! the engine's thread does not notice.
#![cfg(feature = "export")]
#![allow(missing_docs)]

mod common;

use common::http::{connect, get, parse};
use common::process::{alone, our_threads, resident_mib, voluntary_switches, wait_for_threads};
use common::traffic::{Worker, live_config};
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n";
/// The first bytes of a TLS 1.3 client: handshake, version, length, client hello.
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Connections that are held open at once: more than the exporter keeps.
const HELD: usize = 300;
const SILENT_READERS: usize = 40;

#[test]
fn a_hundred_scrapers_at_once_all_get_whole_answers() {
    let _alone = alone();
    let mut worker = Worker::start(live_config());
    worker.answer_now(40);
    let addr = worker.addr();
    std::thread::scope(|threads| {
        for n in 0..100 {
            threads.spawn(move || {
                let accept = ["Accept: */*", "Accept: application/openmetrics-text"][n % 2];
                let answer = get(addr, "/metrics", &[accept]);
                assert_eq!(answer.status, 200);
                let text = answer.text();
                assert!(text.contains("llm_generated_tokens_total{model=\"test\""));
                assert_eq!(text.ends_with("# EOF\n"), n % 2 == 1);
            });
        }
    })
}

/// What comes back for these bytes until the exporter hangs up. A reset is a hang-up too.
fn answer_to(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(addr);
    let mut raw = vec![];
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut raw);
    raw
}

#[test]
fn what_is_no_request_is_refused_or_hung_up_on() {
    let _alone = alone();
    let worker = Worker::start(live_config());
    let addr = worker.addr();
    let filled = |head: &str, n: usize| [head.as_bytes(), &vec![b'x'; n], b"\r\n\r\n"].concat();
    for (what, bytes) in [
        ("nothing", vec![]),
        ("garbage", vec![0xf7; 4_096]),
        ("zeros", vec![0; 4_096]),
        ("TLS", TLS_HELLO.to_vec()),
        ("HTTP/2", HTTP2_PREFACE.to_vec()),
        ("half a header", GET[..20].to_vec()),
        ("a header of 1 MB", filled("GET /metrics HTTP/1.1\r\nHost: test\r\nX: ", MIB)),
        ("a path of 1 MB", filled("GET /", MIB)),
        (
            "a thousand headers",
            filled(&format!("GET / HTTP/1.1\r\n{}X: ", "A: b\r\n".repeat(1_000)), 1),
        ),
        ("no host", b"GET /metrics HTTP/9.9\r\n\r\n".to_vec()),
    ] {
        let raw = answer_to(addr, &bytes);
        let refused = raw.starts_with(b"HTTP/1.1 4") || raw.is_empty();
        assert!(refused, "{what}: {}", String::from_utf8_lossy(&raw[..raw.len().min(200)]))
    }
    let body = vec![b'x'; 10 * MIB];
    let head =
        format!("POST /metrics HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", body.len());
    let raw = answer_to(addr, &[head.as_bytes(), &body].concat());
    assert!(raw.is_empty() || raw.starts_with(b"HTTP/1.1 405"));
    // A body nobody asked for harms nobody.
    let raw = answer_to(
        addr,
        b"GET /livez HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
    );
    assert_eq!(parse(&raw).status, 200);
    assert_eq!(get(addr, "/livez", &[]).status, 200)
}

#[test]
fn a_header_that_never_ends_is_hung_up_on() {
    let _alone = alone();
    let worker = Worker::start(live_config());
    let begin = Instant::now();
    let mut slow = connect(worker.addr());
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHo").unwrap();
    let mut rest = vec![];
    let _ = slow.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    // Five seconds, and whatever a busy machine adds.
    assert!((4..19).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed())
}

#[test]
fn held_sockets_make_room_for_a_scraper() {
    let _alone = alone();
    let worker = Worker::start(live_config());
    let mut held: Vec<TcpStream> = (0..HELD).map(|_| connect(worker.addr())).collect();
    assert_eq!(worker.get("/metrics").status, 200);
    // Hung up on at once, not when its time for a header is over.
    held[0].set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let oldest = held[0].read(&mut [0]);
    let silent =
        |error: &Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    assert!(!oldest.as_ref().is_err_and(silent) && oldest.unwrap_or(0) == 0, "it is still held");
    drop(held)
}

/// Everybody who means harm, until `stop`.
struct Attack<'a> {
    addr: SocketAddr,
    stop: &'a AtomicBool,
    sent: &'a AtomicU64,
    /// Made beforehand: what the attackers allocate is not the exporter's.
    filler: &'a [u8],
}

impl Attack<'_> {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Sends what the socket takes; `None` if the exporter has hung up.
    fn send(&self, mut stream: &TcpStream, bytes: &[u8]) -> Option<usize> {
        let sent = match stream.write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return None,
        };
        self.sent.fetch_add(sent as u64, Ordering::Relaxed);
        Some(sent)
    }

    fn connected(&self, first: &[u8]) -> Option<TcpStream> {
        let stream = TcpStream::connect(self.addr).ok()?;
        stream.set_nonblocking(true).ok()?;
        self.send(&stream, first)?;
        Some(stream)
    }

    /// Half a header each, then a byte per second; who is hung up on comes again.
    fn slow_loris(&self) {
        let half = b"GET /metrics HTTP/1.1\r\nX: ";
        let mut held: Vec<_> = (0..HELD).filter_map(|_| self.connected(half)).collect();
        while self.goes_on() {
            std::thread::sleep(Duration::from_millis(1_000));
            held.retain(|stream| self.send(stream, b"x").is_some());
            held.extend((held.len()..HELD).filter_map(|_| self.connected(half)))
        }
    }

    /// Ask for more than the system buffers, and read none of it.
    fn never_read(&self) {
        let ask = GET.repeat(400);
        let mut held: Vec<_> = (0..SILENT_READERS).filter_map(|_| self.connected(&ask)).collect();
        while self.goes_on() {
            std::thread::sleep(Duration::from_millis(500));
            held.retain(|stream| self.send(stream, b"x").is_some());
            held.extend((held.len()..SILENT_READERS).filter_map(|_| self.connected(&ask)))
        }
    }

    /// Connections of which one side believes that they are over, or that say nothing.
    fn half_open(&self) {
        while self.goes_on() {
            let held: Vec<_> = (0..30).filter_map(|_| self.connected(b"")).collect();
            for stream in held.iter().step_by(2) {
                let _ = stream.shutdown(Shutdown::Write);
            }
            std::thread::sleep(Duration::from_millis(400))
        }
    }

    /// What is no HTTP, and HTTP that is far too long.
    fn nonsense(&self) {
        let header = b"GET /metrics HTTP/1.1\r\nHost: t\r\nX: ";
        let body = b"POST /metrics HTTP/1.1\r\nHost: t\r\nContent-Length: 10485760\r\n\r\n";
        let chunked =
            b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n";
        while self.goes_on() {
            for first in [&b"\xf7\xf7\xf7\xf7"[..], TLS_HELLO, HTTP2_PREFACE, header, body, chunked]
            {
                let Ok(stream) = TcpStream::connect(self.addr) else { continue };
                let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
                let rest = std::iter::repeat_n(self.filler, 10);
                let all = std::iter::once(first).chain(rest);
                // Until all is sent, nobody takes any more, or the exporter hangs up.
                let _ = all.take_while(|part| self.send(&stream, part) == Some(part.len())).count();
            }
            // Asked and gone before the answer.
            drop(self.connected(GET));
            std::thread::sleep(Duration::from_millis(50))
        }
    }
}

/// Ends the attack, also when an assertion fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed)
    }
}

/// Records without ever sleeping and says how often its thread gave up the processor by itself.
fn record_until(worker: &mut Worker, stop: &AtomicBool) -> (u64, u64) {
    // Every page of the ring was touched before the count begins.
    for _ in 0..2_000 {
        worker.answer_now(40)
    }
    let (before, mut requests) = (voluntary_switches(), 0);
    while !stop.load(Ordering::Relaxed) {
        worker.answer_now(40);
        requests += 1;
        // About ten thousand requests per second; a sleep would be a switch of its own.
        let next = Instant::now() + Duration::from_micros(100);
        while Instant::now() < next {
            std::hint::spin_loop()
        }
    }
    (voluntary_switches() - before, requests)
}

#[test]
fn under_attack_scrapers_are_answered_and_the_engine_does_not_notice() {
    let _alone = alone();
    let mut worker = Worker::start(live_config());
    let addr = worker.addr();
    worker.get("/metrics");
    let (stop, sent, filler) = (AtomicBool::new(false), AtomicU64::new(0), vec![b'x'; MIB]);
    let attack = Attack { addr, stop: &stop, sent: &sent, filler: &filler };
    wait_for_threads(&["stepscope-agg", "stepscope-http"]);
    let before = resident_mib();
    let (mut slowest, mut most, mut scrapes) = (Duration::ZERO, 0, 0);
    let (switches, requests) = std::thread::scope(|scope| {
        for client in [Attack::slow_loris, Attack::never_read, Attack::half_open, Attack::nonsense]
        {
            let attack = &attack;
            scope.spawn(move || client(attack));
        }
        let recording = scope.spawn(|| record_until(&mut worker, &stop));
        let end = StopAtEnd(&stop);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(8) {
            let asked = Instant::now();
            let answer = get(addr, "/metrics", &[]);
            slowest = slowest.max(asked.elapsed());
            assert!(answer.status == 200 && answer.text().contains("llm_scrape_seconds_count"));
            // The drain, the port, and while a scrape is encoded its helper.
            assert!((2..=3).contains(&our_threads().len()), "{:?}", our_threads());
            most = most.max(resident_mib());
            scrapes += 1;
            std::thread::sleep(Duration::from_millis(200))
        }
        drop(end);
        recording.join().unwrap()
    });
    let (grown, sent) = (most.saturating_sub(before), sent.into_inner() >> 20);
    println!(
        "{scrapes} scrapes, the slowest {slowest:?}; {grown} MiB grown, {sent} MiB sent; \
         {requests} requests recorded, {switches} voluntary switches"
    );
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    // A connection holds one answer of 0.3 MB at most, and only those who never read hold it long:
    // 40 of them 12 MiB, the headers of 256 connections 4 MiB. What was sent is never kept.
    assert!(grown < 48, "{grown} MiB");
    assert!(sent > 100, "only {sent} MiB: no attack");
    assert!(requests > 1_000, "{requests}");
    assert_eq!(switches, 0, "a verb waited for something")
}
