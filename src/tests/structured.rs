//! Answers that are held to a form, by the real engines through the real router: with thinking and without, streamed and
//! whole, with tools and without, as any JSON and by a schema, on every route that takes a form.

use boon::{Compiler, Schemas};
use serde_json::{Value, json};

use crate::util::{Reply, TestApp};

const DESCRIBE: &str = "Describe a person as JSON.";
const WEATHER: &str = "What is the weather today in Paris?";

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 12 },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 }
        },
        "required": ["name", "age"]
    })
}

fn tools() -> Value {
    json!([{ "type": "function", "function": {
        "name": "get_current_weather", "description": "Get the current weather for a location",
        "parameters": { "type": "object", "required": ["location", "format"], "properties": {
            "location": { "type": "string", "description": "The city" },
            "format": { "type": "string", "enum": ["celsius", "fahrenheit"] }
        } }
    } }])
}

/// A way to ask for a form.
#[derive(Clone, Copy, Debug)]
struct Way {
    thinks: bool,
    stream: bool,
    tools: bool,
    by_schema: bool,
}

fn ways() -> impl Iterator<Item = Way> {
    (0..16).map(|bits| Way {
        thinks: bits & 1 != 0,
        stream: bits & 2 != 0,
        tools: bits & 4 != 0,
        by_schema: bits & 8 != 0,
    })
}

/// What came, put together.
#[derive(Debug, Default)]
struct Answer {
    content: String,
    thinking: String,
    calls: Vec<Value>,
    finish: String,
}

impl Answer {
    fn add(&mut self, message: &Value, content: &str, thinking: &str, finish: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.content += &text(&message[content]);
        self.thinking += &text(&message[thinking]);
        self.calls.extend(message["tool_calls"].as_array().into_iter().flatten().map(|call| call["function"].clone()));
        self.finish = text(finish);
    }
}

async fn post(app: &TestApp, path: &str, way: Way, body: Value) -> Reply {
    let reply = app.post(path, body).await;
    assert_eq!(reply.status, 200, "{path} {way:?}: {}", reply.text());
    reply
}

async fn chat(app: &TestApp, model: &str, question: &str, way: Way) -> Answer {
    let mut body = json!({
        "model": model, "messages": [{ "role": "user", "content": question }], "stream": way.stream, "think": way.thinks,
        "format": if way.by_schema { schema() } else { json!("json") },
        "options": { "temperature": 0, "num_predict": 300 }
    });
    if way.tools {
        body["tools"] = tools();
    }
    let reply = post(app, "/api/chat", way, body).await;
    let lines = if way.stream { reply.lines() } else { vec![reply.json()] };
    let mut answer = Answer::default();
    for line in lines {
        answer.add(&line["message"], "content", "thinking", &line["done_reason"]);
    }
    answer
}

async fn generate(app: &TestApp, model: &str, question: &str, way: Way) -> Answer {
    let body = json!({
        "model": model, "prompt": question, "stream": way.stream, "think": way.thinks,
        "format": if way.by_schema { schema() } else { json!("json") },
        "options": { "temperature": 0, "num_predict": 300 }
    });
    let reply = post(app, "/api/generate", way, body).await;
    let lines = if way.stream { reply.lines() } else { vec![reply.json()] };
    let mut answer = Answer::default();
    for line in lines {
        answer.add(&line, "response", "thinking", &line["done_reason"]);
    }
    answer
}

async fn completions(app: &TestApp, model: &str, question: &str, way: Way) -> Answer {
    let mut body = json!({
        "model": model, "messages": [{ "role": "user", "content": question }], "stream": way.stream,
        "reasoning_effort": if way.thinks { "high" } else { "none" }, "temperature": 0, "max_tokens": 300,
        "response_format": match way.by_schema {
            true => json!({ "type": "json_schema", "json_schema": { "name": "person", "strict": true, "schema": schema() } }),
            false => json!({ "type": "json_object" }),
        }
    });
    if way.tools {
        body["tools"] = tools();
    }
    let reply = post(app, "/v1/chat/completions", way, body).await;
    let mut answer = Answer::default();
    if !way.stream {
        let choice = &reply.json()["choices"][0];
        answer.add(&choice["message"], "content", "reasoning", &choice["finish_reason"]);
        return answer;
    }
    for event in reply.events().iter().filter(|event| *event != "[DONE]") {
        let choice = &serde_json::from_str::<Value>(event).unwrap()["choices"][0];
        answer.add(&choice["delta"], "content", "reasoning", &choice["finish_reason"]);
    }
    answer
}

async fn responses(app: &TestApp, model: &str, question: &str, way: Way) -> Answer {
    let mut body = json!({
        "model": model, "input": question, "stream": way.stream, "temperature": 0, "max_output_tokens": 300,
        "reasoning": { "effort": if way.thinks { "high" } else { "none" } },
        "text": { "format": match way.by_schema {
            true => json!({ "type": "json_schema", "name": "person", "strict": true, "schema": schema() }),
            false => json!({ "type": "json_object" }),
        } }
    });
    if way.tools {
        body["tools"] = json!([tools()[0]["function"]]);
        body["tools"][0]["type"] = "function".into();
    }
    let reply = post(app, "/v1/responses", way, body).await;
    let mut answer = Answer::default();
    let whole = if way.stream {
        let events: Vec<Value> = reply.events().iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        for event in &events {
            let text = match event["type"].as_str() {
                Some("response.output_text.delta") => &mut answer.content,
                Some("response.reasoning_summary_text.delta") => &mut answer.thinking,
                _ => continue,
            };
            *text += event["delta"].as_str().unwrap();
        }
        events.last().unwrap()["response"].clone()
    } else {
        reply.json()
    };
    let (mut content, mut thinking) = (String::new(), String::new());
    for item in whole["output"].as_array().unwrap() {
        match item["type"].as_str().unwrap() {
            "message" => content += item["content"][0]["text"].as_str().unwrap(),
            "reasoning" => thinking += item["summary"][0]["text"].as_str().unwrap(),
            _ => answer.calls.push(item.clone()),
        }
    }
    if way.stream {
        assert_eq!((&answer.content, &answer.thinking), (&content, &thinking), "what came in pieces is the whole");
    }
    let finish = whole["status"].as_str().unwrap().to_owned();
    Answer { content, thinking, finish, ..answer }
}

