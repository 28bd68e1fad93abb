//! `stepscope demo`: drives the engines through simulated time, then compares.
//!
//! One thread drives all workers in time order, so a run with a seed repeats itself. A worker of
//! scenario `dead` lives twice: it is compared, goes down with its port, and starts anew.

use crate::args::DemoArgs;
use crate::interrupt::Interrupt;
use crate::pace::{NAP, Pace};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::Report;
use crate::watch::Watch;
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
    watch: Watch,
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
        let truth_files = create_truth_files(&args, plan.scenarios.len() as u16)?;
        let pace = Pace::new(args.speed);
        let workers =
            start_workers(&plan, &pace, &addresses(args.listen, plan.scenarios.len() as u16)?)
                .context("cannot serve, say --listen ADDR")?;
        let watch = Watch::new(args.history, pace.now())?;
        let mut report = Report::new(args.json);
        report.opening(&plan, &workers)?;
        Ok(Demo { plan, pace, workers, truth_files, report, watch, hold: args.hold, interrupt })
    }

    /// Runs to the end, reports, holds. Says whether all numbers agree.
    ///
    /// # Errors
    /// A worker cannot be scraped or started again, or an output cannot be written.
    pub fn run(mut self) -> Result<bool> {
        let start = self.pace.now();
        let mut progress = Progress::new(self.plan.duration);
        let mut lives = vec![];
        let mut down = vec![];
        for part in self.plan.parts() {
            match part.with_dead {
                true => lives.push(self.bury(&mut down, &progress)?),
                false => self.revive(&mut down, &progress)?,
            }
            self.drive(start, start.after(part.window.until), &mut progress);
            if self.interrupt.is_wanted() {
                break;
            }
        }
        lives.push(settled(&self.workers)?);
        progress.finish();
        let simulated = Duration::from_nanos(self.pace.now().nanos_since(start));
        if let Some(last) = lives.last() {
            self.write_truth(last)?
        }
        self.watch.write()?;
        let fired = self.watch.fired();
        let agree = self.report.closing(&self.plan, &self.workers, &lives, fired, simulated)?;
        self.hold();
        Ok(agree)
    }

    /// Scrapes the workers that die a last time and takes them down.
    fn bury(
        &mut self,
        down: &mut Vec<(u16, SocketAddr)>,
        progress: &Progress,
    ) -> Result<Vec<Life>> {
        let all = self.workers.drain(..);
        let (dying, rest): (Vec<_>, Vec<_>) = all.partition(|w| self.plan.is_mortal(w.number()));
        self.workers = rest;
        let lives = settled(&dying)?;
        down.extend(dying.iter().map(|worker| (worker.number(), worker.addr())));
        drop(dying);
        progress.say("the dying workers are down, their ports closed");
        Ok(lives)
    }

    /// Starts those that are down anew, at their old ports.
    fn revive(&mut self, down: &mut Vec<(u16, SocketAddr)>, progress: &Progress) -> Result<()> {
        if down.is_empty() {
            return Ok(());
        }
        for (number, addr) in down.drain(..) {
            let worker = Worker::start(&self.plan, number, addr, &self.pace)
                .context("cannot serve again after the scenario's death")?;
            self.workers.push(worker)
        }
        self.workers.sort_by_key(Worker::number);
        progress.say("the dead are back, with empty counters");
        Ok(())
    }

    /// Time passes until `until`, event by event over all workers.
    fn drive(&mut self, start: Time, until: Time, progress: &mut Progress) {
        while self.pace.now() < until && !self.interrupt.is_wanted() {
            let next = self.workers.iter().filter_map(Worker::next_at).min().unwrap_or(until);
            let due = next.min(self.pace.now().after(TICK)).min(until).min(self.watch.next());
            let now = self.pace.wait_until(due);
            for worker in &mut self.workers {
                worker.advance_to(now)
            }
            self.watch.look(now, &mut self.workers);
            progress.update(Duration::from_nanos(now.nanos_since(start)), &self.workers)
        }
    }

    fn write_truth(&mut self, lives: &[Life]) -> Result<()> {
        // An interrupt may come while some are down: each has the file of its number.
        for (worker, life) in self.workers.iter().zip(lives) {
            let number = usize::from(worker.number());
            let Some((path, file)) = self.truth_files.get_mut(number) else { continue };
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

fn settled(workers: &[Worker]) -> Result<Vec<Life>> {
    workers.iter().map(Worker::settle).collect()
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

fn create_truth_files(args: &DemoArgs, workers: u16) -> Result<Vec<(PathBuf, File)>> {
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
    (0..workers).map(create).collect()
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
