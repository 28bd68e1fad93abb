//! The owner: rings, names, totals, histograms and windows of one scope behind one door.

use super::distributions::Distributions;
use super::names::{Class, Names};
use super::pulse::Pulse;
use super::totals::{Counts, Source, Totals};
use super::window::{Frame, Windows};
use crate::clock::Clock;
use crate::config::Config;
use crate::judge::{Judge, Standing};
use crate::record::cells::{Cells, cell};
use crate::record::event::Event;
use crate::record::time::clock_id;
use crate::record::{
    Device, DeviceCells, Pool, Priority, Recorder, Series, Settings, Time, request,
};
use crate::snapshot::Labels;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Window of `llm_tokens_per_second`.
const RATE_NS: u64 = 10_000_000_000;
/// Spacing of the points from which it is computed.
const RATE_STEP_NS: u64 = 100_000_000;

/// Next scope tag. Tags come round after 255 scopes; counts of dropped requests are taken relative
/// to what the tag had at the start.
static NEXT_TAG: AtomicU8 = AtomicU8::new(1);

/// One recorder as the aggregator holds it.
pub(super) struct Feed {
    ring: rtrb::Consumer<Event>,
    cells: Arc<Cells>,
    pub(super) device: u16,
}

/// What a recorder is made with.
#[derive(Clone, Debug)]
pub struct RecorderOptions {
    name: String,
    gpu_id: Option<String>,
    ring_events: Option<usize>,
}

impl RecorderOptions {
    /// A recorder for the thread of this name.
    pub fn new(name: impl Into<String>) -> RecorderOptions {
        RecorderOptions { name: name.into(), gpu_id: None, ring_events: None }
    }

    /// The device whose steps and KV blocks this recorder reports.
    pub fn gpu_id(self, gpu_id: impl Into<String>) -> RecorderOptions {
        RecorderOptions { gpu_id: Some(gpu_id.into()), ..self }
    }

    /// Events its ring holds, instead of `Config::ring_events`; at least 1.
    pub fn ring_events(self, events: usize) -> RecorderOptions {
        RecorderOptions { ring_events: Some(events), ..self }
    }
}

pub(crate) struct Aggregator {
    pub(super) config: Config,
    pub(super) scope: u8,
    pub(super) clock_id: u32,
    pub(super) dropped_before: [u64; 3],
    pub(super) names: Names,
    pub(super) feeds: Vec<Feed>,
    /// By device, as `Names` numbers them.
    pub(super) devices: Vec<Arc<DeviceCells>>,
    pub(super) retired: Counts,
    pub(super) distributions: Distributions,
    pub(super) windows: Windows,
    /// How the alerts of this process stand.
    pub(super) judge: Judge,
    /// (time, generated tokens), at least `RATE_STEP_NS` apart, `RATE_NS` back.
    pub(super) generated: VecDeque<(Time, u64)>,
    /// Fill of the fullest ring at the last drain, 0..1.
    pub(super) occupancy: f64,
    pub(super) labels: HashMap<(u16, usize), Arc<Labels>>,
    pub(super) started_at: Time,
    pub(super) started: SystemTime,
    /// Since the epoch; `None` where the system does not tell.
    pub(super) process_started: Option<Duration>,
    pub(super) pulse: Arc<Pulse>,
}

impl Aggregator {
    pub(crate) fn new(config: &Config, now: Time, pulse: Arc<Pulse>) -> Aggregator {
        let scope = match NEXT_TAG.fetch_add(1, Ordering::Relaxed) {
            // 0 is the tag of empty slots.
            0 => NEXT_TAG.fetch_add(1, Ordering::Relaxed),
            tag => tag,
        };
        let names = Names::new(config);
        let dropped_before = request::dropped(scope);
        let distributions = Distributions::new(&names, config.native_histograms);
        let devices: Vec<Arc<DeviceCells>> = (0..names.devices()).map(|_| Arc::default()).collect();
        devices.iter().for_each(|device| pulse.watch(device));
        let retired = Counts::default();
        let none = std::iter::empty::<Source<'_>>();
        let totals = Totals::read(&retired, none, &names, scope, dropped_before);
        let windows = Windows::new(Frame::take(now, &totals, &distributions));
        pulse.belongs_to(scope, dropped_before);
        pulse.drained(now);
        let mut aggregator = Aggregator {
            config: config.clone(),
            scope,
            clock_id: clock_id(),
            dropped_before,
            names,
            feeds: vec![],
            devices,
            retired,
            distributions,
            windows,
            judge: Judge::new(config.limits.clone()),
            generated: VecDeque::from([(now, 0)]),
            occupancy: 0.0,
            labels: HashMap::new(),
            started_at: now,
            started: SystemTime::now(),
            process_started: process_started(),
            pulse,
        };
        let first = aggregator.sample(&totals, now);
        aggregator.judge.begin(first);
        aggregator
    }

    pub(crate) fn series(&mut self, class: &Class) -> Series {
        let series = self.names.series(class, self.scope);
        self.distributions.other_used |= series.index == 0;
        self.distributions.grow(&self.names);
        series
    }

    pub(crate) fn priority(&mut self, name: &str) -> Priority {
        let priority = self.names.priority(name);
        self.distributions.grow(&self.names);
        priority
    }

    pub(crate) fn pool(&mut self, name: &str) -> Pool {
        let pool = self.names.pool(name);
        self.distributions.grow(&self.names);
        pool
    }

