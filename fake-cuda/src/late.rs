//! Makes stores of system scope visible later than their kernel ran, as a busy link to the host can.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::gpu::store_now;

pub struct LateStore {
    pub context: usize,
    pub address: u64,
    pub bytes: u32,
    pub value: u64,
}

/// One thread, started with the first late store, that performs all of them in turn.
pub struct LateStores {
    /// How late; 0 = at once, by the kernel itself.
    pub late_ns: AtomicU64,
    queue: OnceLock<Sender<(Instant, LateStore)>>,
}

impl LateStores {
    pub const fn new() -> LateStores {
        LateStores { late_ns: AtomicU64::new(0), queue: OnceLock::new() }
    }

    /// How late stores are now.
    pub fn delay(&self) -> Option<Duration> {
        // Relaxed: a knob that nothing else depends on.
        match self.late_ns.load(Ordering::Relaxed) {
            0 => None,
            late_ns => Some(Duration::from_nanos(late_ns)),
        }
    }

    pub fn post(&self, delay: Duration, store: LateStore) {
        let queue = self.queue.get_or_init(|| {
            let (queue, stores) = channel();
            std::thread::Builder::new()
                .name("fake-cuda-late".to_owned())
                .spawn(move || perform(&stores))
                .expect("the system has a thread to spare");
            queue
        });
        // The thread never ends, so its end of the queue is there.
        let _ = queue.send((Instant::now() + delay, store));
    }
}

fn perform(stores: &Receiver<(Instant, LateStore)>) {
    for (due, store) in stores {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // An error means that the memory has gone in the meantime, and the store with it.
        let _ = store_now(store.context, store.address, store.bytes, store.value);
    }
}
