//! `Config`: what an engine may set before it starts, its defaults, and its reading from the
//! environment.

use crate::catalog::limits::Limits;
use crate::catalog::{self, Id};
use crate::clock::Clock;
use crate::record::Role;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// Port 9464, the one OpenTelemetry reserved for Prometheus exporters, on loopback.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9464";

/// Plain settings of one [`Stepscope`](crate::Stepscope). Every field has a default.
///
/// ```
/// let config = stepscope::Config { model: "llama-3-8b".into(), ..Default::default() };
/// assert!(config.listen.unwrap().ip().is_loopback());
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Label `model` of every series. `STEPSCOPE_MODEL`
    pub model: String,
    /// Label `worker_id` of every series; the host's name by default. `STEPSCOPE_WORKER_ID`
    pub worker_id: String,
    /// Name of the engine, in `llm_worker_info`. `STEPSCOPE_ENGINE`
    pub engine: String,
    /// Version of the engine, in `llm_worker_info`. `STEPSCOPE_ENGINE_VERSION`
    pub engine_version: String,
    /// What this worker does. A prefill worker reports no user's TTFT. `STEPSCOPE_ROLE`
    pub role: Role,
    /// Label `gpu_id` of recorders that name no device. `STEPSCOPE_GPU_ID`
    pub gpu_id: String,
    /// Label `node`; the host's name by default. `STEPSCOPE_NODE`
    pub node: String,
    /// Address of our own HTTP server; port 0 lets the system choose, `None` starts no server
    /// (mount [`Stepscope::router`](crate::Stepscope::router) instead). `STEPSCOPE_LISTEN`, where
    /// `off` means `None`.
    pub listen: Option<SocketAddr>,
    /// A request's TTFT is good up to this, in ms. `STEPSCOPE_TTFT_OBJECTIVE_MS`
    pub ttft_objective_ms: u32,
    /// A gap is slow above this, in ms. `STEPSCOPE_TBT_OBJECTIVE_MS`
    pub tbt_objective_ms: u32,
    /// Most request classes, the overflow class included (1 to 32,767). `STEPSCOPE_SERIES_MAX`
    pub series_max: u16,
    /// Events one recorder's ring holds (16 to 1,048,576). `STEPSCOPE_RING_EVENTS`
    pub ring_events: usize,
    /// Longest label value in bytes; longer ones are cut and counted. `STEPSCOPE_LABEL_BYTES_MAX`
    pub label_bytes_max: usize,
    /// Token slots of one KV block, for `llm_kv_slot_usage_ratio`. `STEPSCOPE_KV_BLOCK_TOKENS`
    pub kv_block_tokens: Option<u32>,
    /// Offer protobuf with native histograms beside the classic ones. `STEPSCOPE_NATIVE_HISTOGRAMS`
    ///
    /// Off by default: a Prometheus before 3.0 that scrapes native histograms drops the classic
    /// buckets of the same target, and every latency alert written on them falls silent. Turn it
    /// on together with `always_scrape_classic_histograms: true` on the server.
    pub native_histograms: bool,
    /// Add `_created` to OpenMetrics. Off by default: each becomes a stored series of its own.
    /// `STEPSCOPE_CREATED_SERIES`
    pub created_series: bool,
    /// Also export the `vllm:` families that endpoint pickers, autoscaling recipes and public
    /// boards scrape, with vLLM's meaning. `STEPSCOPE_VLLM_ALIASES`
    pub vllm_aliases: bool,
    /// Limits of alerts that this site set; `/health` judges by them, and the rules are derived with
    /// the same.
    #[serde(skip)]
    pub limits: Limits,
    /// Where time comes from.
    #[serde(skip)]
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Config {
        let uname = rustix::system::uname();
        let host = uname.nodename().to_string_lossy().into_owned();
        Config {
            model: "unknown".into(),
            worker_id: host.clone(),
            engine: "unknown".into(),
            engine_version: "unknown".into(),
            role: Role::Both,
            gpu_id: "0".into(),
            node: host,
            listen: DEFAULT_LISTEN.parse().ok(),
            ttft_objective_ms: warning_ms(Id::Ttft),
            tbt_objective_ms: warning_ms(Id::Tbt),
            series_max: 256,
            ring_events: 8_192,
            label_bytes_max: 128,
            kv_block_tokens: None,
            native_histograms: false,
            created_series: false,
            vllm_aliases: false,
            limits: Limits::default(),
            clock: Clock::Monotonic,
        }
    }
}

