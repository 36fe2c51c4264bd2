//! `/v1/responses` where it is more than Ollama's: through the router, with a scripted engine.

use hanzod::engine::EngineError;
use serde_json::{Value, json};

use crate::util::{Script, TestApp};

const CALL: &str = "<tool_call>\n{\"name\": \"ns.f\", \"arguments\": {\"b\": 1, \"a\": 2}}\n</tool_call>";

fn ask(more: Value) -> Value {
    let tools = json!([{ "type": "namespace", "name": "ns", "tools": [{ "type": "function", "name": "f" }] }]);
    let mut request = json!({ "model": "tiny", "input": "Ping", "reasoning": { "effort": "none" }, "tools": tools });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

/// The events, after their order was looked at.
async fn stream(app: &TestApp, more: Value) -> Vec<Value> {
    let mut request = ask(more);
    request["stream"] = true.into();
    let reply = app.post("/v1/responses", request).await;
    let events: Vec<Value> = reply.events().iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    events
}

fn kinds(output: &Value) -> Vec<&str> {
    output.as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn text_and_a_call_both_come() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Say(vec!["Let me ", "look.", CALL]));
    let whole = app.post("/v1/responses", ask(json!({}))).await.json();
    assert_eq!(kinds(&whole["output"]), ["message", "function_call"]);
    assert_eq!(whole["output"][0]["content"][0]["text"], "Let me look.");
    let call = &whole["output"][1];
    assert_eq!((&call["namespace"], &call["name"]), (&json!("ns"), &json!("f")));
    assert_eq!(call["arguments"], "{\"b\":1,\"a\":2}");
    assert_eq!((&whole["status"], &whole["tools"][0]["tools"][0]["name"]), (&json!("completed"), &json!("f")));

    let events = stream(&app, json!({})).await;
    let last = &events[events.len() - 1];
    assert_eq!(
        (&last["type"], kinds(&last["response"]["output"])),
        (&json!("response.completed"), kinds(&whole["output"]))
    );
    let done: Vec<_> = events.iter().filter(|event| event["type"] == "response.output_item.done").collect();
    assert_eq!(done.iter().map(|event| event["output_index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(
        done.iter().map(|event| &event["item"]).collect::<Vec<_>>(),
        last["response"]["output"].as_array().unwrap().iter().collect::<Vec<_>>()
    );
    let prompt = app.engine.requests().pop().unwrap().prompt;
    assert!(format!("{prompt:?}").contains("ns.f"), "{prompt:?}");
}

#[tokio::test]
async fn the_model_is_shown_what_it_is_shown_by_chat_completions() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Say(vec!["Pong"]));
    let parameters =
        json!({ "type": "object", "properties": { "b": { "type": "string" }, "a": { "type": "integer" } } });
    let function = json!({ "name": "f", "description": "d", "parameters": parameters });
    let mut flat = function.clone();
    flat["type"] = "function".into();
    for model in ["tiny", "tiny-jinja"] {
        let flat = json!({ "model": model, "instructions": "s", "tools": [flat], "input": [
            { "role": "user", "content": "Ping" },
            { "type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":1}" },
            { "type": "function_call_output", "call_id": "c", "output": "Pong" }
        ] });
        let call = json!({ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } });
        let chat = json!({ "model": model, "tools": [{ "type": "function", "function": function }], "messages": [
            { "role": "system", "content": "s" }, { "role": "user", "content": "Ping" },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "c", "content": "Pong" }
        ] });
        assert_eq!(app.post("/v1/responses", flat).await.status, 200);
        assert_eq!(app.post("/v1/chat/completions", chat).await.status, 200);
        let prompts: Vec<_> = app.engine.requests().into_iter().rev().take(2).map(|request| request.prompt).collect();
        assert_eq!(format!("{:?}", prompts[0]), format!("{:?}", prompts[1]), "{model}");
    }
}

