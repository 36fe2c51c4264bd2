//! `/v1/completions`.

use serde::Serialize;
use serde_json::Value;

use super::{StreamOptions, Usage};
use crate::wire::go_json::decode_struct;

#[derive(Clone, Debug, Default)]
pub struct CompletionRequest {
    pub model: String,
    pub prompt: String,
    pub frequency_penalty: f64,
    pub max_tokens: Option<i64>,
    pub presence_penalty: f64,
    pub seed: Option<i64>,
    pub stop: Value,
    pub stream: bool,
    pub stream_options: Option<StreamOptions>,
    pub temperature: Option<f64>,
    pub top_p: f64,
    pub suffix: String,
    /// Taken and not answered, as in Ollama.
    pub logprobs: Option<i64>,
    pub debug_render_only: bool,
}

decode_struct!(CompletionRequest as "openai" "CompletionRequest" {
    "model" => model,
    "prompt" => prompt,
    "frequency_penalty" => frequency_penalty,
    "max_tokens" => max_tokens,
    "presence_penalty" => presence_penalty,
    "seed" => seed,
    "stop" => stop,
    "stream" => stream,
    "stream_options" => stream_options,
    "temperature" => temperature,
    "top_p" => top_p,
    "suffix" => suffix,
    "logprobs" => logprobs,
    "_debug_render_only" => debug_render_only,
});

#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    pub text: String,
    pub index: u32,
    pub finish_reason: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Completion {
    pub id: String,
    pub object: &'static str,
    pub created: i64,
    pub model: String,
    pub system_fingerprint: &'static str,
    pub choices: Vec<Choice>,
    pub usage: Usage,
}

/// A piece of a stream. Its keys come in another order.
#[derive(Clone, Debug, Serialize)]
pub struct Chunk {
    pub id: String,
    pub object: &'static str,
    pub created: i64,
    pub choices: Vec<Choice>,
    pub model: String,
    pub system_fingerprint: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}
