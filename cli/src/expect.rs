//! What `/metrics` has to say, from the engine's own record: the definitions, once more.
//!
//! The library closes each fact as it happens and keeps nothing. Here whole logs are read after the
//! fact, in plain integer arithmetic, so that both can only agree if both are right. Definitions:
//! `docs/definitions.md`.

use crate::book::{Book, Expected, ROUNDING};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use stepscope::catalog::{self, By, Id, Kind, Presence, labels};
use stepscope::{Outcome, Role, Time};
use stepscope_sim::truth::{
    RequestLog, Run, StepLog, Truth, phase_text, preempt_text, source_text,
};

/// Families that tell of the instrument and not of the engine, which cannot know them. Of the ring,
/// conservation is checked; the others are times of the exporter itself.
pub const OF_THE_INSTRUMENT: [Id; 6] = [
    Id::RingSamples,
    Id::RingDropped,
    Id::RingOccupancy,
    Id::AggregatorLag,
    Id::ScrapeTime,
    Id::ProcessStart,
];

/// Families of a device's monitor. A simulated device has a made-up one, whose numbers are nobody's
/// truth but one: how often the device died.
const OF_THE_MONITOR: [Id; 13] = [
    Id::GpuUtilization,
    Id::GpuMemoryUsed,
    Id::GpuMemoryTotal,
    Id::GpuTemperature,
    Id::GpuPower,
    Id::GpuPowerLimit,
    Id::GpuEnergy,
    Id::GpuClock,
    Id::GpuThrottle,
    Id::GpuEccUncorrected,
    Id::GpuPcieReplays,
    Id::GpuMemoryPreallocated,
    Id::GpuAllocFailures,
];

/// Families that tell how well a real device's clock is known, and of its faults. Not among them:
/// stamps that were lost or unclaimed, and jumps of the clock, which must not happen here.
const OF_A_REAL_DEVICE: [Id; 3] = [Id::ClockOffsetError, Id::ClockResolution, Id::GpuXid];

/// Queue depth as the engine knows it: by reason and by priority, not by both at once.
pub const QUEUE_BY_REASON: &str = "queue depth by reason";
/// See [`QUEUE_BY_REASON`].
pub const QUEUE_BY_PRIORITY: &str = "queue depth by priority";

/// `llm_tokens_per_second` looks this far back.
const RATE_WINDOW_NS: u64 = 10_000_000_000;
/// Its window begins at the last of points taken every 100 ms or so; a starved aggregate thread
/// takes them later.
const RATE_SLACK_NS: u64 = 2_000_000_000;
/// One in so many gaps of a request may be above the objective.
const SLOW_GAPS_ONE_IN: usize = 100;

/// When the scrape happened, on the worker's clock, and since when the worker was ready.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The worker was marked ready between these two.
    pub ready: [Time; 2],
    /// The answer was made between these two.
    pub scraped: [Time; 2],
}

/// Everything `/metrics` has to say about a worker of which this is the truth.
pub fn expect(truth: &Truth, moment: Moment, is_device_real: bool) -> Book {
    let mut book = Book::new(&truth.run.model, &truth.run.worker_id);
    book.unknown = OF_THE_INSTRUMENT.to_vec();
    book.unknown.extend(OF_THE_MONITOR);
    if is_device_real {
        book.unknown.extend(OF_A_REAL_DEVICE)
    } else {
        let device = [&*truth.run.gpu_id, &*truth.run.node];
        for class in labels::XID_CLASS {
            book.count(Id::GpuXid, &device, &[class]);
        }
        *book.count(Id::GpuXid, &device, &labels::XID_CLASS[..1]) = truth.end.faults
    }
    known_from_the_start(&mut book, truth);
    for request in &truth.requests {
        waits(&mut book, request);
        evictions(&mut book, request);
        tokens(&mut book, request, &truth.run);
        live_counts(&mut book, request);
        if let Some((end, outcome)) = request.end {
            ended(&mut book, request, end, outcome);
            objectives(&mut book, request, end, outcome, &truth.run)
        }
    }
    for log in &truth.steps {
        step(&mut book, log, &truth.run)
    }
    levels(&mut book, truth);
    rate(&mut book, truth, moment);
    step_age(&mut book, truth, moment);
    book
}

