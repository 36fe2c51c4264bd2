//! Models that come and go while others answer: loads that fail, more models than there is room for, wishes without bounds.

use futures_util::future::join_all;
use hanzod::types::Digest;
use serde_json::{Value, json};

use super::asking::long;
use super::gauges;
use super::harness::{Home, Server, children, tiny, wait_until};
use super::hostile::with_value;

/// The tiny model with another number in its metadata, as a model of its own.
async fn create_with(server: &Server, name: &str, key: &str, value: u32) {
    let file = with_value(key, value);
    let digest = Digest::of(&file).to_string();
    assert_eq!(server.post(&format!("/api/blobs/{digest}"), file.as_slice()).await.0, 201);
    let request = json!({"model": name, "files": {"model.gguf": digest}, "stream": false});
    let (status, answer) = server.post("/api/create", request).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn l08_loads_that_fail_disturb_nobody() {
    let home = Home::new();
    home.create("tiny", "tiny-q8_0.gguf");
    let server = Server::start_set(&home, &[]);
    create_with(&server, "broken", "qwen3.attention.head_count", 0).await;
    create_with(&server, "wrong", "qwen3.block_count", 3).await;
    assert_eq!(server.ask("tiny", "Ping").await, "Pong");
    let runner = children(server.id());
    let (memory, files) = (gauges::memory(server.id()), gauges::files(server.id()));
    let answer = async {
        let (text, last) = server.stream("/api/generate", long("tiny", 1000)).await.rest().await;
        let list: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!((list.len(), last["done"].as_bool()), (1000, Some(true)), "{last}");
    };
    let failures = async {
        for _ in 0..15 {
            for name in ["broken", "wrong"] {
                let request = json!({"model": name, "prompt": "Ping", "stream": false});
                let (status, answer) = server.post("/api/generate", request).await;
                assert!(status == 500 && !answer["error"].as_str().unwrap().is_empty(), "{status} {answer}");
            }
        }
    };
    tokio::join!(answer, failures);
    assert_eq!(server.loaded().await, ["tiny:latest"]);
    wait_until("the end of the runners that failed", || children(server.id()) == runner);
    wait_until("as many open files as before", || gauges::files(server.id()) <= files + 4);
    let gained = gauges::memory(server.id()).saturating_sub(memory);
    assert!(gained < gauges::GAIN, "{gained} bytes more than before");
}

#[tokio::test]
async fn l09_models_take_turns_and_no_request_is_lost() {
    const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];
    let home = Home::new();
    home.create("one", "tiny-q8_0.gguf");
    home.create("two", "tiny-f16.gguf");
    home.create("three", "tiny-q4_k_m.gguf");
    let server = Server::start_set(&home, &[("OLLAMA_MAX_LOADED_MODELS", "2")]);
    // The same again in a file of its own.
    for (number, name) in [(1, "four"), (2, "five")] {
        let mut file = std::fs::read(tiny().join("tiny-q8_0.gguf")).unwrap();
        file.extend(std::iter::repeat_n(0, number));
        let digest = Digest::of(&file).to_string();
        assert_eq!(server.post(&format!("/api/blobs/{digest}"), file.as_slice()).await.0, 201);
        let text = std::fs::read_to_string(tiny().join("Modelfile")).unwrap();
        let template = text.split("\"\"\"").nth(1).unwrap();
        let request = json!({"model": name, "files": {"model.gguf": digest}, "template": template, "stream": false});
        assert_eq!(server.post("/api/create", request).await.0, 200);
    }
    // One that is in use all the time, and is never taken away.
    let mut busy = server.stream("/api/generate", long("one", 100_000)).await;
    busy.next().await.unwrap();
    let runner = children(server.id())[0];
    let clients = (0..4).map(|client| {
        let server = &server;
        async move {
            for turn in 0..6 {
                let name = NAMES[(client + turn) % NAMES.len()];
                assert_eq!(server.ask(name, "Ping").await, "Pong", "{name}");
                let loaded = server.loaded().await;
                assert!(loaded.len() <= 2 && loaded.contains(&"one:latest".to_owned()), "{loaded:?}");
            }
        }
    });
    join_all(clients).await;
    assert!(children(server.id()).contains(&runner));
    assert!(busy.next().await.is_some());
}

