//! The two `/v1` dialects, through the router.

use hanzod::engine::EngineError;
use serde_json::{Value, json};

use crate::util::{Script, TestApp};

const MESSAGES: &str = r#"[{"role":"user","content":"Ping"}]"#;

fn ask(more: Value) -> Value {
    let messages: Value = serde_json::from_str(MESSAGES).unwrap();
    let mut request = json!({ "model": "tiny", "messages": messages, "max_tokens": 9 });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

#[tokio::test]
async fn openai_chunks() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Say(vec!["<think>\nHm\n</think>", "\n\nPo", "ng"]));
    let more = json!({ "stream": true, "stream_options": { "include_usage": true }, "reasoning_effort": "high" });
    let reply = app.post("/v1/chat/completions", ask(more)).await;
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let events = reply.events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let deltas: Vec<String> = chunks.iter().map(|chunk| chunk["choices"][0]["delta"].to_string()).collect();
    assert_eq!(deltas[0], r#"{"role":"assistant","content":"","reasoning":"Hm\n"}"#);
    assert_eq!(deltas[1..], [r#"{"content":"Po"}"#, r#"{"content":"ng"}"#, "{}", "null"]);
    assert_eq!(chunks[3]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[4]["usage"], json!({ "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10 }));
    let sampling = app.engine.requests().pop().unwrap().sampling;
    assert_eq!((sampling.temperature, sampling.top_p, sampling.num_predict), (1.0, 1.0, 9));
}

#[tokio::test]
async fn what_a_developer_says_is_not_lost() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Say(vec!["Pong"]));
    let prompt = |role: &'static str, path: &'static str, model: &'static str| {
        let app = &app;
        async move {
            let messages = json!([{ "role": role, "content": "Be brief." }, { "role": "user", "content": "Ping" }]);
            let reply = app.post(path, json!({ "model": model, "messages": messages, "stream": false })).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            format!("{:?}", app.engine.requests().pop().unwrap().prompt)
        }
    };
    for (path, model) in
        [("/v1/chat/completions", "tiny"), ("/v1/chat/completions", "tiny-jinja"), ("/api/chat", "tiny")]
    {
        let said = prompt("developer", path, model).await;
        assert!(said.contains("Be brief."), "{path} {model}: {said}");
        assert_eq!(said, prompt("system", path, model).await, "{path} {model}");
    }
}

#[tokio::test]
async fn an_error_in_the_middle_is_told() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Fail(vec!["Po"], EngineError::Failed("boom".into())));
    let reply = app.post("/v1/chat/completions", ask(json!({ "stream": true }))).await;
    let last: Value = serde_json::from_str(reply.events().last().unwrap()).unwrap();
    assert_eq!(last["error"]["type"], "api_error");
    let reply = app.post("/v1/messages", ask(json!({ "stream": true }))).await;
    assert!(reply.text().contains("event: error\ndata: {\"type\":\"error\""), "{}", reply.text());
}

#[tokio::test]
async fn anthropic_events() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Say(vec!["<think>\nHm\n</think>", "\n\nPo", "ng"]));
    let reply = app.post("/v1/messages", ask(json!({ "stream": true }))).await;
    let text = reply.text();
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let whole = app.post("/v1/messages", ask(json!({ "thinking": { "type": "enabled" } }))).await.json();
    assert_eq!(
        whole["content"],
        json!([{ "type": "thinking", "thinking": "Hm\n" }, { "type": "text", "text": "Pong" }])
    );
    assert_eq!(whole["stop_reason"], "end_turn");
}
