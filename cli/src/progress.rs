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
            let style = ProgressStyle::with_template("{bar:24} {prefix}\n{wide_msg}");
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
        let state = describe(workers);
        match &self.bar {
            Some(bar) => {
                bar.set_position(at.as_millis() as u64);
                bar.set_prefix(place);
                bar.set_message(state)
            }
            None => eprintln!("{place}: {state}"),
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

/// All workers in one line; of quantiles the worst worker's, since quantiles do not add up.
fn describe(workers: &[Worker]) -> String {
    let histories: Vec<Vec<HistoryRow>> = workers.iter().map(Worker::rows).collect();
    let now: Vec<&HistoryRow> = histories.iter().filter_map(|rows| rows.last()).collect();
    let sum = |of: fn(&HistoryRow) -> u64| now.iter().map(|row| of(row)).sum::<u64>();
    let mut parts = vec![];
    for (label, id) in [("TTFT", Id::Ttft), ("TBT", Id::Tbt)] {
        if let Some(quantiles) = histories.iter().filter_map(|rows| newest(rows, id)).max_by(slower)
        {
            let (p50, p99) = (seconds(quantiles.p50), seconds(quantiles.p99));
            parts.push(format!("{label} p50 {p50} p99 {p99}"))
        }
    }
    let kv: Vec<[u64; 3]> = now.iter().filter_map(|row| row.kv).collect();
    let [referenced, usable] =
        kv.iter().fold([0, 0], |[r, u], kv| [r + kv[0], u + kv.iter().sum::<u64>()]);
    if usable > 0 {
        parts.push(format!("KV {:.0} %", referenced as f64 / usable as f64 * 100.0))
    }
    let rate: f64 = histories.iter().map(|rows| tokens_per_second(rows)).sum();
    parts.push(format!("{rate:.0} tokens/s"));
    parts.push(format!("{} running, {} waiting", sum(|row| row.running), sum(|row| row.waiting)));
    parts.join(" | ")
}

/// The quantiles of the open row, or of the one before while the open one is still empty.
fn newest(rows: &[HistoryRow], id: Id) -> Option<Quantiles> {
    let line = LINES.iter().position(|(family, _)| *family == id)?;
    rows.iter().rev().take(2).find_map(|row| *row.quantiles.get(line)?)
}

fn slower(a: &Quantiles, b: &Quantiles) -> std::cmp::Ordering {
    a.p99.total_cmp(&b.p99)
}

/// Over the open row and the one before: the open one alone may be a moment old.
fn tokens_per_second(rows: &[HistoryRow]) -> f64 {
    let last = &rows[rows.len().saturating_sub(2)..];
    let seconds: f64 = last.iter().map(|row| row.seconds).sum();
    let tokens: u64 = last.iter().map(|row| row.generated).sum();
    if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 }
}
