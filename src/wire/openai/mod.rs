//! OpenAI's API, as Ollama 0.33 speaks it.

pub mod chat;
pub mod completions;
pub mod embeddings;
pub mod models;
pub mod responses;

use serde::Serialize;

use super::go_json::decode_struct;

/// What every answer calls the system that made it.
pub const FINGERPRINT: &str = "fp_ollama";

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub total_tokens: u64,
}

#[derive(Clone, Debug, Default)]
pub struct StreamOptions {
    pub include_usage: bool,
}

decode_struct!(StreamOptions as "openai" "StreamOptions" { "include_usage" => include_usage });

/// The one shape of every error.
#[derive(Clone, Debug, Serialize)]
pub struct Envelope {
    error: Error,
}

#[derive(Clone, Debug, Serialize)]
struct Error {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<()>,
    code: Option<()>,
}

impl Envelope {
    pub fn new(kind: &'static str, message: String) -> Self {
        Self { error: Error { message, kind, param: None, code: None } }
    }
}
