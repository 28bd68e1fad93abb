//! Attaches the stamps to a context of the doctor's own and runs a few hundred empty steps: what works
//! here works in an engine.

use super::driver::{Driver, Refused, advice};
use super::finding::Finding;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};
use stepscope::gpu::{Gpu, GpuUnavailable, Lost, Options, Resolution, StepInfo};

/// Steps of the run, and how many are in flight at once.
const STEPS: usize = 512;
const IN_FLIGHT: usize = 32;
/// The rate of the GPU's clock is unknown before the second round, at 0.1 s; the third is at 0.5 s.
const ROUNDS: u64 = 3;
const ROUNDS_PATIENCE: Duration = Duration::from_secs(2);
/// A bound of the clock above this is worth a look: launches take that long.
const BOUND_NS_MAX: u64 = 100_000;
/// An attachment that takes longer than this was probably compiling its kernels.
const ATTACH_MAX: Duration = Duration::from_millis(500);

/// What came of it.
#[derive(Default, Serialize)]
pub struct Stamps {
    /// Did a step get a time of the GPU's own clock?
    pub work: bool,
    /// Time of the attachment.
    pub attach_ms: Option<f64>,
    /// Smallest step of the GPU's timer.
    pub resolution_ns: Option<u64>,
    /// How well GPU times are known on the host's clock, after a few rounds.
    pub clock_error_ns: Option<u64>,
    /// Rounds that it took.
    pub clock_rounds: Option<u64>,
    /// Steps that were stamped.
    pub done: u64,
    /// Steps that were not.
    pub lost: u64,
    /// Median time of begin and end together on the calling thread.
    pub host_ns_per_step: Option<u64>,
    /// The same in words.
    pub findings: Vec<Finding>,
}

impl Stamps {
    /// Nothing to try.
    pub fn without(why: Finding) -> Stamps {
        Stamps { findings: vec![why], ..Stamps::default() }
    }

    /// Tries them on a device.
    pub fn tried(driver: &Driver, ordinal: i32, library: Option<&Path>) -> Stamps {
        let mut stamps = Stamps::default();
        match stamps.attach(driver, ordinal, library) {
            Ok(()) => {}
            Err(refused) => stamps.findings.push(of_refusal(refused)),
        }
        stamps
    }

    fn attach(
        &mut self,
        driver: &Driver,
        ordinal: i32,
        library: Option<&Path>,
    ) -> Result<(), Refused> {
        let engine = driver.open(ordinal)?;
        let options = Options {
            lanes: 1,
            slots: 1_024,
            library: library.map(Path::to_path_buf),
            nvml: false,
            ..Options::default()
        };
        let asked = Instant::now();
        let gpu = match Gpu::attach(engine.stream(), &options) {
            Ok(gpu) => gpu,
            Err(why) => {
                self.findings.push(of_unavailable(&why));
                return Ok(());
            }
        };
        let took = asked.elapsed();
        self.attach_ms = Some(took.as_secs_f64() * 1e3);
        let means = "kernels compiled, memory registered, self test passed";
        let attached =
            format!("device {ordinal}: stamps attached in {:.1} ms", took.as_secs_f64() * 1e3);
        self.findings.push(if took <= ATTACH_MAX {
            Finding::good(attached, means)
        } else {
            Finding::good(attached, means).advise(
                "slow: most of it is the driver compiling the kernels, which it caches in \
                 ~/.nv/ComputeCache; keep that folder between starts",
            )
        });
        let reasons = match gpu.lane(engine.stream()) {
            Ok(mut lane) => {
                let run = self.run(&gpu, &mut lane, || engine.synchronize())?;
                drop(lane);
                run
            }
            Err(why) => {
                let todo = "report it: the doctor's stream is of the doctor's context";
                self.findings.push(Finding::broken("no lane", why.to_string(), todo));
                return Ok(());
            }
        };
        self.judge_run(&reasons);
        self.judge_clock(&gpu);
        if let Err(why) = gpu.detach(Duration::from_millis(200)) {
            self.findings.push(Finding::absent("detaching left something behind", why.to_string()))
        }
        Ok(())
    }

