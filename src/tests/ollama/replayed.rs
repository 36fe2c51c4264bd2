//! The shape of every recorded answer in which a model speaks, in all dialects, whole and streamed: the script says what
//! the real model said, and what comes out must be the same pieces in the same order.

use serde_json::{Value, json};

use super::recorded::{models, recorded, replay};
use crate::util::{Reply, Script};

/// What the script cannot say, and models that are not here.
const LEFT_OUT: [&str; 5] = ["logprobs", "minilm", "tiny-fim", "tiny-copy", "mario"];
/// Thinking has its own field, where Ollama leaves it in the text; and a tool is shown to a template as JSON, where Ollama
/// shows Go's view of a structure.
const BETTER: [&str; 2] = ["jinja/generate/think-level", "chat/debug-render"];
const PATHS: [&str; 6] =
    ["/api/generate", "/api/chat", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"];

#[tokio::test]
async fn answers_have_ollama_s_shape() {
    let app = models().await;
    let all = recorded();
    let mut compared = 0;
    let mut wrong = Vec::new();
    for case in &all {
        let id = case["id"].as_str().unwrap();
        let path = case["path"].as_str().unwrap();
        let request = case["json"].to_string();
        let left_out = LEFT_OUT.iter().any(|word| request.contains(word)) || BETTER.contains(&id);
        if case["reply"]["status"] != 200 || !PATHS.contains(&path) || left_out {
            continue;
        }
        // a stream says what its whole sibling says
        let whole_id = id.replace("/stream", "/whole").replace("/usage", &format!("/{}/whole", first(path)));
        let whole = all.iter().find(|case| case["id"] == whole_id.as_str()).unwrap_or(case);
        let Some(said) = said(path, whole["reply"]["body"].as_str().unwrap()) else { continue };
        app.engine.script(said);
        let have = shape(&replay(&app, case).await);
        let want = shape_of(case["reply"]["body"].as_str().unwrap());
        compared += 1;
        if have != want {
            wrong.push(format!("{id}:\n  {}\nfor\n  {}", have.join("\n  "), want.join("\n  ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 100, "only {compared} cases were compared");
}

/// The case beside which `usage` was recorded.
fn first(path: &str) -> &'static str {
    if path == "/v1/completions" { "ping" } else { "hello" }
}

/// The model's words, as they must have been for this answer.
fn said(path: &str, body: &str) -> Option<Script> {
    let body: Value = serde_json::from_str(body).ok()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_message = |message: &Value, thinking: &str| {
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        let calls = calls.into_iter().map(|call| call["function"].clone());
        (text(&message[thinking]), text(&message["content"]), calls.collect::<Vec<_>>())
    };
    let (thinking, content, calls) = match path {
        "/api/generate" => (text(&body["thinking"]), text(&body["response"]), Vec::new()),
        "/api/chat" => of_message(&body["message"], "thinking"),
        "/v1/chat/completions" => of_message(&body["choices"][0]["message"], "reasoning"),
        "/v1/completions" => ("I know.\n".to_owned(), text(&body["choices"][0]["text"]), Vec::new()),
        "/v1/responses" => of_items(body["output"].as_array()?),
        _ => of_blocks(body["content"].as_array()?),
    };
    let mut words: Vec<String> = Vec::new();
    if !thinking.is_empty() {
        words.extend(["<think>".to_owned(), "\n".to_owned()]);
        words.extend(thinking.split_inclusive(' ').map(str::to_owned));
        words.extend(["</think>".to_owned(), "\n\n".to_owned()]);
    }
    words.extend(content.split_inclusive(' ').map(str::to_owned));
    for call in calls {
        let arguments = match &call["arguments"] {
            Value::String(text) => serde_json::from_str(text).unwrap(),
            arguments => arguments.clone(),
        };
        let call = json!({ "name": call["name"], "arguments": arguments });
        words.push(format!("<tool_call>\n{call}\n</tool_call>"));
    }
    let cut = ["done_reason", "stop_reason"].iter().any(|key| body[*key] == "length" || body[*key] == "max_tokens")
        || body["choices"][0]["finish_reason"] == "length";
    Some(if cut { Script::Cut(words) } else { Script::Tell(words) })
}

fn of_blocks(blocks: &[Value]) -> (String, String, Vec<Value>) {
    let joined = |key: &str| blocks.iter().filter_map(|block| block[key].as_str()).collect();
    let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
    let calls = calls.map(|block| json!({ "name": block["name"], "arguments": block["input"] }));
    (joined("thinking"), joined("text"), calls.collect())
}

fn of_items(items: &[Value]) -> (String, String, Vec<Value>) {
    let texts = |pointer: &str| items.iter().filter_map(|item| item.pointer(pointer)?.as_str()).collect();
    let calls = items.iter().filter(|item| item["type"] == "function_call").cloned();
    (texts("/summary/0/text"), texts("/content/0/text"), calls.collect())
}

fn shape(reply: &Reply) -> Vec<String> {
    shape_of(&reply.text())
}

/// The pieces without their words and numbers; of pieces alike that follow each other, one.
fn shape_of(body: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    for line in body.lines().filter(|line| !line.is_empty()) {
        let text = line.strip_prefix("data: ").unwrap_or(line);
        let piece = serde_json::from_str::<Value>(text).map_or_else(
            |_| text.to_owned(),
            |mut value| {
                blank("", &mut value);
                value.to_string()
            },
        );
        pieces.push(piece);
    }
    // an event of server-sent events is two lines
    let mut kept: Vec<String> = Vec::new();
    for piece in pieces {
        let two_back = kept.len() >= 2 && piece.starts_with("event: ") && kept[kept.len() - 2] == piece;
        if kept.last() != Some(&piece) && !two_back {
            kept.push(piece);
        }
    }
    kept
}

fn blank(key: &str, value: &mut Value) {
    const WORDS: [&str; 14] = [
        "response",
        "thinking",
        "content",
        "reasoning",
        "text",
        "delta",
        "encrypted_content",
        "id",
        "item_id",
        "call_id",
        "created_at",
        "partial_json",
        "arguments",
        "input",
    ];
    match value {
        Value::Number(_) if key != "index" => *value = 0.into(),
        Value::Array(list) if key == "context" => list.truncate(1),
        Value::String(text) if WORDS.contains(&key) => "…".clone_into(text),
        Value::Object(map) if ["arguments", "input"].contains(&key) => map.clear(),
        _ => {}
    }
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| blank(key, value)),
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| blank(key, value)),
        _ => {}
    }
}
