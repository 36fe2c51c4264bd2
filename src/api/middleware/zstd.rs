//! Bodies that come as zstd, which Ollama takes under `/v1` and nowhere else.
//!
//! tower-http's `RequestDecompression` stands on the same decoder, but lets a client choose a window of 128 MiB, has no bound
//! for what comes out, and tells of broken bytes only in the midst of the body.

use std::io;

use async_compression::tokio::bufread::ZstdDecoder;
use async_compression::zstd::DParameter;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::StreamReader;

use super::bodies::Held;
use crate::api::error::{ApiError, OllamaError};
use crate::api::extract::Upload;

/// The window that a frame may ask for, as a power of two: 8 MiB.
const WINDOW_LOG: u32 = 23;
/// Bytes that may come out.
const LARGEST: usize = 20 << 20;
/// And that may go in: what cannot be packed grows a little, and frames of nothing could go on for ever.
const LARGEST_PACKED: u64 = LARGEST as u64 + (1 << 20);

pub async fn unpack(request: Request, next: Next) -> Response {
    let here = request.method() == Method::POST && request.uri().path().starts_with("/v1/");
    if !here || !is_zstd(request.headers()) {
        return next.run(request).await;
    }
    let held = Held::of(&request);
    let (mut parts, body) = request.into_parts();
    match decode(body, &held).await {
        Ok(plain) => {
            parts.headers.remove(header::CONTENT_ENCODING);
            parts.headers.remove(header::CONTENT_LENGTH);
            next.run(Request::from_parts(parts, Body::from(plain))).await
        }
        Err(error) => OllamaError(error).into_response(),
    }
}

fn is_zstd(headers: &HeaderMap) -> bool {
    let encoding = headers.get(header::CONTENT_ENCODING).and_then(|encoding| encoding.to_str().ok());
    encoding.is_some_and(|encoding| encoding.trim().eq_ignore_ascii_case("zstd"))
}

async fn decode(body: Body, held: &Held) -> Result<Vec<u8>, ApiError> {
    let pieces = stream::try_unfold(Upload::new(body), |mut upload| async {
        let bytes = upload.next().await.map_err(io::Error::other)?;
        Ok::<_, io::Error>(bytes.map(|bytes| (bytes, upload)))
    });
    let reader = StreamReader::new(Box::pin(pieces)).take(LARGEST_PACKED);
    let mut decoder = ZstdDecoder::with_params(reader, &[DParameter::window_log_max(WINDOW_LOG)]);
    decoder.multiple_members(true);
    let mut decoder = decoder.take(LARGEST as u64 + 1);
    let mut plain = Vec::new();
    while decoder.read_buf(&mut plain).await.map_err(|error| upload_error(&error).unwrap_or_else(failed))? > 0 {
        held.grow(plain.len())?;
    }
    if plain.len() > LARGEST { Err(failed()) } else { Ok(plain) }
}

/// What was wrong with the body's coming, not with its bytes.
fn upload_error(error: &io::Error) -> Option<ApiError> {
    error.get_ref()?.downcast_ref::<ApiError>().cloned()
}

fn failed() -> ApiError {
    ApiError::invalid("failed to decompress request body")
}
