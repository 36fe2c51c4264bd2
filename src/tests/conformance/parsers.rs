//! `parsers.jsonl`: what each built-in parser makes of a model's text.
//!
//! Each text is cut in eight ways, and the joined answer must not depend on it. It is compared with Ollama's answer to the
//! text in pieces, which is nearest to what its users see, or to the text as a whole: where these two differ, either will do.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use hanzod::prompt::Piece;
use hanzod::prompt::parsers::{self, ParserEntry};

use super::decode;

#[test]
fn parsers() {
    super::run("parsers.jsonl", &BTreeMap::new(), check);
}

fn check(case: &Value) -> Result<(), String> {
    let name = case["parser"].as_str().expect("a parser");
    let Some(entry) = parsers::find(name) else {
        return if case["error"].is_string() {
            Ok(())
        } else {
            Err("no such parser".to_owned())
        };
    };
    if case["kind"] == "info" {
        return info(entry, case);
    }
    let text = case["output"].as_str().expect("an output");
    let have = joined(entry, case, &[text]);
    for (way, pieces) in cuts(case, text) {
        let cut = joined(entry, case, &pieces);
        if cut != have {
            return Err(format!("{way} gives {cut}\n  and whole {have}"));
        }
    }
    let recorded = |run: &str| plain(&case[run]["final"]);
    let failed = |run: &str| {
        case[run]
            .get("error")
            .or(case[run].get("panic"))
            .or(case[run].get("encode_error"))
    };
    if ["pieces", "whole"]
        .iter()
        .any(|run| failed(run).is_none() && recorded(run) == have)
    {
        return Ok(());
    }
    let want = failed("pieces").cloned().unwrap_or_else(|| recorded("pieces"));
    Err(format!("\n  text {text:?}\n  have {have}\n  want {want}"))
}

fn info(entry: &ParserEntry, case: &Value) -> Result<(), String> {
    let preserved: Vec<&str> = case["preserved_tokens"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let same = case["has_tool_support"] == entry.tools
        && case["has_thinking_support"] == entry.thinking
        && preserved == entry.preserved;
    if same {
        Ok(())
    } else {
        Err(format!("{} {} {:?}", entry.tools, entry.thinking, entry.preserved))
    }
}

/// The ways a text is cut.
fn cuts<'a>(case: &'a Value, text: &'a str) -> Vec<(String, Vec<&'a str>)> {
    let mut ways: Vec<_> = [1, 2, 3, 5, 7, 11]
        .map(|size| (format!("by {size}"), chunks(text, size)))
        .into();
    let recorded = case["pieces"]["chunks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    ways.push(("pieces".to_owned(), recorded));
    ways
}

/// Pieces of so many characters.
fn chunks(text: &str, size: usize) -> Vec<&str> {
    let bounds: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .step_by(size)
        .chain([text.len()])
        .collect();
    bounds.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

/// The whole answer to a text in pieces.
fn joined(entry: &ParserEntry, case: &Value, pieces: &[&str]) -> Value {
    let tools = decode::tools(case);
    let last = case.get("last_message").map(decode::message);
    let mut parser = entry.start(&tools, last.as_ref(), decode::think(case).expect("a legal think"));
    let mut all = Vec::new();
    for piece in pieces {
        all.extend(parser.push(piece).expect("built-in parsers show what they cannot read"));
    }
    all.extend(parser.finish().expect("built-in parsers show what they cannot read"));
    let (mut content, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for piece in all {
        match piece {
            Piece::Content(text) => content += &text,
            Piece::Thinking(text) => thinking += &text,
            Piece::ToolCall(call) => calls.push(json!([call.index, call.name, call.arguments])),
        }
    }
    numbers(json!({"content": content, "thinking": thinking, "calls": calls}))
}

/// A recorded answer in our shape. Ids are the server's business; no arguments are none, however Go writes them.
fn plain(recorded: &Value) -> Value {
    let call = |call: &Value| {
        let function = &call["function"];
        let arguments = if function["arguments"].is_null() {
            json!({})
        } else {
            function["arguments"].clone()
        };
        json!([function["index"], function["name"], arguments])
    };
    let calls: Vec<Value> = recorded["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
        .map(call)
        .collect();
    numbers(json!({"content": recorded["content"], "thinking": recorded["thinking"], "calls": calls}))
}

/// Numbers as JavaScript and Go see them: 64-bit floats.
fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(list) => list.into_iter().map(numbers).collect(),
        Value::Object(map) => map.into_iter().map(|(name, value)| (name, numbers(value))).collect(),
        other => other,
    }
}
