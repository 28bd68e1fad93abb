//! The two readers of the alerts agree: one random stream of facts feeds a Stepscope on a set clock,
//! which judges itself, and as scrapes a real promtool with the derived rules. At every common tick
//! the conditions of every alert that a process can know must hold for both or for neither.

use super::Site;
use super::history::{EVERY_S, Expectation, History, which};
use super::rules;
use std::collections::BTreeSet;
use std::process::Command;
use stepscope::catalog::alerts::ALERTS;
use stepscope::catalog::signal::Reader;
use stepscope::health::Phase;
use stepscope::{
    Class, Clock, Config, Device, ErrorType, ManualClock, Outcome, Pool, Preempt, Reading,
    Recorder, Request, Series, Settled, Shape, StepClock, StepSource, Stepscope, Tally, Ticket,
    Time, Wait,
};

/// Rules are evaluated every 15 s and rows closed every 10 s: both at these.
const TICK_S: u64 = 30;
const RUN_S: u64 = 1_800;
/// Histograms that appear with their first samples are extrapolated by a server, each on its own, until
/// they are as old as the longest window of a ratio.
const YOUNG_S: u64 = 330;
/// Memory of each device, and what the engine took of it.
const MEMORY_BYTES: f64 = 80e9;
const OWN_BYTES: [f64; 2] = [60e9, 0.0];
const MS: u64 = 1_000_000;

/// A small generator, so that a seed repeats a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// Steps with a device time and a gap before them, as the stream wants them.
struct Stamps {
    gap_ns: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl StepClock for Stamps {
    fn begin(&mut self, at: Time, _: Shape) -> Ticket {
        Ticket([at.as_nanos(), 0, 0, 0, 0, 0, 0])
    }

    fn end(&mut self, _: &mut Ticket, _: stepscope::Launch) {}

    fn settle(&mut self, ticket: Ticket) -> Settled {
        let gap = self.gap_ns.load(std::sync::atomic::Ordering::Relaxed);
        let end = Time::from_nanos(ticket.0[0] + 10 * MS);
        Settled::Done { end, gpu_ns: 10 * MS, idle_before_ns: Some(gap) }
    }

    fn abandon(&mut self, _: Ticket) {}

    fn source(&self) -> StepSource {
        StepSource::Simulated
    }
}

/// What is wrong now; each wanders on its own between fine and far above every limit.
#[derive(Default)]
struct Mood {
    /// One first token in so many is slow, one gap in so many, one request in so many fails.
    slow_first: u64,
    slow_gap: u64,
    fails: u64,
    preempts: u64,
    referenced: u32,
    waiting: u32,
    gap_ms: u64,
    /// By device.
    memory: [f64; 2],
    throttle_ms: [u64; 2],
    stops: bool,
}

impl Mood {
    fn draw(random: &mut Random) -> Mood {
        let mut pick = |choices: &[u64]| choices[random.below(choices.len() as u64) as usize];
        Mood {
            slow_first: pick(&[1_000_000, 150, 90, 20]),
            slow_gap: pick(&[1_000_000, 150, 90, 20]),
            fails: pick(&[1_000_000, 110, 60, 15]),
            preempts: pick(&[1_000_000, 1_000_000, 12, 3]),
            referenced: pick(&[400, 840, 860, 940, 960, 1_000]) as u32,
            waiting: pick(&[0, 0, 40, 60, 190, 260]) as u32,
            gap_ms: pick(&[0, 2, 4, 6, 20]),
            memory: [0; 2].map(|_| pick(&[90, 94, 96, 99]) as f64 / 100.0),
            throttle_ms: [0; 2].map(|_| pick(&[0, 0, 70, 90, 110, 400])),
            stops: pick(&[0, 0, 0, 0, 1]) == 1,
        }
    }
}

struct Worker {
    scope: Stepscope,
    recorder: Recorder,
    devices: [Device; 2],
    chat: Series,
    gap_ns: std::sync::Arc<std::sync::atomic::AtomicU64>,
    random: Random,
    mood: Mood,
    ids: u64,
    /// Keeps something in flight, so that a stop is a stall.
    held: Option<Request>,
}

impl Worker {
    fn start(seed: u64) -> Worker {
        let clock = Clock::Manual(ManualClock::new(Time::from_nanos(1_000_000_000)));
        let config = Config {
            model: "m".into(),
            worker_id: "w0".into(),
            node: "n0".into(),
            listen: None,
            clock,
            ..Config::default()
        };
        let scope = Stepscope::start(config).unwrap();
        let chat = scope.series(Class::endpoint("chat"));
        let mut recorder = scope.recorder("engine");
        let gap_ns = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        recorder.set_lane(Stamps { gap_ns: gap_ns.clone() });
        let devices = ["0", "1"].map(|gpu_id| scope.device(gpu_id));
        for (device, own) in devices.iter().zip(OWN_BYTES) {
            for tally in [Tally::ThrottleThermal, Tally::AllocFailures, Tally::XidFatal] {
                device.add(tally, 0)
            }
            device.set(Reading::MemoryTotal, MEMORY_BYTES);
            device.set(Reading::MemoryPreallocated, own)
        }
        scope.mark_ready();
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mood = Mood::draw(&mut random);
        Worker { scope, recorder, devices, chat, gap_ns, random, mood, ids: 0, held: None }
    }

