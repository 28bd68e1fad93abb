//! What several benches share: the batches they measure, the recorders of others, how rounds of all are
//! interleaved, and where results go.

mod c;
pub mod callgrind;
mod cases;
mod python;
mod report;
mod rounds;

pub use c::CBench;
pub use cases::{Bench, CASES, Case, RING_EVENTS, equal, odd, quiet_scope, recorder};
pub use python::Python;
pub use report::{arguments, is_smoke, median, save};
pub use rounds::{Subject, interleave, measured_loop};
