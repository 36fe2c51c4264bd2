//! The store as a registry for other machines: `/v2/…` of the OCI's distribution, read-only, off unless `HANZOD_REGISTRY` turns
//! it on.
//!
//! A repository is `namespace/model`, whatever host the store has the model from; the default host goes before others. A blob
//! is served to those who name a repository that has it.

mod answer;
mod blobs;
mod manifests;
mod range;
mod through;

pub use answer::RegistryError;
pub use blobs::blob;
pub use manifests::{catalog, manifest, root, tags};

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};

use super::AppState;
use crate::config::RegistryMode;
use crate::store::{Store, Tag};
use crate::types::name::DEFAULT_HOST;

/// Whether, and how, this server is a registry.
#[derive(Clone, Debug)]
pub struct Registry {
    mode: RegistryMode,
    /// The registry that models are pulled from which are not here.
    upstream: String,
    /// How long a client waits for a pull.
    patience: Duration,
    pulls: through::Pulls,
}

/// Less than clients wait for the head of an answer.
const PATIENCE: Duration = Duration::from_secs(20);

impl Default for Registry {
    fn default() -> Self {
        Self::new(RegistryMode::Off, DEFAULT_HOST)
    }
}

impl Registry {
    pub fn new(mode: RegistryMode, upstream: &str) -> Self {
        Self { mode, upstream: upstream.to_owned(), patience: PATIENCE, pulls: through::Pulls::default() }
    }

    /// The same, with another time that a client waits for a pull.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }
}

/// Proof that this server is a registry; where it is none, there are no such paths.
pub struct Served;

impl FromRequestParts<AppState> for Served {
    type Rejection = Response;

    async fn from_request_parts(_: &mut Parts, state: &AppState) -> Result<Self, Response> {
        match state.registry.mode {
            RegistryMode::Off => {
                let plain = [(header::CONTENT_TYPE, "text/plain")];
                Err((StatusCode::NOT_FOUND, plain, "404 page not found").into_response())
            }
            RegistryMode::On | RegistryMode::PullThrough => Ok(Self),
        }
    }
}

/// The tags of a repository: those of the default host first.
fn repository(store: &Store, namespace: &str, model: &str) -> Vec<Tag> {
    let mut tags = store.tags().list();
    tags.retain(|tag| {
        tag.name.namespace().eq_ignore_ascii_case(namespace) && tag.name.model().eq_ignore_ascii_case(model)
    });
    tags.sort_by_cached_key(|tag| (!tag.name.host().eq_ignore_ascii_case(DEFAULT_HOST), tag.name.to_string()));
    tags
}
