//! `POST /api/embed`, and `/api/embeddings` that came before it.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde_json::Value;
use tokio::time::Instant;

use super::convert;
use crate::api::AppState;
use crate::api::embed::{Embedded, Texts, embed as run};
use crate::api::error::{ApiError, OllamaError, json};
use crate::api::extract::Ollama;
use crate::api::names;
use crate::api::turn::Wish;
use crate::wire::ollama::{EmbedRequest, EmbedResponse, EmbeddingsRequest, EmbeddingsResponse};

pub async fn embed(
    State(state): State<AppState>,
    Ollama(request): Ollama<EmbedRequest>,
) -> Result<Response, OllamaError> {
    let began = Instant::now();
    let inputs = inputs(request.input)?;
    let name = names::model(&request.model, || ApiError::NotFound("model '' not found".into()))?;
    let wish = Wish {
        asked: request.model.clone(),
        options: request.options,
        keep_alive: request.keep_alive,
        truncate: request.truncate,
        ..Wish::default()
    };
    let empty = inputs.is_empty();
    let texts = Texts { inputs, dimensions: usize::try_from(request.dimensions).unwrap_or_default() };
    let embedded = run(&state, &name, wish, texts).await?;
    if empty {
        return Ok(json(&EmbedResponse { model: request.model, ..EmbedResponse::default() }));
    }
    Ok(json(&answer(request.model, embedded, began.elapsed())))
}

fn answer(model: String, embedded: Embedded, total: Duration) -> EmbedResponse {
    EmbedResponse {
        model,
        embeddings: embedded.vectors,
        total_duration: convert::nanos(total),
        load_duration: convert::nanos(embedded.load),
        prompt_eval_count: embedded.prompt_tokens,
    }
}

/// A string or strings; one that is empty is as none.
fn inputs(input: Value) -> Result<Vec<String>, ApiError> {
    let invalid = || ApiError::invalid("invalid input type");
    match input {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text]),
        Value::Array(items) => {
            let text = |item| if let Value::String(text) = item { Ok(text) } else { Err(invalid()) };
            items.into_iter().map(text).collect()
        }
        _ => Err(invalid()),
    }
}

pub async fn embeddings(
    State(state): State<AppState>,
    Ollama(request): Ollama<EmbeddingsRequest>,
) -> Result<Response, OllamaError> {
    let name = names::model(&request.model, || ApiError::invalid("model is required"))?;
    let wish =
        Wish { asked: request.model, options: request.options, keep_alive: request.keep_alive, ..Wish::default() };
    let inputs = if request.prompt.is_empty() { Vec::new() } else { vec![request.prompt] };
    let embedded = run(&state, &name, wish, Texts { inputs, dimensions: 0 }).await?;
    let vector = embedded.vectors.into_iter().next().unwrap_or_default();
    Ok(json(&EmbeddingsResponse { embedding: vector.into_iter().map(f64::from).collect() }))
}
