//! `/api/embed`, and `/api/embeddings` that came before it.

use serde::Serialize;
use serde_json::{Map, Value};

use super::is_zero;
use crate::types::KeepAlive;
use crate::wire::go_json::decode_struct;

#[derive(Clone, Debug, Default)]
pub struct EmbedRequest {
    pub model: String,
    /// A string or a list of strings; anything else is refused later, with a text of its own.
    pub input: Value,
    pub keep_alive: Option<KeepAlive>,
    pub truncate: Option<bool>,
    pub dimensions: i64,
    pub options: Map<String, Value>,
}

decode_struct!(EmbedRequest as "api" "EmbedRequest" {
    "model" => model,
    "input" => input,
    "keep_alive" => keep_alive,
    "truncate" => truncate,
    "dimensions" => dimensions,
    "options" => options,
});

#[derive(Clone, Debug, Default, Serialize)]
pub struct EmbedResponse {
    pub model: String,
    pub embeddings: Vec<Vec<f32>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub total_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub load_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub prompt_eval_count: u64,
}

#[derive(Clone, Debug, Default)]
pub struct EmbeddingsRequest {
    pub model: String,
    pub prompt: String,
    pub keep_alive: Option<KeepAlive>,
    pub options: Map<String, Value>,
}

decode_struct!(EmbeddingsRequest as "api" "EmbeddingRequest" {
    "model" => model,
    "prompt" => prompt,
    "keep_alive" => keep_alive,
    "options" => options,
});

#[derive(Clone, Debug, Default, Serialize)]
pub struct EmbeddingsResponse {
    pub embedding: Vec<f64>,
}