/// The content is JSON and of the form; thinking is where it belongs.
fn fits(what: &str, way: Way, answer: &Answer, finish: &str) {
    let content: Value =
        serde_json::from_str(&answer.content).unwrap_or_else(|error| panic!("{what} {way:?}: {error}: {answer:?}"));
    let form = if way.by_schema { schema() } else { json!({ "type": "object" }) };
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    compiler.add_resource("form.json", form).unwrap();
    let form = compiler.compile("form.json", &mut schemas).unwrap();
    schemas.validate(&content, form).unwrap_or_else(|error| panic!("{what} {way:?}: {error}: {answer:?}"));
    assert_eq!(!answer.thinking.is_empty(), way.thinks, "{what} {way:?}: {answer:?}");
    assert!(!answer.thinking.contains('{') && answer.calls.is_empty(), "{what} {way:?}: {answer:?}");
    assert_eq!(answer.finish, finish, "{what} {way:?}: {answer:?}");
}

/// The model calls a tool, which no form forbids.
fn calls(what: &str, way: Way, answer: &Answer, finish: &str) {
    assert_eq!(answer.calls.len(), 1, "{what} {way:?}: {answer:?}");
    let call = &answer.calls[0];
    let arguments = match &call["arguments"] {
        Value::String(text) => serde_json::from_str(text).unwrap(),
        arguments => arguments.clone(),
    };
    assert_eq!((&call["name"], &arguments["location"]), (&json!("get_current_weather"), &json!("Paris")), "{what}");
    assert_eq!((answer.content.as_str(), answer.finish.as_str()), ("", finish), "{what} {way:?}: {answer:?}");
    assert_eq!(!answer.thinking.is_empty(), way.thinks, "{what} {way:?}: {answer:?}");
}

async fn all_ways(app: &TestApp, model: &str) {
    for way in ways() {
        fits(model, way, &chat(app, model, DESCRIBE, way).await, "stop");
        fits(model, way, &completions(app, model, DESCRIBE, way).await, "stop");
        fits(model, way, &responses(app, model, DESCRIBE, way).await, "completed");
        if way.tools {
            calls(model, way, &chat(app, model, WEATHER, way).await, "stop");
            calls(model, way, &completions(app, model, WEATHER, way).await, "tool_calls");
            calls(model, way, &responses(app, model, WEATHER, way).await, "completed");
        } else {
            fits(model, way, &generate(app, model, DESCRIBE, way).await, "stop");
        }
    }
}

/// Schemas that cannot be held, and what the refusal names.
async fn refusals(app: &TestApp, model: &str) {
    let of = |property: Value| json!({ "type": "object", "properties": { "colour": property } });
    for (schema, named) in [
        (of(json!({ "type": "nope" })), "/properties/colour: Invalid type: nope"),
        (of(json!({ "$ref": "#/$defs/missing" })), "missing"),
        (of(json!({ "type": "string", "pattern": "(" })), "pattern"),
        (of(json!({ "type": "array", "minItems": 10_000_000 })), "/properties/colour: minItems is larger than 1000000"),
        (of(json!({ "not": { "type": "string" } })), "not"),
        (
            json!({ "required": ["colour"], "properties": { "colour": { "type": "array", "minItems": 5, "maxItems": 1 } } }),
            "colour",
        ),
    ] {
        let messages = json!([{ "role": "user", "content": DESCRIBE }]);
        let native = json!({ "model": model, "messages": messages, "prompt": DESCRIBE, "format": schema });
        for path in ["/api/chat", "/api/generate"] {
            let reply = app.post(path, native.clone()).await;
            let error = reply.json()["error"].as_str().unwrap_or_default().to_owned();
            assert_eq!(reply.status, 400, "{path} {schema}: {error}");
            assert!(error.starts_with("invalid format: ") && error.contains(named), "{path} {schema}: {error}");
        }
        let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } });
        let chat = json!({ "model": model, "messages": messages, "stream": true, "response_format": format });
        let text = json!({ "format": { "type": "json_schema", "name": "x", "schema": schema } });
        let response = json!({ "model": model, "input": DESCRIBE, "stream": true, "text": text });
        for (path, body) in [("/v1/chat/completions", chat), ("/v1/responses", response)] {
            let reply = app.post(path, body).await;
            let error = reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
            assert!(reply.status == 400 && error.contains(named), "{path} {schema}: {} {error}", reply.status);
        }
    }
}

#[cfg(feature = "llama")]
#[tokio::test]
async fn llama_holds_every_way() {
    let app = TestApp::real();
    app.add_tiny("tiny-f16.gguf", "tiny-f16.gguf").await;
    for model in ["tiny", "tiny-jinja"] {
        all_ways(&app, model).await;
    }
    refusals(&app, "tiny").await;
}

#[cfg(feature = "mistral")]
#[tokio::test]
async fn mistral_holds_every_way() {
    let app = TestApp::real();
    app.add_safetensors().await;
    all_ways(&app, "tiny-st").await;
    refusals(&app, "tiny-st").await;
}
