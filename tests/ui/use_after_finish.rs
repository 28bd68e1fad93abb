//! Ending a request consumes it.

use stepscope::{Outcome, Recorder, Request, Time};

fn main() {
    let (mut rec, req) = (Recorder::disabled(), Request::empty());
    rec.finish(req, Time::now(), Outcome::Stop);
    rec.finish(req, Time::now(), Outcome::Stop)
}
