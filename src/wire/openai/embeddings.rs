//! `/v1/embeddings`.

use serde::Serialize;
use serde_json::Value;

use crate::wire::go_json::decode_struct;

#[derive(Clone, Debug, Default)]
pub struct EmbeddingsRequest {
    pub model: String,
    /// A string or a list of strings.
    pub input: Value,
    pub dimensions: i64,
    pub encoding_format: String,
}

decode_struct!(EmbeddingsRequest as "openai" "EmbedRequest" {
    "model" => model,
    "input" => input,
    "dimensions" => dimensions,
    "encoding_format" => encoding_format,
});

#[derive(Clone, Debug, Serialize)]
pub struct Embeddings {
    pub object: &'static str,
    pub data: Vec<Embedding>,
    pub model: String,
    pub usage: EmbeddingsUsage,
}

#[derive(Clone, Debug, Serialize)]
pub struct Embedding {
    pub object: &'static str,
    pub embedding: Vector,
    pub index: usize,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Vector {
    Floats(Vec<f32>),
    /// Little-endian floats of 32 bits.
    Base64(String),
}

#[derive(Clone, Debug, Serialize)]
pub struct EmbeddingsUsage {
    pub prompt_tokens: u64,
    pub total_tokens: u64,
}
