//! From totals and histograms to a snapshot: which number goes into which row of the catalog.
//!
//! One function per part of the catalog; a child's number is (open value x closed values), as
//! `Names::labels` reads it back.

use super::aggregator::Aggregator;
use super::device;
use super::histogram::Series as HistogramSeries;
use super::totals::{Counts, Totals};
use super::window::Frame;
use crate::catalog::{self, By, Id, Kind, Presence, Row, labels};
use crate::record::Time;
use crate::record::cells::{POOLS_MAX, cell};
use crate::record::{ErrorType, Outcome};
use crate::snapshot::{Family, History, HistoryRow, Labels, Sampled, Snapshot, Value};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Rows that `History` shows: ten minutes.
const HISTORY_ROWS: usize = 60;

impl Aggregator {
    /// Everything, now. Drains first, so that what was recorded before is in it.
    pub(crate) fn snapshot(&mut self, now: Time) -> Snapshot {
        self.drain(now);
        self.close_rows(now);
        let totals = self.totals();
        self.distributions.other_used |= totals.counts.classes[0][cell::ACCEPTED] > 0;
        let families = catalog::ROWS
            .iter()
            .filter_map(|row| {
                let values = match row.kind {
                    Kind::Histogram(_) => self.histograms(row),
                    _ => self.values(row, &totals, now)?,
                };
                self.family(row, values)
            })
            .collect();
        let created = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        Snapshot { at: now, started: self.started_at, created, families }
    }

    /// Values by child number; `None` = nothing fed that child.
    fn family(&mut self, row: &'static Row, values: Vec<Option<Value>>) -> Option<Family> {
        let show_other = self.distributions.other_used;
        let mut series = Vec::with_capacity(values.len());
        for (child, value) in values.into_iter().enumerate() {
            let hidden = !show_other && self.names.is_other(row.by, child / row.split_len());
            if let (Some(value), false) = (value, hidden) {
                series.push(Sampled { labels: self.labels_of(row, child), value })
            }
        }
        (!series.is_empty()).then_some(Family { row, series })
    }

    pub(super) fn labels_of(&mut self, row: &'static Row, child: usize) -> Arc<Labels> {
        let names = &self.names;
        let labels = self.labels.entry((row.id as u16, child));
        labels.or_insert_with(|| Arc::new(names.labels(row, child))).clone()
    }

    fn histograms(&self, row: &'static Row) -> Vec<Option<Value>> {
        let native = self.distributions.keeps_native();
        let value = |series: &HistogramSeries| Value::Histogram(series.snapshot(row, native));
        self.shown_histograms(row).map(|shown| shown.map(value)).collect()
    }

    /// A histogram family's series by child; `None` = not known to exist.
    pub(super) fn shown_histograms(
        &self,
        row: &'static Row,
    ) -> impl Iterator<Item = Option<&HistogramSeries>> {
        let family = self.distributions.family(row.id);
        let shown = row.presence != Presence::WhenFed || family.fed;
        // Of an open set of devices or pools only those that were fed are known to exist.
        let only_fed = row.presence == Presence::WhenFed && row.by != By::Endpoint;
        let series = if shown { &family.series[..] } else { &[] };
        series.chunks(row.split_len()).flat_map(move |group| {
            let skip = only_fed && group.iter().all(|series| series.count() == 0);
            group.iter().map(move |series| (!skip).then_some(series))
        })
    }

