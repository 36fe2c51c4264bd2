//! `/api/blobs/:digest`: content on its way to a create. It goes to the disk as it comes, and appears when it is whole.

use std::io::Write as _;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::api::AppState;
use crate::api::error::{ApiError, OllamaError};
use crate::api::extract::Upload;
use crate::api::models::blocking;
use crate::store::StoreError;
use crate::types::Digest;
use crate::types::digest::InvalidDigest;

fn parse(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: InvalidDigest| ApiError::Invalid(error.to_string()))
}

pub async fn head(State(state): State<AppState>, Path(text): Path<String>) -> Result<StatusCode, OllamaError> {
    let digest = parse(&text)?;
    let there = blocking(move || {
        let blobs = state.store.blobs();
        // A damaged blob is none: the client then uploads it anew.
        Ok::<_, StoreError>(blobs.size(&digest).filter(|size| blobs.check(&digest, *size).is_ok()))
    });
    there.await?.map(|_| StatusCode::OK).ok_or_else(|| ApiError::NotFound(format!("blob {text:?} not found")).into())
}

pub async fn post(State(state): State<AppState>, Path(text): Path<String>, headers: HeaderMap, body: Body) -> Response {
    let mut upload = Upload::new(body);
    let taken = take_in(&state, &text, &mut upload).await;
    let mut answer = taken.map_or_else(|error| OllamaError(error).into_response(), |done| done.into_response());
    // Who waits to be asked for the body need not send it.
    let unasked = headers.contains_key(header::EXPECT) && !upload.has_begun();
    if unasked || !upload.linger().await {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Not all of the upload is read where it is not needed.
async fn take_in(state: &AppState, text: &str, upload: &mut Upload) -> Result<StatusCode, ApiError> {
    let digest = parse(text)?;
    let blobs = state.store.blobs().clone();
    let there = blocking(move || {
        let there = blobs.settle(&digest, None)?;
        if there {
            blobs.touch(&digest);
        }
        Ok::<_, StoreError>(there)
    });
    if there.await? {
        return Ok(StatusCode::OK);
    }
    let blobs = state.store.blobs().clone();
    let mut ingest = blocking(move || blobs.ingest()).await?;
    while let Some(bytes) = upload.next().await? {
        let written = blocking(move || ingest.write_all(&bytes).map(|()| ingest).map_err(ApiError::internal));
        ingest = written.await?;
    }
    blocking(move || ingest.commit(Some(&digest))).await?;
    Ok(StatusCode::CREATED)
}
