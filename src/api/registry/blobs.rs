//! `GET /v2/:namespace/:model/blobs/:digest`: a blob, or a part of it, from the disk as the client takes it.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::answer::{RegistryError, etag, named};
use super::range::Part;
use super::{Served, repository};
use crate::api::AppState;
use crate::api::error::ApiError;
use crate::api::models::blocking;
use crate::store::{Store, StoreError};
use crate::types::Digest;

/// Bytes that are read from the disk in one go.
const PIECE: usize = 256 << 10;

pub async fn blob(
    _: Served,
    State(state): State<AppState>,
    Path((namespace, model, text)): Path<(String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, RegistryError> {
    let Ok(digest) = text.parse::<Digest>() else {
        return Err(RegistryError::new("DIGEST_INVALID", ApiError::Invalid(format!("{text:?} is no digest"))));
    };
    let shown = format!("{namespace}/{model}");
    let Some((file, size)) = blocking(move || open(&state.store, &namespace, &model, &digest)).await? else {
        let why = format!("{shown} has no blob {digest}");
        return Err(RegistryError::new("BLOB_UNKNOWN", ApiError::NotFound(why)));
    };
    let part = Part::of(&headers, size, &etag(&digest));
    let (start, end) = match part {
        Part::Whole => (0, size),
        Part::Bytes(start, end) => (start, end),
        Part::Outside => {
            let outside = RegistryError::new("RANGE_INVALID", ApiError::Range(size));
            return Ok(named(outside.into_response(), &digest));
        }
    };
    let body = if method == Method::HEAD { Body::empty() } else { body(file, start, end - start).await? };
    let head = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CONTENT_LENGTH, (end - start).to_string()),
    ];
    let response = match part {
        Part::Bytes(..) => {
            let range = [(CONTENT_RANGE, format!("bytes {start}-{}/{size}", end - 1))];
            (StatusCode::PARTIAL_CONTENT, head, range, body).into_response()
        }
        _ => (head, body).into_response(),
    };
    Ok(named(response, &digest))
}

/// A blob that a manifest of the repository names, if it is there and right.
fn open(store: &Store, namespace: &str, model: &str, digest: &Digest) -> Result<Option<(File, u64)>, StoreError> {
    let tags = repository(store, namespace, model);
    let blob = tags.iter().flat_map(|tag| tag.manifest.descriptors()).find(|blob| blob.digest == *digest);
    let Some(size) = blob.map(|blob| blob.size) else { return Ok(None) };
    match store.blobs().check(digest, size) {
        Err(StoreError::MissingBlob(_)) => return Ok(None),
        checked => checked?,
    }
    Ok(Some((store.blobs().open(digest)?, size)))
}

async fn body(mut file: File, start: u64, length: u64) -> Result<Body, ApiError> {
    file.seek(SeekFrom::Start(start)).map_err(ApiError::internal)?;
    let file = tokio::fs::File::from_std(file).take(length);
    Ok(Body::from_stream(ReaderStream::with_capacity(file, PIECE)))
}
