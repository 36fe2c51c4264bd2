//! `/api/generate`.

use hanzod::engine::PromptPart;
use serde_json::{Value, json};

use crate::util::{Script, TestApp};

async fn prompt_of(app: &TestApp, request: Value) -> Vec<PromptPart> {
    let reply = app.post("/api/generate", request).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    app.engine.requests().pop().unwrap().prompt
}

#[tokio::test]
async fn prompts() {
    let app = TestApp::with_tiny().await;
    let text = |text: &str| vec![PromptPart::Text(text.into())];
    let raw = prompt_of(&app, json!({ "model": "tiny", "prompt": "Once", "raw": true })).await;
    assert_eq!(raw, text("Once"));
    let asked = json!({ "model": "tiny", "prompt": "Ping", "think": false });
    let own = "<|im_start|>user\nPing<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
    assert_eq!(prompt_of(&app, asked.clone()).await, text(own));
    let mut with = asked.clone();
    with["template"] = "Q: {{ .Prompt }}\nA:".into();
    assert_eq!(prompt_of(&app, with).await, text("Q: Ping\nA:"));
    let mut with = asked;
    with["context"] = json!([1, 2]);
    assert_eq!(prompt_of(&app, with).await, [PromptPart::Tokens(vec![1, 2]), PromptPart::Text(own.into())]);
}

#[tokio::test]
async fn a_step_that_shows_nothing_is_a_line_all_the_same() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Say(vec!["<think>", "\n", "Hm", "</think>", "\n\n", "Pong"]));
    let lines = app.post("/api/generate", json!({ "model": "tiny", "prompt": "Ping" })).await.lines();
    let seen: Vec<_> =
        lines.iter().map(|line| (line["thinking"].as_str(), line["response"].as_str().unwrap())).collect();
    assert_eq!(seen.first(), Some(&(None, "")), "{lines:?}");
    assert!(seen.contains(&(Some("Hm"), "")) && seen.contains(&(None, "Pong")), "{lines:?}");
    let last = lines.last().unwrap();
    assert_eq!((&last["context"], &last["done_reason"]), (&json!([1, 2, 3]), &json!("stop")));
}

#[tokio::test]
async fn options_reach_the_engine() {
    let app = TestApp::with_tiny().await;
    let options = json!({ "top_k": 7, "num_predict": 3, "stop": ["x"], "nope": 1 });
    let request = json!({ "model": "tiny", "prompt": "Ping", "raw": true, "options": options, "logprobs": true, "top_logprobs": 2 });
    prompt_of(&app, request).await;
    let asked = app.engine.requests().pop().unwrap();
    assert_eq!((asked.sampling.top_k, asked.sampling.num_predict, asked.sampling.temperature), (7, 3, 0.0));
    assert_eq!(
        (asked.sampling.stop, asked.logprobs, asked.truncate, asked.shift),
        (vec!["x".into()], Some(2), true, true)
    );
}

#[tokio::test]
async fn a_prompt_that_may_not_be_cut_must_fit() {
    let app = TestApp::with_tiny().await;
    let ask = |count: usize| {
        let prompt = "word ".repeat(count);
        json!({ "model": "tiny", "prompt": prompt, "raw": true, "truncate": false, "options": { "num_ctx": 64 } })
    };
    assert_eq!(app.post("/api/generate", ask(200)).await.status, 200);
    let reply = app.post("/api/generate", ask(300)).await;
    let error = reply.json()["error"].as_str().unwrap().to_owned();
    assert_eq!(
        (reply.status, error.as_str()),
        (
            400,
            "{\"error\":{\"code\":400,\"message\":\"request (300 tokens) exceeds the available context size (256 tokens), \
             try increasing it\",\"type\":\"exceed_context_size_error\",\"n_prompt_tokens\":300,\"n_ctx\":256}}"
        )
    );
}
