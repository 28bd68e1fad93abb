//! A worker that serves made-up requests: on a manual clock for exact numbers, on the real one for
//! outsiders who look at their own.

use super::http::{Answer, get};
use std::net::SocketAddr;
use std::time::Duration;
use stepscope::{
    Class, Clock, Config, Launch, ManualClock, Outcome, Pool, Preempt, Recorder, RecorderOptions,
    Request, Series, Settled, Shape, StepClock, StepSource, Stepscope, Ticket, Time, Wait,
};

pub const MS: u64 = 1_000_000;
/// Where manual clocks stand at the start.
pub const START_MS: u64 = 1_000;
/// A decode step of one sequence.
pub const DECODE: Shape = Shape { prefills: 0, prefill_tokens: 0, decodes: 1 };

/// A point of a manual clock.
pub fn at(ms: u64) -> Time {
    Time::from_nanos(ms * MS)
}

pub fn later(time: Time, ms: u64) -> Time {
    time.after(Duration::from_millis(ms))
}

/// Real time, so long ago.
pub fn ago(ms: u64) -> Time {
    Time::from_nanos(Time::now().as_nanos() - ms * MS)
}

/// On the real clock, at a port of the system's choice.
pub fn live_config() -> Config {
    Config {
        model: "test".into(),
        worker_id: "w0".into(),
        listen: "127.0.0.1:0".parse().ok(),
        kv_block_tokens: Some(16),
        ..Config::default()
    }
}

/// On a clock that the test moves.
pub fn manual_config() -> Config {
    Config { clock: Clock::Manual(ManualClock::new(at(START_MS))), ..live_config() }
}

pub struct Worker {
    pub scope: Stepscope,
    pub rec: Recorder,
    pub chat: Series,
    pub batch: Series,
    /// Recorders whose levels must stay: they go with their recorder.
    others: Vec<Recorder>,
    next_id: u64,
}

impl Worker {
    pub fn start(config: Config) -> Worker {
        let batch = Class::endpoint("completions").priority("batch");
        Worker::serving(config, Class::endpoint("chat"), batch)
    }

    pub fn serving(config: Config, chat: Class, batch: Class) -> Worker {
        let scope = Stepscope::start(config).unwrap();
        let chat = scope.series(chat);
        let batch = scope.series(batch);
        let rec = scope.recorder("engine");
        Worker { scope, rec, chat, batch, others: vec![], next_id: 1 }
    }

    /// On a manual clock at 1 s: twenty answered requests, four of them slow, clock at 30 s.
    pub fn with_traffic(config: Config) -> Worker {
        let mut worker = Worker::start(config);
        for n in 0..20 {
            let series = if n % 3 == 0 { worker.batch } else { worker.chat };
            let first_ms = if n % 5 == 0 { 5_500 } else { 40 + n };
            worker.answer(series, at(START_MS + n * 1_000), first_ms)
        }
        worker.scope.advance(at(30_000));
        worker
    }

    pub fn addr(&self) -> SocketAddr {
        self.scope.local_addr().expect("a listener")
    }

    pub fn get(&self, path: &str) -> Answer {
        get(self.addr(), path, &[])
    }

    /// /metrics in the old text format.
    pub fn text(&self) -> String {
        self.get("/metrics").text()
    }

    pub fn openmetrics(&self) -> Answer {
        get(self.addr(), "/metrics", &["Accept: application/openmetrics-text;version=1.0.0"])
    }

    pub fn arrive(&mut self, series: Series, time: Time) -> Request {
        self.next_id += 1;
        self.rec.arrive(series, self.next_id, time)
    }

    /// A request in the scheduler's hands and admitted, 2 ms after it came.
    pub fn running(&mut self, series: Series, received: Time) -> Request {
        let mut req = self.arrive(series, received);
        self.rec.enqueue(&mut req, later(received, 1));
        self.rec.schedule(&mut req, later(received, 2), 16, 0);
        self.rec.prefill(&mut req, 100);
        req
    }

    /// One step that yields one token of this request.
    pub fn step(&mut self, req: &mut Request, begin: Time, end: Time) {
        let open = self.rec.begin_step(begin, DECODE);
        let step = self.rec.end_step(open, end);
        self.rec.tokens(&step, [(req, 1)])
    }

    /// One request of three tokens: the first after `first_ms`, then a gap of 20 ms and a slow one
    /// of 130 ms. It ends 151 ms after its first token.
    pub fn answer(&mut self, series: Series, received: Time, first_ms: u64) {
        let mut req = self.running(series, received);
        for (begin, end) in [(2, 0), (0, 20), (20, 150)] {
            let begin = if end == 0 { begin } else { first_ms + begin };
            self.step(&mut req, later(received, begin), later(received, first_ms + end));
            self.rec.kv(Pool::KV, 9, 3, 100, 130)
        }
        self.rec.finish(req, later(received, first_ms + 151), Outcome::Stop)
    }

    /// An answered request that ended just now, on the real clock.
    pub fn answer_now(&mut self, first_ms: u64) {
        self.answer(self.chat, ago(first_ms + 152), first_ms)
    }

    /// Something for every family that this build can feed: device stamps, two devices, two pools,
    /// speculation, preemption, a queue by reason, a transport, a cut label.
    pub fn feed_everything(&mut self, from: Time) {
        let mut second = self.scope.recorder_with(RecorderOptions::new("rank1").gpu_id("1"));
        second.set_lane(Device { stamped: false });
        std::mem::swap(&mut self.rec, &mut second);
        let pool = self.scope.pool("ssm");
        let mut req = self.running(self.chat, from);
        let mut stream = req.stream();
        for step in 1..=4 {
            self.step(&mut req, later(from, step * 20), later(from, step * 20 + 10));
            self.rec.emitted(&mut stream, later(from, step * 20 + 11))
        }
        self.rec.spec(&req, 4, 2);
        self.rec.preempt(&mut req, later(from, 100), Preempt::Memory);
        self.rec.schedule(&mut req, later(from, 110), 0, 0);
        self.step(&mut req, later(from, 120), later(from, 130));
        self.rec.kv(Pool::KV, 10, 5, 50, 150);
        self.rec.kv(pool, 1, 0, 8, 1);
        self.rec.queue(Wait::Lora, self.batch.priority(), 0);
        self.rec.finish(req, later(from, 140), Outcome::Length);
        self.scope.series(Class::endpoint("long ".repeat(100)));
        std::mem::swap(&mut self.rec, &mut second);
        self.others.push(second)
    }
}

/// A simulated device whose every second step has a stamp.
pub struct Device {
    pub stamped: bool,
}

impl StepClock for Device {
    fn begin(&mut self, at: Time, _: Shape) -> Ticket {
        Ticket([at.as_nanos(), 0, 0, 0, 0, 0, 0])
    }

    fn end(&mut self, _: &mut Ticket, _: Launch) {}

    fn settle(&mut self, ticket: Ticket) -> Settled {
        self.stamped = !self.stamped;
        if !self.stamped {
            return Settled::Lost;
        }
        let end = Time::from_nanos(ticket.0[0] + 9 * MS);
        Settled::Done { end, gpu_ns: 8 * MS, idle_before_ns: Some(MS) }
    }

    fn abandon(&mut self, _: Ticket) {}

    fn source(&self) -> StepSource {
        StepSource::Simulated
    }
}
