//! What clients are told for whom the server has no connection left.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};

use super::error::{AnthropicError, ApiError, OllamaError, OpenAiError};
use super::extract::Upload;
use super::{Hosts, Origins, middleware, registry};
use crate::scheduler::SchedulerError;

/// Most clients look for an answer when their request is sent. This long it may take; then they are told all the same.
const LINGER: Duration = Duration::from_millis(500);

/// Refuses every request, in its dialect's envelope.
pub fn router(origins: &Origins, hosts: &Hosts) -> Router {
    Router::new()
        .fallback(refuse)
        .layer(from_fn_with_state(hosts.clone(), middleware::hosts))
        .layer(from_fn_with_state(origins.clone(), middleware::cors))
        .layer(from_fn(middleware::trace))
}

async fn refuse(request: Request) -> Response {
    let error = ApiError::from(SchedulerError::Busy);
    let mut answer = match request.uri().path() {
        "/v1/messages" => AnthropicError(error).into_response(),
        path if path.starts_with("/v1/") => OpenAiError(error).into_response(),
        path if path.starts_with("/v2/") => registry::RegistryError::from(error).into_response(),
        _ => OllamaError(error).into_response(),
    };
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    tokio::time::timeout(LINGER, Upload::new(request.into_body()).linger()).await.ok();
    answer
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(path: &str) -> (Response<()>, Value) {
        let router = router(&Origins::default(), &Hosts::any());
        let request = Request::post(path).body(Body::from("{}")).unwrap();
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, 4096).await.unwrap();
        (Response::from_parts(parts, ()), serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn each_dialect_has_its_envelope() {
        const TEXT: &str = "server busy, please try again.  maximum pending requests exceeded";
        for path in ["/api/chat", "/", "/v1/chat/completions", "/v1/messages", "/v2/"] {
            let (answer, body) = ask(path).await;
            assert_eq!(
                (answer.status().as_u16(), answer.headers()["connection"].as_bytes()),
                (503, b"close".as_slice()),
                "{path}"
            );
            let body = match path {
                "/v1/messages" => {
                    json!({"error": {"type": body["error"]["type"], "message": body["error"]["message"]}})
                }
                _ => body,
            };
            let expected = match path {
                "/v1/chat/completions" => {
                    json!({"error": {"message": TEXT, "type": "api_error", "param": null, "code": null}})
                }
                "/v1/messages" => json!({"error": {"type": "overloaded_error", "message": TEXT}}),
                "/v2/" => json!({"errors": [{"code": "UNAVAILABLE", "message": TEXT}]}),
                _ => json!({ "error": TEXT }),
            };
            assert_eq!(body, expected, "{path}");
        }
    }
}
