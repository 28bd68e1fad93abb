//! A model on its hardware, and how long one of its steps takes.
//!
//! ```text
//! step = dense(tokens) + attention(decode) + attention(prefill) + all-reduce(tokens) + head
//! ```
//!
//! * `dense`: all operators but attention. Measured: `data/vidur_h100_llama2_7b.csv` holds GPU times
//!   of one Llama-2-7B layer on one H100 by tokens in the batch. Other models scale it by the
//!   weights of their layers, which both the bytes read (few tokens) and the multiplications (many)
//!   are proportional to, and divide by the tensor-parallel degree and an efficiency of splitting.
//! * `attention(decode)`: the KV cache of the batch is read once: bytes / bandwidth.
//! * `attention(prefill)`: a chunk of `c` positions behind `p` earlier ones costs
//!   `4 · layers · width · c · (p + c/2)` operations: the quadratic term.
//! * `all-reduce`: two per layer with tensor parallelism: a latency and the ring's bytes.
//! * `head`: the output matrix is read once.
//!
//! It is a model, not a measurement of these models: good to some ten percent, with the right shape.

use crate::kv::BLOCK_TOKENS;
use crate::trace::Trace;

/// Weights of the layer that the table was measured on: attention 4 · 4096², MLP 3 · 4096 · 11008.
const TABLE_LAYER_WEIGHTS: f64 = 4.0 * 4096.0 * 4096.0 + 3.0 * 4096.0 * 11008.0;

/// Speed-up of a layer split over n GPUs, divided by n: narrow matrices use a GPU less well, and norms
/// are not split. An estimate; all-reduces come on top.
const SPLIT_EFFICIENCY: f64 = 0.85;

/// HBM3 of an H100 SXM: 3.35 TB/s (data sheet), of which 80 % are assumed to be reached.
const HBM_BYTES_PER_NS: f64 = 3_350.0 * 0.8;

/// Attention on an H100: half of the 989 TFLOPS of dense BF16 (data sheet). FlashAttention-3 (Shah et
/// al. 2024) reports up to 740; half of the peak allows for the causal mask and for short chunks.
const ATTENTION_FLOP_PER_NS: f64 = 500_000.0;

/// One all-reduce over NVLink: 450 GB/s in each direction (data sheet), and 10 µs assumed to start.
const ALL_REDUCE_NS: f64 = 10_000.0;
const NVLINK_BYTES_PER_NS: f64 = 450.0;

const BF16_BYTES: f64 = 2.0;

/// Bounds of the scheduler, chosen with model and hardware.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Limits {
    /// Longest prompt and answer together.
    pub(crate) context_tokens: u32,
    /// Positions computed in one step.
    pub(crate) step_tokens: u32,
    /// Of these, positions of prompts.
    pub(crate) prefill_tokens: u32,
    /// Sequences running at once.
    pub(crate) sequences: usize,
    /// Requests waiting at once.
    pub(crate) queue: usize,
    /// Share of the KV pool that an admission leaves to the growth of those that run.
    pub(crate) spare_share: f64,
}

/// A model on its hardware, with the scheduler's limits for it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Profile {
    name: &'static str,
    model: &'static str,
    layers: f64,
    width: f64,
    layer_weights: f64,
    vocabulary: f64,
    /// Keys and values of one token in all layers.
    kv_bytes: f64,
    gpus: f64,
    pub(crate) kv_blocks: u32,
    pub(crate) limits: Limits,
    /// Tokens a second, in and out, that it serves well below its limit.
    comfortable_tokens_per_s: f64,
}

/// A word that names no profile.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no profile is called {0:?}; say one of {names}", names = Profile::names().join(", "))]
pub struct UnknownProfile(pub String);

const LIMITS: Limits = Limits {
    context_tokens: 32_768,
    // 1,024 positions in a step keep a decode step that carries a chunk below 80 ms.
    step_tokens: 1_024,
    prefill_tokens: 1_024,
    sequences: 128,
    queue: 512,
    // vLLM leaves 1 %; with 2 % even a small pool that is full preempts rarely.
    spare_share: 0.02,
};

