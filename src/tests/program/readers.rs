//! Clients that do not read their answers, beside others that do.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::asking::long;
use super::harness::{Home, Server, children, wait_until};

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

/// A client that asks for such an answer, sees that it begins and reads no more; its system keeps as little as it can.
async fn unread(server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1024).unwrap();
    let mut stream = socket.connect(server.address().parse().unwrap()).await.unwrap();
    stream.write_all(&endless()).await.unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    stream
}

/// That such an answer is given up in the end is tested where it happens, in `engine/process.rs`, and that its connection is
/// in `server/patient.rs`.
#[tokio::test]
async fn l03_those_that_never_read_hold_nobody_up() {
    let home = Home::new();
    home.create("tiny", "tiny-q8_0.gguf");
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("OLLAMA_NUM_PARALLEL", "8");
    let server = Server::start_with(command, 1);
    assert_eq!(server.ask("tiny", "Ping").await, "Pong");
    // They are under way, and then stuck: what they are told is more than fits between them and the server.
    let unread = join_all((0..4).map(|_| unread(&server))).await;
    for _ in 0..2 {
        let answers = (0..4).map(|_| async {
            let (text, last) = server.stream("/api/generate", long("tiny", LENGTH)).await.rest().await;
            let list: Vec<Value> = serde_json::from_str(&text).unwrap();
            assert_eq!((list.len(), last["done"].as_bool()), (LENGTH, Some(true)), "{last}");
        });
        join_all(answers).await;
    }
    // When their clients leave, they do.
    drop(unread);
    assert_eq!(server.ask("tiny", "Ping").await, "Pong");
    let request = json!({"model": "tiny", "keep_alive": 0});
    assert_eq!(server.post("/api/generate", request).await.0, 200);
    wait_until("the runner's end", || children(server.id()).is_empty());
}