/// A promise is kept up to where the family's row begins to warn, in ms.
fn warning_ms(family: Id) -> u32 {
    let warning = catalog::row(family).healthy.and_then(|healthy| healthy.warning);
    warning.map_or(u32::MAX, |ns| (ns / 1_000_000) as u32)
}

/// A setting that cannot be used: which, why, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{name} = {value:?}: {advice}")]
pub struct ConfigError {
    /// The field or environment variable.
    pub name: String,
    /// What it was set to.
    pub value: String,
    /// What it should be.
    pub advice: String,
}

impl Config {
    /// The defaults, overridden by environment variables named `STEPSCOPE_` + the field.
    ///
    /// # Errors
    /// A variable that is set to something unusable, or one that names no setting (a typo would
    /// otherwise be silent).
    pub fn from_env() -> Result<Config, ConfigError> {
        Config::from_vars(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        }))
    }

    fn from_vars(vars: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        for (name, value) in vars {
            let Some(field) = name.strip_prefix("STEPSCOPE_") else { continue };
            let field = field.to_ascii_lowercase();
            match field.as_str() {
                "model" => config.model = value,
                "worker_id" => config.worker_id = value,
                "engine" => config.engine = value,
                "engine_version" => config.engine_version = value,
                "gpu_id" => config.gpu_id = value,
                "node" => config.node = value,
                "role" => {
                    config.role = match value.as_str() {
                        "both" => Role::Both,
                        "prefill" => Role::Prefill,
                        "decode" => Role::Decode,
                        _ => return Err(error(&name, &value, "say both, prefill or decode")),
                    }
                }
                "listen" if matches!(value.as_str(), "off" | "none") => config.listen = None,
                "listen" => {
                    let advice = "say ADDRESS:PORT, such as 127.0.0.1:9464 or [::1]:0, or off";
                    config.listen = Some(parse(&name, &value, advice)?)
                }
                "ttft_objective_ms" => {
                    config.ttft_objective_ms = parse(&name, &value, "say whole milliseconds")?
                }
                "tbt_objective_ms" => {
                    config.tbt_objective_ms = parse(&name, &value, "say whole milliseconds")?
                }
                "series_max" => config.series_max = parse(&name, &value, SERIES_ADVICE)?,
                "ring_events" => config.ring_events = parse(&name, &value, RING_ADVICE)?,
                "label_bytes_max" => config.label_bytes_max = parse(&name, &value, LABEL_ADVICE)?,
                "kv_block_tokens" => {
                    let advice = "say the tokens of one KV block, such as 16";
                    config.kv_block_tokens = Some(parse(&name, &value, advice)?)
                }
                "native_histograms" => config.native_histograms = switch(&name, &value)?,
                "created_series" => config.created_series = switch(&name, &value)?,
                "vllm_aliases" => config.vllm_aliases = switch(&name, &value)?,
                // Switches of the project's own test runs, read elsewhere.
                "require_tools" | "cases" => {}
                _ => {
                    let advice = "no such setting; the settings are the fields of Config";
                    return Err(error(&name, &value, advice));
                }
            }
        }
        config.check()?;
        Ok(config)
    }

    /// Refuses what cannot work, with advice.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |name: &str, value: &dyn ToString, advice: &str| {
            Err(error(name, &value.to_string(), advice))
        };
        if !(1..=0x7fff).contains(&self.series_max) {
            return refuse("series_max", &self.series_max, SERIES_ADVICE);
        }
        if !(16..=1 << 20).contains(&self.ring_events) {
            return refuse("ring_events", &self.ring_events, RING_ADVICE);
        }
        if !(8..=1_024).contains(&self.label_bytes_max) {
            return refuse("label_bytes_max", &self.label_bytes_max, LABEL_ADVICE);
        }
        if self.ttft_objective_ms == 0 {
            return refuse("ttft_objective_ms", &0, "an objective is at least 1 ms");
        }
        if self.tbt_objective_ms == 0 {
            return refuse("tbt_objective_ms", &0, "an objective is at least 1 ms");
        }
        if self.kv_block_tokens == Some(0) {
            return refuse("kv_block_tokens", &0, "a block holds at least one token");
        }
        if self.model.is_empty() {
            return refuse(
                "model",
                &"",
                "name the model: Prometheus treats an empty label as none",
            );
        }
        if self.worker_id.is_empty() {
            return refuse("worker_id", &"", "name the worker; leave it out for the host's name");
        }
        Ok(())
    }

    pub(crate) fn ttft_objective(&self) -> Duration {
        Duration::from_millis(self.ttft_objective_ms.into())
    }

    pub(crate) fn tbt_objective(&self) -> Duration {
        Duration::from_millis(self.tbt_objective_ms.into())
    }
}

