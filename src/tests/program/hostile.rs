//! Bad input from outside: an error that says why, a server that lives, nothing left behind.

use hanzod::types::Digest;
use serde_json::{Value, json};

use super::harness::{Home, Server, send, tiny, wait_until};

/// Uploads `content` and makes `hostile` of it.
async fn create(server: &Server, content: &[u8]) -> (u16, Value) {
    let digest = Digest::of(content).to_string();
    assert_eq!(server.post(&format!("/api/blobs/{digest}"), content).await.0, 201);
    let request = json!({"model": "hostile", "files": {"model.gguf": digest}, "stream": false});
    server.post("/api/create", request).await
}

/// What a test leaves behind: files of the store that are neither blob nor manifest, and names.
fn left_behind(home: &Home) -> Vec<String> {
    let blobs = std::fs::read_dir(home.store().join("blobs")).unwrap().flatten();
    let names = blobs.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with("sha256-")).collect()
}

fn patched(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut file = std::fs::read(tiny().join("tiny-q4_k_m.gguf")).unwrap();
    let at = file.windows(from.len()).position(|window| window == from).unwrap();
    file[at..at + from.len()].copy_from_slice(to);
    file
}

/// The tiny file with eight other bytes at `at`: version and counts stand in a GGUF's first 24.
fn with_number(at: usize, number: u64) -> Vec<u8> {
    let mut file = std::fs::read(tiny().join("tiny-q4_k_m.gguf")).unwrap();
    file[at..at + 8].copy_from_slice(&number.to_le_bytes());
    file
}

#[tokio::test]
async fn files_that_are_no_models() {
    let home = Home::new();
    let mut server = Server::start(&home);
    let whole = std::fs::read(tiny().join("tiny-q4_k_m.gguf")).unwrap();
    let files = [
        ("empty", Vec::new()),
        ("half of its head", whole[..40].to_vec()),
        ("half of its tensors", whole[..whole.len() / 2].to_vec()),
        ("without its last byte", whole[..whole.len() - 1].to_vec()),
        ("another magic", patched(b"GGUF", b"FUGG")),
        ("text", b"{\"no\": \"model\"}".to_vec()),
        ("tensors without number", with_number(8, u64::MAX)),
        ("many tensors", with_number(8, 1 << 32)),
        ("keys without number", with_number(16, u64::MAX)),
        ("many keys", with_number(16, 1 << 40)),
        ("a key of boundless length", with_number(24, u64::MAX)),
        ("a key of a terabyte", with_number(24, 1 << 40)),
    ];
    for (what, file) in files {
        let (status, answer) = create(&server, &file).await;
        assert!([400, 500].contains(&status), "{what}: {status} {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {answer}");
        assert_eq!(server.get("/api/tags").await.1["models"], json!([]), "{what}");
        assert!(server.is_running(), "{what}");
    }
    assert!(left_behind(&home).is_empty(), "{:?}", left_behind(&home));
    #[cfg(target_os = "linux")]
    assert!(super::harness::children(server.id()).is_empty());
}

