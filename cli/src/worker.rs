//! One worker of the demo: a simulated engine, its Stepscope, and the comparison of the two.

use crate::agreement::Comparison;
use crate::book::Book;
use crate::expect::{Moment, expect};
use crate::exposition::Exposition;
use crate::pace::Pace;
use crate::plan::{Hardware, Plan};
use crate::scrape::{scrape, url};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use stepscope::catalog::alert::{Alert, AlertId};
use stepscope::health::Verdict;
use stepscope::snapshot::HistoryRow;
use stepscope::{Clock, Config, Role, Snapshot, Stepscope, Time};
use stepscope_sim::engine::{Engine, Options};
use stepscope_sim::truth::{Run, Truth};

/// What a told end of a step is checked for.
const OUT_OF_TIME: &str =
    "steps told to have ended before their launch or after they were seen done";

/// An engine that serves, and the scope it reports to.
pub struct Worker {
    // Before the scope: an engine that goes down stops producing first.
    engine: Engine,
    scope: Stepscope,
    clock: Clock,
    addr: SocketAddr,
    number: u16,
    ready: [Time; 2],
    is_device_real: bool,
    /// Alerts that fire, as of the last closed row.
    firing: BTreeSet<AlertId>,
}

/// One worker's life, from its start to the last scrape.
pub struct Life {
    /// What the engine knows.
    pub truth: Truth,
    /// The same as numbers.
    pub book: Book,
    /// What `/metrics` said.
    pub exposition: Exposition,
    /// The two beside each other.
    pub comparison: Comparison,
}

impl Worker {
    /// Starts the worker of this number, counted from 0.
    ///
    /// # Errors
    /// A setting that cannot be used, or an address that cannot be listened on.
    pub fn start(plan: &Plan, number: u16, listen: SocketAddr, pace: &Pace) -> Result<Worker> {
        let run = identity(plan, number);
        let clock = pace.clock();
        let scope = Stepscope::start(config(plan, &run, listen, clock.clone()))?;
        let addr = scope.local_addr().context("the exporter has no address")?;
        let options = Options {
            profile: plan.profile,
            scenario: plan.scenarios[usize::from(number)],
            inject: (plan.inject.from, plan.inject.until),
            // In a fleet of scenarios each worker has the whole traffic, and fates of its own.
            seed: plan.seed + if plan.is_fleet { u64::from(number) } else { 0 },
            speculation: plan.speculation,
            worker: if plan.is_fleet { 0 } else { number.into() },
            workers: if plan.is_fleet { 1 } else { plan.scenarios.len() },
            sabotage: plan.sabotage,
        };
        let (trace, start) = (plan.trace.clone(), pace.now());
        let engine = match &plan.device {
            Hardware::Simulated(_) => Engine::new(&scope, run, trace, start, options),
            Hardware::Gpu(cuda) => {
                let device = Box::new(cuda.device(&scope)?);
                Engine::on(device, &scope, run, trace, start, options)
            }
        };
        let before = clock.now();
        scope.mark_ready();
        let ready = [before, clock.now()];
        let is_device_real = matches!(plan.device, Hardware::Gpu(_));
        Ok(Worker {
            engine,
            scope,
            clock,
            addr,
            number,
            ready,
            is_device_real,
            firing: BTreeSet::new(),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its number, counted from 0.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Where it listens, for a browser.
    pub fn url(&self) -> String {
        url(self.addr)
    }

    /// When something happens in the engine next.
    pub fn next_at(&self) -> Option<Time> {
        self.engine.next_at()
    }

    /// Everything up to `now` happens, in the engine first.
    pub fn advance_to(&mut self, now: Time) {
        self.engine.advance_to(now);
        self.scope.advance(now)
    }

    /// The last ten minutes as the page shows them, the open row last.
    pub fn rows(&self) -> Vec<HistoryRow> {
        self.scope.history().rows
    }

    /// A row has closed: alerts that have begun to fire since the last call.
    pub fn newly_firing(&mut self) -> Vec<&'static Alert> {
        let standings = self.scope.alerts();
        let now: Vec<&Alert> = standings.iter().filter(|s| s.fires()).map(|s| s.alert).collect();
        let new = now.iter().copied().filter(|alert| !self.firing.contains(&alert.id)).collect();
        self.firing = now.iter().map(|alert| alert.id).collect();
        new
    }

    /// What a scrape would show.
    pub fn snapshot(&self) -> Snapshot {
        self.scope.snapshot()
    }

    /// What is wrong, in words.
    pub fn health(&self) -> Verdict {
        self.scope.health()
    }

    /// Scrapes the worker, which is at rest, and compares.
    ///
    /// # Errors
    /// `/metrics` gives no valid answer.
    pub fn settle(&self) -> Result<Life> {
        if let Some(why) = self.engine.fault() {
            bail!("the GPU failed: {why}")
        }
        let truth = self.engine.truth();
        let before = self.clock.now();
        let exposition = scrape(self.addr)?;
        let scraped = [before, self.clock.now()];
        let moment = Moment { ready: self.ready, scraped };
        let book = expect(&truth, moment, self.is_device_real);
        let mut comparison = Comparison::of(&book, &exposition);
        if self.is_device_real {
            comparison.also(OUT_OF_TIME, 0, truth.strays)
        }
        Ok(Life { truth, book, exposition, comparison })
    }
}

fn identity(plan: &Plan, number: u16) -> Run {
    let defaults = Config::default();
    let ns = |ms: u32| u64::from(ms) * 1_000_000;
    Run {
        model: match plan.is_fleet {
            true => plan.scenarios[usize::from(number)].name().into(),
            false => plan.profile.model().into(),
        },
        worker_id: format!("w{number}"),
        role: Role::Both,
        engine: "stepscope-sim".into(),
        engine_version: env!("CARGO_PKG_VERSION").into(),
        gpu_id: number.to_string(),
        node: defaults.node,
        ttft_objective_ns: ns(defaults.ttft_objective_ms),
        tbt_objective_ns: ns(defaults.tbt_objective_ms),
        kv_block_tokens: plan.profile.kv_block_tokens(),
    }
}

/// The same identity as the scope wants it; the objectives stay at their defaults.
fn config(plan: &Plan, run: &Run, listen: SocketAddr, clock: Clock) -> Config {
    Config {
        model: run.model.clone(),
        worker_id: run.worker_id.clone(),
        engine: run.engine.clone(),
        engine_version: run.engine_version.clone(),
        role: run.role,
        gpu_id: run.gpu_id.clone(),
        node: run.node.clone(),
        listen: Some(listen),
        kv_block_tokens: Some(run.kv_block_tokens),
        vllm_aliases: plan.has_vllm_aliases,
        clock,
        ..Config::default()
    }
}
