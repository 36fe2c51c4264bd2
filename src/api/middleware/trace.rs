//! A span and a log line for each request, its id and the server's name in the answer, and panics caught.

use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::api::id;

const SERVER: HeaderValue = HeaderValue::from_static(concat!("hanzod/", env!("CARGO_PKG_VERSION")));

pub async fn trace(request: Request, next: Next) -> Response {
    let id = id::hex("");
    let span = tracing::info_span!(
        "request",
        request.id = %id,
        http.method = %request.method(),
        http.path = request.uri().path()
    );
    let began = Instant::now();
    let answer = async move {
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let answer = answer.unwrap_or_else(|_| {
            tracing::error!("a handler panicked");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        });
        // of a stream, the time to its first piece
        tracing::info!(
            http.status = answer.status().as_u16(),
            took_ms = began.elapsed().as_millis() as u64,
            "answered"
        );
        answer
    };
    let mut answer = answer.instrument(span).await;
    answer.headers_mut().insert(header::SERVER, SERVER);
    if let Ok(id) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert("x-request-id", id);
    }
    answer
}