/// Llama-3-8B on one H100: grouped-query attention with 8 KV heads of 128, MLP 14336 wide.
/// KV blocks: 0.9 · 80 GB less 16 GB of weights and 4 GB of activations, 128 KiB a token.
const P8B: Profile = Profile {
    name: "8b",
    model: "llama-3-8b",
    layers: 32.0,
    width: 4096.0,
    layer_weights: 4096.0 * (2.0 * 4096.0 + 2.0 * 1024.0) + 3.0 * 4096.0 * 14336.0,
    vocabulary: 128_256.0,
    kv_bytes: 2.0 * 32.0 * 1024.0 * BF16_BYTES,
    gpus: 1.0,
    kv_blocks: 24_800,
    limits: LIMITS,
    comfortable_tokens_per_s: 9_000.0,
};

/// Llama-3-70B on eight H100, tensor parallel. One simulated device stands for all eight.
/// KV blocks: 8 · 0.9 · 80 GB less 141 GB of weights and 32 GB of activations, 320 KiB a token.
const P70B: Profile = Profile {
    name: "70b",
    model: "llama-3-70b",
    layers: 80.0,
    width: 8192.0,
    layer_weights: 8192.0 * (2.0 * 8192.0 + 2.0 * 1024.0) + 3.0 * 8192.0 * 28672.0,
    vocabulary: 128_256.0,
    kv_bytes: 2.0 * 80.0 * 1024.0 * BF16_BYTES,
    gpus: 8.0,
    kv_blocks: 76_800,
    limits: LIMITS,
    comfortable_tokens_per_s: 4_500.0,
};

impl Profile {
    /// The profile of this name: `8b`, an 8B-class model on one H100, or `70b`, a 70B-class model
    /// on eight.
    ///
    /// # Errors
    /// [`UnknownProfile`] lists the names there are.
    pub fn named(name: &str) -> Result<Profile, UnknownProfile> {
        let found = [P8B, P70B].into_iter().find(|profile| profile.name == name);
        found.ok_or_else(|| UnknownProfile(name.into()))
    }

    /// All names, the default first.
    pub const fn names() -> &'static [&'static str] {
        &[P8B.name, P70B.name]
    }

    /// Its name.
    pub const fn name(&self) -> &str {
        self.name
    }

    /// The model's name, for the label `model`.
    pub const fn model(&self) -> &str {
        self.model
    }

    /// GPUs that one simulated device stands for.
    pub(crate) const fn gpus(&self) -> f64 {
        self.gpus
    }

    /// Token slots of one KV block.
    pub const fn kv_block_tokens(&self) -> u32 {
        BLOCK_TOKENS
    }

    /// How many workers of this kind share a trace so that each is busy and none overloaded.
    pub(crate) fn workers_for(&self, trace: &Trace) -> usize {
        let fits = |tokens: &u64| *tokens <= u64::from(self.limits.context_tokens);
        let lengths = trace.requests.iter().map(|r| u64::from(r.prompt) + u64::from(r.output));
        let tokens: u64 = lengths.filter(fits).sum();
        let per_s = tokens as f64 / (trace.period_ns() as f64 * 1e-9);
        (per_s / self.comfortable_tokens_per_s).round().max(1.0) as usize
    }
}

/// Work of one sequence in a step: `new` positions behind `before` earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Work {
    pub(crate) before: u32,
    pub(crate) new: u32,
    pub(crate) is_decode: bool,
}

/// Step durations of one profile.
pub(crate) struct StepModel {
    profile: Profile,
    /// (tokens in the batch, ns of one layer, ns of the embedding), ascending.
    table: Vec<[f64; 3]>,
}

impl StepModel {
    pub(crate) fn new(profile: Profile) -> StepModel {
        let text = include_str!("../data/vidur_h100_llama2_7b.csv");
        let numbers = |line: &str| {
            let mut cells = line.split(',').map(|cell| cell.parse::<f64>().ok());
            let [tokens, layer_ms, emb_ms] = [cells.next()??, cells.next()??, cells.next()??];
            Some([tokens, layer_ms * 1e6, emb_ms * 1e6])
        };
        let table: Option<_> = text.lines().skip(1).map(numbers).collect();
        StepModel { profile, table: table.expect("a test reads it") }
    }