/// Families that are there at 0 before anything happens: `rate()` cannot see a jump from absent.
fn known_from_the_start(book: &mut Book, truth: &Truth) {
    let endpoints: BTreeSet<_> = truth.requests.iter().map(|r| vec![r.endpoint]).collect();
    let classes: BTreeSet<_> =
        truth.requests.iter().map(|r| vec![r.endpoint, r.priority]).collect();
    let mut priorities: BTreeSet<_> = truth.requests.iter().map(|r| vec![r.priority]).collect();
    priorities.insert(vec![labels::DEFAULT_PRIORITY]);
    let nothing = BTreeSet::from([vec![]]);
    for row in catalog::ROWS.iter().filter(|row| row.presence == Presence::Always) {
        let open_values = match row.by {
            By::Process => &nothing,
            By::Endpoint => &endpoints,
            By::Class => &classes,
            By::Priority => &priorities,
            _ => continue,
        };
        let split: Vec<&str> = row.split.iter().map(|label| label.values[0]).collect();
        for open in open_values {
            match row.kind {
                _ if OF_THE_INSTRUMENT.contains(&row.id) => {}
                Kind::Histogram(_) => _ = book.samples(row.id, open, &split),
                Kind::Counter => _ = book.count(row.id, open, &split),
                Kind::Gauge | Kind::Info => {}
            }
        }
    }
}

fn waits(book: &mut Book, r: &RequestLog) {
    let Some(enq) = r.enq else { return };
    book.samples(Id::Admission, &[], &[]).add(enq - r.recv);
    // The first wait only; a request that ended in the queue waited until then.
    let until = r.sched.first().copied().or(r.end.map(|(end, _)| end));
    if let Some(until) = until {
        book.samples(Id::Queue, &[r.priority], &[]).add(until - enq)
    }
}

fn evictions(book: &mut Book, r: &RequestLog) {
    let end = r.end.map(|(end, _)| end);
    for (i, &(at, why)) in r.evict.iter().enumerate() {
        *book.count(Id::Preemptions, &[], &[preempt_text(why)]) += 1;
        if let Some(back) = r.sched.get(i + 1).copied().or(end) {
            book.samples(Id::Requeue, &[], &[]).add(back - at)
        }
        // A token of the same moment came before: it was made in the step that ended with it.
        let token = r.tok.iter().map(|(t, _)| *t).find(|t| *t > at);
        let again = r.evict.get(i + 1).map(|(t, _)| *t);
        if let Some(stop) = [token, again, end].into_iter().flatten().min() {
            book.samples(Id::PreemptionStall, &[], &[]).add(stop - at)
        }
    }
}

fn tokens(book: &mut Book, r: &RequestLog, run: &Run) {
    // A prefill worker never reports a user's TTFT.
    let is_user_facing = run.role != Role::Prefill;
    if let (Some(emit), true) = (r.emit, is_user_facing) {
        book.samples(Id::TtftUser, &[r.endpoint], &[]).add(emit - r.recv)
    }
    let Some(&(first, _)) = r.tok.first() else { return };
    if let Some(admitted) = r.sched.first() {
        book.samples(Id::Prefill, &[], &[]).add(first - admitted)
    }
    if is_user_facing {
        book.samples(Id::Ttft, &[r.endpoint, r.priority], &[]).add(first - r.recv);
        // This engine leaves no verb out, so the parts add up.
        book.samples(Id::TtftResidual, &[], &[]).add(0)
    }
    let tbt = book.samples(Id::Tbt, &[r.endpoint], &[]);
    for gap in gaps(r) {
        tbt.add(gap)
    }
    let itl = book.samples(Id::Itl, &[r.endpoint], &[]);
    for (gap, (_, accepted)) in gaps(r).zip(&r.tok[1..]) {
        let accepted = u64::from(*accepted);
        itl.add_many(gap / accepted, accepted, gap)
    }
}

/// Times between a request's emissions.
fn gaps(r: &RequestLog) -> impl Iterator<Item = u64> {
    r.tok.windows(2).map(|pair| pair[1].0 - pair[0].0)
}

/// Counters that count while it happens: requests in flight are in them.
fn live_counts(book: &mut Book, r: &RequestLog) {
    *book.count(Id::RequestsAccepted, &[r.endpoint], &[]) += 1;
    *book.count(Id::GeneratedTokens, &[], &[]) += r.tokens();
    *book.count(Id::PromptTokens, &[], &["computed"]) += r.prompt_computed;
    *book.count(Id::PromptTokens, &[], &["cached"]) += r.prompt_cached;
    *book.count(Id::RecomputedTokens, &[], &[]) += r.recomputed;
    *book.count(Id::DiscardedTokens, &[], &["draft"]) += r.drafted - r.draft_accepted;
    *book.count(Id::DiscardedTokens, &[], &["stop_surplus"]) += r.stop_surplus;
    if r.drafted > 0 {
        *book.count(Id::DraftTokens, &[], &[]) += r.drafted;
        *book.count(Id::DraftAcceptedTokens, &[], &[]) += r.draft_accepted
    }
}

