//! OpenAI's API, as Ollama 0.33 speaks it.

use serde::Serialize;

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
