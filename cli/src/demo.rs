//! `stepscope demo`: drives the engines through simulated time, then compares.
//!
//! One thread drives all workers in time order, so a run with a seed repeats itself. In scenario
//! `dead` every worker lives twice: it is compared, goes down with its port, and starts anew.

use crate::args::DemoArgs;
use crate::interrupt::Interrupt;
use crate::pace::{NAP, Pace};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::Report;
use crate::worker::{Life, Worker};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use stepscope::Time;

/// Longest stretch of simulated time between two drains of the rings.
const TICK: Duration = Duration::from_millis(100);

/// A run that serves already.
pub struct Demo {
    plan: Plan,
    pace: Pace,
    workers: Vec<Worker>,
    truth_files: Vec<(PathBuf, File)>,
    report: Report,
    hold: Duration,
    interrupt: Interrupt,
}

impl Demo {
    /// Checks the input, starts the workers and says where they serve.
    ///
    /// # Errors
    /// Whatever is wrong with the input, with advice.
    pub fn start(args: DemoArgs) -> Result<Demo> {
        let interrupt = Interrupt::install()?;
        let plan = Plan::new(&args)?;
        // Opened before the run: a path that cannot be written should not cost a minute.
        let truth_files = create_truth_files(&args)?;
        let pace = Pace::new(args.speed);
        let workers = start_workers(&plan, &pace, &addresses(args.listen, args.workers)?)
            .context("cannot serve, say --listen ADDR")?;
        let mut report = Report::new(args.json);
        report.opening(&plan, &workers)?;
        Ok(Demo { plan, pace, workers, truth_files, report, hold: args.hold, interrupt })
    }

    /// Runs to the end, reports, holds. Says whether all numbers agree.
    ///
    /// # Errors
    /// A worker cannot be scraped or started again, or an output cannot be written.
    pub fn run(mut self) -> Result<bool> {
        let start = self.pace.now();
        let mut progress = Progress::new(self.plan.duration);
        let mut lives = vec![];
        for window in self.plan.lives() {
            self.revive(start.after(window.from), &mut progress)?;
            self.drive(start, start.after(window.until), &mut progress);
            lives.push(self.workers.iter().map(Worker::settle).collect::<Result<Vec<Life>>>()?);
            if self.interrupt.is_wanted() {
                break;
            }
        }
        progress.finish();
        let simulated = Duration::from_nanos(self.pace.now().nanos_since(start));
        if let Some(last) = lives.last() {
            self.write_truth(last)?
        }
        let agree = self.report.closing(&self.plan, &self.workers, &lives, simulated)?;
        self.hold();
        Ok(agree)
    }

    /// From the second life on: takes the workers down, and starts them anew when it is time.
    fn revive(&mut self, at: Time, progress: &mut Progress) -> Result<()> {
        if self.pace.now() >= at {
            return Ok(());
        }
        let addresses: Vec<SocketAddr> =
            self.workers.drain(..).map(|worker| worker.addr()).collect();
        progress.say("the workers are down, their ports closed");
        while self.pace.now() < at && !self.interrupt.is_wanted() {
            self.pace.wait_until(at);
        }
        self.workers = start_workers(&self.plan, &self.pace, &addresses)
            .context("cannot serve again after the scenario's death")?;
        progress.say("the workers are back, with empty counters");
        Ok(())
    }

    /// Time passes until `until`, event by event over all workers.
    fn drive(&mut self, start: Time, until: Time, progress: &mut Progress) {
        while self.pace.now() < until && !self.interrupt.is_wanted() {
            let next = self.workers.iter().filter_map(Worker::next_at).min().unwrap_or(until);
            let now = self.pace.wait_until(next.min(self.pace.now().after(TICK)).min(until));
            for worker in &mut self.workers {
                worker.advance_to(now)
            }
            progress.update(Duration::from_nanos(now.nanos_since(start)), &self.workers)
        }
    }

    fn write_truth(&mut self, lives: &[Life]) -> Result<()> {
        for ((path, file), life) in self.truth_files.drain(..).zip(lives) {
            let mut out = BufWriter::new(file);
            let written = life.truth.write(&mut out).and_then(|()| out.flush());
            written.with_context(|| format!("cannot write {}", path.display()))?
        }
        Ok(())
    }

    /// Serves on, so that a stranger can scrape the final state.
    fn hold(&self) {
        let end = Instant::now() + self.hold;
        while Instant::now() < end && !self.interrupt.is_wanted() {
            std::thread::sleep(NAP.min(end.saturating_duration_since(Instant::now())))
        }
    }
}

fn start_workers(plan: &Plan, pace: &Pace, addresses: &[SocketAddr]) -> Result<Vec<Worker>> {
    let numbered = (0..).zip(addresses);
    numbered.map(|(number, addr)| Worker::start(plan, number, *addr, pace)).collect()
}

/// Consecutive ports from the first; port 0 stays 0, and the system chooses each.
fn addresses(first: SocketAddr, workers: u16) -> Result<Vec<SocketAddr>> {
    let address = |number: u16| {
        let mut addr = first;
        if first.port() != 0 {
            let port = first.port().checked_add(number);
            addr.set_port(port.with_context(|| {
                format!("--listen {first} leaves no room for the ports of {workers} workers")
            })?)
        }
        Ok(addr)
    };
    (0..workers).map(address).collect()
}

fn create_truth_files(args: &DemoArgs) -> Result<Vec<(PathBuf, File)>> {
    let Some(first) = &args.truth else { return Ok(vec![]) };
    let create = |number: u16| {
        let mut path = first.clone();
        if number > 0 {
            path.as_mut_os_string().push(format!(".{number}"))
        }
        let file = File::create(&path)
            .with_context(|| format!("cannot write --truth {}", path.display()))?;
        Ok((path, file))
    };
    (0..args.workers).map(create).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_consecutive_and_zero_lets_the_system_choose() {
        let ports = |first: &str| -> Result<Vec<u16>> {
            let addresses = addresses(first.parse().unwrap(), 3)?;
            Ok(addresses.iter().map(SocketAddr::port).collect())
        };
        assert_eq!(ports("127.0.0.1:9464").unwrap(), [9464, 9465, 9466]);
        assert_eq!(ports("[::1]:0").unwrap(), [0, 0, 0]);
        assert!(ports("127.0.0.1:65534").unwrap_err().to_string().contains("no room"));
    }
}
