//! What goes wrong, when, and how much.
//!
//! A scenario is injected in `[from, until)` since the engine's start and then lifted; before and
//! after it the engine is healthy. All numbers of all scenarios stand here; the engine asks
//! an `Injection` at the places where something can go wrong.

use crate::profile::Limits;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

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
                "The KV pool shrinks under a crowd: it is full, and requests wait for capacity."
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

/// A shrinking pool loses blocks as they come free; so many stay free meanwhile.
const SHRINKING_BLOCKS: u32 = 500;
/// `SlowPrefill`: prompt positions per step, so that a prompt of 8,000 takes 1,000 steps.
const TINY_CHUNK_TOKENS: u32 = 8;
/// `SlowDecode`: duration of a step that only decodes.
const SLOW_DECODE_NS: f64 = 300e6;
/// `HostBound`: what the host needs between two steps.
const SLOW_HOST_NS: f64 = 25e6;
/// `ErrorBurst`: one request in so many fails.
const FAILING_ONE_IN: u64 = 4;

/// Clients that come instead of the trace's, to a KV pool that shrank. Each has one request in
/// flight, all alike: so a full pool stays full, and the queue does not grow for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Crowd {
    pub(crate) clients: u64,
    pub(crate) prompt: u32,
    pub(crate) output: u32,
    /// What stays of the pool.
    blocks: u32,
}

/// `KvExhaustion`: about 35 of these requests fit, the others wait.
const STEADY: Crowd = Crowd { clients: 43, prompt: 1_024, output: 400, blocks: 3_000 };

/// `PreemptionStorm`: tiny when they are admitted and twenty times larger at their end.
const GROWING: Crowd = Crowd { clients: 40, prompt: 64, output: 1_200, blocks: 1_000 };

/// How often the crowd looks whether its answers are there.
pub(crate) const CROWD_NS: u64 = 50_000_000;

/// A scenario and its time, on the engine's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Injection {
    scenario: Scenario,
    from: u64,
    until: u64,
}

impl Injection {
    pub(crate) fn new(scenario: Scenario, start: u64, (from, until): (Duration, Duration)) -> Self {
        let [from, until] = [from, until].map(|since| start + since.as_nanos() as u64);
        Injection { scenario, from, until }
    }

    fn is(&self, scenario: Scenario, at: u64) -> bool {
        self.scenario == scenario && (self.from..self.until).contains(&at)
    }

    /// Begin and end, if there is anything in between.
    pub(crate) fn window(&self) -> Option<(u64, u64)> {
        (self.from < self.until).then_some((self.from, self.until))
    }

    /// When the device makes no progress.
    pub(crate) fn stall(&self) -> Option<(u64, u64)> {
        self.window().filter(|_| self.scenario == Scenario::StalledGpu)
    }

    /// The device dies once.
    pub(crate) fn kills_device(&self, at: u64) -> bool {
        self.is(Scenario::GpuFault, at)
    }

    /// Do the trace's requests arrive?
    pub(crate) fn has_traffic(&self, at: u64) -> bool {
        !self.is(Scenario::Idle, at) && self.crowd(at).is_none()
    }

    /// What arrives instead of them.
    pub(crate) fn crowd(&self, at: u64) -> Option<Crowd> {
        if self.is(Scenario::KvExhaustion, at) {
            Some(STEADY)
        } else {
            self.is(Scenario::PreemptionStorm, at).then_some(GROWING)
        }
    }

    /// How many KV blocks may be usable, with so many usable and referenced now.
    pub(crate) fn usable_blocks(&self, at: u64, total: u32, usable: u32, referenced: u32) -> u32 {
        match self.crowd(at) {
            Some(crowd) => crowd.blocks.max(usable.min(referenced + SHRINKING_BLOCKS)),
            None => total,
        }
    }

    /// What the scheduler is held to.
    pub(crate) fn limits(&self, at: u64, limits: Limits) -> Limits {
        if self.is(Scenario::PreemptionStorm, at) {
            // It admits as long as anything is free.
            Limits { spare_share: 0.0, ..limits }
        } else if self.is(Scenario::SlowPrefill, at) {
            Limits { prefill_tokens: TINY_CHUNK_TOKENS, ..limits }
        } else {
            limits
        }
    }

    /// Least duration of a step.
    pub(crate) fn step_ns_min(&self, at: u64, is_decode_only: bool) -> f64 {
        if is_decode_only && self.is(Scenario::SlowDecode, at) { SLOW_DECODE_NS } else { 0.0 }
    }

    /// What the host needs more than usual between two steps.
    pub(crate) fn host_ns_more(&self, at: u64) -> f64 {
        if self.is(Scenario::HostBound, at) { SLOW_HOST_NS } else { 0.0 }
    }

    /// Is the request of this number, arriving now, going to fail?
    pub(crate) fn fails(&self, id: u64, at: u64) -> bool {
        id.is_multiple_of(FAILING_ONE_IN) && self.is(Scenario::ErrorBurst, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_known_by_its_name() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.name().parse(), Ok(*scenario));
            assert!(scenario.what().ends_with('.'))
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_all_known_ones() {
        let error = "fire".parse::<Scenario>().expect_err("unknown").to_string();
        assert!(Scenario::ALL.iter().all(|scenario| error.contains(scenario.name())), "{error}")
    }

    #[test]
    fn a_scenario_acts_from_its_begin_until_just_before_its_end() {
        let window = (Duration::from_secs(1), Duration::from_secs(2));
        let injection = Injection::new(Scenario::Idle, 5, window);
        let traffic =
            [0, 1_000_000_005, 2_000_000_004, 2_000_000_005].map(|at| injection.has_traffic(at));
        assert_eq!(traffic, [true, false, false, true]);
    }

    #[test]
    fn the_pool_shrinks_as_its_blocks_come_free_and_grows_back_at_once() {
        let window = (Duration::ZERO, Duration::from_nanos(100));
        let injection = Injection::new(Scenario::KvExhaustion, 0, window);
        let usable =
            |at, usable, referenced| injection.usable_blocks(at, 9_000, usable, referenced);
        assert_eq!(usable(0, 9_000, 6_000), 6_500);
        assert_eq!(usable(1, 6_500, 6_400), 6_500);
        assert_eq!(usable(2, 6_500, 1_000), 3_000);
        assert_eq!(usable(100, 3_000, 2_900), 9_000);
    }
}
