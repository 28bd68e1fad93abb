//! What a run is to do, checked.

use crate::args::{Aliases, DemoArgs, DeviceChoice, FleetKind, Window};
use crate::cuda::Cuda;
use crate::pace::Speed;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stepscope_sim::{Profile, Sabotage, Scenario, Trace};

/// Everything that shapes a run.
pub struct Plan {
    /// What arrives.
    pub trace: Arc<Trace>,
    /// What is simulated.
    pub profile: Profile,
    /// What goes wrong, by worker.
    pub scenarios: Vec<Scenario>,
    /// Each worker has a scenario of its own, named by its label `model`.
    pub is_fleet: bool,
    /// When.
    pub inject: Window,
    /// How long the run is.
    pub duration: Duration,
    /// Simulated seconds per second.
    pub speed: Speed,
    /// Where its randomness comes from.
    pub seed: u64,
    /// Decode with speculation.
    pub speculation: bool,
    /// Export `vllm:` names too.
    pub has_vllm_aliases: bool,
    /// A lie that the comparison must notice.
    pub sabotage: Option<Sabotage>,
    /// What runs the steps.
    pub device: Hardware,
}

/// What runs the steps.
pub enum Hardware {
    /// A simulated device, and why.
    Simulated(String),
    /// A GPU.
    Gpu(Cuda),
}

impl Hardware {
    /// Chooses; a GPU is opened.
    ///
    /// # Errors
    /// A GPU was asked for and there is none, or not at this speed.
    fn choose(args: &DemoArgs) -> Result<Hardware> {
        let is_real_time = args.speed == Speed::Times(1.0);
        let slow = || format!("a GPU runs in real time, not at --speed {}", args.speed);
        match (args.device, &args.driver) {
            (DeviceChoice::Sim, _) => Ok(Hardware::Simulated("as asked for".into())),
            (DeviceChoice::Auto, _) if !is_real_time => Ok(Hardware::Simulated(slow())),
            (DeviceChoice::Gpu, _) if !is_real_time => {
                bail!("--device gpu: {}; leave --speed away", slow())
            }
            (DeviceChoice::Auto, None) => Ok(match Cuda::open(None) {
                Ok(cuda) => Hardware::Gpu(cuda),
                Err(why) => Hardware::Simulated(format!("{why:#}")),
            }),
            (_, library) => {
                let cuda = Cuda::open(library.as_deref());
                let cuda = cuda.context("cannot run on a GPU, see `stepscope doctor`")?;
                Ok(Hardware::Gpu(cuda))
            }
        }
    }

    /// As reports name it, and why or what it is.
    pub fn words(&self) -> [&str; 2] {
        match self {
            Hardware::Simulated(why) => ["simulated", why],
            Hardware::Gpu(cuda) => ["gpu", &cuda.name],
        }
    }
}

impl Plan {
    /// Checks what was asked for.
    ///
    /// # Errors
    /// A trace that cannot be read, or times that do not fit together, with advice.
    pub fn new(args: &DemoArgs) -> Result<Plan> {
        let trace = match args.trace.as_str() {
            "mooncake" => Trace::builtin_mooncake(),
            "azure" => Trace::builtin_azure(),
            path => Trace::load(Path::new(path))
                .context("cannot use --trace: say mooncake, azure, or a file in their format")?,
        };
        let duration = args.duration();
        let inject = args.inject.unwrap_or(Window::middle_of(duration));
        ensure!(!duration.is_zero(), "--duration 0: say how many seconds to simulate");
        ensure!(
            inject.until <= duration,
            "--inject ends after the run: keep it within --duration {}",
            duration.as_secs_f64()
        );
        let scenarios = match args.fleet {
            Some(FleetKind::Scenarios) => Scenario::ALL.to_vec(),
            None => vec![args.scenario; args.workers.into()],
        };
        Ok(Plan {
            trace: Arc::new(trace),
            profile: args.profile,
            scenarios,
            is_fleet: args.fleet.is_some(),
            inject,
            duration,
            speed: args.speed,
            seed: args.seed,
            speculation: args.speculation,
            has_vllm_aliases: args.aliases == Some(Aliases::Vllm),
            sabotage: args.sabotage,
            device: Hardware::choose(args)?,
        })
    }

    /// The parts of the run; in the second of three, workers whose scenario says so are dead.
    pub fn parts(&self) -> Vec<Part> {
        let (from, until) = (Duration::ZERO, self.duration);
        let alive = |from, until| Part { window: Window { from, until }, with_dead: false };
        if !self.scenarios.contains(&Scenario::Dead) {
            return vec![alive(from, until)];
        }
        let dead = Part { window: self.inject, with_dead: true };
        vec![alive(from, self.inject.from), dead, alive(self.inject.until, until)]
    }

    /// Does this worker die?
    pub fn is_mortal(&self, number: u16) -> bool {
        self.scenarios[usize::from(number)] == Scenario::Dead
    }

    /// What goes wrong, as reports name it.
    pub fn scenario_name(&self) -> &'static str {
        if self.is_fleet { "fleet" } else { self.scenarios[0].name() }
    }
}

/// A part of the run.
pub struct Part {
    /// When.
    pub window: Window,
    /// Are workers dead in it?
    pub with_dead: bool,
}
