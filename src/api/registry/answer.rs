//! What all answers of a registry share: their headers, and the envelope of errors.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::api::error::{ApiError, json_as};
use crate::store::StoreError;
use crate::types::Digest;
use crate::wire::registry::{Envelope, Problem};

const VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("docker-distribution-api-version"), HeaderValue::from_static("registry/2.0"));
pub(super) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Seconds after which a client may ask again.
const AGAIN: HeaderValue = HeaderValue::from_static("5");

/// An error in the OCI's envelope.
#[derive(Debug)]
pub struct RegistryError {
    code: &'static str,
    error: ApiError,
}

impl RegistryError {
    pub(super) fn new(code: &'static str, error: ApiError) -> Self {
        Self { code, error }
    }
}

impl From<ApiError> for RegistryError {
    fn from(error: ApiError) -> Self {
        Self { code: if matches!(error, ApiError::Busy(_)) { "UNAVAILABLE" } else { "UNKNOWN" }, error }
    }
}

impl From<StoreError> for RegistryError {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

impl IntoResponse for RegistryError {
    fn into_response(self) -> Response {
        let problem = Problem { code: self.code, message: self.error.to_string() };
        let body = json_as(&Envelope { errors: [problem] }, "application/json");
        let mut response = versioned((self.error.status(), body).into_response());
        if matches!(self.error, ApiError::Busy(_)) {
            response.headers_mut().insert(header::RETRY_AFTER, AGAIN);
        }
        response
    }
}

pub(super) fn versioned(mut response: Response) -> Response {
    response.headers_mut().extend([VERSION]);
    response
}

/// Names the content of an answer, for caches and for those who check it.
pub(super) fn named(mut response: Response, digest: &Digest) -> Response {
    let text = |text: String| HeaderValue::try_from(text).expect("a digest is a header's value: a bug");
    let headers = response.headers_mut();
    headers.insert(DIGEST, text(digest.to_string()));
    headers.insert(header::ETAG, text(etag(digest)));
    versioned(response)
}

pub(super) fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}
