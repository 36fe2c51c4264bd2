//! `generic.jsonl`: thinking and tool calls by tags inferred from a Go template.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use hanzod::prompt::go_prompt::GoPrompt;
use hanzod::prompt::json_calls::{CallTags, JsonCallParser};
use hanzod::prompt::thinking::{Tags, ThinkingParser};
use hanzod::prompt::{OutputParser, Piece, go_tags};

use super::decode;

#[test]
fn generic() {
    // the last part of a case's id, and what Ollama does wrong there
    let defects = BTreeMap::from([
        ("cut-tag", "the beginning of a tag is lost at the end"),
        ("cut-open", "the beginning of a tag is lost at the end"),
        ("cut-close", "the beginning of a tag is lost at the end"),
        ("broken", "an unfinished call is lost"),
        ("undeclared", "a call of a tool that was not declared is lost"),
        ("no-args", "a call without arguments is not seen"),
        ("args-null", "a call without arguments is not seen"),
        ("text-after", "text after a call is lost"),
        ("json-answer", "a tool's name in an answer is taken for a call"),
    ]);
    let one_by_one = BTreeMap::from([("generic/tools/no-tools/one", "without tools an answer with a tag is lost")]);
    let cases = super::cases("generic.jsonl");
    let mut better = BTreeMap::new();
    for case in &cases {
        let id = case["id"].as_str().expect("each case has an id");
        let name = id.rsplit('/').next().unwrap_or(id);
        if let Some(reason) = defects.get(name).or_else(|| one_by_one.get(id)) {
            better.insert(id, *reason);
        } else if case["differs"] == true {
            better.insert(id, "the result depends on how the text was cut");
        }
    }
    super::run("generic.jsonl", &better, check);
}

/// Answers put together at random from what parsers look for: no cut shows, and without a call no text is lost.
#[test]
fn no_cut_shows() {
    const PARTS: [&str; 22] = [
        "<c>",
        "</c>",
        "<d>",
        "<c",
        "</",
        "<",
        "{",
        "}",
        "{\"name\":\"get\"",
        "\"arguments\":",
        "{}",
        "\"",
        ":",
        ",",
        "[",
        "]",
        "get",
        "get_all",
        " ",
        "\n",
        "```",
        "é",
    ];
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let tools = decode::tools(&json!({"tools": [tool("get"), tool("get_all")]}));
    let both = |bare| CallTags { bare, ..CallTags::tagged(&["<c>", "<d>"], &["</c>"]) };
    let mut seed = 1_u64;
    for round in 0..4000 {
        let mut output = String::new();
        for _ in 0..round % 14 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            output.push_str(PARTS[(seed >> 33) as usize % PARTS.len()]);
        }
        for tags in [both(None), both(Some('{')), CallTags::bare('{'), CallTags::bare('[')] {
            let start = || -> Box<dyn OutputParser> { Box::new(JsonCallParser::new(tags.clone(), &tools)) };
            let answer = all_cuts(&json!({"id": output}), &output, &start);
            let called = answer["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
            assert!(called || answer["content"] == output, "{tags:?}: {output:?} became {answer}");
        }
        let start = || -> Box<dyn OutputParser> { Box::new(ThinkingParser::new(Tags::new("<c>", "</c>"), false)) };
        all_cuts(&json!({"id": output}), &output, &start);
    }
}

fn check(case: &Value) -> Result<(), String> {
    let template = match GoPrompt::parse(case["template"].as_str().unwrap_or_default()) {
        Err(error) if case["error"] == error.to_string() => return Ok(()),
        Err(error) => return Err(format!("{error} for {}", case["error"])),
        Ok(template) => template,
    };
    let nodes = template.template().nodes();
    let (tools, output) = (decode::tools(case), case["output"].as_str().unwrap_or_default());
    let start: Box<dyn Fn() -> Box<dyn OutputParser>> = if case["kind"] == "thinking" {
        let Some(tags) = go_tags::thinking(nodes) else {
            return if case["active"] == false { Ok(()) } else { Err("no tags found".to_owned()) };
        };
        if case["open"] != tags.open || case["close"] != tags.close {
            return Err(format!("{tags:?} for {} and {}", case["open"], case["close"]));
        }
        let inside = case["inside"] == true;
        Box::new(move || Box::new(ThinkingParser::new(tags.clone(), inside)))
    } else {
        let tags = go_tags::calls(nodes);
        let open = tags.bare.map(String::from).or_else(|| tags.opens.first().cloned()).unwrap_or_default();
        if case["tag"] != open {
            return Err(format!("{tags:?} for {}", case["tag"]));
        }
        Box::new(move || Box::new(JsonCallParser::new(tags.clone(), &tools)))
    };
    let have = all_cuts(case, output, &start);
    let content = case["runes"]["final"]["content"].as_str().unwrap_or_default();
    let left = case["runes"]["left"].as_str().unwrap_or_default();
    let content = if content.ends_with(left) { content.to_owned() } else { format!("{content}{left}") };
    let final_ = &case["runes"]["final"];
    let want = json!({"content": content, "thinking": final_["thinking"], "tool_calls": final_["tool_calls"]});
    if floats(&have) == floats(&want) {
        Ok(())
    } else {
        Err(format!("\n  out  {output:?}\n  have {have}\n  want {want}"))
    }
}

/// The answer, which must be the same for every cut: whole, by characters, by pieces, and as it was recorded.
fn all_cuts(case: &Value, output: &str, start: &dyn Fn() -> Box<dyn OutputParser>) -> Value {
    let chars: Vec<char> = output.chars().collect();
    let mut cuts: Vec<Vec<String>> = [chars.len().max(1), 1, 2, 3, 5, 7]
        .iter()
        .map(|&size| chars.chunks(size).map(|chunk| chunk.iter().collect()).collect())
        .collect();
    for run in ["whole", "runes", "pieces"] {
        if let Some(chunks) = case[run]["chunks"].as_array() {
            cuts.push(chunks.iter().map(|chunk| chunk.as_str().unwrap_or_default().to_owned()).collect());
        }
    }
    let mut answers = cuts.iter().map(|cut| answer(cut, start()));
    let first = answers.next().expect("there are cuts");
    for other in answers {
        assert_eq!(first, other, "{}: the cut shows", case["id"]);
    }
    first
}

fn answer(cut: &[String], mut parser: Box<dyn OutputParser>) -> Value {
    let mut pieces = Vec::new();
    for chunk in cut {
        pieces.extend(parser.push(chunk).expect("these parsers take all text"));
    }
    pieces.extend(parser.finish().expect("these parsers take all text"));
    let (mut content, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Content(text) => content.push_str(&text),
            Piece::Thinking(text) => thinking.push_str(&text),
            Piece::ToolCall(call) => {
                calls.push(json!({"function": {"index": call.index, "name": call.name, "arguments": call.arguments}}))
            }
        }
    }
    json!({"content": content, "thinking": thinking, "tool_calls": calls})
}

/// Numbers as Go keeps them. Objects compare without their order, which is random in Ollama.
fn floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(floats).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), floats(value))).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}
