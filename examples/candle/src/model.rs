//! The model: GGUF weights and tokenizer through candle, and the sequences that run on them.

use anyhow::{Context, Result, anyhow};
use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use candle_core::{Device, Tensor};
use candle_transformers::generation::LogitsProcessor;
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;

/// Weights, tokenizer and where they live.
pub struct Model {
    name: String,
    weights: ModelWeights,
    tokenizer: Tokenizer,
    device: Device,
    /// The model says that its answer ends.
    end: u32,
    temperature: f64,
}

impl Model {
    /// Reads a llama model with its tokenizer from one GGUF file.
    pub fn load(path: &Path, device: Device, temperature: f64) -> Result<Model> {
        let opened = File::open(path).with_context(|| path.display().to_string())?;
        let mut file = BufReader::new(opened);
        let content = Content::read(&mut file)?;
        let tokenizer = tokenizer(&content)?;
        let end = content.metadata.get("tokenizer.ggml.eos_token_id");
        let end = end.context("the model names no end token")?.to_u32()?;
        let weights = ModelWeights::from_gguf(content, &mut file, &device)?;
        let name = path.file_stem().context("no file name")?.to_string_lossy().into_owned();
        Ok(Model { name, weights, tokenizer, device, end, temperature })
    }

    /// The file's name, without its ending.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Positions that candle's tables for this architecture cover.
    pub const fn context_length(&self) -> usize {
        MAX_SEQ_LEN
    }

    /// One question in the format that the instruct model was trained on (ChatML).
    pub fn encode(&self, question: &str) -> Result<Vec<u32>> {
        let chat = format!(
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging \
             Face<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        );
        let encoded = self.tokenizer.encode(chat, false).map_err(|error| anyhow!(error))?;
        Ok(encoded.get_ids().to_vec())
    }

    /// Tokens as text, without the special ones.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer.decode(tokens, true).map_err(|error| anyhow!(error))
    }

    /// Whether this token ends an answer.
    pub fn is_end(&self, token: u32) -> bool {
        token == self.end
    }

    /// A sequence that has computed nothing yet.
    pub fn sequence(&self, prompt: Vec<u32>, seed: u64) -> Sequence {
        let sampler = LogitsProcessor::new(seed, Some(self.temperature), Some(0.9));
        // The tensors are shared; the KV cache in the clone is the sequence's own.
        let weights = self.weights.clone();
        let prompt_length = prompt.len();
        let device = self.device.clone();
        Sequence { weights, device, sampler, tokens: prompt, prompt_length, computed: 0 }
    }

    /// A prompt and a token that nobody asked for: the first launches load and allocate, which would
    /// count as the first request's time.
    pub fn warm_up(&self) -> Result<()> {
        let mut sequence = self.sequence(self.encode("Hello")?, 0);
        for n in [sequence.pending(), 1] {
            let logits = sequence.forward(n)?.context("a whole prompt gives logits")?;
            let token = sequence.sample(&logits)?;
            sequence.push(token)
        }
        Ok(())
    }
}

/// The tokenizer that the GGUF describes.
fn tokenizer(content: &Content) -> Result<Tokenizer> {
    let mut tokenizer = Tokenizer::from_gguf(content)?;
    let kind = content.metadata.get("tokenizer.ggml.pre").and_then(|kind| kind.to_string().ok());
    if kind.is_some_and(|kind| kind == "smollm") {
        // Candle 0.11 does not know this kind and falls back to GPT-2's, which keeps numbers whole and
        // puts a space before each text. SmolLM splits digits and adds none.
        let steps = vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()];
        tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(steps)));
    }
    Ok(tokenizer)
}

/// A prompt and what was generated behind it. Tokens are computed in order; the newest ones are
/// pending until a step computes them.
pub struct Sequence {
    weights: ModelWeights,
    device: Device,
    sampler: LogitsProcessor,
    tokens: Vec<u32>,
    prompt_length: usize,
    computed: usize,
}

impl Sequence {
    /// Tokens that no step has computed: the rest of the prompt, or the token sampled last.
    pub fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Positions in the KV cache.
    pub fn positions(&self) -> usize {
        self.computed
    }

    /// Some of the prompt is still to be computed.
    pub fn is_prefill(&self) -> bool {
        self.computed < self.prompt_length
    }

    /// What was sampled so far.
    pub fn generated(&self) -> &[u32] {
        &self.tokens[self.prompt_length..]
    }

    /// Computes the next `n` pending tokens; logits if they were the last ones. On a GPU this
    /// launches and does not wait for them.
    pub fn forward(&mut self, n: usize) -> Result<Option<Tensor>> {
        let chunk = &self.tokens[self.computed..self.computed + n];
        let input = Tensor::new(chunk, &self.device)?.unsqueeze(0)?;
        let logits = self.weights.forward(&input, self.computed)?;
        self.computed += n;
        if self.pending() > 0 { Ok(None) } else { Ok(Some(logits.squeeze(0)?)) }
    }

    /// Chooses the next token, on the host unless the temperature is 0. On a GPU this waits for the
    /// logits.
    pub fn sample(&mut self, logits: &Tensor) -> Result<u32> {
        Ok(self.sampler.sample(logits)?)
    }

    /// Takes a sampled token on; the next step computes it.
    pub fn push(&mut self, token: u32) {
        self.tokens.push(token)
    }
}
