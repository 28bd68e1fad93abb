//! Request traces.
use std::path::Path;

/// One request of a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceRequest {
    /// Arrival from the trace's start.
    pub at_ns: u64,
    /// Prompt tokens.
    pub prompt: u32,
    /// Tokens of the answer.
    pub output: u32,
    /// Ids of the prompt's 512-token blocks; empty if unknown.
    pub blocks: Vec<u64>,
}

/// A trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// What it is called.
    pub name: String,
    /// Its requests, by arrival.
    pub requests: Vec<TraceRequest>,
}

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Nothing in it.
    #[error("{file}: the trace is empty")]
    Empty {
        /// The file.
        file: String,
    },
}

impl Trace {
    /// The Mooncake conversation excerpt.
    pub fn builtin_mooncake() -> Trace {
        todo!()
    }
    /// The Azure conversation excerpt.
    pub fn builtin_azure() -> Trace {
        todo!()
    }
    /// Reads a file, CSV or JSONL by content.
    pub fn load(_path: &Path) -> Result<Trace, TraceError> {
        todo!()
    }
}
