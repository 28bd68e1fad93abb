//! What a row of the catalog says, and the checks every row passes at compile time.

use super::grid::Grid;

/// One metric family: everything that is known about it, typed once.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Number of the family; never reused.
    pub id: Id,
    /// Name in Prometheus' text format.
    pub name: &'static str,
    /// Counter, gauge, info or histogram, with its buckets.
    pub kind: Kind,
    /// Unit of the exported value.
    pub unit: Unit,
    /// Which part of the catalog (and row of the dashboard) it belongs to.
    pub tier: Tier,
    /// The open set of label values that multiplies the family.
    pub by: By,
    /// The closed sets of label values that multiply it further.
    pub split: &'static [Label],
    /// Whether it is exported before anything fed it.
    pub presence: Presence,
    /// HELP: what one sample is.
    pub help: &'static str,
    /// What is normal, for a 70B model on eight H100.
    pub healthy: Option<Healthy>,
    /// What other engines call it.
    pub aliases: &'static [Alias],
}

/// Kind of a family, with its buckets.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Only rises; restarts at 0 with the process.
    Counter,
    /// A level.
    Gauge,
    /// Constant 1; the labels carry the information.
    Info,
    /// Exact counts at these bounds, an exact sum, and native buckets on request.
    Histogram(Grid),
}

/// Unit of a family. Histograms store integers: ns for seconds, ppm for ratios.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Seconds, stored in ns.
    Seconds,
    /// Bytes.
    Bytes,
    /// A share from 0 to 1, stored in ppm.
    Ratio,
    /// Degrees Celsius.
    Celsius,
    /// Watts.
    Watts,
    /// Joules.
    Joules,
    /// Hertz.
    Hertz,
    /// Tokens per second; kept because dashboards ask for it.
    TokensPerSecond,
    /// A number of things named by the family.
    Count,
}

/// Part of the catalog, as the dashboard's rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// What users of the service feel.
    User,
    /// GPU, KV cache, scheduler.
    System,
    /// Where the time goes inside a request.
    Diagnostic,
    /// How far the instrument itself can be trusted.
    Own,
}

/// An open label set. Identity labels (`model`, `worker_id`) stand on every series besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// One series per process.
    Process,
    /// `endpoint`, `priority`: one per request class.
    Class,
    /// `endpoint`
    Endpoint,
    /// `priority`
    Priority,
    /// `gpu_id`, `node`
    Device,
    /// `gpu_id`
    Gpu,
    /// `gpu_id`, `pool`
    GpuPool,
    /// `pool`
    Pool,
    /// `metric`: the family whose label was folded.
    Metric,
    /// `version`, `role`, `engine`
    Worker,
}

impl By {
    /// The label names of the open set.
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            By::Process => &[],
            By::Class => &["endpoint", "priority"],
            By::Endpoint => &["endpoint"],
            By::Priority => &["priority"],
            By::Device => &["gpu_id", "node"],
            By::Gpu => &["gpu_id"],
            By::GpuPool => &["gpu_id", "pool"],
            By::Pool => &["pool"],
            By::Metric => &["metric"],
            By::Worker => &["version", "role", "engine"],
        }
    }
}

/// A closed label: its name and every value it can take.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Label name.
    pub name: &'static str,
    /// All values, in the order of the numbers that index them.
    pub values: &'static [&'static str],
}

/// When a family's series appear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// From the first scrape on, at 0: `rate()` cannot see a jump from absent to 1.
    Always,
    /// As soon as something feeds it: an engine that never reports it has no series.
    WhenFed,
}

/// The normal range of a family, and where it stops being normal.
#[derive(Clone, Copy, Debug)]
pub struct Healthy {
    /// The range in words.
    pub range: &'static str,
    /// Above this: look at it today. In the stored unit (ns, ppm, count).
    pub warning: Option<u64>,
    /// Above this: look at it now. In the stored unit.
    pub critical: Option<u64>,
}

/// The same thing in another system.
#[derive(Clone, Copy, Debug)]
pub struct Alias {
    /// Which system.
    pub system: System,
    /// Its name there.
    pub name: &'static str,
    /// True if it means exactly the same.
    pub same: bool,
}

/// A system whose names are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum System {
    Vllm,
    Sglang,
    Dynamo,
    TensorRtLlm,
    OpenTelemetry,
    Dcgm,
}

