//! The rows of the plan, and the parts that some of them run in processes of their own.

mod attaching;
mod blocks;
mod clocks;
mod costs;
mod endings;
mod graph_times;
mod power;
mod truths;
mod visibility;

use crate::args::Args;
use crate::report::Row;
use anyhow::Result;
use std::time::Duration;

/// One row of the plan.
pub struct Plan {
    pub number: u8,
    pub title: &'static str,
    run: fn(&Args, &mut Row) -> Result<()>,
    /// After which the row's process is killed.
    pub limit: Duration,
}

const fn plan(
    number: u8,
    title: &'static str,
    run: fn(&Args, &mut Row) -> Result<()>,
    minutes: u64,
) -> Plan {
    Plan { number, title, run, limit: Duration::from_secs(60 * minutes) }
}

/// Every row.
pub const ROWS: [Plan; 15] = [
    plan(1, "symbols, kernels and attach", attaching::row, 2),
    plan(2, "resolution of the GPU's timer", clocks::resolution, 3),
    plan(3, "width of a clock round", clocks::width, 3),
    plan(4, "the clock's map against later rounds", clocks::prediction, 6),
    plan(5, "steps against the truth, two lanes", truths::two_lanes, 5),
    plan(6, "what stamps cost the engine's thread", costs::host, 3),
    plan(7, "what stamps cost on the GPU", costs::device, 5),
    plan(8, "how soon the host sees an end stamp", visibility::row, 5),
    plan(9, "unannounced replays and captures", truths::captures, 3),
    plan(10, "reset, fault and exit under a living Gpu", endings::row, 40),
    plan(11, "fork", endings::fork, 3),
    plan(12, "stamps inside kernels of many blocks", blocks::row, 3),
    plan(13, "CUPTI graph times", graph_times::row, 15),
    plan(14, "NVML and power at idle", power::row, 10),
    plan(15, "soak, four lanes", truths::soak, 10),
];

/// What a process of its own does for a row; it gives the last line that the process prints.
type Part = fn(&Args) -> Result<String>;

const PARTS: [(&str, Part); 8] = [
    ("cold", attaching::cold),
    ("cupti-resolution", clocks::under_cupti),
    ("reset", endings::reset),
    ("sticky", endings::sticky),
    ("exit", endings::exit),
    ("replays", graph_times::plain_part),
    ("cupti-replays", graph_times::traced_part),
    ("cupti-held", graph_times::held_part),
];

/// Runs a part by its name; `row:N` is the row itself, as JSON.
///
/// # Errors
/// No such part, or what went wrong in it.
pub fn part(args: &Args, name: &str) -> Result<String> {
    if let Some(number) = name.strip_prefix("row:") {
        let number: u8 = number.parse()?;
        let plan = ROWS.iter().find(|plan| plan.number == number);
        let plan = plan.ok_or_else(|| anyhow::anyhow!("no row {number}"))?;
        let fake = crate::driver::Driver::load(args.driver.as_deref())
            .map_err(|why| anyhow::anyhow!(why))?
            .is_fake();
        let fake = fake && !args.judge;
        let mut row = Row::new(number, plan.title, fake);
        if let Err(error) = (plan.run)(args, &mut row) {
            row.holds("the measurement ran to its end", false, format!("{error:#}"))
        }
        return Ok(serde_json::to_string(&row)?);
    }
    let found = PARTS.iter().find(|(known, _)| *known == name);
    let (_, run) = found.ok_or_else(|| anyhow::anyhow!("no part {name}"))?;
    run(args)
}

#[cfg(test)]
mod tests {
    use super::ROWS;

    #[test]
    fn the_rows_are_numbered_in_their_order() {
        assert!(ROWS.iter().map(|row| row.number).eq(1..=15));
    }
}