    /// The cells of one GPU of this node, made when it is new.
    pub(crate) fn device(&mut self, gpu_id: &str) -> Device {
        let place = self.place(gpu_id);
        Device(self.devices[usize::from(place)].clone())
    }

    fn place(&mut self, gpu_id: &str) -> u16 {
        let place = self.names.device(gpu_id, &self.config.node.clone());
        while self.devices.len() < self.names.devices() {
            let cells = Arc::default();
            self.pulse.watch(&cells);
            self.devices.push(cells)
        }
        self.distributions.grow(&self.names);
        place
    }

    pub(crate) fn recorder(&mut self, options: RecorderOptions) -> Recorder {
        let device = options.gpu_id.as_ref().map_or(0, |gpu_id| self.place(gpu_id));
        let events = options.ring_events.unwrap_or(self.config.ring_events).max(1);
        let (producer, consumer) = rtrb::RingBuffer::new(events);
        let cells = Arc::new(Cells::new(self.config.series_max));
        tracing::debug!(name = options.name, events, "recorder made");
        self.pulse.add(&cells);
        self.feeds.push(Feed { ring: consumer, cells: cells.clone(), device });
        let settings = Settings {
            scope: self.scope,
            device,
            series_max: self.config.series_max,
            role: self.config.role,
            ttft_objective_ns: self.config.ttft_objective().as_nanos() as u64,
            tbt_objective_ns: self.config.tbt_objective().as_nanos() as u64,
            clock: self.clock_id,
        };
        Recorder::new(producer, cells, settings)
    }

    /// Empties every ring into the histograms. Says how full the fullest was, 0..1.
    pub(crate) fn drain(&mut self, now: Time) -> f64 {
        let seen = self.wall_clock();
        let mut fullest: f64 = 0.0;
        let distributions = &mut self.distributions;
        for feed in &mut self.feeds {
            let pending = feed.ring.slots();
            fullest = fullest.max(pending as f64 / feed.ring.buffer().capacity() as f64);
            let Ok(chunk) = feed.ring.read_chunk(pending) else { continue };
            let (front, back) = chunk.as_slices();
            for event in front.iter().chain(back) {
                distributions.take(event, seen)
            }
            chunk.commit_all()
        }
        self.occupancy = fullest;
        self.retire();
        self.sample_rate(now);
        fullest
    }

    /// A recorder that is gone and drained: its counters join the base, its levels are forgotten.
    fn retire(&mut self) {
        let classes = self.names.classes().len();
        let retired = &mut self.retired;
        let pulse = &self.pulse;
        self.feeds.retain(|feed| {
            if !feed.ring.is_abandoned() {
                return true;
            }
            // Pairs with the Release of the producer's end: its last writes are visible now.
            fence(Ordering::Acquire);
            let gone = feed.ring.is_empty();
            if gone {
                retired.retire(&feed.cells, feed.device, classes);
                pulse.remove(&feed.cells)
            }
            !gone
        })
    }

    fn sample_rate(&mut self, now: Time) {
        let newest = self.generated.back().map_or(Time::default(), |(at, _)| *at);
        if now.nanos_since(newest) < RATE_STEP_NS {
            return;
        }
        let total = self.totals().counts.sum(cell::GENERATED);
        self.generated.push_back((now, total));
        // The oldest one kept is the newest that is at least a window old.
        while self.generated.get(1).is_some_and(|(at, _)| now.nanos_since(*at) >= RATE_NS) {
            self.generated.pop_front();
        }
    }

    /// Tokens generated in the last 10 s, divided by 10.
    pub(super) fn tokens_per_second(&self, totals: &Totals) -> f64 {
        let total = totals.counts.sum(cell::GENERATED);
        let before = self.generated.front().map_or(0, |(_, tokens)| *tokens);
        (total - before) as f64 / (RATE_NS as f64 * 1e-9)
    }

    /// Closes every row that is over.
    pub(crate) fn close_rows(&mut self, now: Time) {
        while let Some(at) = self.windows.next_due(now) {
            let totals = self.totals();
            let frame = Frame::take(at, &totals, &self.distributions);
            self.windows.push(frame);
            let sample = self.sample(&totals, at);
            self.judge.close(sample);
            self.distributions.close_row()
        }
    }

    /// How the alerts of this process stand, as of the last closed row.
    pub(crate) fn standings(&self) -> &[Standing] {
        self.judge.standings()
    }

    /// Adds the time a scrape took, for the next one to report.
    pub(crate) fn scraped(&mut self, took: Duration) {
        self.distributions.scraped(took.as_nanos() as u64)
    }

    pub(super) fn totals(&self) -> Totals {
        let sources =
            self.feeds.iter().map(|feed| Source { cells: &feed.cells, device: feed.device });
        Totals::read(&self.retired, sources, &self.names, self.scope, self.dropped_before)
    }

    /// Time since the epoch, for exemplars; a simulated time has none.
    fn wall_clock(&self) -> Option<Duration> {
        match self.config.clock {
            Clock::Monotonic => SystemTime::now().duration_since(UNIX_EPOCH).ok(),
            Clock::Manual(_) => None,
        }
    }
}

/// Start of this process since the epoch, from `/proc`: boot time + start in clock ticks.
fn process_started() -> Option<Duration> {
    // Linux counts process times in ticks of 1/100 s on every architecture it shows them on.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name may hold spaces and parentheses: fields count from behind the last one.
    let start: f64 = stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()?;
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = system.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    Duration::try_from_secs_f64(boot + start / TICKS_PER_SECOND).ok()
}
