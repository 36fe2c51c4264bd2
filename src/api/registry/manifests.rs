//! `/v2/`, manifests by tag or digest, and the lists of tags and repositories.

use std::collections::BTreeSet;

use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CONTENT_TYPE, IF_NONE_MATCH, LINK};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::answer::{RegistryError, etag, named, versioned};
use super::{Served, repository};
use crate::api::AppState;
use crate::api::error::{ApiError, json_as};
use crate::api::models::blocking;
use crate::config::RegistryMode;
use crate::store::{Store, StoreError};
use crate::types::{Digest, ModelName};
use crate::wire::registry::{Catalog, Tags};

const JSON: &str = "application/json";
/// Names in one answer, when the client does not say.
const PAGE: usize = 1000;

pub async fn root(_: Served) -> Response {
    versioned(json_as(&serde_json::Map::new(), JSON))
}

pub async fn manifest(
    _: Served,
    State(state): State<AppState>,
    Path((namespace, model, reference)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, RegistryError> {
    let asked = Asked { namespace, model, reference };
    let mut found = asked.find(&state).await?;
    if found.is_none()
        && state.registry.mode == RegistryMode::PullThrough
        && let Some(name) = asked.upstream(&state.registry.upstream)
    {
        state.registry.pulls.pull(&state.puller, name, state.registry.patience).await?;
        found = asked.find(&state).await?;
    }
    let Some((bytes, kind)) = found else {
        return Err(RegistryError::new(
            "MANIFEST_UNKNOWN",
            ApiError::NotFound(format!("no manifest {}", asked.shown())),
        ));
    };
    // What is said of the bytes is computed from the bytes.
    let digest = Digest::of(&bytes);
    let known = headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|tag| tag.trim() == etag(&digest) || tag.trim() == "*")) {
        return Ok(named(StatusCode::NOT_MODIFIED.into_response(), &digest));
    }
    Ok(named(([(CONTENT_TYPE, kind)], bytes).into_response(), &digest))
}

/// A manifest, by the parts of its path.
#[derive(Clone)]
struct Asked {
    namespace: String,
    model: String,
    reference: String,
}

impl Asked {
    fn shown(&self) -> String {
        format!("{}/{}:{}", self.namespace, self.model, self.reference)
    }

    /// What is to be pulled from `host`; a digest is no name.
    fn upstream(&self, host: &str) -> Option<ModelName> {
        ModelName::from_parts(host, &self.namespace, &self.model, &self.reference).ok()
    }

    /// The manifest's bytes, and their type.
    async fn find(&self, state: &AppState) -> Result<Option<(Vec<u8>, String)>, ApiError> {
        let (store, asked) = (state.store.clone(), self.clone());
        blocking(move || asked.read(&store)).await
    }

    fn read(&self, store: &Store) -> Result<Option<(Vec<u8>, String)>, StoreError> {
        let digest = self.reference.parse::<Digest>().ok();
        let fits = |tag: &crate::store::Tag| match digest {
            Some(digest) => tag.digest == digest,
            None => tag.name.tag().eq_ignore_ascii_case(&self.reference),
        };
        let Some(tag) = repository(store, &self.namespace, &self.model).into_iter().find(fits) else {
            return Ok(None);
        };
        match store.tags().bytes(&tag.name) {
            Err(StoreError::NotFound(_)) => Ok(None),
            read => Ok(Some((read?.0, tag.manifest.media_type.as_str().to_owned()))),
        }
    }
}

pub async fn tags(
    _: Served,
    State(state): State<AppState>,
    Path((namespace, model)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, RegistryError> {
    let name = format!("{namespace}/{model}");
    let found = blocking(move || Ok::<_, StoreError>(repository(&state.store, &namespace, &model))).await?;
    if found.is_empty() {
        return Err(RegistryError::new("NAME_UNKNOWN", ApiError::NotFound(format!("no repository {name}"))));
    }
    let all = found.iter().map(|tag| tag.name.tag().to_owned()).collect();
    let (tags, next) = page(all, query.as_deref());
    Ok(listed(&Tags { tags, name: name.clone() }, &format!("/v2/{name}/tags/list"), next))
}

pub async fn catalog(
    _: Served,
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> Result<Response, RegistryError> {
    let found = blocking(move || Ok::<_, StoreError>(state.store.tags().list())).await?;
    let all = found.iter().map(|tag| format!("{}/{}", tag.name.namespace(), tag.name.model())).collect();
    let (repositories, next) = page(all, query.as_deref());
    Ok(listed(&Catalog { repositories }, "/v2/_catalog", next))
}

fn listed(list: &impl Serialize, path: &str, next: Option<String>) -> Response {
    let mut response = versioned(json_as(list, JSON));
    let link = next.and_then(|query| HeaderValue::try_from(format!("<{path}?{query}>; rel=\"next\"")).ok());
    if let Some(link) = link {
        response.headers_mut().insert(LINK, link);
    }
    response
}

/// The names after `last`, `n` of them, and the query of the next page.
fn page(all: BTreeSet<String>, query: Option<&str>) -> (Vec<String>, Option<String>) {
    let value = |key: &str| {
        let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.rev().find(|(name, _)| *name == key);
        found.map(|(_, value)| value.replace("%2F", "/").replace("%2f", "/"))
    };
    let count = value("n").and_then(|count| count.parse().ok()).filter(|count| *count > 0).unwrap_or(PAGE);
    let last = value("last");
    let mut rest = all.into_iter().filter(|name| last.as_ref().is_none_or(|last| name > last));
    let names: Vec<String> = rest.by_ref().take(count).collect();
    let more = rest.next().is_some();
    let next = names.last().filter(|_| more).map(|last| format!("n={count}&last={last}"));
    (names, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let all = || ["a/x", "b/y", "c/z"].map(str::to_owned).into();
        assert_eq!(page(all(), None), (vec!["a/x".into(), "b/y".into(), "c/z".into()], None));
        assert_eq!(page(all(), Some("n=2")), (vec!["a/x".into(), "b/y".into()], Some("n=2&last=b/y".into())));
        assert_eq!(page(all(), Some("last=b%2Fy&n=2")), (vec!["c/z".into()], None));
        assert_eq!(page(all(), Some("n=x&last=c/z")), (vec![], None));
    }
}
