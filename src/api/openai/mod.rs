//! OpenAI's API: how its requests become a turn, and a turn's pieces its chunks.

pub mod chat;
pub mod completions;
mod convert;
pub mod embeddings;
pub mod models;
pub mod responses;

use super::error::json_line as answer;
use crate::engine::Usage;
use crate::wire::openai;

fn usage(usage: &Usage) -> openai::Usage {
    openai::Usage {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        total_tokens: usage.prompt_tokens + usage.completion_tokens,
    }
}
