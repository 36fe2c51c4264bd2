//! What the checker refuses: one that takes everything is none.

use super::{check, check_request};

const JSON: Option<&str> = Some("application/json; charset=utf-8");
const LINES: Option<&str> = Some("application/x-ndjson");
const EVENTS: Option<&str> = Some("text/event-stream");

/// A line of `/api/chat` with `rest` after its message.
fn line(rest: &str) -> String {
    let head = r#"{"model":"m","created_at":"2026-01-02T03:04:05.678Z","message":{"role":"assistant","content":"a"}"#;
    format!("{head},{rest}}}")
}

fn chunk(choices: &str) -> String {
    let head = r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp_ollama""#;
    format!("data: {head},\"choices\":{choices}}}\n\n")
}

#[track_caller]
fn refused(answer: (&str, &str, u16, Option<&str>, &str), why: &str) {
    let (method, path, status, kind, body) = answer;
    match check(method, path, status, kind, body.as_bytes()) {
        Ok(()) => panic!("taken, in spite of {why:?}: {body}"),
        Err(error) => assert!(error.contains(why), "refused for another reason than {why:?}: {error}"),
    }
}

#[test]
fn statuses_types_and_bodies_that_no_route_gives() {
    let version = r#"{"version":"0.33.0"}"#;
    check("GET", "/api/version", 200, JSON, version.as_bytes()).unwrap();
    refused(("GET", "/api/version", 201, JSON, version), "status");
    refused(("GET", "/api/version", 200, Some("text/plain"), version), "content type");
    refused(("GET", "/api/version", 200, Some("application/json; charset=latin1"), version), "latin1");
    refused(("GET", "/api/version", 200, None, version), "content type");
    refused(("GET", "/api/version", 200, JSON, "0.33"), "want object");
    refused(("GET", "/api/version", 200, JSON, r#"{"version":"v0.33"}"#), "pattern");
    refused(("HEAD", "/api/version", 200, JSON, version), "a body where none belongs");
    refused(("POST", "/api/copy", 200, JSON, ""), "of no body");
    refused(("POST", "/api/copy", 200, None, "{}"), "a body where none belongs");
    refused(("GET", "/", 200, Some("text/plain"), "Ollama is walking"), "const");
    refused(("GET", "/api/nope", 200, JSON, version), "unknown-path");
    refused(("GET", "/api/nope", 404, JSON, r#"{"error":"no"}"#), "unknown-path");
    refused(("GET", "/api/chat", 405, None, ""), "unknown-method");
    refused(("OPTIONS", "/api/chat", 200, None, ""), "preflight");
    refused(("GET", "/api/version", 403, JSON, r#"{"error":"no"}"#), "status");
    refused(("POST", "/api/tags/", 307, None, "moved"), "unknown-path");
    refused(("GET", "/api/tags/", 301, Some("text/html; charset=utf-8"), ""), "unknown-path");
    for (method, path, status) in
        [("GET", "/api/version", 403), ("POST", "/api/tags/", 307), ("OPTIONS", "/api/chat", 204)]
    {
        check(method, path, status, None, b"").unwrap();
    }
}

#[test]
fn errors_in_the_wrong_envelope() {
    let native = r#"{"error":"model 'm' not found"}"#;
    let openai = r#"{"error":{"message":"no","type":"not_found_error","param":null,"code":null}}"#;
    let anthropic = r#"{"type":"error","error":{"type":"not_found_error","message":"no"},"request_id":"req_0123456789abcdef01234567"}"#;
    check("POST", "/api/chat", 404, JSON, native.as_bytes()).unwrap();
    check("POST", "/v1/chat/completions", 404, JSON, openai.as_bytes()).unwrap();
    check("POST", "/v1/messages", 404, JSON, anthropic.as_bytes()).unwrap();
    check("GET", "/v1/models/hf.co/a/b:c", 404, JSON, openai.as_bytes()).unwrap();
    refused(("POST", "/api/chat", 404, JSON, openai), "/error");
    refused(("POST", "/v1/chat/completions", 404, JSON, native), "/error");
    refused(("POST", "/v1/messages", 404, JSON, openai), "request_id");
    refused(("POST", "/v1/chat/completions", 400, JSON, openai), "invalid_request_error");
    refused(("POST", "/v1/messages", 400, JSON, anthropic), "invalid_request_error");
    refused(("POST", "/api/chat", 404, JSON, r#"{"error":"no","code":7}"#), "code");
}

#[test]
fn whole_answers_that_say_too_little_or_too_much() {
    let chat = |body: &str, why: &str| refused(("POST", "/api/chat", 200, JSON, body), why);
    check("POST", "/api/chat", 200, JSON, line(r#""done":true,"done_reason":"stop""#).as_bytes()).unwrap();
    chat(&line(r#""done":true"#), "done_reason");
    chat(&line(r#""done":false"#), "done");
    chat(&line(r#""done":true,"done_reason":"tired""#), "done_reason");
    chat(&line(r#""done":true,"done_reason":"stop","eval_count":0"#), "eval_count");
    chat(&line(r#""done":true,"done_reason":"stop","context":[1]"#), "context");
    chat(&line(r#""done":true,"done_reason":"stop""#).replace("assistant", "model"), "role");
    chat(&line(r#""done":true,"done_reason":"stop""#).replace(".678Z", ".670Z"), "created_at");
    chat(&line(r#""done":true,"done_reason":"stop""#).replace("Z\"", "+01:00\""), "created_at");
    let call =
        r#"{"role":"assistant","content":"","tool_calls":[{"function":{"index":0,"name":"f","arguments":"{}"}}]}"#;
    chat(
        &line(r#""done":true,"done_reason":"stop""#).replace(r#"{"role":"assistant","content":"a"}"#, call),
        "arguments",
    );
    refused(("GET", "/v1/models", 200, JSON, r#"{"object":"list","data":null}"#), "/data");
    let message = r#"{"id":"msg_0123456789abcdef01234567","type":"message","role":"assistant","model":"m","content":null,
        "stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}"#;
    refused(("POST", "/v1/messages", 200, JSON, message), "/content");
    refused(("POST", "/api/pull", 200, JSON, r#"{"status":"writing manifest"}"#), "status");
}

#[test]
fn streams_that_break_off_or_are_cut_wrongly() {
    let (piece, end) = (line(r#""done":false"#), line(r#""done":true,"done_reason":"length""#));
    let chat = |body: &str, why: &str| refused(("POST", "/api/chat", 200, LINES, body), why);
    check("POST", "/api/chat", 200, LINES, format!("{piece}\n{end}\n").as_bytes()).unwrap();
    check("POST", "/api/chat", 200, LINES, format!("{piece}\n{{\"error\":\"gone\"}}\n").as_bytes()).unwrap();
    chat(&format!("{piece}\n"), "last piece");
    chat(&format!("{piece}\n{end}"), "does not end");
    chat(&format!("{piece}\n\n{end}\n"), "no JSON");
    chat(&format!("{piece}{end}\n"), "no JSON");
    chat(&format!("{piece}\n{{\"error\":\"gone\",\"done\":true}}\n"), "done");
    chat("", "does not end");
    chat(&format!("{}\n{end}\n", line(r#""done":false,"eval_count":3"#)), "eval_count");
    let pull = |body: &str, why: &str| refused(("POST", "/api/pull", 200, LINES, body), why);
    pull("{\"status\":\"pulling manifest\"}\n", "last piece");
    pull("{\"status\":\"having a look\"}\n{\"status\":\"success\"}\n", "having a look");
    pull("{\"status\":\"pulling 0123456789ab\",\"completed\":0}\n{\"status\":\"success\"}\n", "completed");
}

#[test]
fn events_that_break_off_or_have_the_wrong_name() {
    let piece = chunk(r#"[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]"#);
    let end = chunk(r#"[{"index":0,"delta":{},"finish_reason":"stop"}]"#);
    let done = "data: [DONE]\n\n";
    let chat = |body: &str, why: &str| refused(("POST", "/v1/chat/completions", 200, EVENTS, body), why);
    check("POST", "/v1/chat/completions", 200, EVENTS, format!("{piece}{end}{done}").as_bytes()).unwrap();
    chat(&format!("{piece}{end}"), "no end");
    chat(&format!("{piece}{done}"), "last piece");
    chat(&format!("{piece}{done}{end}{done}"), "no JSON");
    chat(done, "empty stream");
    chat(&format!("{end}event: x\n{done}").replace("event: x\ndata: [DONE]", "data: [DONE]\ndata: x"), "no event");
    chat(&format!("event: chunk\n{piece}{end}{done}"), "named");
    let both = piece.replace("null", "\"stop\"");
    chat(&format!("{both}{done}"), "delta");

    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let block = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n";
    let messages = |body: &str, why: &str| refused(("POST", "/v1/messages", 200, EVENTS, body), why);
    check("POST", "/v1/messages", 200, EVENTS, format!("{block}{stop}").as_bytes()).unwrap();
    messages(block, "last piece");
    messages(&stop.replace("event: message_stop", "event: stop"), "named");
    messages(&stop.replace("event: message_stop\n", ""), "named");
    messages(&format!("{}{stop}", block.replace(",\"index\":0", "")), "index");
}

#[test]
fn requests_with_the_wrong_types() {
    check_request("POST", "/api/chat", br#"{"model":"m","messages":[{"role":"user","content":null}],"else":1}"#)
        .unwrap();
    for (path, body) in [
        ("/api/chat", r#"{"model":7}"#),
        ("/api/chat", r#"{"messages":[{"content":[]}]}"#),
        ("/api/chat", r#"{"think":"huge"}"#),
        ("/api/generate", r#"{"options":{"stop":"x"}}"#),
        ("/api/generate", r#"{"images":["!!!"]}"#),
        ("/api/generate", r#"{"format":"xml"}"#),
        ("/api/embed", r#"{"input":[1]}"#),
        ("/v1/completions", r#"{"prompt":["a"]}"#),
        ("/v1/messages", r#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#),
        ("/v1/nope", "{}"),
    ] {
        assert!(check_request("POST", path, body.as_bytes()).is_err(), "{path} takes {body}");
    }
}
