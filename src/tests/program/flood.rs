//! More clients than can be served, and clients that leave: those who stay get what they would get alone, and afterwards
//! everything is as it was before.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use rustix::process::Pid;
use serde_json::{Value, json};

use super::asking::long;
use super::gauges;
use super::harness::{Home, PATIENCE, Server, children, send, wait_until};

/// More than a test ever reads.
const ENDLESS: usize = 100_000;
const BUSY: &str = "server busy, please try again.  maximum pending requests exceeded";

/// A request whose answer begins with "Pong".
fn ping() -> Value {
    json!({"model": "tiny", "messages": [{"role": "user", "content": "Ping"}], "think": false, "stream": false})
}

/// Nothing is under way any more, in the server or in its runner, and the model can be unloaded.
async fn assert_at_rest(server: &Server, runner: Pid) {
    wait_until("nothing to compute", || {
        let before = [runner, server.id()].map(gauges::work);
        std::thread::sleep(Duration::from_millis(300));
        // The runner does nothing at all; the server may look at its clocks.
        let after = [runner, server.id()].map(gauges::work);
        after[0] == before[0] && after[1] <= before[1] + 1
    });
    let (status, answer) = server.post("/api/chat", ping()).await;
    assert_eq!((status, answer["message"]["content"].as_str()), (200, Some("Pong")), "{answer}");
    let request = json!({"model": "tiny", "keep_alive": 0});
    assert_eq!(server.post("/api/generate", request).await.0, 200);
    // A lease that was never given back would keep it.
    wait_until("the runner's end", || children(server.id()).is_empty());
}

