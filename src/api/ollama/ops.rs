//! Small answers: that the server runs, its version, and what would need an account elsewhere.
//!
//! hanzod has no cloud. These routes answer as an Ollama whose cloud is disabled.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::api::OLLAMA_VERSION;
use crate::api::error::{ApiError, OllamaError, json as answer};
use crate::api::names::remote;

pub async fn root() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "Ollama is running")
}

pub async fn version() -> Response {
    answer(&json!({ "version": OLLAMA_VERSION }))
}

pub async fn status() -> Response {
    answer(&json!({ "cloud": { "disabled": true, "source": "config" } }))
}

pub async fn me() -> OllamaError {
    OllamaError(ApiError::Unauthorized("unauthorized"))
}

pub async fn signout() -> OllamaError {
    OllamaError(ApiError::Unauthorized("you are not currently signed in"))
}

pub async fn web_search() -> OllamaError {
    OllamaError(remote("web search is unavailable"))
}

pub async fn web_fetch() -> OllamaError {
    OllamaError(remote("web fetch is unavailable"))
}

/// Nothing is recommended: no list is fetched from anywhere.
pub async fn recommendations() -> Response {
    answer(&json!({ "recommendations": [] }))
}
