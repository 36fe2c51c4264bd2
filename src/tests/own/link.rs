//! Files of this machine are the command line's business, and nobody else's.

use axum::body::Body;
use axum::http::Request;
use hanzod::api::Inside;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::util::TestApp;

async fn inside(app: &TestApp, path: &str, body: Value) -> Vec<Value> {
    let request = Request::post(path).extension(Inside).body(Body::from(body.to_string())).unwrap();
    let bytes = app.begin(request).await.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    crate::spec::check("POST", path, 200, Some("application/x-ndjson"), text.as_bytes()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_path_is_taken_from_inside_only() {
    let app = TestApp::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("My Model.gguf");
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/compat-tests/models/tiny/tiny-q4_k_m.gguf");
    std::fs::copy(tiny, &file).unwrap();
    let request = json!({"path": file});
    for (path, body) in [("/api/hanzod/link", request.clone()), ("/api/hanzod/scan", json!({"folders": ["/"]}))] {
        assert_eq!(app.post(path, body).await.status, 403);
    }
    assert!(app.store.tags().list().is_empty());

    let lines = inside(&app, "/api/hanzod/link", request).await;
    assert!(lines.iter().any(|line| line["total"].is_u64() && line["completed"] == line["total"]), "{lines:?}");
    assert_eq!(lines.last().unwrap(), &json!({"status": "success"}));
    let tags = app.get("/api/tags").await.json();
    assert_eq!(tags["models"][0]["name"], "My-Model:latest");
}