    pub(super) fn values(
        &self,
        row: &Row,
        totals: &Totals,
        now: Time,
    ) -> Option<Vec<Option<Value>>> {
        let counts = &totals.counts;
        let int = |n: u64| Some(Value::Int(n));
        let one = |n: u64| vec![int(n)];
        let range =
            |first: usize, n: usize| (first..first + n).map(|c| int(counts.sum(c))).collect();
        Some(match row.id {
            Id::Requests => self.by_endpoint(counts, labels::STATUS.len(), Counts::by_status),
            Id::Errors => self.by_endpoint(counts, labels::ERROR_TYPE.len(), Counts::by_error),
            Id::RequestsAccepted => self.by_endpoint(counts, 1, |row, _| row[cell::ACCEPTED]),
            Id::RequestsInFlight => one(totals.in_flight),
            Id::NoFirstToken => range(cell::NO_FIRST, labels::NO_FIRST.len()),
            Id::SloEvents => range(cell::SLO, labels::OBJECTIVE.len() * labels::GOOD.len()),
            Id::TokensPerSecond => vec![Some(Value::Float(self.tokens_per_second(totals)))],
            Id::PromptTokens => range(cell::PROMPT, labels::PROMPT_SOURCE.len()),
            Id::GeneratedTokens => one(counts.sum(cell::GENERATED)),
            Id::RecomputedTokens => one(counts.sum(cell::RECOMPUTED)),
            Id::DiscardedTokens => range(cell::DISCARDED, labels::DISCARD.len()),
            Id::DraftTokens if counts.sum(cell::DRAFTED) > 0 => one(counts.sum(cell::DRAFTED)),
            Id::DraftAcceptedTokens if counts.sum(cell::DRAFTED) > 0 => {
                one(counts.sum(cell::DRAFT_ACCEPTED))
            }
            Id::Preemptions => range(cell::PREEMPTED, labels::PREEMPT.len()),
            Id::BatchSize => one(totals.batch),
            Id::RequestsRunning => one(totals.running),
            Id::QueueDepth => self.queue(totals),
            Id::KvUtilization | Id::KvBlocks | Id::KvSlotUsage => self.kv(row.id, totals),
            Id::LastStepAge => self.step_ages(totals, now),
            Id::WorkerInfo => one(1),
            Id::RingSamples => one(counts.stored),
            Id::RingDropped => one(counts.dropped),
            Id::RingOccupancy => vec![Some(Value::Float(self.occupancy))],
            Id::AggregatorLag => vec![Some(Value::Float(self.pulse.lag_ns(now) as f64 * 1e-9))],
            Id::Invalid => counts.invalid.iter().map(|n| int(*n)).collect(),
            Id::LabelOverflow => self.names.overflow().values().map(|n| int(*n)).collect(),
            Id::StepSource => counts.steps.iter().map(|n| int(*n)).collect(),
            Id::ProcessStart => {
                vec![self.process_started.map(|start| Value::Float(start.as_secs_f64()))]
            }
            // Draft tokens of an engine that does not speculate: absent, never 0.
            Id::DraftTokens | Id::DraftAcceptedTokens => return None,
            _ => return device::values(row.id, &self.devices, &self.names),
        })
    }

    /// Sums a class's cells into its endpoint's children.
    fn by_endpoint(
        &self,
        counts: &Counts,
        split: usize,
        of: impl Fn(&super::totals::ClassCells, usize) -> u64,
    ) -> Vec<Option<Value>> {
        let mut sums = vec![0; self.names.len(By::Endpoint) * split];
        for (class, row) in counts.classes.iter().enumerate() {
            let endpoint = self.names.classes().get(class).map_or(0, |(e, _)| *e as usize);
            for value in 0..split {
                sums[endpoint * split + value] += of(row, value)
            }
        }
        sums.into_iter().map(|n| Some(Value::Int(n))).collect()
    }

    fn queue(&self, totals: &Totals) -> Vec<Option<Value>> {
        let mut values = vec![0; self.names.priorities() * labels::WAIT.len()];
        match &totals.queue {
            Some(queue) => {
                for (child, value) in values.iter_mut().enumerate() {
                    let (priority, reason) =
                        (child / labels::WAIT.len(), child % labels::WAIT.len());
                    *value = queue[reason][priority]
                }
            }
            // Nobody reports reasons: all that waits waits for capacity.
            None => values[0] = totals.waiting,
        }
        values.into_iter().map(|n| Some(Value::Int(n))).collect()
    }

    fn kv(&self, id: Id, totals: &Totals) -> Vec<Option<Value>> {
        let share = |part: u64, all: u64| (all > 0).then(|| Value::Float(part as f64 / all as f64));
        if id == Id::KvUtilization {
            return totals
                .kv
                .iter()
                .map(|level| level.and_then(|kv| share(kv.referenced, kv.usable)))
                .collect();
        }
        let pools = (0..self.names.pools().min(POOLS_MAX)).map(|pool| totals.pool(pool));
        if id == Id::KvSlotUsage {
            let Some(tokens) = self.config.kv_block_tokens else { return vec![] };
            return pools
                .map(|level| {
                    level.and_then(|kv| share(kv.slots_used, kv.referenced * tokens as u64))
                })
                .collect();
        }
        pools
            .flat_map(|level| {
                let states = level.map(|kv| [kv.referenced, kv.cached, kv.free()]);
                (0..labels::KV_STATE.len()).map(move |i| states.map(|s| Value::Int(s[i])))
            })
            .collect()
    }

