//! Which pages a browser may call from. Others are refused before any handler runs, with or without a preflight.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Allowed whatever is configured.
const ALWAYS: [&str; 17] = [
    "http://localhost",
    "https://localhost",
    "http://localhost:*",
    "https://localhost:*",
    "http://127.0.0.1",
    "https://127.0.0.1",
    "http://127.0.0.1:*",
    "https://127.0.0.1:*",
    "http://0.0.0.0",
    "https://0.0.0.0",
    "http://0.0.0.0:*",
    "https://0.0.0.0:*",
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
];

const METHODS: &str = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS";
/// Ollama's list, and after it what Anthropic's clients send from browsers.
const HEADERS: &str = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,\
                       X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,\
                       X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,\
                       X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout,X-Api-Key,Anthropic-Version,\
                       Anthropic-Beta,Anthropic-Dangerous-Direct-Browser-Access";

/// The origins that are allowed, with at most one `*` each.
#[derive(Clone, Debug, Default)]
pub struct Origins(Arc<[String]>);

impl Origins {
    pub fn new(more: &[String]) -> Self {
        Self(more.iter().cloned().chain(ALWAYS.map(str::to_owned)).collect())
    }

    fn all(&self) -> bool {
        self.0.iter().any(|pattern| pattern == "*")
    }

    fn allow(&self, origin: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.split_once('*') {
            None => pattern.eq_ignore_ascii_case(origin),
            Some((start, end)) => {
                origin.len() >= start.len() + end.len() && origin.starts_with(start) && origin.ends_with(end)
            }
        })
    }
}

pub async fn cors(State(origins): State<Origins>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else {
        return next.run(request).await;
    };
    let text = origin.to_str().unwrap_or_default();
    if is_same(text, &request) {
        return next.run(request).await;
    }
    if !origins.allow(text) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let preflight = request.method() == Method::OPTIONS;
    let mut answer = if preflight { preflight_answer() } else { next.run(request).await };
    let allowed = if origins.all() { HeaderValue::from_static("*") } else { origin };
    let headers = answer.headers_mut();
    if !origins.all() && !preflight {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    answer
}

fn preflight_answer() -> Response {
    let mut headers = HeaderMap::new();
    let mut set = |name, value| headers.append(name, HeaderValue::from_static(value));
    set(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    set(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    set(header::ACCESS_CONTROL_MAX_AGE, "43200");
    for name in ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"] {
        set(header::VARY, name);
    }
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// The page came from this very server.
fn is_same(origin: &str, request: &Request) -> bool {
    let host = super::host::asked(request).unwrap_or_default();
    let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    !host.is_empty() && own == Some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let origins = Origins::new(&["https://*.example.com".into()]);
        for good in
            ["http://localhost:3000", "https://localhost", "app://x", "vscode-webview://abc", "https://a.example.com"]
        {
            assert!(origins.allow(good), "{good}");
        }
        for bad in [
            "null",
            "",
            "https://evil.example",
            "http://localhost.evil.com",
            "https://example.com",
            "http://127.0.0.1.x",
        ] {
            assert!(!origins.allow(bad), "{bad}");
        }
    }
}
