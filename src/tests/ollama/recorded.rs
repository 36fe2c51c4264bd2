//! What a real Ollama was recorded to answer where no model has to speak: the same requests must be answered alike.

use axum::http::Method;
use serde_json::Value;

use crate::util::{Reply, TestApp};

/// Cases that need words of a model, models that are not made here, or the network.
fn needs_more(id: &str, body: &str) -> bool {
    const GROUPS: [&str; 4] = ["pull/", "embeddings/", "end/", "copy/used"];
    let elsewhere = ["minilm", "tiny-fim", "mario"].iter().any(|model| body.contains(model));
    GROUPS.iter().any(|group| id.starts_with(group)) || elsewhere
}

/// A server with the models of the recordings, as far as their files are here.
pub async fn models() -> TestApp {
    TestApp::with_models("tiny-f16.gguf", "tiny-q8_0.gguf").await
}

pub fn recorded() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/compat-tests/conformance/recorded.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Sends a recorded request.
pub async fn replay(app: &TestApp, case: &Value) -> Reply {
    let body = case["raw"].as_str().map(str::to_owned).or_else(|| case.get("json").map(Value::to_string));
    let method: Method = case["method"].as_str().unwrap().parse().unwrap();
    let headers = case["headers"].as_object().cloned().unwrap_or_default();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    app.send(method, case["path"].as_str().unwrap(), &headers, body.unwrap_or_default()).await
}

/// A body's values with what differs from run to run taken out, and with what Ollama keeps in no order put in one.
fn scrubbed(text: &str) -> Vec<Value> {
    fn scrub(key: &str, value: &mut Value) {
        match value {
            Value::Object(map) => map.iter_mut().for_each(|(key, value)| scrub(key, value)),
            Value::Array(list) if key == "models" => {
                list.iter_mut().for_each(|value| scrub("", value));
                list.sort_by_key(|model| model["name"].to_string());
            }
            Value::Array(list) => list.iter_mut().for_each(|value| scrub(key, value)),
            Value::String(text) => {
                let digests = regex::Regex::new("sha256[:-][0-9a-f]{64}").unwrap();
                let paths = regex::Regex::new(r"FROM /\S+").unwrap();
                let clean = paths.replace_all(&digests.replace_all(text, "sha256"), "FROM").into_owned();
                let mut lines: Vec<&str> = clean.lines().collect();
                if key == "modelfile" || key == "parameters" {
                    lines.sort_unstable();
                }
                *text = lines.join("\n");
            }
            _ => {}
        }
        if key.ends_with("_at") || key == "digest" {
            *value = Value::String(String::new());
        }
    }
    let values = serde_json::Deserializer::from_str(text).into_iter();
    values
        .map(|value| {
            value
                .map(|mut value| {
                    scrub("", &mut value);
                    value
                })
                .unwrap()
        })
        .collect()
}

#[tokio::test]
async fn what_is_told_of_models_is_what_ollama_tells() {
    const CASES: [&str; 16] = [
        "show/name-field",
        "show/upper",
        "show/full-name",
        "create/from/stream",
        "create/from/whole",
        "create/show-mario",
        "create/template/stream",
        "create/template/whole",
        "generate/load",
        "generate/unload",
        "generate/ps-after-unload",
        "generate/unload-unloaded",
        "chat/load",
        "chat/load-empty",
        "jinja/show",
        "end/tags",
    ];
    let app = models().await;
    let mut wrong = Vec::new();
    for case in recorded().iter().filter(|case| CASES.contains(&case["id"].as_str().unwrap())) {
        let have = replay(&app, case).await.text();
        let have = scrubbed(&have);
        let mut want = scrubbed(case["reply"]["body"].as_str().unwrap());
        if let Some(models) = want[0].get_mut("models").and_then(Value::as_array_mut) {
            models.retain(|model| !["minilm:latest", "tiny-fim:latest"].contains(&model["name"].as_str().unwrap()));
        }
        // `Value`s compare without the order of keys
        let text = |values: &[Value]| serde_json::to_string(values).unwrap();
        let (have, want) = (text(&have), text(&want));
        if have != want {
            let at = have.bytes().zip(want.bytes()).take_while(|(have, want)| have == want).count();
            let near = |text: &str| text.chars().skip(at.saturating_sub(60)).take(200).collect::<String>();
            wrong.push(format!("{}: {}\n  for {}", case["id"], near(&have), near(&want)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn errors_and_small_answers_are_ollama_s() {
    let app = models().await;
    let mut compared = 0;
    let mut wrong = Vec::new();
    for case in recorded() {
        let id = case["id"].as_str().unwrap();
        let reply = &case["reply"];
        let groups = ["root/", "host/", "cors/", "blob/", "copy/ok", "delete/"];
        let small = reply["status"] != 200 || groups.iter().any(|group| id.starts_with(group));
        let body = case["raw"].as_str().map(str::to_owned).or_else(|| case.get("json").map(Value::to_string));
        let body = body.unwrap_or_default();
        if !small || needs_more(id, &body) {
            continue;
        }
        let have = replay(&app, &case).await;
        let store = app.store.layout().blobs();
        let store = store.parent().unwrap().to_str().unwrap();
        let text = have.text().replace(store, "/store");
        let type_of = |kind: &str| kind.split(';').next().unwrap_or_default().to_owned();
        if known_to_differ(id) {
            continue;
        }
        let mut same = u64::from(have.status) == reply["status"].as_u64().unwrap()
            && plain(&text) == plain(reply["body"].as_str().unwrap())
            && type_of(have.header("content-type").unwrap_or_default())
                == type_of(reply["type"].as_str().unwrap_or_default());
        for (name, value) in reply["headers"].as_object().into_iter().flatten() {
            same &= have.header(name) == value.as_str();
        }
        compared += 1;
        if !same {
            wrong.push(format!("{id}: {} {text}\n  for {reply}", have.status));
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 60, "only {compared} cases were compared");
}

/// Without the ids of requests, and a line feed at the end.
fn plain(text: &str) -> &str {
    text.split(",\"request_id\"").next().unwrap().trim_end()
}

/// The engine's own words, which a script does not have; and content under a wrong digest, which Ollama keeps and we do
/// not, so that it is new to us when it comes again.
fn known_to_differ(id: &str) -> bool {
    ["generate/truncate-false", "chat/truncate-false", "generate/format-bad-schema", "blob/post-again"].contains(&id)
}
