//! `/api/chat`.

use axum::body::Body;
use axum::http::Request;
use hanzod::engine::EngineError;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::util::{Script, TestApp};

const CALL: &str = "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"zone\": \"UTC\", \"at\": 1}}\n</tool_call>";

fn tools() -> Value {
    json!([{ "type": "function", "function": {
        "name": "get_time", "description": "Tells the time",
        "parameters": { "type": "object", "properties": { "zone": { "type": "string" }, "at": { "type": "integer" } } }
    } }])
}

fn ask(model: &str, more: Value) -> Value {
    let mut request = json!({ "model": model, "messages": [{ "role": "user", "content": "Ping" }] });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

#[tokio::test]
async fn thinking_and_content_come_apart() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Say(vec!["<think>", "\nHm", ".\n", "</think>", "\n\n", "Po", "ng"]));
    let reply = app.post("/api/chat", ask("tiny", json!({}))).await;
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let lines = reply.lines();
    let joined = |key: &str| -> String { lines.iter().filter_map(|line| line["message"][key].as_str()).collect() };
    assert_eq!((joined("thinking").trim(), joined("content").as_str()), ("Hm.", "Pong"));
    let (last, before) = lines.split_last().unwrap();
    assert!(before.iter().all(|line| line["done"] == false && line.get("done_reason").is_none()));
    let keys: Vec<&str> = last.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys.join(" "),
        "model created_at message done done_reason total_duration load_duration prompt_eval_count \
         prompt_eval_duration eval_count eval_duration"
    );
    assert_eq!(last["message"], json!({ "role": "assistant", "content": "" }));

    let whole = app.post("/api/chat", ask("tiny", json!({ "stream": false }))).await.json();
    assert_eq!(whole["message"]["content"], "Pong");
    assert_eq!(whole["message"]["thinking"].as_str().unwrap().trim(), "Hm.");
}

#[tokio::test]
async fn calls_of_tools_keep_their_arguments_order() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Say(vec![CALL]));
    let lines = app.post("/api/chat", ask("tiny", json!({ "tools": tools(), "think": false }))).await.lines();
    assert_eq!(lines.len(), 2);
    let call = &lines[0]["message"]["tool_calls"][0];
    assert!(call["id"].as_str().unwrap().starts_with("call_"));
    assert_eq!(call["function"].to_string(), r#"{"index":0,"name":"get_time","arguments":{"zone":"UTC","at":1}}"#);
    assert_eq!((&lines[1]["done_reason"], lines[1]["message"].get("tool_calls")), (&json!("stop"), None));

    // a model that its own Jinja template speaks for tells its calls with the end
    let lines = app.post("/api/chat", ask("tiny-jinja", json!({ "tools": tools(), "think": false }))).await.lines();
    assert_eq!((lines.len(), &lines[0]["done"]), (1, &json!(true)));
    assert_eq!(lines[0]["message"]["tool_calls"][0]["function"]["name"], "get_time");
}

#[tokio::test]
async fn an_error_before_the_first_piece_has_its_status() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Fail(vec![], EngineError::Invalid("too long".into())));
    let reply = app.post("/api/chat", ask("tiny", json!({}))).await;
    assert_eq!((reply.status, reply.text().as_str()), (400, "{\"error\":\"too long\"}"));

    app.engine.script(Script::Fail(vec!["Po"], EngineError::Failed("boom".into())));
    let reply = app.post("/api/chat", ask("tiny", json!({ "think": false }))).await;
    let lines = reply.lines();
    assert_eq!((reply.status, lines.len()), (200, 2));
    assert_eq!(lines[1].as_object().unwrap().keys().collect::<Vec<_>>(), ["error"]);
    let whole = app.post("/api/chat", ask("tiny", json!({ "stream": false, "think": false }))).await;
    assert_eq!(whole.status, 500);

    let app = TestApp::with_tiny().await;
    app.engine.refuse_loads(EngineError::Load("no room".into()));
    let reply = app.post("/api/chat", ask("tiny", json!({}))).await;
    assert_eq!((reply.status, reply.text().as_str()), (500, "{\"error\":\"no room\"}"));
}

