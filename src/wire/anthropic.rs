//! Anthropic's messages API, as Ollama 0.33 speaks it.

use serde::Serialize;

/// The one shape of every error.
#[derive(Clone, Debug, Serialize)]
pub struct Envelope {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Error,
    request_id: String,
}

#[derive(Clone, Debug, Serialize)]
struct Error {
    #[serde(rename = "type")]
    kind: &'static str,
    message: String,
}

impl Envelope {
    pub fn new(kind: &'static str, message: String, request_id: String) -> Self {
        Self { kind: "error", error: Error { kind, message }, request_id }
    }
}