    /// Empty steps: a begin and an end stamp each. Says why steps were lost.
    fn run(
        &mut self,
        gpu: &Gpu,
        lane: &mut stepscope::gpu::Lane,
        mut synchronize: impl FnMut() -> Result<(), Refused>,
    ) -> Result<Vec<&'static str>, Refused> {
        let (mut costs, mut reasons) = (vec![], vec![]);
        for _ in 0..STEPS / IN_FLIGHT {
            let mut flying = vec![];
            for _ in 0..IN_FLIGHT {
                let asked = Instant::now();
                let mut ticket = lane.begin(StepInfo::default());
                lane.end(&mut ticket);
                costs.push(asked.elapsed().as_nanos() as u64);
                flying.push(ticket)
            }
            synchronize()?;
            for ticket in flying {
                match gpu.settle(ticket) {
                    Resolution::Done(_) => self.done += 1,
                    Resolution::Pending => reasons.push("late"),
                    Resolution::Lost(why) => reasons.push(Lost::label(why)),
                }
            }
        }
        self.lost = reasons.len() as u64;
        self.work = self.done > 0;
        costs.sort_unstable();
        self.host_ns_per_step = costs.get(costs.len() / 2).copied();
        reasons.sort_unstable();
        reasons.dedup();
        Ok(reasons)
    }

    fn judge_run(&mut self, reasons: &[&str]) {
        let (done, lost) = (self.done, self.lost);
        let found = format!("{} empty steps run: {done} done, {lost} lost", done + lost);
        if lost == 0 {
            let us = self.host_ns_per_step.unwrap_or(0) as f64 / 1e3;
            let means =
                format!("begin and end cost the engine's thread {us:.1} µs a step here (median)");
            return self.findings.push(Finding::good(found, means));
        }
        let means = format!("lost because of: {}", reasons.join(", "));
        let todo = "see \"What the loss reasons mean\" in docs/gpu.md";
        self.findings.push(Finding::broken(found, means, todo))
    }

    fn judge_clock(&mut self, gpu: &Gpu) {
        let asked = Instant::now();
        while gpu.clock().rounds < ROUNDS && asked.elapsed() < ROUNDS_PATIENCE {
            std::thread::sleep(Duration::from_millis(10))
        }
        let clock = gpu.clock();
        self.resolution_ns = Some(clock.resolution_ns);
        self.clock_error_ns = Some(clock.error_ns);
        self.clock_rounds = Some(clock.rounds);
        self.findings.push(Finding::good(
            format!("the GPU's timer moves in steps of {} ns", clock.resolution_ns),
            "step times and gaps are as exact as that",
        ));
        let us = clock.error_ns as f64 / 1e3;
        let found = format!(
            "clock: {} rounds kept, {} rejected, error bound {us:.1} µs",
            clock.rounds, clock.rejected
        );
        let means = "TTFT and TBT are as exact as that; step times and gaps do not depend on it";
        self.findings.push(if clock.error_ns <= BOUND_NS_MAX {
            Finding::good(found, means)
        } else {
            Finding::good(found, means)
                .advise("wide, probably as this machine is busy: look at it again when idle")
        })
    }
}

fn of_refusal(refused: Refused) -> Finding {
    let (name, todo) = advice(refused.code);
    let found = format!("{} failed with CUDA error {}", refused.call, refused.code);
    Finding::broken(found, format!("{name}: an engine cannot use this device"), todo)
}

/// What this machine cannot do at all is no defect; everything else can be repaired.
fn of_unavailable(why: &GpuUnavailable) -> Finding {
    let means = "steps are timed by the host's clock";
    match why {
        GpuUnavailable::DeviceTooOld(_) | GpuUnavailable::HostRegisterUnsupported => {
            Finding::absent(why.to_string(), means)
        }
        GpuUnavailable::Call { code, .. } => {
            Finding::broken(why.to_string(), means, advice(*code).1)
        }
        _ => Finding::broken(why.to_string(), means, "repair what it says, then run this again"),
    }
}