fn ended(book: &mut Book, r: &RequestLog, end: u64, outcome: Outcome) {
    let (status, error) = RequestLog::outcome_texts(outcome);
    *book.count(Id::Requests, &[r.endpoint], &[status]) += 1;
    book.samples(Id::RequestDuration, &[r.endpoint], &[status]).add(end - r.recv);
    if let Some(error) = error {
        *book.count(Id::Errors, &[r.endpoint], &[error]) += 1
    }
    if !r.sched.is_empty() {
        book.samples(Id::RequestPreemptions, &[], &[]).add(r.evict.len() as u64)
    }
    let (Some(&(first, _)), Some(&(last, _))) = (r.tok.first(), r.tok.last()) else { return };
    book.samples(Id::Decode, &[], &[]).add(last - first);
    book.samples(Id::EmitDelay, &[], &[]).add(end - last);
    match outcome {
        Outcome::Stop | Outcome::Length => answered(book, r, last - first),
        Outcome::Aborted => *book.count(Id::DiscardedTokens, &[], &["aborted"]) += r.tokens(),
        _ => {}
    }
}

/// What only a request that got its whole answer has.
fn answered(book: &mut Book, r: &RequestLog, decode: u64) {
    let (prompt, tokens) = (r.prompt_computed + r.prompt_cached, r.tokens());
    book.samples(Id::RequestGeneratedTokens, &[], &[]).add(tokens);
    if prompt > 0 {
        book.samples(Id::RequestPromptTokens, &[], &[]).add(prompt)
    }
    // A one-token answer has no time per output token: no sample, never 0.
    if tokens >= 2 && decode > 0 {
        book.samples(Id::Tpot, &[r.endpoint], &[]).add(decode / (tokens - 1))
    }
}

fn objectives(book: &mut Book, r: &RequestLog, end: u64, outcome: Outcome, run: &Run) {
    // Neither a prefill worker nor a hand-over is the end of a user's request.
    if run.role == Role::Prefill || outcome == Outcome::Handover {
        return;
    }
    let mut judge = |objective: &str, good: bool| {
        let good = labels::GOOD[usize::from(good)];
        *book.count(Id::SloEvents, &[], &[objective, good]) += 1
    };
    match RequestLog::outcome_texts(outcome) {
        ("stop" | "length", _) => judge("availability", true),
        ("failed" | "rejected", Some(error)) if error != "input" => judge("availability", false),
        _ => {}
    }
    match r.tok.first() {
        Some((first, _)) => judge("ttft", first - r.recv <= run.ttft_objective_ns),
        None if end - r.recv > run.ttft_objective_ns => judge("ttft", false),
        None => {}
    }
    let slow = gaps(r).filter(|gap| *gap > run.tbt_objective_ns).count();
    match gaps(r).count() {
        0 => {}
        gaps => judge("tbt", slow * SLOW_GAPS_ONE_IN <= gaps),
    }
    if r.tok.is_empty() {
        let reason = match RequestLog::outcome_texts(outcome).0 {
            "stop" | "length" => "empty",
            status => status,
        };
        *book.count(Id::NoFirstToken, &[], &[reason]) += 1
    }
}

fn step(book: &mut Book, s: &StepLog, run: &Run) {
    let device = [&*run.gpu_id, &*run.node];
    let phase = phase_text(s.phase);
    *book.count(Id::StepSource, &[], &[source_text(s.source)]) += 1;
    book.samples(Id::StepSequences, &[], &[]).add(s.sequences.into());
    match s.gpu_ns {
        Some(ns) => book.samples(Id::StepGpu, &device, &[phase]).add_within(ns),
        None => book.samples(Id::StepHost, &[], &[phase]).add(s.processed - s.begin),
    }
    if let Some(ns) = s.idle_before_ns {
        let work = labels::WORK[usize::from(s.work)];
        book.samples(Id::GpuGap, &device, &[work]).add_within(ns)
    }
    if s.kv_usable > 0 {
        // Stored in ppm, rounded up, so that a share above a bound never lands below it.
        let ppm = (u64::from(s.kv_referenced) * 1_000_000).div_ceil(s.kv_usable.into());
        book.samples(Id::KvStepUtilization, &[labels::DEFAULT_POOL], &[]).add(ppm)
    }
}

