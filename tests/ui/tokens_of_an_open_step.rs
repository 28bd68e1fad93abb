//! Only a step that ended has tokens.

use stepscope::{Recorder, Request, Shape, Time};

fn main() {
    let (mut rec, mut req) = (Recorder::disabled(), Request::empty());
    let open = rec.begin_step(Time::now(), Shape::default());
    rec.tokens(&open, [(&mut req, 1)]);
    rec.end_step(open, Time::now());
}
