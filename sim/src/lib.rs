//! A simulated continuous-batching engine, instrumented only through stepscope's public API.

pub mod engine;
pub mod profile;
pub mod scenario;
pub mod trace;
pub mod truth;

pub use engine::{Engine, Options, Progress, Sabotage, UnknownSabotage};
pub use profile::{Profile, UnknownProfile};
pub use scenario::{Scenario, UnknownScenario};
pub use trace::{Trace, TraceError, TraceRequest};
pub use truth::Truth;
