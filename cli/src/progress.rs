//! How a run is going: a bar on a terminal, else a plain line every few seconds. Always on stderr.

use crate::report::seconds;
use crate::worker::Worker;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use stepscope::catalog::Id;
use stepscope::snapshot::{HistoryRow, LINES, Quantiles};

const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What shows it.
pub struct Progress {
    bar: Option<ProgressBar>,
    run: Duration,
    shown: Instant,
}

impl Progress {
    /// Of a run of this length.
    pub fn new(run: Duration) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:16} {prefix}\n{wide_msg}");
            let bar = ProgressBar::new(run.as_millis() as u64);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Progress { bar, run, shown: Instant::now() }
    }

    /// The run has come to `at`. Cheap unless it is time to show something.
    pub fn update(&mut self, at: Duration, workers: &[Worker]) {
        let every = if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let place = format!("{:.0} of {:.0} s", at.as_secs_f64(), self.run.as_secs_f64());
        let histories: Vec<Vec<HistoryRow>> = workers.iter().map(Worker::rows).collect();
        let (load, latency) = (describe_load(&histories), describe_latency(&histories));
        match &self.bar {
            Some(bar) => {
                bar.set_position(at.as_millis() as u64);
                bar.set_prefix(format!("{place}: {load}"));
                bar.set_message(latency)
            }
            None => eprintln!("{place}: {load}; {latency}"),
        }
    }

    /// Something happened that is worth a line of its own.
    pub fn say(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.println(what),
            None => eprintln!("{what}"),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear()
        }
    }
}

/// All workers together, now.
fn describe_load(histories: &[Vec<HistoryRow>]) -> String {
    let now: Vec<&HistoryRow> = histories.iter().filter_map(|rows| rows.last()).collect();
    let sum = |of: fn(&HistoryRow) -> u64| now.iter().map(|row| of(row)).sum::<u64>();
    let rate: f64 = histories.iter().map(|rows| tokens_per_second(rows)).sum();
    let (running, waiting) = (sum(|row| row.running), sum(|row| row.waiting));
    let kv: Vec<[u64; 3]> = now.iter().filter_map(|row| row.kv).collect();
    let referenced: u64 = kv.iter().map(|[referenced, ..]| referenced).sum();
    let usable: u64 = kv.iter().flatten().sum();
    let share = if usable > 0 { referenced as f64 / usable as f64 * 100.0 } else { 0.0 };
    format!("{running} running, {waiting} waiting, {rate:.0} tokens/s, KV {share:.0} %")
}

/// The worst worker's quantiles, since quantiles do not add up.
fn describe_latency(histories: &[Vec<HistoryRow>]) -> String {
    let worst = |(label, id)| {
        let of_workers = histories.iter().filter_map(|rows| newest(rows, id));
        let Quantiles { p50, p99, .. } = of_workers.max_by(|a, b| a.p99.total_cmp(&b.p99))?;
        Some(format!("{label} p50 {}, p99 {}", seconds(p50), seconds(p99)))
    };
    let parts: Vec<String> =
        [("TTFT", Id::Ttft), ("TBT", Id::Tbt)].into_iter().filter_map(worst).collect();
    if parts.is_empty() { "no token yet".into() } else { parts.join("; ") }
}

/// The quantiles of the open row, or of the one before while the open one is still empty.
fn newest(rows: &[HistoryRow], id: Id) -> Option<Quantiles> {
    let line = LINES.iter().position(|(family, _)| *family == id)?;
    rows.iter().rev().take(2).find_map(|row| *row.quantiles.get(line)?)
}

/// Over the open row and the one before: the open one alone may be a moment old.
fn tokens_per_second(rows: &[HistoryRow]) -> f64 {
    let last = &rows[rows.len().saturating_sub(2)..];
    let seconds: f64 = last.iter().map(|row| row.seconds).sum();
    let tokens: u64 = last.iter().map(|row| row.generated).sum();
    if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 }
}
