//! `Stepscope`: the front door. Starts the threads, hands out recorders, answers readers, ends.

use crate::aggregate::{AggregateThread, Class, RecorderOptions};
use crate::clock::Clock;
use crate::config::Config;
use crate::health::{self, Probe, Verdict};
use crate::record::{Device, Pool, Priority, Recorder, Series, Time};
use crate::shared::{Shared, Stage, StartError};
use crate::snapshot::{History, Snapshot};
use std::sync::Arc;
use std::time::Duration;

/// How long `Drop` waits for a last scrape.
const DROP_PATIENCE: Duration = Duration::from_millis(100);

/// Telemetry of one worker: one model, one port. Several may live in one process.
///
/// Dropping it stops its threads; recorders that outlive it go on without harm and record nothing
/// that anybody reads.
///
/// # Fork
/// Start it after the fork, in the process that serves. A child that is forked later has none of its
/// threads: there it is a shell. Verbs are as cheap and as harmless as ever and reach nobody, readers
/// see an empty scope, dropping it waits for nothing, and a new one can be started beside it. The
/// child keeps a copy of the listening socket until it ends or calls `exec`.
pub struct Stepscope {
    pub(crate) shared: Arc<Shared>,
    thread: Option<AggregateThread>,
    #[cfg(feature = "export")]
    server: Option<crate::export::Server>,
    /// One thread however many devices.
    #[cfg(feature = "gpu")]
    nvml: std::sync::Mutex<Option<crate::gpu::NvmlThread>>,
}

impl Stepscope {
    /// Starts the aggregate thread (unless the clock is manual) and the HTTP server (unless
    /// `listen` is `None`).
    ///
    /// # Errors
    /// [`StartError::Config`] for a setting that cannot be used, [`StartError::Listen`] for an
    /// address that is taken or not ours, [`StartError::Thread`] at the limit of threads. An engine
    /// logs it and serves on with [`Recorder::disabled`].
    pub fn start(config: Config) -> Result<Stepscope, StartError> {
        config.check()?;
        let shared = Arc::new(Shared::new(config));
        #[cfg(feature = "export")]
        let server = match shared.config.listen {
            Some(addr) => Some(crate::export::Server::start(addr, shared.clone())?),
            None => None,
        };
        let thread = match &shared.clock {
            Clock::Monotonic => Some(shared.start_thread()?),
            Clock::Manual(_) => None,
        };
        Ok(Stepscope {
            shared,
            thread,
            #[cfg(feature = "export")]
            server,
            #[cfg(feature = "gpu")]
            nvml: std::sync::Mutex::new(None),
        })
    }

    /// Interns a request class. Do it up front: it takes the aggregator's lock.
    ///
    /// Every counter of the class exists at 0 from here on. When the table of `series_max` classes
    /// is full the class is `other` and counted in `llm_label_overflow_total`.
    pub fn series(&self, class: Class) -> Series {
        self.shared.aggregator().series(&class)
    }

    /// Interns a priority level, one of at most eight.
    pub fn priority(&self, name: &str) -> Priority {
        self.shared.aggregator().priority(name)
    }

    /// Interns a KV pool, one of at most eight. [`Pool::KV`] exists already.
    pub fn pool(&self, name: &str) -> Pool {
        self.shared.aggregator().pool(name)
    }

    /// The readings of one GPU of this node, to be fed from outside: by an engine that knows them
    /// better than NVML does, or where there is no NVML.
    pub fn device(&self, gpu_id: &str) -> Device {
        self.shared.aggregator().device(gpu_id)
    }

