//! What was served, for people and as JSON, and whether /metrics says the same as the engine's books.

use crate::engine::{Answer, Served};
use serde_json::{Value, json};
use stepscope::catalog::{self, Id};
use stepscope::{Outcome, Snapshot};

/// A distribution of the snapshot, in milliseconds.
struct Times {
    count: u64,
    mean: f64,
    /// Bounds of the buckets in which the quantiles lie: they are at most this.
    p50: Option<f64>,
    p99: Option<f64>,
}

impl Times {
    fn of(snapshot: &Snapshot, id: Id) -> Option<Times> {
        let histogram = snapshot.merged(id, |_| true).filter(|all| all.count() > 0)?;
        let bound = |q| {
            let ns = histogram.quantile_bound(catalog::row(id).grid(), q)?;
            Some(ns as f64 / 1e6)
        };
        let count = histogram.count();
        let mean = round(histogram.sum as f64 / count as f64 / 1e6, 10.0);
        Some(Times { count, mean, p50: bound(0.5), p99: bound(0.99) })
    }

    fn json(&self) -> Value {
        json!({ "samples": self.count, "mean": self.mean, "p50_at_most": self.p50, "p99_at_most": self.p99 })
    }
}

/// The books and the snapshot, side by side.
pub struct Report {
    tokens: usize,
    outcomes: [usize; 4],
    steps: [u64; 2],
    seconds: f64,
    ttft: Option<Times>,
    tbt: Option<Times>,
    /// What stepscope says otherwise than the engine does.
    disagreements: Vec<String>,
}

impl Report {
    /// Compares.
    pub fn new(served: &Served, snapshot: &Snapshot) -> Report {
        let tokens = served.answers.iter().map(|answer| answer.tokens).sum::<usize>();
        let mut outcomes = [0; 4];
        for answer in &served.answers {
            outcomes[place(answer.outcome)] += 1
        }
        let total = |id| snapshot.sum(id, |_| true);
        let source = |name: &str| snapshot.sum(Id::StepSource, |l| l.get("source") == Some(name));
        let checks = [
            ("requests", total(Id::Requests), served.answers.len() as f64),
            ("prompt tokens", total(Id::PromptTokens), served.prompt_tokens as f64),
            ("generated tokens", total(Id::GeneratedTokens), tokens as f64),
            ("steps timed by the GPU", source("gpu"), served.steps[0] as f64),
            ("steps timed by the host", source("host"), served.steps[1] as f64),
            ("impossible input", total(Id::Invalid), 0.0),
            ("requests in flight at the end", total(Id::RequestsInFlight), 0.0),
            ("KV cache in use at the end", total(Id::KvUtilization), 0.0),
        ];
        let differs = checks.iter().filter(|(_, told, known)| told != known);
        let disagreements = differs
            .map(|(what, told, known)| format!("{what}: /metrics {told}, the engine {known}"))
            .collect();
        Report {
            tokens,
            outcomes,
            steps: served.steps,
            seconds: served.seconds,
            ttft: Times::of(snapshot, Id::Ttft),
            tbt: Times::of(snapshot, Id::Tbt),
            disagreements,
        }
    }

    /// Both sides say the same.
    pub fn ok(&self) -> bool {
        self.disagreements.is_empty()
    }

    /// The answers and a short summary.
    pub fn print(&self, served: &Served) {
        for answer in &served.answers {
            print_answer(answer)
        }
        println!();
        print_times("TTFT", &self.ttft);
        print_times("TBT", &self.tbt);
        let [gpu, host] = self.steps;
        let rate = self.tokens_per_second();
        println!("{} tokens in {:.1} s, {rate} a second", self.tokens, self.seconds);
        println!("{} steps: {gpu} timed by the GPU, {host} by the host", gpu + host);
        for disagreement in &self.disagreements {
            println!("DISAGREES  {disagreement}")
        }
    }

    /// One line for programs.
    pub fn json(&self) -> Value {
        let [gpu, host] = self.steps;
        let [stop, length, aborted, rejected] = self.outcomes;
        json!({
            "ok": self.ok(),
            "requests": { "stop": stop, "length": length, "aborted": aborted, "rejected": rejected },
            "tokens": self.tokens,
            "tokens_per_second": self.tokens_per_second(),
            "step_source": if gpu > host { "gpu" } else { "host" },
            "steps": { "gpu": gpu, "host": host },
            "ttft_ms": self.ttft.as_ref().map(Times::json),
            "tbt_ms": self.tbt.as_ref().map(Times::json),
        })
    }

    fn tokens_per_second(&self) -> f64 {
        round(self.tokens as f64 / self.seconds, 100.0)
    }
}

/// To a tenth, a hundredth: more digits would promise what a run cannot repeat.
fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

fn place(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Stop => 0,
        Outcome::Length => 1,
        Outcome::Aborted => 2,
        _ => 3,
    }
}

fn print_answer(answer: &Answer) {
    let arrival = answer.arrival;
    let how = ["stop", "length", "aborted", "rejected"][place(answer.outcome)];
    println!();
    println!(
        "#{} {} ({}), {how} after {} tokens",
        answer.id,
        arrival.endpoint,
        arrival.urgency.name(),
        answer.tokens
    );
    println!("  ? {:.72}", arrival.question);
    for line in answer.text.trim().lines() {
        println!("  | {line}")
    }
}

fn print_times(name: &str, times: &Option<Times>) {
    let Some(times) = times else { return println!("{name}: no samples") };
    let bound = |ms: Option<f64>| ms.map_or("off the scale".into(), |ms| format!("<= {ms} ms"));
    println!(
        "{name}: {} samples, mean {} ms, p50 {}, p99 {}",
        times.count,
        times.mean,
        bound(times.p50),
        bound(times.p99)
    )
}