#[tokio::test]
async fn hanging_up_is_the_cancel() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Hang(vec!["Po", "ng"]));
    let request = Request::post("/api/chat").body(Body::from(ask("tiny", json!({ "think": false })).to_string()));
    let mut body = app.begin(request.unwrap()).await.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!((app.engine.running(), app.scheduler.residents().await[0].leases), (1, 1));
    drop(body);
    assert_eq!((app.engine.running(), app.scheduler.residents().await[0].leases), (0, 0));
}

#[tokio::test]
async fn a_format_waits_for_the_end_of_thinking() {
    let app = TestApp::with_tiny().await;
    let more = json!({ "format": { "type": "object" }, "stream": false });
    app.engine.script(Script::Say(vec!["<think>\nHm\n</think>\n\n", "{}"]));
    let whole = app.post("/api/chat", ask("tiny", more.clone())).await.json();
    assert_eq!(whole["message"]["content"], "{}");
    let after = |index: usize| app.engine.requests()[index].constraint.clone().unwrap().after;
    assert_eq!((app.engine.requests().len(), after(0).as_deref()), (1, Some("</think>")));

    // who does not think is held to the format from the first token on
    app.engine.script(Script::Say(vec!["{}"]));
    let whole = app.post("/api/chat", ask("tiny", more)).await.json();
    assert_eq!(whole["message"]["content"], "{}");
    assert_eq!((app.engine.requests().len(), after(2)), (3, None));
}

#[tokio::test]
async fn a_format_leaves_room_for_a_call() {
    let app = TestApp::with_tiny().await;
    let more = json!({ "format": "json", "tools": tools(), "stream": false });
    let call = "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call>";
    // thinking or not, a call is an answer, and nothing begins anew
    for said in [vec!["<think>\nHm\n</think>\n\n", call], vec![call]] {
        let asked = app.engine.requests().len();
        app.engine.script(Script::Say(said));
        let whole = app.post("/api/chat", ask("tiny", more.clone())).await.json();
        assert_eq!(whole["message"]["tool_calls"][0]["function"]["name"], "get_time", "{whole}");
        assert_eq!(app.engine.requests().len(), asked + 1);
    }
    let constraint = app.engine.requests()[0].constraint.clone().unwrap();
    assert_eq!(
        (constraint.after.as_deref(), constraint.calls.as_slice()),
        (Some("</think>"), &["<tool_call>".to_owned()][..])
    );

    let request = json!({ "model": "tiny", "prompt": "Ping", "format": "json", "stream": false });
    app.engine.script(Script::Say(vec!["<think>\nHm\n</think>\n\n", "{}"]));
    let whole = app.post("/api/generate", request).await.json();
    assert_eq!((&whole["response"], &whole["thinking"]), (&json!("{}"), &json!("Hm\n")));
    let constraint = app.engine.requests().pop().unwrap().constraint.unwrap();
    assert_eq!((constraint.after.as_deref(), constraint.calls.len()), (Some("</think>"), 0));
}

#[tokio::test]
async fn old_messages_go_when_the_context_is_small() {
    let app = TestApp::with_tiny().await;
    let long = "word ".repeat(300);
    let messages = json!([
        { "role": "system", "content": "Be brief." }, { "role": "user", "content": long },
        { "role": "assistant", "content": "Yes." }, { "role": "user", "content": "Ping" }
    ]);
    let request = json!({ "model": "tiny", "messages": messages, "options": { "num_ctx": 128 }, "stream": false });
    assert_eq!(app.post("/api/chat", request).await.status, 200);
    let prompt = format!("{:?}", app.engine.requests()[0].prompt);
    assert!(prompt.contains("Be brief.") && prompt.contains("Ping") && !prompt.contains("word"), "{prompt}");
}
