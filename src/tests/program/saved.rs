//! Saved prompts, from the variable to the answer: a server that was stopped and started anew goes on where it was.

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use super::asking::long;
use super::harness::{Home, Server, wait_until};

fn start(home: &Home, cache: Option<&str>) -> Server {
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("HANZOD_LOG", "hanzod=debug").env("NO_COLOR", "1");
    command.envs(cache.map(|size| ("HANZOD_PROMPT_CACHE", size)));
    Server::start_with(command, 1)
}

fn stop(server: Server) {
    kill_process(server.id(), Signal::TERM).unwrap();
    assert_eq!(server.ended().code(), Some(0));
}

/// Of each answer so far, how many tokens of its prompt were known.
fn known(server: &Server) -> Vec<u64> {
    let said = server.said();
    let lines = said.lines().filter(|line| line.contains("an answer is whole"));
    let number = |line: &str| line.split_once("cached_tokens=")?.1.split_whitespace().next()?.parse().ok();
    lines.filter_map(number).collect()
}

/// A question of some hundred tokens.
fn asks() -> Value {
    json!({"model": "tiny", "think": false, "stream": false,
        "system": "You are helpful, and you answer in one sentence. ".repeat(50), "prompt": "Why is the sky blue?",
        "options": {"temperature": 0, "num_predict": 20, "num_ctx": 4096, "num_gpu": 0}})
}

/// The answer, the tokens of its prompt, and how many of them were known.
async fn ask(server: &Server, more: Value) -> (String, u64, u64) {
    let before = known(server).len();
    let mut request = asks();
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = server.post("/api/generate", request).await;
    assert_eq!(status, 200, "{answer}");
    wait_until("the line that counts", || known(server).len() > before);
    let text = answer["response"].as_str().unwrap().to_owned();
    (text, answer["prompt_eval_count"].as_u64().unwrap(), known(server)[before])
}

#[tokio::test]
async fn a_new_server_and_a_new_runner_know_the_prompt() {
    let home = Home::new();
    home.create("tiny", "tiny-f16.gguf");
    let folder = home.store().join("hanzod/prompts");

    let server = start(&home, None);
    let (text, count, cached) = ask(&server, json!({})).await;
    assert!(count > 300 && cached == 0, "{count}");
    stop(server);
    assert!(!folder.exists(), "nothing is saved unless it is said");

    let server = start(&home, Some("64MiB"));
    assert_eq!(ask(&server, json!({})).await, (text.clone(), count, 0));
    stop(server);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);

    let server = start(&home, Some("64MiB"));
    assert_eq!(ask(&server, json!({"keep_alive": 0})).await, (text.clone(), count, count - 1));
    // The runner has ended, or is about to; the next one waits for it.
    assert_eq!(ask(&server, json!({})).await, (text, count, count - 1));
    let (_, room) = server.get("/api/hanzod/df").await;
    assert_eq!((&room["loose"][0]["kind"], room["loose"].as_array().unwrap().len()), (&json!("prompt"), 1));
}

/// What the model made of a prompt is saved even if its answer is not whole.
#[tokio::test]
async fn prompts_are_saved_though_an_answer_is_cut_off() {
    let home = Home::new();
    home.create("tiny", "tiny-f16.gguf");
    let server = start(&home, Some("64MiB"));
    let mut asked = asks();
    (asked["stream"], asked["format"]) = (json!(true), long("tiny", 50_000)["format"].clone());
    asked["options"]["num_predict"] = json!(100_000);
    let mut stream = server.stream("/api/generate", asked).await;
    stream.next().await.unwrap();
    kill_process(server.id(), Signal::TERM).unwrap();
    wait_until("no more connections", || std::net::TcpStream::connect(server.address()).is_err());
    stop(server);

    let server = start(&home, Some("64MiB"));
    let (_, count, cached) = ask(&server, json!({})).await;
    assert_eq!(cached, count - 1);
}
