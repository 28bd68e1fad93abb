//! The atomics of the protocols that loom explores; `tests/gpu_loom.rs` puts loom's in this place.

pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
