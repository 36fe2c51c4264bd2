//! Answers that come in pieces: lines of JSON, server-sent events.
//!
//! The first piece is awaited before the status is sent, so that an early error is an answer of its own. What is not
//! whole ends with its error as the last piece. Dropping the body drops the stream: that is the cancel.

use std::convert::Infallible;
use std::pin::Pin;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt as _};
use serde::Serialize;

use super::error::ApiError;
use crate::go;
use crate::wire::ollama;

/// Pieces of an answer. After an error there are no more.
pub type Pieces<T> = Pin<Box<dyn Stream<Item = Result<T, ApiError>> + Send>>;

/// One JSON object a line, each in an HTTP chunk of its own.
///
/// # Errors
/// That of the first piece.
pub async fn ndjson<T: Serialize + Send + 'static>(pieces: Pieces<T>) -> Result<Response, ApiError> {
    let line = |piece: Result<T, ApiError>| match piece {
        Ok(value) => json_line(&value),
        Err(error) => json_line(&ollama::Error { error: &error.to_string() }),
    };
    body(pieces, line, "application/x-ndjson").await
}

/// Server-sent events, each made of one piece by `frame`, errors included.
///
/// # Errors
/// That of the first piece.
pub async fn sse<T: Send + 'static>(
    pieces: Pieces<T>,
    frame: impl FnMut(Result<T, ApiError>) -> Bytes + Send + 'static,
) -> Result<Response, ApiError> {
    let mut response = body(pieces, frame, "text/event-stream").await?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

async fn body<T: Send + 'static>(
    mut pieces: Pieces<T>,
    mut write: impl FnMut(Result<T, ApiError>) -> Bytes + Send + 'static,
    kind: &'static str,
) -> Result<Response, ApiError> {
    let first = pieces.next().await.unwrap_or_else(|| Err(ApiError::internal("the answer ended before it began")))?;
    let chunks = async_stream::stream! {
        let mut next = Some(Ok(first));
        while let Some(piece) = next {
            let over = piece.is_err();
            yield Ok::<_, Infallible>(write(piece));
            if over {
                break;
            }
            next = pieces.next().await;
        }
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], Body::from_stream(chunks)).into_response())
}

/// The last piece of a stream whose pieces each say all there is to say, as progress does.
///
/// # Errors
/// The stream's own.
pub async fn last<T>(mut pieces: Pieces<T>) -> Result<T, ApiError> {
    let mut last = None;
    while let Some(piece) = pieces.next().await {
        last = Some(piece?);
    }
    last.ok_or_else(|| ApiError::internal("the answer ended before it began"))
}

/// `value` as one line.
fn json_line<T: Serialize>(value: &T) -> Bytes {
    let mut line = go::json::to_vec(value).expect("answers are plain JSON: a bug");
    line.push(b'\n');
    line.into()
}

/// `value` as the data of an event, with the event's name if it has one.
pub fn event<T: Serialize>(name: Option<&str>, value: &T) -> Bytes {
    let data = go::json::to_string(value).expect("answers are plain JSON: a bug");
    match name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn pieces(list: Vec<Result<u8, ApiError>>) -> Pieces<u8> {
        Box::pin(futures_util::stream::iter(list))
    }

    #[tokio::test]
    async fn a_line_a_chunk_and_a_late_error_is_the_last_line() {
        let list = vec![Ok(1), Ok(2), Err(ApiError::internal("gone")), Ok(3)];
        let mut body = ndjson(pieces(list)).await.unwrap().into_body();
        let mut chunks = Vec::new();
        while let Some(frame) = body.frame().await {
            chunks.push(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap());
        }
        assert_eq!(chunks, ["1\n", "2\n", "{\"error\":\"gone\"}\n"]);
    }

    #[tokio::test]
    async fn an_early_error_is_no_stream() {
        let error = ApiError::NotFound("no".into());
        assert_eq!(ndjson(pieces(vec![Err(error.clone())])).await.unwrap_err(), error);
        assert!(ndjson(pieces(vec![])).await.is_err());
    }
}
