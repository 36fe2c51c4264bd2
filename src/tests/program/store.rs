//! The store as a neighbour sees it: another server, or Ollama itself.

use std::path::{Path, PathBuf};

use hanzod::types::Digest;
use serde_json::{Value, json};

use super::harness::{Home, Server, Talk, tiny};

/// The files below a folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] }).collect()
}

/// Every blob is what its name says, every manifest is whole. Gives the number of manifests.
pub(super) fn check(store: &Path) -> usize {
    for blob in files(&store.join("blobs")) {
        let name = blob.file_name().unwrap().to_str().unwrap();
        assert_eq!(name, Digest::of(&std::fs::read(&blob).unwrap()).file_name());
    }
    // What a kill left half-way has no name yet.
    let mut manifests = files(&store.join("manifests"));
    manifests.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with("ingest-"));
    for path in &manifests {
        let manifest: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(manifest["schemaVersion"], 2, "{manifest}");
        let layers = manifest["layers"].as_array().unwrap();
        assert!(!layers.is_empty(), "{manifest}");
        for layer in layers.iter().chain([&manifest["config"]]) {
            let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
            let blob = std::fs::metadata(store.join("blobs").join(digest.file_name())).unwrap();
            assert_eq!(layer["size"], blob.len(), "{manifest}");
        }
    }
    manifests.len()
}

#[tokio::test]
async fn every_file_is_what_its_name_says() {
    let home = Home::new();
    let server = Server::start(&home);
    home.create("tiny", "tiny-q4_k_m.gguf");
    home.create("names/of/no:use", "tiny-q4_k_m.gguf");
    home.good(&["cp", "tiny", "second:one"]);
    assert_eq!(check(&home.store()), 3);
    let elsewhere: Vec<PathBuf> =
        files(home.path()).into_iter().filter(|file| !file.starts_with(home.store())).collect();
    assert!(elsewhere.iter().all(|file| file.file_name().unwrap().to_str().unwrap().starts_with("Modelfile-")));
    for name in ["tiny", "names/of/no:use", "second:one"] {
        assert_eq!(server.delete("/api/delete", json!({"model": name})).await, 200);
    }
    assert!(files(&home.store()).is_empty(), "{:?}", files(&home.store()));
}

#[tokio::test]
async fn two_servers_share_one() {
    let home = Home::new();
    let (one, two) = (Server::start(&home), Server::start(&home));
    let content = std::fs::read(tiny().join("tiny-q4_k_m.gguf")).unwrap();
    let digest = Digest::of(&content).to_string();
    let path = format!("/api/blobs/{digest}");
    let (first, second) = tokio::join!(one.post(&path, content.as_slice()), two.post(&path, content.as_slice()));
    assert!([200, 201].contains(&first.0) && [200, 201].contains(&second.0), "{first:?} {second:?}");
    let request = |name: String| json!({"model": name, "files": {"tiny.gguf": digest}, "stream": false});
    for number in 0..5 {
        let (same, own) = (request("same".into()), request(format!("own-{number}")));
        let made = tokio::join!(one.post("/api/create", same.clone()), two.post("/api/create", same));
        assert_eq!((made.0.0, made.1.0), (200, 200), "{made:?}");
        assert_eq!(two.post("/api/create", own).await.0, 200);
        assert_eq!(one.delete("/api/delete", json!({"model": "same"})).await, 200);
    }
    let expected: Vec<String> = (0..5).map(|number| format!("own-{number}:latest")).collect();
    assert_eq!((one.names().await, two.names().await), (expected.clone(), expected));
    assert_eq!(check(&home.store()), 5);
}

/// A body that nobody needs is not a reason to hang up: the client's next request comes over the same connection.
#[test]
fn uploads_that_are_not_needed() {
    let home = Home::new();
    let server = Server::start(&home);
    let content = std::fs::read(tiny().join("tiny-q8_0.gguf")).unwrap();
    let path = format!("/api/blobs/{}", Digest::of(&content));
    let mut talk = Talk::with(&server);
    for (path, status) in [(&*path, 201), (&*path, 200), ("/api/blobs/sha256:none", 400), (&*path, 200)] {
        assert_eq!(talk.post(path, content.as_slice()).0, status, "{path}");
        assert_eq!(talk.post("/api/show", json!({"model": "none"})).0, 404);
    }
}
