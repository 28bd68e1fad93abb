//! A bare HTTP client: one request per connection, every byte under the test's control.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for an answer: far above any good one, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// GET with these extra header lines, on a connection of its own.
pub fn get(addr: SocketAddr, path: &str, headers: &[&str]) -> Answer {
    request(addr, "GET", path, headers)
}

pub fn request(addr: SocketAddr, method: &str, path: &str, headers: &[&str]) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for line in headers {
        head.push_str(line);
        head.push_str("\r\n")
    }
    exchange(addr, &format!("{head}\r\n")).expect("an answer")
}

/// GET by the old protocol, whose answers are never in chunks: for servers other than ours, which
/// may not be up yet.
pub fn get_http10(addr: SocketAddr, path: &str) -> Option<Answer> {
    exchange(addr, &format!("GET {path} HTTP/1.0\r\n\r\n"))
}

fn exchange(addr: SocketAddr, request: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut raw = vec![];
    stream.read_to_end(&mut raw).ok()?;
    (!raw.is_empty()).then(|| parse(&raw))
}

pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One whole answer; panics on one that was cut short.
pub fn parse(raw: &[u8]) -> Answer {
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n").expect("a header");
    let head = String::from_utf8_lossy(&raw[..end]);
    let mut lines = head.lines();
    let status = lines.next().and_then(|l| l.split(' ').nth(1)).expect("a status");
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_string()))
        .collect();
    let answer = Answer { status: status.parse().unwrap(), headers, body: raw[end + 4..].to_vec() };
    let length = answer.header("content-length").map(|n| n.parse::<usize>().unwrap());
    // An answer to HEAD has a length and no body.
    let whole = answer.body.is_empty() || length.is_none_or(|n| n == answer.body.len());
    assert!(whole, "the answer is cut short: {} of {length:?} bytes", answer.body.len());
    answer
}
