//! What takes the room, and making more of it.

use std::time::{Duration, SystemTime};

use axum::http::Method;
use hanzod::types::{Digest, ModelName};
use serde_json::{Value, json};

use crate::util::TestApp;

#[tokio::test]
async fn room_is_told_and_made() {
    let app = TestApp::with_tiny().await;
    let room = app.get("/api/hanzod/df").await.json();
    assert_eq!(room["models"].as_array().unwrap().len(), 2);
    let size = |key: &str| room[key].as_u64().unwrap();
    assert!(size("used") > size("shared") && size("shared") > 2_000_000 && size("linked") == 0, "{room}");
    assert_eq!(room["loose"], json!([]));

    let unused = app.store.blobs().put(b"unused").unwrap();
    let path = app.store.blobs().path(&unused);
    let partial = app.store.blobs().partial(&Digest::of(b"other")).unwrap();
    let two_days_ago = SystemTime::now() - Duration::from_secs(48 * 3600);
    for path in [path.as_path(), partial.path()] {
        std::fs::File::open(path).unwrap().set_modified(two_days_ago).unwrap();
    }
    let told = app.post("/api/hanzod/prune", json!({"dry_run": true})).await.json();
    assert_eq!((&told["freed"], told["removed"].as_array().unwrap().len()), (&json!(6), 1));
    assert_eq!(told["removed"][0]["digest"], unused.to_string());
    assert!(path.exists());
    let done = app.post("/api/hanzod/prune", json!({"partials_older_than": "1d"})).await.json();
    assert_eq!(done["removed"].as_array().unwrap().len(), 2, "{done}");
    assert!(!path.exists() && !partial.path().exists());
    assert_eq!(app.get("/api/hanzod/df").await.json()["loose"], json!([]));
    let refused = app.post("/api/hanzod/prune", json!({"partials_older_than": "soon"})).await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn a_damaged_blob_is_named_and_mended() {
    let app = TestApp::with_tiny().await;
    let model = app.store.model(&ModelName::parse("tiny").unwrap()).unwrap();
    let digest = model.manifest.layers[0].digest;
    let path = app.store.blobs().path(&digest);
    let content = std::fs::read(&path).unwrap();
    let chat = json!({"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": false});
    assert_eq!(app.post("/api/chat", chat.clone()).await.status, 200);

    let mut wrong = content.clone();
    wrong[content.len() / 2] ^= 4;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, wrong).unwrap();
    let reply = app.post("/api/chat", chat.clone()).await;
    assert_eq!(reply.status, 500);
    let error = reply.json()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with(&format!("blob {digest} is damaged: ")), "{error}");

    let lines = app.post("/api/hanzod/verify", json!({"model": "tiny"})).await.lines();
    assert!(lines.iter().any(|line| line["digest"] == digest.to_string() && line["total"] == content.len()));
    let last = lines.last().unwrap();
    assert_eq!((&last["status"], &last["damaged"][0]["moved"]), (&json!("damage found"), &json!(false)));
    assert_eq!(last["damaged"][0]["models"], json!(["tiny:latest"]));
    let whole = app.post("/api/hanzod/verify", json!({"repair": true, "stream": false})).await.json();
    assert_eq!(whole["damaged"][0]["models"], json!(["tiny-jinja:latest", "tiny:latest"]));
    assert_eq!(whole["damaged"][0]["moved"], true);
    assert!(!path.exists());
    assert!(app.post("/api/chat", chat.clone()).await.text().contains("is missing"));

    let upload = app.send(Method::POST, &format!("/api/blobs/{digest}"), &[], content).await;
    assert_eq!(upload.status, 201);
    assert_eq!(app.post("/api/chat", chat).await.status, 200);
    let whole: Value = app.post("/api/hanzod/verify", json!({"stream": false})).await.json();
    assert_eq!((&whole["status"], &whole["damaged"]), (&json!("success"), &json!([])));
    assert_eq!(app.post("/api/hanzod/verify", json!({"model": "nobody"})).await.status, 404);
}
