//! Work that tells of its progress: creating, pulling, pushing.

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::error::{ApiError, json_as};
use super::stream::{Pieces, last, ndjson};
use crate::wire::ollama;

/// Here Ollama names no character set.
const JSON: &str = "application/json";
/// Between two lines of work that would tell more often.
pub const TICK: Duration = Duration::from_millis(60);

/// Line by line, or the last line only.
pub async fn respond<T: Serialize + Send + 'static>(stream: bool, pieces: Pieces<T>) -> Response {
    let answer = if stream { ndjson(pieces).await } else { last(pieces).await.map(|last| json_as(&last, JSON)) };
    answer.unwrap_or_else(refuse)
}

fn refuse(error: ApiError) -> Response {
    let text = error.to_string();
    (error.status(), json_as(&ollama::Error { error: &text }, JSON)).into_response()
}