#[tokio::test]
async fn l01_who_finds_the_queue_full_is_told_so_and_the_others_are_answered() {
    const QUEUE: usize = 16;
    const CLIENTS: usize = 60;
    let home = Home::new();
    home.create("tiny", "tiny-q8_0.gguf");
    let server = Server::start_set(&home, &[("OLLAMA_NUM_PARALLEL", "2"), ("OLLAMA_MAX_QUEUE", "16")]);
    assert_eq!(server.ask("tiny", "Ping").await, "Pong");
    let runner = children(server.id())[0];
    let memory = gauges::memory(server.id());
    // Two answers that do not end, so that all others have to wait.
    let mut occupied = Vec::new();
    for _ in 0..2 {
        let mut stream = server.stream("/api/generate", long("tiny", ENDLESS)).await;
        stream.next().await.unwrap();
        occupied.push(stream);
    }
    let refused = AtomicUsize::new(0);
    let clients = (0..CLIENTS).map(|_| async {
        let (status, answer) = server.post("/api/chat", ping()).await;
        if status == 503 {
            assert_eq!(answer, json!({ "error": BUSY }));
            refused.fetch_add(1, Ordering::SeqCst);
        } else {
            assert_eq!((status, answer["message"]["content"].as_str()), (200, Some("Pong")), "{answer}");
        }
        status
    });
    let release = async {
        // They are told at once, while nobody of those who wait can be answered yet.
        let all = async {
            while refused.load(Ordering::SeqCst) < CLIENTS - QUEUE {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap();
        drop(occupied);
    };
    let (all, ()) = tokio::join!(join_all(clients), release);
    let busy = all.iter().filter(|status| **status == 503).count();
    assert_eq!(busy, CLIENTS - QUEUE, "{all:?}");
    assert_at_rest(&server, runner).await;
    let gained = gauges::memory(server.id()).saturating_sub(memory);
    assert!(gained < gauges::GAIN, "{gained} bytes more than before");
}

/// When a client leaves.
#[derive(Clone, Copy)]
enum Leaves {
    InItsHead,
    BeforeItsBody,
    InItsBody,
    AtOnce,
    After(Duration),
    AfterLines(usize),
}

fn random(random: &mut ChaCha8Rng) -> Leaves {
    let number = random.next_u32();
    match number % 6 {
        0 => Leaves::InItsHead,
        1 => Leaves::BeforeItsBody,
        2 => Leaves::InItsBody,
        3 => Leaves::AtOnce,
        4 => Leaves::After(Duration::from_millis(u64::from(number / 6 % 400))),
        _ => Leaves::AfterLines(number as usize / 6 % 20),
    }
}

/// What an endless request looks like: short or with a long prompt, streamed or not, to any route.
fn request(random: &mut ChaCha8Rng) -> (String, String) {
    let number = random.next_u32();
    let path = ["/api/generate", "/api/chat", "/v1/chat/completions"][number as usize % 3];
    let mut body = long("tiny", ENDLESS);
    body["stream"] = json!(number & 8 != 0);
    let words = if number & 16 != 0 { "a ".repeat(3000) + &number.to_string() } else { "Ping".into() };
    body["messages"] = json!([{"role": "user", "content": words}]);
    body["prompt"] = json!(words);
    if path.starts_with("/v1") {
        let schema = json!({"name": "list", "schema": body["format"]});
        body["response_format"] = json!({"type": "json_schema", "json_schema": schema});
    }
    let body = body.to_string() + if number & 32 != 0 { "\r\n" } else { "" };
    // Some send a line's end that is no part of it.
    let length = body.trim_end().len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
    (head, body)
}

/// One client, from its connection to its leaving.
fn client(address: &str, leaves: Leaves, head: &str, body: &str) {
    let part = |text: &str| text[..text.len() / 2].to_owned();
    let sent = match leaves {
        Leaves::InItsHead => part(head),
        Leaves::BeforeItsBody => head.to_owned(),
        Leaves::InItsBody => head.to_owned() + &part(body),
        _ => head.to_owned() + body,
    };
    let mut stream: TcpStream = send(address, sent.as_bytes());
    match leaves {
        Leaves::After(time) => std::thread::sleep(time),
        Leaves::AfterLines(lines) => {
            // Not every answer has lines, and not every client waits for its turn.
            stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let mut bytes = [0; 512];
            for _ in 0..lines {
                if !matches!(stream.read(&mut bytes), Ok(1..)) {
                    break;
                }
            }
        }
        _ => stream.flush().unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l02_clients_that_leave_leave_nothing_behind() {
    const CLIENTS: u64 = 200;
    let home = Home::new();
    home.create("tiny", "tiny-q8_0.gguf");
    let server = Server::start_set(&home, &[("OLLAMA_NUM_PARALLEL", "4")]);
    let story =
        json!({"model": "tiny", "prompt": "Count from 1 to 50.", "think": false, "options": {"temperature": 0}});
    let (alone, _) = server.stream("/api/generate", story.clone()).await.rest().await;
    assert!(alone.starts_with("1, 2, 3") && alone.ends_with("49, 50"), "{alone}");
    let runner = children(server.id())[0];
    let (memory, files) = (gauges::memory(server.id()), gauges::files(server.id()));

    let over = AtomicBool::new(false);
    let others = async {
        let mut times = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let began = Instant::now();
            assert_eq!(server.get("/api/version").await.0, 200);
            times.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        times.sort();
        println!("/api/version meanwhile, {} times: {:?} at 99 %", times.len(), times[times.len() * 99 / 100]);
    };
    let victim = async {
        let mut answers = 0;
        while !over.load(Ordering::SeqCst) {
            let (text, last) = server.stream("/api/generate", story.clone()).await.rest().await;
            assert_eq!((text.as_str(), last["done_reason"].as_str()), (alone.as_str(), Some("stop")), "{last}");
            answers += 1;
        }
        assert!(answers > 0);
        println!("{answers} answers beside them");
    };
    let address = server.address().to_owned();
    let flood = tokio::task::spawn_blocking(move || {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let address = &address;
                scope.spawn(move || {
                    let mut dice = ChaCha8Rng::seed_from_u64(thread);
                    for _ in 0..CLIENTS / 8 {
                        let leaves = random(&mut dice);
                        let (head, body) = request(&mut dice);
                        client(address, leaves, &head, &body);
                    }
                });
            }
        });
    });
    let flood = async {
        flood.await.unwrap();
        over.store(true, Ordering::SeqCst);
    };
    tokio::join!(flood, victim, others);

    assert_eq!(server.loaded().await, ["tiny:latest"]);
    assert_eq!(children(server.id()), [runner], "it is the same runner all the time");
    // The connections of this test's own client stay open for a while.
    wait_until("as many open files as before", || gauges::files(server.id()) <= files + 4);
    let gained = gauges::memory(server.id()).saturating_sub(memory);
    assert!(gained < gauges::GAIN, "{gained} bytes more than before");
    assert_at_rest(&server, runner).await;
}