    /// Attaches to the GPU whose context `stream` belongs to; its stamps feed the metrics under
    /// [`Options::gpu_id`](crate::gpu::Options::gpu_id), which should be the recorder's too.
    ///
    /// ```no_run
    /// use stepscope::gpu::{Options, RawStream};
    ///
    /// # let scope = stepscope::Stepscope::start(stepscope::Config::default())?;
    /// # let mut recorder = scope.recorder("engine");
    /// match scope.gpu(RawStream::LEGACY, &Options::default()) {
    ///     Ok(gpu) => recorder.set_lane(gpu.lane(RawStream::LEGACY)?),
    ///     Err(why) => eprintln!("{why}"), // the engine serves on with host clocks
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Why steps are not stamped; nothing is left behind.
    #[cfg(feature = "gpu")]
    pub fn gpu(
        &self,
        stream: crate::gpu::RawStream,
        options: &crate::gpu::Options,
    ) -> Result<crate::gpu::Gpu, crate::gpu::GpuUnavailable> {
        let gpu_id = options.gpu_id.as_deref().unwrap_or(&self.shared.config.gpu_id);
        let device = self.device(gpu_id);
        let with_graphs = options.cupti.mode != crate::gpu::cupti::Cupti::Off;
        let graph_times =
            with_graphs.then(|| self.recorder_with(RecorderOptions::new("cupti").gpu_id(gpu_id)));
        let gpu = crate::gpu::Gpu::attach_for(stream, options, &device, graph_times)?;
        if let (true, Some(bus_id)) = (options.nvml, &gpu.identity().pci_bus_id) {
            let which = crate::gpu::NvmlDevice::PciBusId(bus_id.clone());
            if let Err(why) = self.watch_device(gpu_id, which, options.nvml_library.clone()) {
                tracing::warn!(%why, "no device readings")
            }
        }
        Ok(gpu)
    }

    /// Reads a device through NVML, on a thread of its own, for its `llm_gpu_*` series. An engine
    /// without stamps calls it by itself; [`Stepscope::gpu`] does it for the device it attaches to.
    ///
    /// Loading NVML takes about 10 ms, and seconds on a device that is not kept initialised. The
    /// library of the first call serves all.
    ///
    /// # Errors
    /// Why there are no readings; the series are then absent.
    #[cfg(feature = "gpu")]
    pub fn watch_device(
        &self,
        gpu_id: &str,
        which: crate::gpu::NvmlDevice,
        library: Option<std::path::PathBuf>,
    ) -> Result<crate::gpu::NvmlFound, crate::gpu::NvmlUnavailable> {
        if self.shared.is_forked() {
            // The parent may have been inside of this lock at the fork.
            return Err(crate::gpu::NvmlUnavailable::Ended);
        }
        let mut nvml = self.nvml.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let thread = match &mut *nvml {
            Some(thread) => thread,
            none => none.insert(crate::gpu::NvmlThread::start(library)?),
        };
        thread.watch(self.device(gpu_id), which)
    }

    /// A recorder for one engine thread, reporting for the configured GPU.
    pub fn recorder(&self, name: &str) -> Recorder {
        self.recorder_with(RecorderOptions::new(name))
    }

    /// A recorder with its own GPU or ring size.
    pub fn recorder_with(&self, options: RecorderOptions) -> Recorder {
        self.shared.aggregator().recorder(options)
    }

    /// The engine can serve: `/readyz` answers 200 from here on.
    pub fn mark_ready(&self) {
        self.shared.pulse().ready(self.shared.clock.now());
        self.shared.set_stage(Stage::Ready)
    }

    /// The engine finishes what it has and takes nothing new: `/readyz` answers 503.
    pub fn mark_draining(&self) {
        self.shared.set_stage(Stage::Draining)
    }

    /// The engine cannot go on: `/livez` answers 503, so that it is restarted.
    pub fn mark_failed(&self) {
        self.shared.set_stage(Stage::Failed)
    }

    /// Moves a manual clock: drains, and closes every row that is over by then. A time that already
    /// passed only drains. Does nothing with a monotonic clock.
    ///
    /// What was recorded since the last call counts into the row that was open then, so call it at
    /// least once per simulated second or so.
    pub fn advance(&self, to: Time) {
        let Clock::Manual(clock) = &self.shared.clock else { return };
        let mut aggregator = self.shared.aggregator();
        // Before the clock moves: what is in the rings happened before `to`.
        aggregator.drain(clock.now().max(to));
        clock.advance(to);
        aggregator.close_rows(to);
        self.shared.pulse().drained(clock.now())
    }

