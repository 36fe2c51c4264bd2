//! OpenAI's API: how its requests become a turn, and a turn's pieces its chunks.

pub mod chat;
pub mod completions;
mod convert;
pub mod embeddings;
pub mod models;

use axum::response::Response;

use super::error::json_as;
use crate::engine::Usage;
use crate::wire::openai;

/// A whole answer.
fn answer<T: serde::Serialize>(value: &T) -> Response {
    json_as(value, "application/json")
}

fn usage(usage: &Usage) -> openai::Usage {
    openai::Usage {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        total_tokens: usage.prompt_tokens + usage.completion_tokens,
    }
}