const SERIES_ADVICE: &str = "say 1 to 32767 request classes";
const RING_ADVICE: &str = "say 16 to 1048576 events of 16 bytes";
const LABEL_ADVICE: &str = "say 8 to 1024 bytes";

fn error(name: &str, value: &str, advice: &str) -> ConfigError {
    ConfigError { name: name.into(), value: value.into(), advice: advice.into() }
}

fn parse<T: std::str::FromStr>(name: &str, value: &str, advice: &str) -> Result<T, ConfigError> {
    value.trim().parse().map_err(|_| error(name, value, advice))
}

fn switch(name: &str, value: &str) -> Result<bool, ConfigError> {
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" => Ok(true),
        "0" | "false" | "off" | "no" => Ok(false),
        _ => Err(error(name, value, "say on or off")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_vars(pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())))
    }

    #[test]
    fn variables_override_defaults_and_others_are_left_alone() {
        let config = from(&[
            ("HOME", "/"),
            ("STEPSCOPE_MODEL", "m"),
            ("STEPSCOPE_LISTEN", "[::1]:0"),
            ("STEPSCOPE_VLLM_ALIASES", "on"),
            ("STEPSCOPE_ROLE", "decode"),
        ])
        .unwrap();
        assert_eq!(config.model, "m");
        assert!(config.listen.unwrap().is_ipv6() && config.vllm_aliases);
        assert_eq!(config.role, Role::Decode);
        assert_eq!(from(&[("STEPSCOPE_LISTEN", "off")]).unwrap().listen, None);
    }

    #[test]
    fn a_bad_setting_says_what_to_do() {
        for (name, value, advice) in [
            ("STEPSCOPE_LISTEN", "9464", "say ADDRESS:PORT"),
            ("STEPSCOPE_SERIES_MAX", "0", "say 1 to 32767"),
            ("STEPSCOPE_RING_EVENTS", "many", "say 16 to"),
            ("STEPSCOPE_MODEL", "", "name the model"),
            ("STEPSCOPE_MODLE", "m", "no such setting"),
            ("STEPSCOPE_CREATED_SERIES", "perhaps", "say on or off"),
        ] {
            let error = from(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(advice), "{error}");
        }
    }

    #[test]
    fn a_config_survives_a_file() {
        let text = toml::to_string(&Config::default()).unwrap();
        let config: Config = toml::from_str(&text).unwrap();
        assert_eq!(config.ring_events, Config::default().ring_events);
        assert!(toml::from_str::<Config>("modle = \"m\"").is_err());
    }
}
