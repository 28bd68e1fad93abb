//! A sequence emits at most once in a step.

use stepscope::{Recorder, Request, Shape, Time};

fn main() {
    let (mut rec, mut req) = (Recorder::disabled(), Request::empty());
    let open = rec.begin_step(Time::now(), Shape::default());
    let step = rec.end_step(open, Time::now());
    rec.tokens(&step, [(&mut req, 1), (&mut req, 1)])
}
