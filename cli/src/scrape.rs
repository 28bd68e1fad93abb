//! Reads `/metrics` as a stranger does: over HTTP, with nothing but the address.

use crate::exposition::{self, Exposition};
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
/// Far above any exposition of ours, so that a stranger's answer cannot fill the memory.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Where a browser or a scraper on this machine finds a server.
pub fn url(addr: SocketAddr) -> String {
    let mut reachable = addr;
    if addr.ip().is_unspecified() {
        reachable.set_ip(match addr {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        })
    }
    format!("http://{reachable}")
}

/// One scrape in Prometheus' text format.
///
/// # Errors
/// Says what was asked and what went wrong: no connection, no success, or an answer that is no
/// exposition.
pub fn scrape(addr: SocketAddr) -> Result<Exposition> {
    let url = format!("{}/metrics", url(addr));
    let text = fetch(&url).with_context(|| format!("cannot scrape {url}"))?;
    exposition::parse(&text).with_context(|| format!("{url} is no valid exposition"))
}

fn fetch(url: &str) -> Result<String> {
    // A proxy of the environment must not stand between us and a local address.
    let config = ureq::Agent::config_builder().proxy(None).timeout_global(Some(PATIENCE)).build();
    let agent = ureq::Agent::new_with_config(config);
    let mut answer = agent.get(url).header("Accept", "text/plain;version=0.0.4").call()?;
    Ok(answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_means_everywhere_is_reached_on_loopback() {
        for (listen, reachable) in [
            ("0.0.0.0:9464", "http://127.0.0.1:9464"),
            ("[::]:1", "http://[::1]:1"),
            ("10.0.0.7:80", "http://10.0.0.7:80"),
        ] {
            assert_eq!(url(listen.parse().unwrap()), reachable);
        }
    }
}
