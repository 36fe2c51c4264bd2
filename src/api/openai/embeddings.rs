//! `POST /v1/embeddings`.

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::answer;
use crate::api::embed::{Texts, embed};
use crate::api::error::{ApiError, OpenAiError};
use crate::api::extract::OpenAi;
use crate::api::turn::Wish;
use crate::api::{AppState, names};
use crate::wire::openai::embeddings::{Embedding, Embeddings, EmbeddingsRequest, EmbeddingsUsage, Vector};

pub async fn embeddings(
    State(state): State<AppState>,
    OpenAi(request): OpenAi<EmbeddingsRequest>,
) -> Result<Response, OpenAiError> {
    let base64 = match request.encoding_format.to_lowercase().as_str() {
        "" | "float" => false,
        "base64" => true,
        _ => {
            return Err(ApiError::Invalid(format!(
                "Invalid value for 'encoding_format' = {}. Supported values: ['float', 'base64'].",
                request.encoding_format
            ))
            .into());
        }
    };
    let inputs = inputs(request.input)?;
    let name = names::model(&request.model, || ApiError::NotFound("model '' not found".into()))?;
    let wish = Wish { asked: request.model.clone(), ..Wish::default() };
    let dimensions = usize::try_from(request.dimensions).unwrap_or_default();
    let embedded = embed(&state, &name, wish, Texts { inputs, dimensions }).await?;
    let data = embedded.vectors.into_iter().enumerate().map(|(index, vector)| Embedding {
        object: "embedding",
        embedding: if base64 { Vector::Base64(encode(&vector)) } else { Vector::Floats(vector) },
        index,
    });
    let usage = EmbeddingsUsage { prompt_tokens: embedded.prompt_tokens, total_tokens: embedded.prompt_tokens };
    Ok(answer(&Embeddings { object: "list", data: data.collect(), model: request.model, usage }))
}

fn inputs(input: Value) -> Result<Vec<String>, ApiError> {
    let kind = || ApiError::invalid("invalid input type");
    match input {
        Value::Null => Err(ApiError::invalid("invalid input")),
        Value::String(text) => Ok(vec![text]),
        Value::Array(items) if items.is_empty() => Err(ApiError::invalid("invalid input")),
        Value::Array(items) => {
            let text = |item| if let Value::String(text) = item { Ok(text) } else { Err(kind()) };
            items.into_iter().map(text).collect()
        }
        _ => Err(kind()),
    }
}

fn encode(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}
