//! How a table of routes answers what is not in it: other verbs, other paths, paths that are almost right.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};

use super::AppState;

type Routes = MethodRouter<AppState>;

pub fn get<T: 'static>(handler: impl Handler<T, AppState>) -> Routes {
    // without this, HEAD would be answered too
    refuse_others(on(MethodFilter::GET, handler).on(MethodFilter::HEAD, || not_allowed("GET")), "GET")
}

pub fn get_head<T: 'static>(handler: impl Handler<T, AppState>) -> Routes {
    refuse_others(on(MethodFilter::GET, handler), "HEAD, GET")
}

pub fn post<T: 'static>(handler: impl Handler<T, AppState>) -> Routes {
    refuse_others(on(MethodFilter::POST, handler), "POST")
}

pub fn post_head<T: 'static, H: 'static>(
    handler: impl Handler<T, AppState>,
    head: impl Handler<H, AppState>,
) -> Routes {
    refuse_others(on(MethodFilter::POST, handler).on(MethodFilter::HEAD, head), "HEAD, POST")
}

pub fn delete<T: 'static>(handler: impl Handler<T, AppState>) -> Routes {
    refuse_others(on(MethodFilter::DELETE, handler), "DELETE")
}

fn refuse_others(routes: Routes, allow: &'static str) -> Routes {
    routes.fallback(move || not_allowed(allow))
}

async fn not_allowed(allow: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain"), (header::ALLOW, allow)];
    (StatusCode::METHOD_NOT_ALLOWED, headers, "405 method not allowed").into_response()
}

/// A router of the table, whose fallback knows the table's paths.
pub fn build(table: Vec<(&'static str, Routes)>) -> Router<AppState> {
    let paths: Vec<&'static str> = table.iter().map(|(path, _)| *path).collect();
    let router = table.into_iter().fold(Router::new(), |router, (path, routes)| router.route(path, routes));
    router.fallback(move |request: Request| async move { unknown(&request, &paths) })
}

/// An unclean path, or one with a slash too many, is sent to where it means; the rest is not found.
fn unknown(request: &Request, paths: &[&str]) -> Response {
    let path = request.uri().path();
    let clean = clean(path);
    if clean != path {
        return redirect(request, &clean, StatusCode::MOVED_PERMANENTLY);
    }
    if let Some(shorter) = path.strip_suffix('/').filter(|path| paths.iter().any(|known| fits(known, path))) {
        let get = request.method() == Method::GET;
        let status = if get { StatusCode::MOVED_PERMANENTLY } else { StatusCode::TEMPORARY_REDIRECT };
        return redirect(request, shorter, status);
    }
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "text/plain")], "404 page not found").into_response()
}

fn fits(known: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    let same = known
        .split('/')
        .all(|known| parts.next().is_some_and(|part| known == part || known.starts_with('{') && !part.is_empty()));
    same && parts.next().is_none()
}

/// Without empty parts and dots, as Go's `path.Clean` leaves it, but for a slash at the end.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let slash = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

fn redirect(request: &Request, path: &str, status: StatusCode) -> Response {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let to = format!("{path}{query}");
    let mut answer = status.into_response();
    if request.method() == Method::GET {
        let href = to.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
        let reason = status.canonical_reason().unwrap_or_default();
        *answer.body_mut() = Body::from(format!("<a href=\"{href}\">{reason}</a>.\n\n"));
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    if let Ok(to) = HeaderValue::from_str(&to) {
        answer.headers_mut().insert(header::LOCATION, to);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, to) in [("//api/tags", "/api/tags"), ("/a/./b/../c/", "/a/c/"), ("/", "/"), ("/../..", "/")] {
            assert_eq!(clean(path), to);
        }
        assert!(fits("/v1/models/{model}", "/v1/models/x"));
        assert!(!fits("/v1/models/{model}", "/v1/models/x/y"));
        assert!(!fits("/api/tags", "/api"));
    }
}