    /// Everything the catalog exports, now.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// A snapshot for an exposition of your own; the time it takes counts in `llm_scrape_seconds`.
    pub fn scrape<T>(&self, encode: impl FnOnce(&Snapshot) -> T) -> T {
        self.shared.scrape(encode)
    }

    /// What a client of `/metrics` that sent this Accept header gets; without one, text 0.0.4. For
    /// an engine that answers scrapes from its own HTTP server.
    ///
    /// ```
    /// # let scope = stepscope::Stepscope::start(stepscope::Config { listen: None, ..Default::default() })?;
    /// let answer = scope.exposition(None);
    /// assert!(answer.content_type.starts_with("text/plain; version=0.0.4"));
    /// assert!(answer.body.starts_with(b"# HELP "));
    /// # Ok::<(), stepscope::StartError>(())
    /// ```
    #[cfg(feature = "export")]
    pub fn exposition(&self, accept: Option<&str>) -> crate::export::Exposition {
        crate::export::exposition(&self.shared, accept)
    }

    /// The last ten minutes in rows of ten seconds.
    pub fn history(&self) -> History {
        let now = self.shared.clock.now();
        self.shared.aggregator().history(now)
    }

    /// What is wrong, in words: the answer of `/health`.
    pub fn health(&self) -> Verdict {
        health::verdict(&self.shared)
    }

    /// How every alert that a process can evaluate stands, as of the last closed row of 10 s.
    pub fn alerts(&self) -> Vec<health::Standing> {
        self.shared.aggregator().standings().to_vec()
    }

    /// Must this process be restarted? The answer of `/livez`; never waits for the aggregator.
    pub fn live(&self) -> Probe {
        health::live(&self.shared)
    }

    /// May it get new requests? The answer of `/readyz`; never waits for the aggregator.
    pub fn ready(&self) -> Probe {
        health::ready(&self.shared)
    }

    /// Where our HTTP server listens; `None` without one.
    #[cfg(feature = "export")]
    pub fn local_addr(&self) -> Option<std::net::SocketAddr> {
        self.server.as_ref().map(|server| server.local_addr())
    }

    /// The same routes as our own server's, for an engine that runs axum: mount it where you like.
    #[cfg(feature = "export")]
    pub fn router(&self) -> axum::Router {
        crate::export::router(crate::export::Exporter::new(self.shared.clone()))
    }

    /// This scope as a collector for an engine's prometheus-client `Registry`.
    #[cfg(feature = "collector")]
    pub fn collector(&self) -> crate::Collector {
        crate::Collector(self.shared.clone())
    }

    /// Ends: drains once more, waits up to `patience` for one more scrape (if anybody ever
    /// scraped) so that the last values are seen, and joins the threads. Stop producers first.
    pub fn shutdown(mut self, patience: Duration) {
        self.stop(patience)
    }

    fn stop(&mut self, patience: Duration) {
        if self.shared.is_forked() {
            // The threads are the parent's, and so are the locks that they may have held.
            #[cfg(feature = "export")]
            std::mem::forget(self.server.take());
            return std::mem::forget(self.thread.take());
        }
        if self.shared.stage() == Stage::Ready {
            self.shared.set_stage(Stage::Draining)
        }
        // The aggregate thread goes on until the last scrape: its lag would grow, and alarm.
        #[cfg(feature = "export")]
        if let Some(mut server) = self.server.take() {
            server.stop(patience)
        }
        if let Some(mut thread) = self.thread.take() {
            thread.stop()
        }
        #[cfg(not(feature = "export"))]
        let _ = patience;
    }
}

impl Drop for Stepscope {
    fn drop(&mut self) {
        self.stop(DROP_PATIENCE)
    }
}

impl std::fmt::Debug for Stepscope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepscope").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
