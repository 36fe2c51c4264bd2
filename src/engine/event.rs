//! What an engine answers.

use serde::{Deserialize, Serialize};

/// One step of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StepEvent {
    /// Text that is whole (no half characters, nothing that could be the start of a stop string), with the tokens it
    /// came from when log-probabilities were asked for. The text may be empty when only they are ready.
    Text {
        text: String,
        logprobs: Vec<TokenLogprob>,
    },
    Done(Completion),
}

/// A token's chance, and its rivals'.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    pub token: String,
    /// Natural logarithm, of the distribution before any sampling option.
    pub logprob: f32,
    pub bytes: Vec<u8>,
    /// The likeliest tokens, best first, without rivals of their own.
    pub top: Vec<TokenLogprob>,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    pub finish: FinishReason,
    pub usage: Usage,
    /// Prompt and answer as tokens, for `context`.
    pub tokens: Vec<u32>,
    /// The stop string that ended it, if one did.
    pub stop: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The model ended its answer, or a stop string did.
    Stop,
    /// `num_predict` or the context was used up.
    Length,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All tokens of the prompt, those found in a cache included.
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    /// Time spent on the prompt's tokens, in nanoseconds.
    pub prompt_ns: u64,
    pub completion_tokens: u64,
    pub completion_ns: u64,
    /// Tokens that were guessed ahead, and how many of them the model then said.
    pub guessed_tokens: u64,
    pub accepted_tokens: u64,
}

/// What a model turned out to be once it was loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunnerReport {
    /// Context of one sequence in tokens.
    pub context_length: u64,
    /// Context the model was trained for.
    pub train_context_length: u64,
    pub embedding_length: u64,
    /// Sequences that may run at once.
    pub parallel: u32,
    /// Bytes of weights, cache and buffers.
    pub size: u64,
    /// Bytes of those on an accelerator.
    pub size_vram: u64,
    /// In words, for people: `CPU (AVX2, AVX512)`, `CUDA0 NVIDIA H100`.
    pub device: String,
    /// The text of the token a prompt begins with, when the tokenizer adds it by itself.
    pub bos: Option<String>,
}

/// What can go wrong in an engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum EngineError {
    /// The request cannot be answered by this model; the text is for the client.
    #[error("{0}")]
    Invalid(String),
    /// The model could not be loaded.
    #[error("{0}")]
    Load(String),
    /// The model could not be quantised.
    #[error("unable to quantize the model: {0}")]
    Quantize(String),
    /// The runner died while it was at work.
    #[error(
        "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check hanzod server logs for details: {0}"
    )]
    Died(String),
    /// Something failed in the middle of an answer.
    #[error("an error was encountered while running the model: {0}")]
    Failed(String),
    /// The client read its answer too slowly and the answer was given up.
    #[error("the answer was read too slowly and was given up")]
    Slow,
}
