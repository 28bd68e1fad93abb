//! What the front door, the exporter and the threads of one scope share.

use crate::aggregate::{AggregateThread, Aggregator, Pulse};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::snapshot::Snapshot;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Why a [`Stepscope`](crate::Stepscope) did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting cannot be used.
    #[error("bad configuration: {0}")]
    Config(#[from] ConfigError),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {cause}; {advice}")]
    Listen {
        /// The address that was asked for.
        addr: std::net::SocketAddr,
        /// What the system said.
        cause: std::io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}; the process is at its limit of threads or memory")]
    Thread(std::io::Error),
}

/// Where a worker is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Stage {
    Starting = 0,
    Ready = 1,
    Draining = 2,
    Failed = 3,
}

/// What one process has of a scope. A forked child has none of its threads, and a lock that one of them held
/// stays held there: so a child begins with an empty part of its own.
struct Own {
    process: u32,
    aggregator: Arc<Mutex<Aggregator>>,
    pulse: Arc<Pulse>,
    childs: OnceLock<Box<Own>>,
}

impl Own {
    fn new(config: &Config, clock: &Clock) -> Own {
        let pulse = Arc::new(Pulse::default());
        let aggregator = Aggregator::new(config, clock.now(), pulse.clone());
        Own {
            process: std::process::id(),
            aggregator: Arc::new(Mutex::new(aggregator)),
            pulse,
            childs: OnceLock::new(),
        }
    }
}

/// What the front door, the exporter and the threads share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    own: Own,
    stage: AtomicU8,
    /// What `/readyz` said last.
    was_ready: AtomicBool,
    /// Size of the last page in a text format.
    pub(crate) page_bytes: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Shared {
        let clock = config.clock.clone();
        let own = Own::new(&config, &clock);
        Shared {
            config,
            clock,
            own,
            stage: AtomicU8::new(Stage::Starting as u8),
            was_ready: AtomicBool::new(true),
            page_bytes: AtomicUsize::new(0),
        }
    }

    /// The thread that drains, for a clock that moves by itself.
    pub(crate) fn start_thread(&self) -> Result<AggregateThread, StartError> {
        let Own { aggregator, pulse, .. } = self.own();
        AggregateThread::start(aggregator.clone(), pulse.clone(), self.clock.clone())
            .map_err(StartError::Thread)
    }

    /// Is this a forked child of the process that started it?
    pub(crate) fn is_forked(&self) -> bool {
        self.own.process != std::process::id()
    }

    fn own(&self) -> &Own {
        let process = std::process::id();
        let mut own = &self.own;
        while own.process != process {
            own = own.childs.get_or_init(|| Box::new(Own::new(&self.config, &self.clock)))
        }
        own
    }

    /// What probes look at beside the aggregator's lock.
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.own().pulse
    }

    /// The aggregator. Never taken on an engine thread once its recorder exists.
    pub(crate) fn aggregator(&self) -> MutexGuard<'_, Aggregator> {
        // A panic in a reader must not silence all others: the data is counters, never half-valid.
        self.own().aggregator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Starting,
            1 => Stage::Ready,
            2 => Stage::Draining,
            _ => Stage::Failed,
        }
    }

    pub(crate) fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release)
    }

    /// The last answer of the readiness probe.
    pub(crate) fn was_ready(&self) -> bool {
        self.was_ready.load(Ordering::Relaxed)
    }

    pub(crate) fn set_was_ready(&self, ready: bool) {
        self.was_ready.store(ready, Ordering::Relaxed)
    }

    /// Seconds since the epoch; a simulated time has none.
    pub(crate) fn wall_clock(&self) -> Option<f64> {
        let epoch = || SystemTime::now().duration_since(UNIX_EPOCH).ok();
        matches!(self.clock, Clock::Monotonic).then(epoch)?.map(|since| since.as_secs_f64())
    }

    /// One scrape: what it takes to drain, build and encode is what the next one reports.
    pub(crate) fn scrape<T>(&self, encode: impl FnOnce(&Snapshot) -> T) -> T {
        let begin = Instant::now();
        let encoded = encode(&self.snapshot());
        self.aggregator().scraped(begin.elapsed());
        encoded
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let now = self.clock.now();
        self.aggregator().snapshot(now)
    }
}
