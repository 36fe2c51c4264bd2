//! What becomes of requests and children when the one or the other is gone.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::asking::{lives, long};
use super::gauges;
use super::harness::{Home, Server, children, send, wait_until};

/// More than a test ever reads.
const ENDLESS: usize = 100_000;

/// A home with `tiny` and `other`, of different weights.
fn home() -> Home {
    let home = Home::new();
    home.create("tiny", "tiny-f16.gguf");
    home.create("other", "tiny-q8_0.gguf");
    home
}

/// Loads `model` with a question and gives its runner.
async fn load(server: &Server, model: &str) -> Pid {
    let before = children(server.id());
    assert_eq!(server.ask(model, "Ping").await, "Pong");
    let new: Vec<Pid> = children(server.id()).into_iter().filter(|child| !before.contains(child)).collect();
    assert_eq!(new.len(), 1, "a runner for {model}");
    new[0]
}

#[tokio::test]
async fn a_runner_that_dies_is_the_end_of_its_requests_only() {
    let home = home();
    let server = Server::start(&home);
    let other = load(&server, "other").await;
    let tiny = load(&server, "tiny").await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = server.stream("/api/generate", long("tiny", ENDLESS)).await;
        assert_eq!(stream.next().await.unwrap()["done"], false);
        streams.push(stream);
    }
    kill_process(tiny, Signal::KILL).unwrap();
    for stream in streams {
        let (_, last) = stream.rest().await;
        assert!(last["error"].as_str().is_some_and(|text| !text.is_empty()) && last.get("done").is_none(), "{last}");
    }
    assert_eq!(server.get("/api/version").await.0, 200);
    assert_eq!(server.loaded().await, ["other:latest"]);
    assert_eq!(server.ask("other", "Ping").await, "Pong");
    assert!(lives(other));
    assert_ne!(load(&server, "tiny").await, tiny);
}

#[tokio::test]
async fn a_server_that_is_killed_takes_its_runners_along() {
    let home = home();
    let mut server = Server::start(&home);
    let runners = [load(&server, "other").await, load(&server, "tiny").await];
    let mut stream = server.stream("/api/generate", long("tiny", ENDLESS)).await;
    stream.next().await.unwrap();
    assert!(server.is_running());
    kill_process(server.id(), Signal::KILL).unwrap();
    wait_until("the runners' end", || !runners.iter().any(|runner| lives(*runner)));
}

#[tokio::test]
async fn a_runner_that_hangs_harms_nobody_else() {
    let home = home();
    let server = Server::start(&home);
    let tiny = load(&server, "tiny").await;
    let mut stream = server.stream("/api/generate", long("tiny", ENDLESS)).await;
    stream.next().await.unwrap();
    kill_process(tiny, Signal::STOP).unwrap();
    drop(stream);
    assert_eq!(server.get("/api/version").await.0, 200);
    assert_eq!(server.ask("other", "Ping").await, "Pong");
    // It can be got rid of, and what comes then is answered by a new one.
    let request = json!({"model": "tiny", "keep_alive": 0});
    assert_eq!(server.post("/api/generate", request).await.0, 200);
    wait_until("the end of the runner that hangs", || !lives(tiny));
    assert_ne!(load(&server, "tiny").await, tiny);
}

/// The next answer does not wait for the end of one that nobody reads, which would take two hundred times `some` of the runner's
/// work: how busy the machine is does not count.
async fn next_in_time(server: &Server, runner: Pid, some: u64) {
    let before = gauges::work(runner);
    assert_eq!(server.ask("tiny", "Ping").await, "Pong");
    let work = gauges::work(runner) - before;
    assert!(work < 40 * some, "it took {work}, and {some} are 200 tokens");
}

#[tokio::test]
async fn a_client_that_leaves_stops_its_generation() {
    let home = home();
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    // One place, so that the next request must wait for it.
    command.env("OLLAMA_NUM_PARALLEL", "1");
    let server = Server::start_with(command, 1);
    let tiny = load(&server, "tiny").await;
    let mut some = 0;
    for path in ["/api/generate", "/api/chat"] {
        let mut request = long("tiny", ENDLESS);
        request["messages"] = json!([{"role": "user", "content": "Ping"}]);
        let mut stream = server.stream(path, request).await;
        let begun = gauges::work(tiny);
        for _ in 0..200 {
            stream.next().await.unwrap();
        }
        some = gauges::work(tiny) - begun + 1;
        drop(stream);
        next_in_time(&server, tiny, some).await;
        assert_eq!(server.loaded().await, ["tiny:latest"]);
    }
    // One that asked for the answer in one piece.
    let mut request = long("tiny", ENDLESS);
    request["stream"] = json!(false);
    let body = request.to_string();
    let head = format!("POST /api/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    let before = gauges::work(tiny);
    let connection = send(server.address(), (head + &body).as_bytes());
    wait_until("the answer's beginning", || gauges::work(tiny) > before + some);
    drop(connection);
    next_in_time(&server, tiny, some).await;
    assert!(lives(tiny), "it is the same runner all the time");
    let request = json!({"model": "tiny", "keep_alive": 0});
    assert_eq!(server.post("/api/generate", request).await.0, 200);
    assert!(server.loaded().await.is_empty());
    wait_until("the runner's end", || !lives(tiny));
}
