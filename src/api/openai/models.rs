//! `GET /v1/models`, and one of them.

use axum::extract::{Path, State};
use axum::response::Response;

use super::answer;
use crate::api::error::{ApiError, OpenAiError};
use crate::api::models::{blocking, find_to_show};
use crate::api::{AppState, names};
use crate::store::StoreError;
use crate::types::ModelName;
use crate::wire::openai::models::{Model, Models};
use crate::wire::time;

pub async fn list(State(state): State<AppState>) -> Result<Response, OpenAiError> {
    let tags = blocking(move || Ok::<_, StoreError>(state.store.tags().list())).await?;
    let data = tags.into_iter().map(|tag| model(tag.name.short(), &tag.name, tag.modified)).collect();
    Ok(answer(&Models { object: "list", data }))
}

pub async fn one(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, OpenAiError> {
    let name = names::model_to_show(&id, || ApiError::invalid("model is required"))?;
    let known = find_to_show(&state, &name, &id).await?;
    let known = known.ok_or_else(|| ApiError::NotFound(format!("model '{}' not found", name.short())))?;
    Ok(answer(&model(id, &known.model.name, known.model.modified)))
}

fn model(id: String, name: &ModelName, modified: std::time::SystemTime) -> Model {
    Model { id, object: "model", created: time::unix(modified), owned_by: name.namespace().to_owned() }
}
