//! Joining a child consumes it.

use stepscope::{Recorder, Request, Time};

fn main() {
    let (mut rec, mut lead) = (Recorder::disabled(), Request::empty());
    let mut child = rec.fork(&mut lead);
    rec.join(&mut lead, child, Time::now(), None);
    rec.prefill(&mut child, 1)
}