    /// Device time of a step, in ns.
    pub(crate) fn step_ns(&self, batch: impl Iterator<Item = Work> + Clone) -> f64 {
        let p = &self.profile;
        let tokens: f64 = batch.clone().map(|work| f64::from(work.new)).sum();
        let attention: f64 = batch.map(|work| self.attention_ns(work)).sum();
        let head = p.width * p.vocabulary * BF16_BYTES / HBM_BYTES_PER_NS / p.gpus;
        self.dense_ns(tokens) + attention + self.all_reduce_ns(tokens) + head
    }

    fn dense_ns(&self, tokens: f64) -> f64 {
        let p = &self.profile;
        let [layer, embedding] = self.measured(tokens);
        let split = if p.gpus > 1.0 { p.gpus * SPLIT_EFFICIENCY } else { 1.0 };
        p.layers * layer * (p.layer_weights / TABLE_LAYER_WEIGHTS) / split + embedding
    }

    /// Linear between the measured batch sizes; no step is larger than the last one.
    fn measured(&self, tokens: f64) -> [f64; 2] {
        let above = self.table.partition_point(|row| row[0] < tokens);
        let above = above.clamp(1, self.table.len() - 1);
        let (low, high) = (self.table[above - 1], self.table[above]);
        let share = ((tokens - low[0]) / (high[0] - low[0])).clamp(0.0, 1.0);
        [1, 2].map(|column| low[column] + share * (high[column] - low[column]))
    }

    fn attention_ns(&self, work: Work) -> f64 {
        let p = &self.profile;
        let (before, new) = (f64::from(work.before), f64::from(work.new));
        let ns = if work.is_decode {
            (before + new) * p.kv_bytes / HBM_BYTES_PER_NS
        } else {
            4.0 * p.layers * p.width * new * (before + new / 2.0) / ATTENTION_FLOP_PER_NS
        };
        ns / p.gpus
    }

    fn all_reduce_ns(&self, tokens: f64) -> f64 {
        let p = &self.profile;
        if p.gpus == 1.0 {
            return 0.0;
        }
        // A ring sends every byte twice, less the own share.
        let bytes = 2.0 * (p.gpus - 1.0) / p.gpus * tokens * p.width * BF16_BYTES;
        2.0 * p.layers * (ALL_REDUCE_NS + bytes / NVLINK_BYTES_PER_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> StepModel {
        StepModel::new(Profile::named(name).unwrap())
    }

    fn step_ms(name: &str, batch: &[Work]) -> f64 {
        model(name).step_ns(batch.iter().copied()) * 1e-6
    }

    const DECODE: Work = Work { before: 8_192, new: 1, is_decode: true };
    const CHUNK: Work = Work { before: 8_192, new: 1_024, is_decode: false };

    #[test]
    fn the_table_is_read_exactly_at_its_points_and_between_them() {
        let model = model("8b");
        assert_eq!(model.table.len(), 259);
        assert_eq!(model.measured(1.0)[0], 175_000.0);
        let [low, high] = [512.0, 520.0].map(|tokens| model.measured(tokens)[0]);
        assert!((model.measured(516.0)[0] - (low + high) / 2.0).abs() < 1e-6);
        let largest = model.table.last().map(|row| row[0] as u32);
        assert!(Profile::named("70b").unwrap().limits.step_tokens <= largest.unwrap());
    }

    #[test]
    fn steps_take_as_long_as_they_do_on_such_hardware() {
        assert!((6.0..8.0).contains(&step_ms("8b", &[DECODE])));
        assert!((8.0..14.0).contains(&step_ms("70b", &[DECODE])));
        assert!((25.0..45.0).contains(&step_ms("8b", &[CHUNK])));
        assert!((45.0..75.0).contains(&step_ms("70b", &[CHUNK])));
    }

    #[test]
    fn longer_contexts_and_larger_batches_take_longer() {
        let far = Work { before: 30_000, ..CHUNK };
        assert!(step_ms("8b", &[far]) > 1.5 * step_ms("8b", &[CHUNK]));
        assert!(step_ms("8b", &[DECODE; 64]) > 2.0 * step_ms("8b", &[DECODE]));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = Profile::named("13b").expect_err("unknown");
        assert_eq!(error.to_string(), "no profile is called \"13b\"; say one of 8b, 70b");
        assert!(Profile::names().iter().all(|name| Profile::named(name).is_ok()));
    }
}
