//! What `stepscope demo` can be told.

use crate::pace::Speed;
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use stepscope_sim::Sabotage;
use stepscope_sim::profile::Profile;
use stepscope_sim::scenario::Scenario;

/// Replay a request trace through a simulated engine, serve /metrics, compare at the end
///
/// The engine is instrumented only through stepscope's public API. At the end its own record of
/// every request and step is compared with what /metrics reports, number by number. Exit code 0:
/// all agree; 1: they do not; 2: the input cannot be used.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Requests to replay: mooncake, azure, or a file in the format of either
    #[arg(long, value_name = "FILE|mooncake|azure", default_value = "mooncake")]
    pub trace: String,
    /// What goes wrong
    #[arg(long, value_name = "NAME", default_value = "healthy")]
    pub scenario: Scenario,
    /// One worker per scenario, each with a port and, as label `model`, the scenario's name
    #[arg(long, value_enum, value_name = "KIND", conflicts_with_all = ["scenario", "workers"])]
    pub fleet: Option<FleetKind>,
    /// When it goes wrong, in seconds; the middle half of the run by default
    #[arg(long, value_name = "FROM..UNTIL")]
    pub inject: Option<Window>,
    /// What runs the steps: the first GPU where a driver is found, else a simulated device
    #[arg(long, value_enum, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// Run the steps on the first GPU of this driver library
    #[arg(long, value_name = "LIB")]
    pub driver: Option<PathBuf>,
    /// The model and the hardware that are simulated
    #[arg(long, value_name = "NAME", default_value = Profile::names()[0], value_parser = Profile::named)]
    pub profile: Profile,
    /// Where to serve; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = stepscope::DEFAULT_LISTEN)]
    pub listen: SocketAddr,
    /// Simulated seconds per second, or max
    #[arg(long, value_name = "X|max", default_value = "1")]
    pub speed: Speed,
    /// Simulated seconds; as many as pass in a minute by default, at most an hour; 60 with
    /// --speed max
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Makes a run repeatable
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Engines that share the trace, each with a port of its own, counted from the first
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// Decode with speculation: several tokens in one step
    #[arg(long)]
    pub speculation: bool,
    /// Write the engine's own record there, one JSON object a line; FILE.1 and so on for further
    /// workers
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    /// Write what Prometheus would have scraped there, as a test for promtool, and the alert rules
    /// beside it; for one worker
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fleet", "workers"])]
    pub history: Option<PathBuf>,
    /// One JSON object on stdout, and everything for people on stderr
    #[arg(long)]
    pub json: bool,
    /// Keep serving for so many seconds after the summary; Ctrl-C ends that too
    #[arg(long, value_name = "S", default_value = "0", value_parser = seconds)]
    pub hold: Duration,
    /// Also export the families of another engine under its own names
    #[arg(long, value_enum, value_name = "SYSTEM")]
    pub aliases: Option<Aliases>,
    /// Tell stepscope something else than what happens, to see that the comparison notices
    #[arg(long, hide = true)]
    pub sabotage: Option<Sabotage>,
}

/// What a fleet is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum FleetKind {
    /// Everything that can go wrong, at the same time, each on a worker of its own
    Scenarios,
}

/// What runs the steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum DeviceChoice {
    /// A GPU if there is one and time runs as it does, else a simulated device
    Auto,
    /// A simulated device
    Sim,
    /// A GPU, or nothing
    Gpu,
}

/// Whose names are exported besides our own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Aliases {
    /// `vllm:`
    Vllm,
}

impl DemoArgs {
    /// How long the run is.
    pub fn duration(&self) -> Duration {
        const MINUTE: Duration = Duration::from_secs(60);
        const HOUR: Duration = Duration::from_secs(3_600);
        match (self.duration, self.speed) {
            (Some(duration), _) => duration,
            (None, Speed::Times(times)) => MINUTE.mul_f64(times.min(60.0)).min(HOUR),
            (None, Speed::Max) => MINUTE,
        }
    }
}

/// A part of the run, counted from its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Its begin.
    pub from: Duration,
    /// Its end.
    pub until: Duration,
}

impl Window {
    /// The middle half of a run.
    pub fn middle_of(run: Duration) -> Window {
        Window { from: run / 4, until: run * 3 / 4 }
    }
}

impl FromStr for Window {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Window> {
        let advice = "say two numbers of seconds, such as 15..45";
        let (from, until) = text.split_once("..").context(advice)?;
        let window = Window { from: seconds(from)?, until: seconds(until)? };
        ensure!(window.from < window.until, "it ends before it begins: {advice}");
        Ok(window)
    }
}

fn seconds(text: &str) -> Result<Duration> {
    let number = text.trim().parse().ok();
    let duration = number.and_then(|s| Duration::try_from_secs_f64(s).ok());
    let duration = duration.filter(|duration| *duration <= LONGEST);
    duration.with_context(|| format!("{text:?}: say a number of seconds, at most a day"))
}

/// A day. Whole logs are kept in memory, and clocks have to reach the end.
const LONGEST: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_two_numbers_in_order() {
        let window: Window = "1.5..2".parse().unwrap();
        assert_eq!(window.from, Duration::from_millis(1_500));
        assert_eq!(Window::middle_of(Duration::from_secs(60)), "15..45".parse().unwrap());
        for bad in ["5", "5..", "..5", "5..4", "5..5", "a..b", "-1..5", "0..1e300"] {
            let error = format!("{:#}", bad.parse::<Window>().unwrap_err());
            assert!(error.contains("say"), "{bad}: {error}");
        }
    }
}
