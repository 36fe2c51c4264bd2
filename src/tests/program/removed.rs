//! Models that are removed while somebody is at work with them.

use futures_util::future::join_all;
use serde_json::json;

use super::harness::{Home, Server};
use super::store::check;

#[tokio::test]
async fn f36_twice_at_once() {
    let home = Home::new();
    home.create("kept", "tiny-q4_k_m.gguf");
    let server = Server::start(&home);
    for round in 0..20 {
        let copy = json!({"source": "kept", "destination": "gone"});
        assert_eq!(server.post("/api/copy", copy).await.0, 200);
        let deletes = (0..4).map(|_| server.delete("/api/delete", json!({"model": "gone"})));
        let mut answers = join_all(deletes).await;
        answers.sort_unstable();
        assert_eq!(answers, [200, 404, 404, 404], "round {round}");
    }
    assert_eq!((server.names().await.len(), check(&home.store())), (1, 1));
}

#[cfg(feature = "llama")]
#[tokio::test]
async fn f36_a_stream_outlives_its_model() {
    use super::asking::long;
    const LENGTH: usize = 300;
    let home = Home::new();
    home.create("tiny", "tiny-q4_k_m.gguf");
    let server = Server::start(&home);
    let mut stream = server.stream("/api/generate", long("tiny", LENGTH)).await;
    let first = stream.next().await.unwrap()["response"].as_str().unwrap().to_owned();
    assert_eq!(server.delete("/api/delete", json!({"model": "tiny"})).await, 200);
    assert!(super::store::files(&home.store()).is_empty(), "all of it is gone from the disk");
    assert_eq!(server.post("/api/generate", json!({"model": "tiny", "prompt": "Ping"})).await.0, 404);
    let (rest, last) = stream.rest().await;
    assert_eq!(last["done"], true, "{last}");
    let digits = (first + &rest).chars().filter(char::is_ascii_digit).count();
    assert_eq!(digits, LENGTH, "it ends as it would have ended");
    // The name is free for another model.
    home.create("tiny", "tiny-q8_0.gguf");
    assert_eq!(server.ask("tiny", "Ping").await, "Pong");
}
