//! What takes the room, and making more of it.

use std::time::{Duration, SystemTime};

use hanzod::types::Digest;
use serde_json::json;

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
