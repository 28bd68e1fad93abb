//! One latency sample, as engines record it today, and ours beside them: in one run, interleaved, with
//! instruction counts where valgrind is. Ends with a table of ratios and writes `target/bench/peers.json`.
//!
//! A peer's figure is one histogram. Ours is everything that a token means: gap between emissions and
//! between tokens, TTFT at the first, objectives, counters. `cargo bench --bench peers -- [ROUNDS]`; under
//! `cargo test` one short round runs.
#![allow(missing_docs)]

#[allow(dead_code, unused_imports)] // Each bench uses its own part.
#[path = "subjects/mod.rs"]
mod subjects;

use serde::Serialize;
use stepscope_benches::{Python, arguments, callgrind, interleave, is_smoke, median, save};

#[derive(Serialize)]
struct Row {
    name: String,
    /// ns per sample: median, and the middle half of the rounds.
    ns: f64,
    ns_quarter: f64,
    ns_three_quarters: f64,
    /// Instructions per sample.
    instructions: Option<f64>,
    /// How many times a token of ours in a batch of 256: median over the rounds.
    ratio: f64,
    /// The same in instructions.
    instructions_ratio: Option<f64>,
}

fn main() -> std::io::Result<()> {
    if let Some((name, samples)) = callgrind::wanted() {
        let mut subjects = subjects::all();
        let named = subjects.iter_mut().find(|subject| subject.name() == name);
        named.expect("a subject of the list").count(samples);
        return Ok(());
    }
    let smoke = is_smoke();
    let rounds =
        if smoke { 1 } else { arguments().first().and_then(|n| n.parse().ok()).unwrap_or(200) };
    let mut subjects = subjects::all();
    for (name, what) in
        [("Python prometheus_client, cached", "observe"), ("Python, labels().observe", "labels")]
    {
        match Python::start(name, what) {
            Some(python) => subjects.push(Box::new(python)),
            None => println!("skipped: {name}: no Python with prometheus_client"),
        }
    }
    let samples = interleave(&mut subjects, rounds);
    let counted = !smoke && callgrind::is_here();
    if !smoke && !counted {
        println!("skipped: instruction counts need valgrind")
    }
    let names: Vec<String> = subjects.iter().map(|subject| subject.name().to_string()).collect();
    // Each with its own child: nobody else may run meanwhile.
    drop(subjects);
    let instructions: Vec<Option<f64>> = names
        .iter()
        .map(|name| (counted && !name.starts_with("Python")).then(|| callgrind::instructions(name)))
        .map(Option::flatten)
        .collect();
    let rows = rows(&names, &samples, &instructions);
    print(&rows);
    save("peers", rounds as f64, &rows)
}

fn rows(names: &[String], samples: &[Vec<f64>], instructions: &[Option<f64>]) -> Vec<Row> {
    let ours = &samples[0];
    let row = |n: usize| {
        let mut ratios: Vec<f64> =
            samples[n].iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect();
        let mut sorted = samples[n].clone();
        let ns = median(&mut sorted);
        Row {
            name: names[n].clone(),
            ns,
            ns_quarter: sorted[sorted.len() / 4],
            ns_three_quarters: sorted[sorted.len() * 3 / 4],
            instructions: instructions[n],
            ratio: median(&mut ratios),
            instructions_ratio: instructions[n].zip(instructions[0]).map(|(n, ours)| n / ours),
        }
    };
    (0..names.len()).map(row).collect()
}

fn print(rows: &[Row]) {
    println!(
        "{:<38} {:>9} {:>17} {:>8} {:>9} {:>9}",
        "a sample", "ns", "middle half", "instr.", "x ns", "x instr."
    );
    let or_nothing = |number: Option<f64>| number.map_or(String::new(), |n| format!("{n:.1}"));
    for row in rows {
        println!(
            "{:<38} {:9.2} {:8.2}-{:8.2} {:>8} {:9.1} {:>9}",
            row.name,
            row.ns,
            row.ns_quarter,
            row.ns_three_quarters,
            or_nothing(row.instructions),
            row.ratio,
            or_nothing(row.instructions_ratio)
        )
    }
}
