//! `stepscope_config`: the settings of C, and how they become those of Rust.

use crate::wall::*;
use crate::words::*;
use std::ffi::c_char;
use stepscope_rs::{Clock, Config, ManualClock, Time};

/// Settings of one scope. Set `size` to `sizeof(stepscope_config)` and the rest to zero
/// (`stepscope_config config = {.size = sizeof config};`), then what you want to change: 0 and NULL mean
/// the default. Read during `stepscope_start` only. Strings are UTF-8; what is not becomes U+FFFD.
///
/// Later versions add fields at the end; `size` tells which version a program was built with.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_config {
    /// `sizeof(stepscope_config)`.
    pub size: usize,
    /// Label `model` of every series; default `unknown`.
    pub model: *const c_char,
    /// Label `worker_id` of every series; default the host's name.
    pub worker_id: *const c_char,
    /// Name of the engine, in `llm_worker_info`.
    pub engine: *const c_char,
    /// Version of the engine, in `llm_worker_info`.
    pub engine_version: *const c_char,
    /// Label `gpu_id` of recorders that name no device; default `0`.
    pub gpu_id: *const c_char,
    /// Label `node`; default the host's name.
    pub node: *const c_char,
    /// Address of the HTTP server, such as `0.0.0.0:9464`; port 0 lets the system choose, `off`
    /// starts no server; default `127.0.0.1:9464`.
    pub listen: *const c_char,
    /// What this worker does: a `STEPSCOPE_ROLE_` number.
    pub role: stepscope_role,
    /// A request's TTFT is good up to this, in ms.
    pub ttft_objective_ms: u32,
    /// A gap between tokens is slow above this, in ms.
    pub tbt_objective_ms: u32,
    /// Most request classes, 1 to 32,767; default 256.
    pub series_max: u32,
    /// Events one recorder's ring holds, 16 to 1,048,576; default 8,192.
    pub ring_events: u32,
    /// Longest label value in bytes, 8 to 1,024; default 128.
    pub label_bytes_max: u32,
    /// Token slots of one KV block; 0 = not told.
    pub kv_block_tokens: u32,
    /// 1 = offer protobuf with native histograms. Turn it on only with
    /// `always_scrape_classic_histograms: true` on the server.
    pub native_histograms: u8,
    /// 1 = add `_created` to OpenMetrics.
    pub created_series: u8,
    /// 1 = also export the `vllm:` families that endpoint pickers read.
    pub vllm_aliases: u8,
    /// 1 = begin with the environment variables `STEPSCOPE_*`; what is set here wins over them.
    pub read_environment: u8,
    /// Not 0 = a simulated clock that stands at this time, in ns, until `stepscope_advance` moves
    /// it; no thread drains.
    pub manual_clock_ns: u64,
}

const FIELDS: usize = size_of::<stepscope_config>();

/// The settings that C gave; a shorter struct of an older header is filled with zeros.
///
/// # Safety
/// `given` is NULL or leads to `size` bytes, and its strings end.
pub(crate) unsafe fn read(given: *const stepscope_config) -> Result<Config, Refusal> {
    if given.is_null() {
        return Ok(Config::default());
    }
    // SAFETY: the caller's promise.
    let c = unsafe { complete(given) }?;
    // SAFETY: the caller's promise.
    unsafe { apply(&c, base(c.read_environment)?) }
}

fn base(read_environment: u8) -> Result<Config, Refusal> {
    match read_environment {
        0 => Ok(Config::default()),
        _ => Config::from_env().map_err(|why| Refusal::new(STEPSCOPE_ERROR_INVALID, why)),
    }
}

/// # Safety
/// As for `read`.
pub(crate) unsafe fn complete<T: Copy>(given: *const T) -> Result<T, Refusal> {
    let bytes = given.cast::<u8>();
    // SAFETY: every such struct begins with its size.
    let size = unsafe { given.cast::<usize>().read_unaligned() };
    if !(size_of::<usize>()..=1 << 16).contains(&size) {
        return Err(Refusal::new(STEPSCOPE_ERROR_INVALID, "size: say sizeof of the struct"));
    }
    // Fields that this version does not know must say nothing.
    // SAFETY: within the size that the caller gave.
    let unknown = (size_of::<T>()..size).any(|at| unsafe { bytes.add(at).read() } != 0);
    if unknown {
        let text = "the struct has settings that this library is too old for";
        return Err(Refusal::new(STEPSCOPE_ERROR_INVALID, text));
    }
    let mut whole = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: both hold so many bytes; the structs are plain numbers and pointers, for which zero
    // is a value.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes, whole.as_mut_ptr().cast(), size.min(size_of::<T>()));
        Ok(whole.assume_init())
    }
}

/// # Safety
/// The strings are NULL or end.
unsafe fn apply(c: &stepscope_config, mut config: Config) -> Result<Config, Refusal> {
    let texts = [
        (c.model, &mut config.model),
        (c.worker_id, &mut config.worker_id),
        (c.engine, &mut config.engine),
        (c.engine_version, &mut config.engine_version),
        (c.gpu_id, &mut config.gpu_id),
        (c.node, &mut config.node),
    ];
    for (given, setting) in texts {
        // SAFETY: the caller's promise.
        if let Some(text) = unsafe { text(given) } {
            *setting = text.into_owned()
        }
    }
    // SAFETY: the caller's promise.
    if let Some(address) = unsafe { text(c.listen) } {
        config.listen = listen(&address)?
    }
    if c.role != STEPSCOPE_ROLE_BOTH {
        config.role = role(c.role).ok_or_else(|| number("role", "0, 1 or 2"))?
    }
    numbers(c, &mut config)?;
    Ok(config)
}

fn numbers(c: &stepscope_config, config: &mut Config) -> Result<(), Refusal> {
    let set = |given: u32, setting: &mut u32| {
        if given != 0 {
            *setting = given
        }
    };
    set(c.ttft_objective_ms, &mut config.ttft_objective_ms);
    set(c.tbt_objective_ms, &mut config.tbt_objective_ms);
    let set = |given: u32, setting: &mut usize| {
        if given != 0 {
            *setting = given as usize
        }
    };
    set(c.ring_events, &mut config.ring_events);
    set(c.label_bytes_max, &mut config.label_bytes_max);
    if c.series_max != 0 {
        let fits = u16::try_from(c.series_max);
        config.series_max = fits.map_err(|_| number("series_max", "1 to 32767"))?
    }
    if c.kv_block_tokens != 0 {
        config.kv_block_tokens = Some(c.kv_block_tokens)
    }
    config.native_histograms |= c.native_histograms != 0;
    config.created_series |= c.created_series != 0;
    config.vllm_aliases |= c.vllm_aliases != 0;
    if c.manual_clock_ns != 0 {
        config.clock = Clock::Manual(ManualClock::new(Time::from_nanos(c.manual_clock_ns)))
    }
    Ok(())
}

fn listen(address: &str) -> Result<Option<std::net::SocketAddr>, Refusal> {
    let advice = "listen: say ADDRESS:PORT, such as 127.0.0.1:9464 or [::1]:0, or off";
    match address {
        "off" => Ok(None),
        _ => address.parse().map(Some).map_err(|_| Refusal::new(STEPSCOPE_ERROR_INVALID, advice)),
    }
}

fn number(name: &str, range: &str) -> Refusal {
    Refusal::new(STEPSCOPE_ERROR_INVALID, format_args!("{name}: say {range}"))
}

const _: () = assert!(FIELDS == 104 && align_of::<stepscope_config>() == 8);
