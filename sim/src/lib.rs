//! A simulated continuous-batching engine, instrumented only through stepscope's public API.

pub mod truth;