#[tokio::test]
async fn bodies_that_are_no_requests() {
    let home = Home::new();
    let server = Server::start(&home);
    let digest = Digest::of(b"x");
    for (path, body, status, error) in [
        ("/api/generate", "{", 400, "unexpected EOF"),
        ("/api/generate", "", 400, "missing request body"),
        ("/api/generate", "{\"model\": \"absent\"}", 404, "model 'absent' not found"),
        ("/api/chat", "{\"model\": \"absent\", \"messages\": []}", 404, "model 'absent' not found"),
        ("/api/show", "{\"model\": \"absent\"}", 404, "model 'absent:latest' not found"),
        ("/api/create", "{\"model\": \"../../etc/passwd\", \"from\": \"x\"}", 400, "invalid model name"),
        ("/api/blobs/sha256:12", "x", 400, "invalid digest format"),
        (&format!("/api/blobs/{digest}"), "y", 400, "digest mismatch"),
    ] {
        let (seen, answer) = server.post(path, body.as_bytes()).await;
        assert_eq!(seen, status, "{path} {body}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| text.contains(error)), "{path} {body}: {answer}");
    }
    assert_eq!(server.post("/api/generate", b"{\"model\": 7}".as_slice()).await.0, 400);
    // Not HTTP at all, and an upload that breaks off.
    send(server.address(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    let head = format!("POST /api/blobs/{digest} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\nabc");
    drop(send(server.address(), head.as_bytes()));
    wait_until("the end of the upload", || left_behind(&home).is_empty());
    assert_eq!(std::fs::read_dir(home.store().join("blobs")).unwrap().count(), 0);
    assert_eq!(server.get("/api/version").await.0, 200);
}

/// The tiny file with another value for a number of its metadata.
#[cfg(feature = "llama")]
pub(super) fn with_value(key: &str, value: u32) -> Vec<u8> {
    let mut file = std::fs::read(tiny().join("tiny-q4_k_m.gguf")).unwrap();
    // The key's text, and then the type of the value: 4 is a u32.
    let key = [key.as_bytes(), &4_u32.to_le_bytes()].concat();
    let at = file.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
    file
}

/// Sound files whose metadata lies: what the engine does then, an abort included, is an error of one request.
#[cfg(feature = "llama")]
#[tokio::test]
async fn metadata_that_lies() {
    let home = Home::new();
    let mut server = Server::start(&home);
    for (key, value) in [
        ("qwen3.block_count", 1),
        ("qwen3.block_count", 0x7fff_ffff),
        ("qwen3.context_length", 1),
        ("qwen3.context_length", u32::MAX),
        ("qwen3.embedding_length", 0),
        ("qwen3.attention.head_count", 0),
        ("qwen3.attention.key_length", u32::MAX),
    ] {
        let (status, answer) = create(&server, &with_value(key, value)).await;
        assert_eq!(status, 200, "{key} {value}: {answer}");
        let request = json!({"model": "hostile", "prompt": "Ping", "stream": false, "keep_alive": 0});
        let (status, answer) = server.post("/api/generate", request).await;
        assert!([400, 500].contains(&status), "{key} {value}: {status} {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()), "{key} {value}: {answer}");
        println!("{key} {value}: {status} {answer}");
        assert!(server.is_running(), "{key} {value}");
    }
    #[cfg(target_os = "linux")]
    wait_until("the runners' end", || super::harness::children(server.id()).is_empty());
}

/// A file that was whole when it was made a model, and is no longer.
#[tokio::test]
async fn a_blob_that_lost_its_end() {
    let home = Home::new();
    let server = Server::start(&home);
    let file = std::fs::read(tiny().join("tiny-q4_k_m.gguf")).unwrap();
    assert_eq!(create(&server, &file).await.0, 200);
    std::fs::write(home.store().join("blobs").join(Digest::of(&file).file_name()), &file[..file.len() / 2]).unwrap();
    let (status, answer) = server.post("/api/generate", json!({"model": "hostile", "prompt": "Ping"})).await;
    assert_eq!(status, 500, "{answer}");
    let named = format!("blob {} is damaged: ", Digest::of(&file));
    assert!(answer["error"].as_str().is_some_and(|text| text.starts_with(&named)), "{answer}");
    assert_eq!(server.get("/api/version").await.0, 200);
}

/// Ours reads such a file, so that only the engine can say that it knows no such architecture.
#[tokio::test]
async fn an_architecture_that_nobody_knows() {
    let home = Home::new();
    let server = Server::start(&home);
    let (status, answer) = create(&server, &patched(b"\x05\0\0\0\0\0\0\0qwen3", b"\x05\0\0\0\0\0\0\0qvvn3")).await;
    assert_eq!(status, 200, "{answer}");
    let request = json!({"model": "hostile", "prompt": "Ping"});
    for _ in 0..2 {
        let (status, answer) = server.post("/api/generate", request.clone()).await;
        assert_eq!(status, 500, "{answer}");
        assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
        #[cfg(feature = "llama")]
        assert!(answer["error"].as_str().unwrap().contains("qvvn3"), "it says which: {answer}");
    }
    assert_eq!(server.get("/api/ps").await.1["models"], json!([]));
    #[cfg(target_os = "linux")]
    wait_until("the runner's end", || super::harness::children(server.id()).is_empty());
    assert_eq!(server.delete("/api/delete", json!({"model": "hostile"})).await, 200);
}