    /// By device: since its last step. Before any device has stepped, since the engine was ready: a
    /// device that only ever had a recorder is no stall while others work.
    pub(super) fn step_ages(&self, totals: &Totals, now: Time) -> Vec<Option<Value>> {
        let last: Vec<Option<Time>> = totals
            .last_step
            .iter()
            .enumerate()
            .map(|(device, told)| {
                // The stamps know of steps whose outputs the engine has not looked at yet.
                let stamped = self.devices.get(device).and_then(|d| d.stamps.last_end());
                told.map(Time::from_nanos).max(stamped)
            })
            .collect();
        let ready = self.pulse.ready_at().filter(|_| last.iter().all(Option::is_none));
        let used = |device: usize| self.feeds.iter().any(|f| usize::from(f.device) == device);
        let since = |(device, last): (usize, Option<Time>)| last.or(ready.filter(|_| used(device)));
        let age = |since: Time| Value::Float(now.seconds_since(since));
        last.into_iter().enumerate().map(since).map(|since| since.map(age)).collect()
    }

    /// The last ten minutes, the open row included.
    pub(crate) fn history(&mut self, now: Time) -> History {
        self.drain(now);
        self.close_rows(now);
        let open = Frame::take(now, &self.totals(), &self.distributions);
        let frames = self.windows.frames();
        let first = frames.len().saturating_sub(HISTORY_ROWS + 1);
        let shown: Vec<&Frame> = frames.iter().skip(first).chain([&open]).collect();
        let rows = shown.windows(2).map(|pair| history_row(pair[0], pair[1], now)).collect();
        History { rows }
    }

    /// Quantile bounds over the last closed rows: the smallest bound that covers a share `q`.
    pub(crate) fn window_quantile(&self, id: Id, q: f64, rows: usize) -> Option<f64> {
        let (before, last) = self.windows.ends(rows);
        let counts =
            last.buckets(id).iter().zip(before.buckets(id)).map(|(now, then)| now - then).collect();
        let row = catalog::row(id);
        let window =
            crate::snapshot::Histogram { counts, sum: 0, native: vec![], exemplars: vec![] };
        let bound = window.quantile_bound(row.grid(), q)?;
        Some(bound as f64 / row.unit.scale() as f64)
    }

    /// Requests that failed or were rejected by no fault of the caller.
    pub(crate) fn window_server_faults(&self, rows: usize) -> u64 {
        let of = |first: usize| {
            let input = cell::ENDED + first + ErrorType::Input as usize;
            self.window_increase(cell::ENDED + first..input, rows)
        };
        of(Outcome::FAILED_CELL) + of(Outcome::REJECTED_CELL)
    }

    /// Increase of counter cells over the last closed rows.
    pub(crate) fn window_increase(&self, cells: std::ops::Range<usize>, rows: usize) -> u64 {
        let (before, last) = self.windows.ends(rows);
        cells.map(|cell| last.cells[cell] - before.cells[cell]).sum()
    }

    /// (stored, dropped) samples over the last closed rows.
    pub(crate) fn window_loss(&self, rows: usize) -> (u64, u64) {
        let (before, last) = self.windows.ends(rows);
        (last.stored - before.stored, last.dropped - before.dropped)
    }
}

fn history_row(before: &Frame, frame: &Frame, now: Time) -> HistoryRow {
    let cells: super::totals::ClassCells =
        std::array::from_fn(|cell| frame.cells[cell] - before.cells[cell]);
    let preempted = cell::PREEMPTED..cell::PREEMPTED + labels::PREEMPT.len();
    HistoryRow {
        age_seconds: now.seconds_since(frame.at),
        seconds: frame.at.seconds_since(before.at),
        quantiles: frame.quantiles.clone(),
        generated: cells[cell::GENERATED],
        ended: (0..labels::STATUS.len()).map(|status| Counts::by_status(&cells, status)).collect(),
        preempted: cells[preempted].iter().sum(),
        running: frame.running,
        waiting: frame.waiting,
        batch: frame.batch,
        kv: frame.kv,
    }
}