#[tokio::test]
async fn a_tool_with_a_form_of_its_own_is_called_with_a_text() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Say(vec![
        "<tool_call>\n{\"name\": \"patch\", \"arguments\": {\"input\": \"a\\nb\"}}\n</tool_call>",
    ]));
    let form = json!({ "type": "grammar", "syntax": "lark", "definition": "start: /a/" });
    let tools = json!([{ "type": "custom", "name": "patch", "format": form }]);
    let whole = app.post("/v1/responses", ask(json!({ "tools": tools }))).await.json();
    let call = &whole["output"][0];
    assert_eq!((&call["type"], &call["input"]), (&json!("custom_tool_call"), &json!("a\nb")));
    let events = stream(&app, json!({ "tools": tools })).await;
    let input = |event: &&Value| event["type"].as_str().unwrap().contains("custom_tool_call_input");
    let texts: Vec<_> = events.iter().filter(input).map(|event| (&event["delta"], &event["input"])).collect();
    let text = json!("a\nb");
    assert_eq!(texts, [(&text, &Value::Null), (&Value::Null, &text)]);
    let result = json!({ "type": "custom_tool_call_output", "call_id": call["call_id"], "output": "done" });
    let history = json!([{ "role": "user", "content": "Ping" }, call, result]);
    assert_eq!(app.post("/v1/responses", ask(json!({ "tools": tools, "input": history }))).await.status, 200);
    let prompt = format!("{:?}", app.engine.requests().pop().unwrap().prompt);
    assert!(prompt.contains("<tool_response>") && prompt.contains("done"), "{prompt}");
}

#[tokio::test]
async fn a_cut_is_told() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Cut(vec!["Po".into()]));
    let reason = json!({ "reason": "max_output_tokens" });
    let whole = app.post("/v1/responses", ask(json!({ "max_output_tokens": 1 }))).await.json();
    assert_eq!((&whole["status"], &whole["incomplete_details"]), (&json!("incomplete"), &reason));
    let last = stream(&app, json!({ "max_output_tokens": 1 })).await.pop().unwrap();
    assert_eq!((&last["type"], &last["response"]["incomplete_details"]), (&json!("response.incomplete"), &reason));
    assert_eq!(last["response"]["output"][0]["status"], "incomplete");
    let sampling = app.engine.requests().pop().unwrap().sampling;
    assert_eq!((sampling.temperature, sampling.num_predict), (1.0, 1));
}

#[tokio::test]
async fn an_error_is_the_last_event_or_the_whole_answer() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Fail(vec!["Po"], EngineError::Failed("boom".into())));
    let last = stream(&app, json!({})).await.pop().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("failed")));
    assert!(last["response"]["error"]["message"].as_str().unwrap().contains("boom"), "{last}");
    app.engine.script(Script::Fail(vec![], EngineError::Failed("boom".into())));
    assert_eq!(app.post("/v1/responses", ask(json!({ "stream": true }))).await.status, 500);
    for (wrong, error) in [
        (json!({ "input": null }), "input is required"),
        (json!({ "input": [] }), "input is required"),
        (json!({ "model": "" }), "model is required"),
        (json!({ "reasoning": { "effort": "huge" } }), "invalid reasoning value"),
        (json!({ "tools": 7 }), "json: cannot unmarshal number"),
    ] {
        let reply = app.post("/v1/responses", ask(wrong)).await;
        let text = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(reply.status == 400 && text.contains(error), "{text}");
    }
}

#[tokio::test]
async fn a_prompt_that_may_not_be_cut_must_fit() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Say(vec!["Pong"]));
    let long = |truncation: Value| ask(json!({ "input": "Ping ".repeat(20_000), "truncation": truncation }));
    let refused = app.post("/v1/responses", long("disabled".into())).await;
    assert!(refused.status == 400 && refused.text().contains("exceeds the available context"), "{}", refused.text());
    let taken = app.post("/v1/responses", long(Value::Null)).await;
    assert_eq!((taken.status, &taken.json()["truncation"]), (200, &json!("disabled")));
}

#[tokio::test]
async fn forms_hold() {
    let app = TestApp::with_tiny().await;
    app.engine.script(Script::Say(vec!["{}"]));
    let schema = json!({ "type": "object", "properties": { "b": {}, "a": {} } });
    let form = json!({ "format": { "type": "json_schema", "name": "n", "strict": true, "schema": schema } });
    let reply = app.post("/v1/responses", ask(json!({ "text": form, "tools": null }))).await.json();
    assert_eq!(
        reply["text"].to_string(),
        r#"{"format":{"type":"json_schema","name":"n","schema":{"type":"object","properties":{"b":{},"a":{}}},"strict":true}}"#
    );
    let held = |app: &TestApp| app.engine.requests().pop().unwrap().constraint.unwrap().schema;
    assert!(held(&app).contains(r#""b":{},"a":{}"#), "{}", held(&app));
    let form = json!({ "format": { "type": "json_object" } });
    app.post("/v1/responses", ask(json!({ "text": form, "tools": null }))).await;
    assert_eq!(held(&app), r#"{"type":"object"}"#);
}
