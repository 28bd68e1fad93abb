//! Single facts, each in a sentence, where a reader looks for one.

mod misuse;
mod requests;
mod steps;

use super::harness::Scope;
use crate::record::step::Shape;
use crate::record::words::{Outcome, Role};
use crate::record::{Recorder, Request, Time};

const ONE_DECODE: Shape = Shape { prefills: 0, prefill_tokens: 0, decodes: 1 };

/// A scope with one recorder whose ring loses nothing.
fn scope_of(role: Role) -> (Scope, Recorder) {
    let mut scope = Scope::new(role);
    let rec = scope.recorder(1 << 14);
    (scope, rec)
}

fn scope() -> (Scope, Recorder) {
    scope_of(Role::Both)
}

/// The same token count for a whole batch.
fn all(reqs: &mut [Request], accepted: u32) -> impl Iterator<Item = (&mut Request, u32)> {
    reqs.iter_mut().map(move |req| (req, accepted))
}

fn finish_all(rec: &mut Recorder, reqs: impl IntoIterator<Item = Request>, ns: u64) {
    for req in reqs {
        rec.finish(req, Time(ns), Outcome::Stop)
    }
}