/// The one who waits for room is not overtaken for ever by those who ask for what is there.
#[tokio::test]
async fn a_model_that_is_always_asked_for_makes_room_all_the_same() {
    let home = Home::new();
    home.create("one", "tiny-q8_0.gguf");
    home.create("two", "tiny-f16.gguf");
    let server = Server::start_set(&home, &[("OLLAMA_MAX_LOADED_MODELS", "1"), ("OLLAMA_NUM_PARALLEL", "2")]);
    assert_eq!(server.ask("one", "Ping").await, "Pong");
    // Two that begin their next answer before the other one's is over.
    let over = std::sync::atomic::AtomicBool::new(false);
    let ask = |first: usize| {
        let (server, over) = (&server, &over);
        async move {
            let mut length = first;
            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                let (_, last) = server.stream("/api/generate", long("one", length)).await.rest().await;
                assert_eq!(last["done"], true, "{last}");
                length = 300;
            }
        }
    };
    let waits = async {
        assert_eq!(server.ask("two", "Ping").await, "Pong");
        over.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    tokio::join!(ask(150), ask(300), waits);
}

#[tokio::test]
async fn l10_wishes_without_bounds() {
    let home = Home::new();
    home.create("tiny", "tiny-q8_0.gguf");
    let mut server = Server::start_set(&home, &[]);
    // A context has the size that the model was trained for at the most.
    for num_ctx in [1_u64 << 31, 1 << 62, i64::MAX as u64] {
        let request = json!({"model": "tiny", "prompt": "Ping", "think": false, "stream": false,
            "options": {"num_ctx": num_ctx, "num_batch": 1_u64 << 40, "num_thread": 1_u64 << 40}});
        let (status, answer) = server.post("/api/generate", request).await;
        assert_eq!((status, answer["response"].as_str()), (200, Some("Pong")), "{num_ctx}: {answer}");
        assert_eq!(server.get("/api/ps").await.1["models"][0]["context_length"], 4096);
    }
    // And one whose file says that it was trained for as much as there is in no machine.
    create_with(&server, "endless", "qwen3.context_length", i32::MAX as u32).await;
    for num_ctx in [1_u64 << 31, 1 << 62] {
        let request = json!({"model": "endless", "prompt": "Ping", "stream": false, "options": {"num_ctx": num_ctx}});
        let (status, answer) = server.post("/api/generate", request).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(status == 500 && error.contains("requires more system memory"), "{num_ctx}: {status} {answer}");
    }
    assert!(server.is_running());
    assert_eq!(server.ask("tiny", "Ping").await, "Pong");
}

#[tokio::test]
async fn l16_how_long_a_model_is_kept() {
    let home = Home::new();
    home.create("tiny", "tiny-q8_0.gguf");
    let server = Server::start_set(&home, &[]);
    let asked = |keep_alive: Value| {
        let request =
            json!({"model": "tiny", "prompt": "Ping", "think": false, "stream": false, "keep_alive": keep_alive});
        server.post("/api/generate", request)
    };
    let expires = async || server.get("/api/ps").await.1["models"][0]["expires_at"].as_str().unwrap().to_owned();
    for (keep_alive, error) in [
        (json!("abc"), "time: invalid duration \"abc\""),
        (json!("10"), "time: missing unit in duration \"10\""),
        (json!(true), "Unsupported type: 'bool'"),
        (json!([1]), "Unsupported type: '[]interface {}'"),
    ] {
        let (status, answer) = asked(keep_alive.clone()).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some(error)), "{keep_alive}");
    }
    assert!(server.loaded().await.is_empty(), "nothing was loaded for them");
    for keep_alive in [json!(-1), json!("-1m"), json!(1e18), json!(9_223_372_036_854_775_807_i64), json!("2540400h")] {
        assert_eq!(asked(keep_alive.clone()).await.1["response"], "Pong");
        let year: u32 = expires().await[..4].parse().unwrap();
        assert!(year > 2200, "{keep_alive}: {year}");
    }
    assert_eq!(asked(json!(1e-9)).await.1["response"], "Pong");
    wait_until("its end, right after its answer", || children(server.id()).is_empty());
    assert_eq!(asked(json!("24h")).await.1["response"], "Pong");
    assert_eq!(asked(json!(0)).await.1["response"], "Pong");
    assert!(server.loaded().await.is_empty());
    wait_until("the runner's end", || children(server.id()).is_empty());
}
