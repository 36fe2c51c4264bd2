//! Ollama's native API, as version 0.33 speaks it.

pub mod chat;
pub mod create;
pub mod embed;
pub mod generate;
pub mod models;
pub mod pull;

pub use chat::{ChatRequest, ChatResponse, Message};
pub use create::CreateRequest;
pub use embed::{EmbedRequest, EmbedResponse, EmbeddingsRequest, EmbeddingsResponse};
pub use generate::{GenerateRequest, GenerateResponse};
pub use models::{
    CopyRequest, DeleteRequest, Details, ListedModel, LoadedModel, Models, ShowRequest, ShowResponse, TensorInfo,
};
pub use pull::{Progress, PullRequest, PushRequest};

use serde::Serialize;

/// The one shape of every error.
#[derive(Debug, Serialize)]
pub struct Error<'a> {
    pub error: &'a str,
}

/// A token's chance, and those of its rivals.
#[derive(Clone, Debug, Serialize)]
pub struct Logprob {
    pub token: String,
    pub logprob: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bytes: Vec<u8>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub top_logprobs: Vec<Logprob>,
}

/// What the last object of an answer tells of its making. Zeros are left out.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Metrics {
    #[serde(skip_serializing_if = "is_zero")]
    pub total_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub load_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub prompt_eval_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub prompt_eval_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub eval_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub eval_duration: u64,
}

/// The prompt, instead of an answer.
#[derive(Clone, Debug, Serialize)]
pub struct DebugInfo {
    pub rendered_template: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub image_count: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
