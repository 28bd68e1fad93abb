//! What several test binaries need: outside tools that may be missing, and a bare HTTP client.
#![allow(dead_code, missing_docs)] // each test binary uses its own part

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// Is this program there? Says so and skips where it is missing, unless `STEPSCOPE_REQUIRE_TOOLS=1`:
/// then a missing tool is a failure.
pub fn tool(name: &str, probe: &[&str]) -> bool {
    let found = Command::new(name).args(probe).output().is_ok_and(|out| out.status.success());
    if !found {
        let required = std::env::var("STEPSCOPE_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
        assert!(!required, "{name} is missing and STEPSCOPE_REQUIRE_TOOLS=1");
        println!("skipped: {name} is missing");
    }
    found
}

/// Python with the official Prometheus parser.
pub fn python_parser() -> bool {
    tool("python3", &["-c", "import prometheus_client"])
}

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
}

/// GET with these extra header lines, on a connection of its own.
pub fn get(addr: SocketAddr, path: &str, headers: &[&str]) -> Answer {
    request(addr, "GET", path, headers)
}

pub fn request(addr: SocketAddr, method: &str, path: &str, headers: &[&str]) -> Answer {
    let mut stream = TcpStream::connect(addr).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for line in headers {
        head.push_str(line);
        head.push_str("\r\n")
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).expect("send");
    let mut raw = vec![];
    stream.read_to_end(&mut raw).expect("an answer");
    parse(&raw)
}

fn parse(raw: &[u8]) -> Answer {
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n").expect("a header");
    let head = String::from_utf8_lossy(&raw[..end]);
    let mut lines = head.lines();
    let status = lines.next().and_then(|l| l.split(' ').nth(1)).expect("a status");
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_string()))
        .collect();
    let mut body = raw[end + 4..].to_vec();
    if headers.iter().any(|(n, v)| n == "transfer-encoding" && v == "chunked") {
        body = dechunk(&body)
    }
    Answer { status: status.parse().unwrap(), headers, body }
}

fn dechunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = vec![];
    while let Some(end) = raw.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&raw[end + 2..end + 2 + size]);
        raw = &raw[end + 2 + size + 2..]
    }
    body
}