fn levels(book: &mut Book, truth: &Truth) {
    let (run, end, pool) = (&truth.run, &truth.end, labels::DEFAULT_POOL);
    let info = [&*run.engine_version, labels::ROLE[run.role as usize], &*run.engine];
    *book.count(Id::WorkerInfo, &info, &[]) = 1;
    let in_flight = || truth.requests.iter().filter(|r| r.end.is_none());
    let is_running = |r: &&RequestLog| r.sched.len() > r.evict.len();
    *book.count(Id::RequestsInFlight, &[], &[]) = in_flight().count() as u64;
    *book.count(Id::RequestsRunning, &[], &[]) = in_flight().filter(is_running).count() as u64;
    *book.count(Id::BatchSize, &[], &[]) = end.batch;
    queue(book, truth, in_flight().filter(|r| !is_running(r)));
    if end.kv_usable == 0 {
        return;
    }
    let free = end.kv_usable - end.kv_referenced - end.kv_cached;
    for (state, blocks) in
        [("referenced", end.kv_referenced), ("cached", end.kv_cached), ("free", free)]
    {
        *book.count(Id::KvBlocks, &[pool], &[state]) = blocks
    }
    let share = Expected::ratio(end.kv_referenced, end.kv_usable);
    book.set(Id::KvUtilization, &[&run.gpu_id, pool], share);
    if end.kv_referenced > 0 {
        let slots = end.kv_referenced * u64::from(run.kv_block_tokens);
        book.set(Id::KvSlotUsage, &[pool], Expected::ratio(end.kv_slots_used, slots))
    }
}

fn queue<'a>(book: &mut Book, truth: &Truth, waiting: impl Iterator<Item = &'a RequestLog>) {
    let mut by_reason: BTreeMap<&str, u64> = labels::WAIT.iter().map(|why| (*why, 0)).collect();
    for (reason, n) in &truth.end.queue {
        *by_reason.entry(reason).or_default() += n
    }
    for (reason, n) in by_reason {
        book.derive(QUEUE_BY_REASON, Some(("reason", reason)), Expected::count(n))
    }
    let mut by_priority = BTreeMap::from([(labels::DEFAULT_PRIORITY, 0)]);
    for request in waiting {
        *by_priority.entry(request.priority).or_default() += 1
    }
    for (priority, n) in by_priority {
        book.derive(QUEUE_BY_PRIORITY, Some(("priority", priority)), Expected::count(n))
    }
}

/// `llm_tokens_per_second`: its window begins somewhere between two moments, and so it lies between
/// two numbers.
fn rate(book: &mut Book, truth: &Truth, moment: Moment) {
    // A token counts when its step's output is processed, and bears the time of the step's end.
    let processed: HashMap<u64, u64> = truth.steps.iter().map(|s| (s.end, s.processed)).collect();
    let since = |window_ns: u64, at: Time| -> f64 {
        let begin = at.as_nanos().saturating_sub(window_ns);
        let emissions = truth.requests.iter().flat_map(|r| &r.tok);
        let inside = emissions.filter(|(t, _)| processed.get(t).is_none_or(|at| *at > begin));
        inside.map(|(_, accepted)| f64::from(*accepted)).sum()
    };
    let seconds = RATE_WINDOW_NS as f64 * 1e-9;
    let [earliest, latest] = moment.scraped;
    let least = since(RATE_WINDOW_NS, latest) / seconds;
    let most = since(RATE_WINDOW_NS + RATE_SLACK_NS, earliest) / seconds;
    let level = Expected::near(least, most - least + least * ROUNDING);
    book.set(Id::TokensPerSecond, &[], level)
}

/// The heartbeat: the age of the last step, or of being ready before there was one.
fn step_age(book: &mut Book, truth: &Truth, moment: Moment) {
    let [ready, surely_ready] = moment.ready;
    let last = truth.steps.iter().map(|s| Time::from_nanos(s.processed)).max();
    let (from, to) = (last.unwrap_or(ready), last.unwrap_or(surely_ready));
    let oldest = moment.scraped[1].seconds_since(from);
    let mut youngest = moment.scraped[0].seconds_since(to);
    if truth.is_running_on {
        // The stamps' own thread sees a step end before the engine does.
        youngest = 0.0
    }
    let (middle, half) = ((oldest + youngest) / 2.0, (oldest - youngest) / 2.0);
    let device = [&*truth.run.gpu_id, &*truth.run.node];
    book.set(Id::LastStepAge, &device, Expected::near(middle, half + middle * ROUNDING))
}

#[cfg(test)]
mod tests;