/// Numbers of the families. Fixed; a retired number stays listed and is never given again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
#[repr(u16)]
pub enum Id {
    Ttft = 1,
    Tbt = 2,
    RequestDuration = 3,
    TokensPerSecond = 4,
    Errors = 5,
    Requests = 6,
    GpuUtilization = 7,
    GpuMemoryUsed = 8,
    KvUtilization = 9,
    QueueDepth = 10,
    BatchSize = 11,
    Preemptions = 12,
    WorkerInfo = 13,
    RequestsInFlight = 14,
    RequestsAccepted = 15,
    NoFirstToken = 16,
    SloEvents = 17,
    Itl = 18,
    Tpot = 19,
    Queue = 20,
    Prefill = 21,
    PreemptionStall = 22,
    PromptTokens = 23,
    GeneratedTokens = 24,
    RecomputedTokens = 25,
    DiscardedTokens = 26,
    StepGpu = 27,
    GpuGap = 28,
    LastStepAge = 29,
    RequestsRunning = 30,
    KvBlocks = 31,
    GpuMemoryTotal = 32,
    GpuMemoryPreallocated = 33,
    GpuAllocFailures = 34,
    GpuTemperature = 35,
    GpuPower = 36,
    GpuThrottle = 37,
    GpuXid = 38,
    GpuEccUncorrected = 39,
    RingSamples = 40,
    RingDropped = 41,
    AggregatorLag = 42,
    LabelOverflow = 43,
    RingOccupancy = 44,
    ClockOffsetError = 45,
    ScrapeTime = 46,
    ProcessStart = 47,
    Admission = 48,
    Requeue = 49,
    Decode = 50,
    TtftUser = 51,
    EmitDelay = 52,
    TtftResidual = 53,
    RequestPromptTokens = 54,
    RequestGeneratedTokens = 55,
    RequestPreemptions = 56,
    StepHost = 57,
    KvStepUtilization = 58,
    KvSlotUsage = 59,
    StepSource = 60,
    StampsLost = 61,
    StampsUnclaimed = 62,
    ClockResolution = 63,
    ClockJumps = 64,
    Invalid = 65,
    StepSequences = 66,
    DraftTokens = 67,
    DraftAcceptedTokens = 68,
    GpuPowerLimit = 69,
    GpuEnergy = 70,
    GpuClock = 71,
    GpuPcieReplays = 72,
    GpuGraph = 73,
    CuptiRecords = 74,
}

impl Row {
    /// The finite bounds, empty for what is no histogram.
    pub const fn grid(&self) -> Grid {
        match self.kind {
            Kind::Histogram(grid) => grid,
            _ => &[],
        }
    }

    /// Series per value of the open label set.
    pub const fn split_len(&self) -> usize {
        let (mut product, mut i) = (1, 0);
        while i < self.split.len() {
            product *= self.split[i].values.len();
            i += 1;
        }
        product
    }
}

impl Unit {
    /// Stored units in one exported unit.
    pub const fn scale(self) -> u64 {
        match self {
            Unit::Seconds => 1_000_000_000,
            Unit::Ratio => 1_000_000,
            _ => 1,
        }
    }

    /// The suffix names end with, as OpenMetrics' UNIT says it; empty for plain counts.
    pub const fn suffix(self) -> &'static str {
        match self {
            Unit::Seconds => "seconds",
            Unit::Bytes => "bytes",
            Unit::Ratio => "ratio",
            Unit::Celsius => "celsius",
            Unit::Watts => "watts",
            Unit::Joules => "joules",
            Unit::Hertz => "hertz",
            Unit::TokensPerSecond => "tokens_per_second",
            Unit::Count => "",
        }
    }
}

/// Fails the build where the catalog breaks a rule.
pub(super) const fn check(rows: &[Row]) {
    let mut i = 0;
    while i < rows.len() {
        check_row(&rows[i]);
        let mut j = 0;
        while j < i {
            assert!(!equal(rows[i].name, rows[j].name), "two rows with one name");
            assert!(rows[i].id as u16 != rows[j].id as u16, "two rows with one number");
            j += 1;
        }
        i += 1;
    }
}

const fn check_row(row: &Row) {
    let grid = row.grid();
    let mut i = 1;
    while i < grid.len() {
        assert!(grid[i - 1].value < grid[i].value, "bounds must ascend");
        i += 1;
    }
    let counter = matches!(row.kind, Kind::Counter);
    let info = matches!(row.kind, Kind::Info);
    assert!(counter == ends_with(row.name, "_total"), "counters, and only they, end with _total");
    assert!(!info || ends_with(row.name, "_info"), "an info family ends with _info");
    assert!(
        row.unit.suffix().is_empty()
            || ends_with(row.name, row.unit.suffix())
            || (counter && ends_with_unit_total(row.name, row.unit.suffix()))
            // The article's own names.
            || ends_with(row.name, "_utilization"),
        "the name must end with its unit"
    );
    assert!(!row.help.is_empty(), "HELP says what one sample is");
    if let Some(healthy) = row.healthy {
        check_limit(grid, healthy.warning);
        check_limit(grid, healthy.critical);
        if let (Some(warning), Some(critical)) = (healthy.warning, healthy.critical) {
            assert!(warning < critical, "a warning comes before a critical");
        }
    }
}

/// A limit of a histogram must be a bucket bound, so that alerts need no interpolation.
const fn check_limit(grid: Grid, limit: Option<u64>) {
    if let (Some(limit), false) = (limit, grid.is_empty()) {
        let (mut i, mut found) = (0, false);
        while i < grid.len() {
            found |= grid[i].value == limit;
            i += 1;
        }
        assert!(found, "a limit must be a bound of the grid");
    }
}

const fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && ends_with(a, b)
}

const fn ends_with(text: &str, end: &str) -> bool {
    let (text, end) = (text.as_bytes(), end.as_bytes());
    if text.len() < end.len() {
        return false;
    }
    let mut i = 0;
    while i < end.len() {
        if text[text.len() - end.len() + i] != end[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// `name` without its `_total` ends with the unit.
const fn ends_with_unit_total(name: &str, unit: &str) -> bool {
    let bytes = name.as_bytes();
    let (head, _) = bytes.split_at(bytes.len() - "_total".len());
    match std::str::from_utf8(head) {
        Ok(head) => ends_with(head, unit),
        Err(_) => false,
    }
}
