//! One thread per recorder: two cannot speak through it.

use stepscope::{Pool, Recorder};

fn main() {
    let mut rec = Recorder::disabled();
    std::thread::scope(|threads| {
        threads.spawn(|| rec.kv(Pool::KV, 1, 0, 10, 16));
        threads.spawn(|| rec.kv(Pool::KV, 2, 0, 10, 32));
    })
}
