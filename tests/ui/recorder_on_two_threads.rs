//! A recorder belongs to one thread at a time: it can be sent, not shared.

use stepscope::Recorder;

fn main() {
    let rec = Recorder::disabled();
    std::thread::scope(|threads| {
        threads.spawn(|| println!("{rec:?}"));
        println!("{rec:?}")
    })
}
