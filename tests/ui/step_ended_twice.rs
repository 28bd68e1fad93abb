//! A step ends once.

use stepscope::{Recorder, Shape, Time};

fn main() {
    let mut rec = Recorder::disabled();
    let open = rec.begin_step(Time::now(), Shape::default());
    rec.end_step(open, Time::now());
    rec.abandon(open)
}
