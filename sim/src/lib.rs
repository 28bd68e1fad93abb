//! A simulated continuous-batching engine, instrumented only through stepscope's public API.
//!
//! The device is simulated (or a real one behind [`Device`]), the engine is not: requests of a real trace are tokenized, queued,
//! batched with chunked prefill, given paged KV blocks with a prefix cache, preempted when blocks run
//! out, and streamed. It is what the demo runs, an example of where in an engine each verb belongs
//! ([`engine`]), and the source of an exact record to check every reported number against
//! ([`truth`]).
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use stepscope::{Clock, Config, ManualClock, Stepscope, Time};
//! use stepscope_sim::{Engine, Options, Profile, Scenario, Trace, truth::Run};
//!
//! let start = Time::from_nanos(1_000_000_000);
//! let clock = Clock::Manual(ManualClock::new(start));
//! let config = Config { listen: None, clock, ..Config::default() };
//! let scope = Stepscope::start(config.clone())?;
//! let profile = Profile::named("8b")?;
//! let run = Run::of(&config, profile.kv_block_tokens());
//! let options = Options {
//!     profile,
//!     scenario: Scenario::Healthy,
//!     inject: (Duration::ZERO, Duration::ZERO),
//!     seed: 7,
//!     speculation: false,
//!     worker: 0,
//!     workers: 1,
//!     sabotage: None,
//! };
//! let mut engine = Engine::new(&scope, run, Arc::new(Trace::builtin_azure()), start, options);
//! let until = start.after(Duration::from_secs(5));
//! while let Some(next) = engine.next_at().filter(|next| *next <= until) {
//!     engine.advance_to(next);
//!     scope.advance(next);
//! }
//! assert!(engine.progress().generated_tokens > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod agenda;
mod arrivals;
mod client;
pub mod device;
pub mod engine;
mod journal;
mod kv;
pub mod profile;
mod readings;
mod rng;
mod sabotage;
pub mod scenario;
mod scheduler;
mod sequence;
mod simulated;
mod telemetry;
pub mod trace;
pub mod truth;

pub use device::Device;
pub use engine::{Engine, Options, Progress};
pub use profile::{Profile, UnknownProfile};
pub use sabotage::{Sabotage, UnknownSabotage};
pub use scenario::{Scenario, UnknownScenario};
pub use trace::{Trace, TraceError, TraceRequest};
pub use truth::Truth;
