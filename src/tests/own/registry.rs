//! The store as a registry, by the router.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request};
use hanzod::api::Registry;
use hanzod::config::RegistryMode;
use hanzod::store::Manifest;
use hanzod::types::{Digest, ModelName};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::util::TestApp;

async fn serving() -> TestApp {
    let app = TestApp::serving(Registry::new(RegistryMode::On, "upstream.example"));
    app.add_tiny("tiny-q4_k_m.gguf", "tiny-q4_k_m.gguf").await;
    app
}

/// An answer whose body may be no text.
async fn ask(app: &TestApp, method: Method, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, Vec<u8>) {
    let mut request = Request::builder().method(method.clone()).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, body) = app.begin(request.body(Body::empty()).unwrap()).await.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes().to_vec();
    let kind = head.headers.get("content-type").map(|kind| kind.to_str().unwrap());
    if kind != Some("application/octet-stream") {
        crate::spec::check(method.as_str(), path, head.status.as_u16(), kind, &bytes).unwrap();
    }
    (head.status.as_u16(), head.headers, bytes)
}

fn code(body: &[u8]) -> String {
    let errors: Value = serde_json::from_slice(body).unwrap();
    errors["errors"][0]["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn without_the_setting_there_is_no_registry() {
    let app = TestApp::with_tiny().await;
    for path in ["/v2/", "/v2/_catalog", "/v2/library/tiny/manifests/latest", "/v2/library/tiny/tags/list"] {
        let reply = app.get(path).await;
        assert_eq!((reply.status, reply.text().as_str()), (404, "404 page not found"), "{path}");
    }
}

#[tokio::test]
async fn manifests_and_lists() {
    let app = serving().await;
    let root = app.get("/v2/").await;
    assert_eq!((root.status, root.header("docker-distribution-api-version")), (200, Some("registry/2.0")));
    let (bytes, _) = app.store.tags().bytes(&ModelName::parse("tiny").unwrap()).unwrap();
    let digest = Digest::of(&bytes).to_string();
    for reference in ["latest", "LATEST", &digest] {
        let path = format!("/v2/library/tiny/manifests/{reference}");
        let (status, headers, body) = ask(&app, Method::GET, &path, &[]).await;
        assert_eq!((status, body == bytes), (200, true));
        assert_eq!(headers["docker-content-digest"], *digest);
        assert_eq!(headers["content-type"], "application/vnd.docker.distribution.manifest.v2+json");
        let (status, headers, body) = ask(&app, Method::HEAD, &path, &[]).await;
        assert_eq!(
            (status, body.len(), headers["content-length"].to_str().unwrap()),
            (200, 0, &*bytes.len().to_string())
        );
        let known = format!("\"x\", \"{digest}\"");
        assert_eq!(ask(&app, Method::GET, &path, &[("if-none-match", &known)]).await.0, 304);
    }
    let other = Digest::of(b"other").to_string();
    for missing in
        ["library/tiny/manifests/q8", "library/nobody/manifests/latest", &format!("library/tiny/manifests/{other}")]
    {
        let (status, _, body) = ask(&app, Method::GET, &format!("/v2/{missing}"), &[]).await;
        assert_eq!((status, code(&body).as_str()), (404, "MANIFEST_UNKNOWN"), "{missing}");
    }
    let (status, _, _) = ask(&app, Method::PUT, "/v2/library/tiny/manifests/latest", &[]).await;
    assert_eq!(status, 405, "it is only read from");

    app.post("/api/copy", json!({"source": "tiny", "destination": "host.example/library/tiny:q4"})).await;
    assert_eq!(
        app.get("/v2/library/tiny/tags/list").await.json(),
        json!({"name": "library/tiny", "tags": ["latest", "q4"]})
    );
    assert_eq!(ask(&app, Method::GET, "/v2/library/tiny/manifests/q4", &[]).await.0, 200, "of whatever host");
    assert_eq!(code(&ask(&app, Method::GET, "/v2/a/b/tags/list", &[]).await.2), "NAME_UNKNOWN");
    let first = app.get("/v2/_catalog?n=1").await;
    assert_eq!(first.json(), json!({"repositories": ["library/tiny"]}));
    assert_eq!(first.header("link"), Some("</v2/_catalog?n=1&last=library/tiny>; rel=\"next\""));
    let second = app.get("/v2/_catalog?n=1&last=library/tiny").await;
    assert_eq!((second.json(), second.header("link")), (json!({"repositories": ["library/tiny-jinja"]}), None));
}

#[tokio::test]
async fn blobs_whole_and_in_part() {
    let app = serving().await;
    let (bytes, _) = app.store.tags().bytes(&ModelName::parse("tiny").unwrap()).unwrap();
    let blob = Manifest::parse(&bytes).unwrap().layers[0].clone();
    let content = std::fs::read(app.store.blobs().path(&blob.digest)).unwrap();
    let path = format!("/v2/library/tiny/blobs/{}", blob.digest);
    let (status, headers, body) = ask(&app, Method::GET, &path, &[]).await;
    assert!(status == 200 && body == content);
    assert_eq!(
        (&headers["accept-ranges"], &headers["content-length"]),
        (&"bytes".parse().unwrap(), &content.len().into())
    );
    let etag = headers["etag"].to_str().unwrap().to_owned();
    let size = content.len();
    for (range, part) in [
        ("bytes=0-9".to_owned(), &content[..10]),
        ("bytes=1000-".to_owned(), &content[1000..]),
        ("bytes=-7".to_owned(), &content[size - 7..]),
        (format!("bytes={}-{}", size - 1, size + 9), &content[size - 1..]),
    ] {
        let (status, headers, body) = ask(&app, Method::GET, &path, &[("range", &range), ("if-range", &etag)]).await;
        assert!(status == 206 && body == part, "{range}");
        assert_eq!(headers["content-length"], *part.len().to_string());
        let said = headers["content-range"].to_str().unwrap();
        assert!(said.starts_with("bytes ") && said.ends_with(&format!("/{size}")), "{said}");
    }
    let other = [("range", "bytes=0-9"), ("if-range", "\"other\"")];
    assert_eq!(ask(&app, Method::GET, &path, &other).await.0, 200);
    let (status, headers, body) = ask(&app, Method::HEAD, &path, &[]).await;
    assert_eq!((status, body.len(), &headers["content-length"]), (200, 0, &content.len().into()));
    let outside = ask(&app, Method::GET, &path, &[("range", "bytes=99999999-")]).await;
    assert_eq!((outside.0, code(&outside.2).as_str()), (416, "RANGE_INVALID"));

    // Only what a manifest of the repository names.
    let secret = app.store.blobs().put(b"an upload of somebody's").unwrap();
    for path in [format!("/v2/library/tiny/blobs/{secret}"), format!("/v2/library/nobody/blobs/{}", blob.digest)] {
        let (status, _, body) = ask(&app, Method::GET, &path, &[]).await;
        assert_eq!((status, code(&body).as_str()), (404, "BLOB_UNKNOWN"));
    }
    let (status, _, body) = ask(&app, Method::GET, "/v2/library/tiny/blobs/sha256:..", &[]).await;
    assert_eq!((status, code(&body).as_str()), (400, "DIGEST_INVALID"));
    // What is damaged is not passed on.
    let place = app.store.blobs().path(&blob.digest);
    std::fs::remove_file(&place).unwrap();
    std::fs::write(&place, vec![0; size]).unwrap();
    let (status, _, body) = ask(&app, Method::GET, &path, &[]).await;
    assert_eq!((status, code(&body).as_str()), (500, "UNKNOWN"));
}

#[tokio::test]
async fn who_would_wait_too_long_for_a_pull_is_told_to_ask_again() {
    // Takes connections, and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = silent.local_addr().unwrap().to_string();
    let registry = Registry::new(RegistryMode::PullThrough, &upstream).with_patience(Duration::from_millis(50));
    let app = TestApp::serving(registry);
    // A pull is joined by those who ask again, and there are not more than four.
    for (model, why) in [("a", "is being pulled"), ("a", "is being pulled"), ("b", "is being pulled")]
        .into_iter()
        .chain([("c", "is being pulled"), ("d", "is being pulled"), ("e", "has to wait for other pulls")])
    {
        let path = format!("/v2/library/{model}/manifests/latest");
        let (status, headers, body) = ask(&app, Method::GET, &path, &[]).await;
        assert_eq!(
            (status, code(&body).as_str(), &headers["retry-after"]),
            (503, "UNAVAILABLE", &"5".parse().unwrap())
        );
        assert!(String::from_utf8(body).unwrap().contains(why), "{model}");
    }
    let digest = Digest::of(b"x");
    let path = format!("/v2/library/a/manifests/{digest}");
    assert_eq!(ask(&app, Method::GET, &path, &[]).await.0, 404, "a digest is not pulled");
}