    /// One second of life that begins at `second`.
    fn live(&mut self, second: u64) {
        let at = |ms: u64| Time::from_nanos((1 + second) * 1_000_000_000 + ms * MS);
        if self.random.chance(45) {
            self.mood = Mood::draw(&mut self.random)
        }
        if self.held.is_none() {
            self.held = Some(self.arrive(at(0)))
        }
        self.levels();
        if self.mood.stops {
            return;
        }
        for n in 0..6 {
            self.request(second, n)
        }
    }

    fn arrive(&mut self, at: Time) -> Request {
        self.ids += 1;
        let mut request = self.recorder.arrive(self.chat, self.ids, at);
        self.recorder.enqueue(&mut request, at);
        self.recorder.schedule(&mut request, at, 0, 0);
        request
    }

    fn levels(&mut self) {
        let Mood { referenced, waiting, memory, throttle_ms, gap_ms, .. } = self.mood;
        self.recorder.kv(Pool::KV, referenced, 0, 1_000, u32::from(referenced > 0));
        self.recorder.queue(Wait::Capacity, self.chat.priority(), waiting);
        for (n, device) in self.devices.iter().enumerate() {
            let room = MEMORY_BYTES - OWN_BYTES[n];
            device.set(Reading::MemoryUsed, OWN_BYTES[n] + room * memory[n]);
            device.add(Tally::ThrottleThermal, throttle_ms[n] * MS)
        }
        self.gap_ns.store(gap_ms * MS, std::sync::atomic::Ordering::Relaxed)
    }

    /// A request that lives within its second, told as if slow times had begun earlier.
    fn request(&mut self, second: u64, n: u64) {
        let at = |ms: u64| Time::from_nanos((1 + second) * 1_000_000_000 + (n * 150 + ms) * MS);
        let slow_first = self.random.chance(self.mood.slow_first);
        let waited_s = if slow_first { [3, 9][self.random.below(2) as usize] } else { 0 };
        let recv = Time::from_nanos(at(0).as_nanos().saturating_sub(waited_s * 1_000_000_000));
        let mut request = self.arrive(recv);
        self.recorder.prefill(&mut request, 10);
        if self.random.chance(self.mood.preempts) {
            self.recorder.preempt(&mut request, at(1), Preempt::Memory);
            self.recorder.schedule(&mut request, at(2), 0, 0)
        }
        if self.random.chance(self.mood.fails) {
            let why = [ErrorType::Internal, ErrorType::Input][self.random.below(2) as usize];
            return self.recorder.finish(request, at(3), Outcome::Failed(why));
        }
        // A gap cannot lie outside of the second; a slow one is longer than both limits.
        let mut now = 5;
        for _ in 0..4 {
            let step = self.recorder.begin_step(at(now), Shape { decodes: 1, ..Shape::default() });
            let step = self.recorder.end_step(step, at(now + 10));
            self.recorder.tokens(&step, [(&mut request, 1)]);
            now += if self.random.chance(self.mood.slow_gap) { 100 } else { 12 }
        }
        self.recorder.finish(request, at(now + 11), Outcome::Stop)
    }
}

/// A number on its limit is above it or not by the last bit of a float: servers add and divide in
/// an order of their own. Such a moment is compared for all other alerts.
fn on_their_limits(scope: &Stepscope) -> BTreeSet<&'static str> {
    let standings = scope.alerts();
    standings.iter().filter(|s| s.on_limit).map(|standing| standing.alert.name).collect()
}

