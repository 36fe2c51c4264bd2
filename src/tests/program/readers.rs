//! Clients that do not read their answers, beside others that do.

use std::io::Read as _;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::asking::long;
use super::harness::{Home, Server, send};

/// Tokens of the others' answers.
const LENGTH: usize = 200;

/// An answer that is longer than every buffer on its way: each of its lines is some kilobytes.
fn endless() -> Vec<u8> {
    let mut request = long("tiny", 100_000);
    request["logprobs"] = json!(true);
    request["top_logprobs"] = json!(20);
    let body = request.to_string();
    let head = format!("POST /api/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    (head + &body).into_bytes()
}

/// That such an answer is given up in the end is tested where it happens, in `engine/process.rs`.
#[tokio::test]
async fn one_that_never_reads_holds_nobody_up() {
    let home = Home::new();
    home.create("tiny", "tiny-q8_0.gguf");
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("OLLAMA_NUM_PARALLEL", "5");
    let server = Server::start_with(command, 1);
    assert_eq!(server.ask("tiny", "Ping").await, "Pong");
    let mut unread = send(server.address(), &endless());

    // It is under way, and then stuck: what it says is more than fits between it and a client that reads nothing.
    let mut first = [0; 15];
    unread.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    for _ in 0..2 {
        let answers = (0..4).map(|_| async {
            let (text, last) = server.stream("/api/generate", long("tiny", LENGTH)).await.rest().await;
            let list: Vec<Value> = serde_json::from_str(&text).unwrap();
            assert_eq!((list.len(), last["done"].as_bool()), (LENGTH, Some(true)), "{last}");
        });
        join_all(answers).await;
    }
    // When its client leaves, it does.
    drop(unread);
    assert_eq!(server.ask("tiny", "Ping").await, "Pong");
    let request = json!({"model": "tiny", "keep_alive": 0});
    assert_eq!(server.post("/api/generate", request).await.0, 200);
    super::harness::wait_until("the runner's end", || super::harness::children(server.id()).is_empty());
}
