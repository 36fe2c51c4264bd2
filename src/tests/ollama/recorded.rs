//! What a real Ollama was recorded to answer where no model has to speak: the same requests must be answered alike.

use axum::http::Method;
use serde_json::Value;

use crate::util::TestApp;

/// Cases that need words of a model, models that are not made here, or the network.
fn needs_more(id: &str, body: &str) -> bool {
    const GROUPS: [&str; 6] = ["openai/responses/", "jinja/openai/responses/", "pull/", "embeddings/", "end/", "copy/used"];
    let elsewhere = ["minilm", "tiny-fim", "mario"].iter().any(|model| body.contains(model));
    GROUPS.iter().any(|group| id.starts_with(group)) || elsewhere
}

fn recorded() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/compat-tests/conformance/recorded.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn errors_and_small_answers_are_ollama_s() {
    let app = TestApp::with_tiny().await;
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
        let method: Method = case["method"].as_str().unwrap().parse().unwrap();
        let headers = case["headers"].as_object().cloned().unwrap_or_default();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
        let have = app.send(method, case["path"].as_str().unwrap(), &headers, body).await;
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