/// The alerts whose conditions hold, as the process knows them.
fn met(scope: &Stepscope) -> BTreeSet<&'static str> {
    let standings = scope.alerts();
    let holding = standings.iter().filter(|s| matches!(s.phase, Phase::Pending | Phase::Firing));
    holding.map(|standing| standing.alert.name).collect()
}

#[test]
fn both_readers_of_the_alerts_agree_on_random_streams() {
    let Ok(version) = Command::new("promtool").arg("--version").output() else {
        let required = std::env::var("STEPSCOPE_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
        assert!(!required, "promtool is missing and STEPSCOPE_REQUIRE_TOOLS=1");
        return println!("skipped: promtool is missing");
    };
    // Ranges of Prometheus 3 are open on the left: counts may differ by one scrape.
    let text = String::from_utf8_lossy(&[version.stdout, version.stderr].concat()).into_owned();
    if !text.contains("version 2.") {
        return println!("skipped: the exact comparison needs Prometheus 2, not {text}");
    }
    let known: BTreeSet<&str> =
        ALERTS.iter().filter(|a| a.reader() == Reader::Both).map(|a| a.name).collect();
    let site = Site { keep: false, ..Site::usual().unwrap() };
    let (mut compared, mut held) = (0, BTreeSet::new());
    for seed in 1..=3 {
        let mut worker = Worker::start(seed);
        let mut history = History::default();
        let mut expectations = vec![];
        let target = |scope: &Stepscope| [("w0:9464".to_string(), scope.snapshot())];
        history.take(&site, &target(&worker.scope));
        for second in 0..RUN_S {
            worker.live(second);
            worker.scope.advance(Time::from_nanos((2 + second) * 1_000_000_000));
            let elapsed = second + 1;
            if elapsed % u64::from(EVERY_S) == 0 {
                history.take(&site, &target(&worker.scope))
            }
            if elapsed % TICK_S == 0 && elapsed >= YOUNG_S {
                let ties = on_their_limits(&worker.scope);
                let asked: BTreeSet<&str> = known.difference(&ties).copied().collect();
                let alerts: BTreeSet<&str> =
                    met(&worker.scope).intersection(&asked).copied().collect();
                held.extend(alerts.iter().copied());
                compared += asked.len();
                let expr = which(&asked, "", None);
                expectations.push(Expectation { expr, at_s: elapsed, alerts })
            }
        }
        let folder = std::env::temp_dir().join(format!("stepscope-agree-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text = history.tests("rules.yml", &expectations);
        std::fs::write(folder.join("rules.yml"), rules::text(&site)).unwrap();
        std::fs::write(folder.join("history.yml"), text).unwrap();
        let run = Command::new("promtool")
            .args(["test", "rules", "history.yml"])
            .current_dir(&folder)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
        assert!(run.status.success(), "seed {seed}: {}", &said[..said.len().min(6_000)]);
        std::fs::remove_dir_all(&folder).unwrap()
    }
    println!("{compared} verdicts compared; conditions that held at some time: {held:?}");
    assert!(compared > 3_000, "only {compared} verdicts were compared");
    // What never holds is compared too, and tells less.
    assert!(held.len() >= 14, "only {held:?} ever held")
}
