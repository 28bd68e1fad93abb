//! What goes wrong, and when.
//!
//! A scenario is injected in `[from, until)` since the engine's start and then lifted; before and
//! after it the engine is healthy.

use std::fmt;
use std::str::FromStr;

/// Something that goes wrong in serving.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scenario {
    /// Nothing goes wrong.
    Healthy,
    /// No request arrives.
    Idle,
    /// The KV pool is full and requests wait for it.
    KvExhaustion,
    /// Running sequences evict each other.
    PreemptionStorm,
    /// Prompts take seconds until their first token.
    SlowPrefill,
    /// Tokens come a third of a second apart.
    SlowDecode,
    /// No step ends.
    StalledGpu,
    /// The device dies once and the engine restarts.
    GpuFault,
    /// A quarter of the requests fails.
    ErrorBurst,
    /// The device waits for the host between steps.
    HostBound,
    /// The worker's port is closed; the engine itself is healthy.
    Dead,
}

/// A word that names no scenario.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no scenario is called {0:?}; say one of {names}", names = names())]
pub struct UnknownScenario(pub String);

impl Scenario {
    /// All of them, in the order of the documentation.
    pub const ALL: &[Scenario] = &[
        Scenario::Healthy,
        Scenario::Idle,
        Scenario::KvExhaustion,
        Scenario::PreemptionStorm,
        Scenario::SlowPrefill,
        Scenario::SlowDecode,
        Scenario::StalledGpu,
        Scenario::GpuFault,
        Scenario::ErrorBurst,
        Scenario::HostBound,
        Scenario::Dead,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Scenario::Healthy => "healthy",
            Scenario::Idle => "idle",
            Scenario::KvExhaustion => "kv_exhaustion",
            Scenario::PreemptionStorm => "preemption_storm",
            Scenario::SlowPrefill => "slow_prefill",
            Scenario::SlowDecode => "slow_decode",
            Scenario::StalledGpu => "stalled_gpu",
            Scenario::GpuFault => "gpu_fault",
            Scenario::ErrorBurst => "error_burst",
            Scenario::HostBound => "host_bound",
            Scenario::Dead => "dead",
        }
    }

    /// What it does, in one sentence.
    pub const fn what(self) -> &'static str {
        match self {
            Scenario::Healthy => "Nothing goes wrong.",
            Scenario::Idle => "No request arrives.",
            Scenario::KvExhaustion => {
                "The KV pool shrinks under a crowd of long answers: it is full, and requests wait for capacity."
            }
            Scenario::PreemptionStorm => {
                "The scheduler admits more than the shrunken KV pool can hold: sequences evict each other."
            }
            Scenario::SlowPrefill => {
                "The prefill chunk collapses to a few tokens: prompts take seconds until their first token, decode is normal."
            }
            Scenario::SlowDecode => {
                "Decode steps take 0.3 s instead of a few milliseconds, prefill is normal."
            }
            Scenario::StalledGpu => "No step ends, while requests keep arriving.",
            Scenario::GpuFault => {
                "The device dies once: the step is lost, running requests fail, and the engine restarts."
            }
            Scenario::ErrorBurst => "A quarter of the requests fails with an internal error.",
            Scenario::HostBound => "The host needs 25 ms between two steps, while work waits.",
            Scenario::Dead => "The worker's port closes; the engine itself is healthy.",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(name: &str) -> Result<Scenario, UnknownScenario> {
        let found = Scenario::ALL.iter().find(|scenario| scenario.name() == name);
        found.copied().ok_or_else(|| UnknownScenario(name.into()))
    }
}

fn names() -> String {
    Scenario::ALL.iter().map(|scenario| scenario.name()).collect::<Vec<_>>().join(", ")
}
