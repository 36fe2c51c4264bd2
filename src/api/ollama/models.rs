//! The models that are there and those that are loaded; copying and deleting.

use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::convert;
use crate::api::AppState;
use crate::api::error::{ApiError, OllamaError, json};
use crate::api::extract::Ollama;
use crate::api::models::blocking;
use crate::api::names;
use crate::scheduler::Resident;
use crate::store::{Store, StoreError, Tag};
use crate::types::ModelName;
use crate::wire::ollama::{CopyRequest, DeleteRequest, Details, ListedModel, LoadedModel, Models};
use crate::wire::time;

/// What Ollama shows of a model that never expires: as far ahead as its durations go.
const FOREVER: Duration = Duration::from_nanos(i64::MAX as u64);

pub async fn tags(State(state): State<AppState>) -> Result<Response, OllamaError> {
    let models = blocking(move || Ok::<_, StoreError>(listed(&state))).await?;
    Ok(json(&Models { models }))
}

/// Every model that can be read, newest first.
fn listed(state: &AppState) -> Vec<ListedModel> {
    let line = |tag: Tag| {
        let listed = state.listed.get(&state.store, &tag);
        let listed = listed.inspect_err(|error| tracing::warn!(%error, "a model is passed over")).ok()?;
        Some(ListedModel {
            name: tag.name.short(),
            model: tag.name.short(),
            remote_model: listed.remote_model.clone(),
            remote_host: listed.remote_host.clone(),
            modified_at: time::local(tag.modified),
            size: tag.manifest.total_size().unwrap_or_default(),
            digest: tag.digest.hex(),
            details: convert::details(listed.details.clone()),
            capabilities: listed.capabilities.iter().map(|kind| kind.as_str()).collect(),
        })
    };
    state.store.tags().list().into_iter().filter_map(line).collect()
}

pub async fn ps(State(state): State<AppState>) -> Result<Response, OllamaError> {
    let residents = state.scheduler.residents().await;
    let store = state.store.clone();
    let models = blocking(move || {
        let mut models: Vec<(SystemTime, LoadedModel)> =
            residents.into_iter().map(|resident| loaded(&store, resident)).collect();
        let second = |time: &SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs());
        models.sort_by_key(|(expires, _)| std::cmp::Reverse(second(expires)));
        Ok::<_, StoreError>(models.into_iter().map(|(_, model)| model).collect())
    });
    Ok(json(&Models { models: models.await? }))
}

fn loaded(store: &Store, resident: Resident) -> (SystemTime, LoadedModel) {
    let model = ModelName::parse(&resident.name).ok().and_then(|name| store.model(&name).ok());
    let details = model.map(|model| convert::details(model.details())).unwrap_or_default();
    let expires = resident.expires.unwrap_or_else(|| SystemTime::now() + FOREVER);
    let report = resident.report.unwrap_or_default();
    let loaded = LoadedModel {
        model: resident.name.clone(),
        name: resident.name,
        size: if report.size == 0 { resident.estimate } else { report.size },
        digest: resident.digest.hex(),
        details: Details { parent_model: String::new(), context_length: 0, embedding_length: 0, ..details },
        expires_at: time::local(expires),
        size_vram: report.size_vram,
        context_length: match report.context_length {
            0 => u64::try_from(resident.num_ctx).unwrap_or_default(),
            length => length,
        },
    };
    (expires, loaded)
}

pub async fn copy(
    State(state): State<AppState>,
    Ollama(request): Ollama<CopyRequest>,
) -> Result<StatusCode, OllamaError> {
    let name = |what: &str, text: &str| {
        ModelName::parse(text).map_err(|_| ApiError::Invalid(format!("{what} {text:?} is invalid")))
    };
    let source = name("source", &request.source)?;
    let destination = name("destination", &request.destination)?;
    let asked = request.source;
    blocking(move || {
        let (manifest, _) = state.store.tags().bytes(&source).map_err(|error| match error {
            StoreError::NotFound(_) => ApiError::NotFound(format!("model {asked:?} not found")),
            error => error.into(),
        })?;
        state.store.tag(&destination, &manifest)?;
        Ok::<_, ApiError>(())
    })
    .await?;
    Ok(StatusCode::OK)
}

pub async fn delete(
    State(state): State<AppState>,
    Ollama(request): Ollama<DeleteRequest>,
) -> Result<StatusCode, OllamaError> {
    let asked = if request.model.is_empty() { request.name } else { request.model };
    let name = names::model(&asked, || ApiError::invalid("model is required")).map_err(|error| match error {
        ApiError::Invalid(text) if text == "invalid model name" => {
            ApiError::Invalid(format!("name {asked:?} is invalid"))
        }
        error => error,
    })?;
    blocking(move || {
        state.store.remove(&name).map_err(|error| match error {
            StoreError::NotFound(_) => ApiError::NotFound(format!("model '{asked}' not found")),
            error => error.into(),
        })
    })
    .await?;
    Ok(StatusCode::OK)
}
