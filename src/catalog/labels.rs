//! Label names and the closed sets of values they take. Index = the number of the word in `record`.

/// How a request ended.
pub const STATUS: &[&str] = &["stop", "length", "handover", "aborted", "failed", "rejected"];
/// What a failed or rejected request died of.
pub const ERROR_TYPE: &[&str] = &["oom", "timeout", "crash", "overload", "internal", "input"];
/// Why a sequence was put back to waiting.
pub const PREEMPT: &[&str] = &["memory", "priority", "swap"];
/// Why computed tokens are in no answer.
pub const DISCARD: &[&str] = &["draft", "stop_surplus", "beam", "aborted"];
/// Why an accepted request is not running.
pub const WAIT: &[&str] = &["capacity", "deferred", "grammar", "kv_fetch", "lora"];
/// What a worker does.
pub const ROLE: &[&str] = &["both", "prefill", "decode"];
/// Where prompt positions came from.
pub const PROMPT_SOURCE: &[&str] = &["computed", "cached", "transferred"];
/// How a request without a first token ended; `empty` = stop or length without a token.
pub const NO_FIRST: &[&str] = &["aborted", "failed", "rejected", "empty"];
/// Service level objectives, judged per request.
pub const OBJECTIVE: &[&str] = &["availability", "ttft", "tbt"];
/// Whether the objective was met.
pub const GOOD: &[&str] = &["false", "true"];
/// What a step computed.
pub const PHASE: &[&str] = &["prefill", "decode", "mixed"];
/// Whether requests were waiting for the GPU during a gap between two steps.
pub const WORK: &[&str] = &["none", "waiting"];
/// Where a step's time came from.
pub const STEP_SOURCE: &[&str] = &["gpu", "host", "simulated"];
/// What a KV block is doing.
pub const KV_STATE: &[&str] = &["referenced", "cached", "free"];
/// What a verb was told that cannot be.
pub const INVALID: &[&str] = &[
    "time_backwards",
    "zero_gap",
    "absurd_gap",
    "absurd_count",
    "not_live",
    "already_ended",
    "no_enqueue",
    "no_schedule",
    "while_waiting",
    "order",
    "foreign",
    "foreign_clock",
    "role",
    "child",
    "dropped",
    "thread",
];
/// Why a step's stamps told nothing; `late` = they were not there yet when the step was settled.
pub const STAMP_LOST: &[&str] = &[
    "unavailable",
    "capturing",
    "launch_failed",
    "not_ended",
    "overwritten",
    "foreign",
    "clock_jump",
    "acausal",
    "forked",
    "detached",
    "wrong_owner",
    "late",
];
/// Why a GPU ran below its clocks.
pub const THROTTLE: &[&str] = &["thermal", "power_brake", "power_cap"];
/// What became of a record of CUPTI; `attributed` = its step was found.
pub const CUPTI_RECORD: &[&str] =
    &["attributed", "unattributed", "invalid", "dropped", "unreadable"];
/// What an XID error means for the worker.
pub const XID_CLASS: &[&str] = &["fatal", "app", "notice"];
/// Clock domains of a GPU.
pub const GPU_CLOCK: &[&str] = &["sm", "memory"];

/// The value a label takes when its table is full.
pub const OTHER: &str = "other";
/// The priority of requests that name none.
pub const DEFAULT_PRIORITY: &str = "default";
/// The name of the attention KV pool.
pub const DEFAULT_POOL: &str = "kv";
