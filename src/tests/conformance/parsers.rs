//! `parsers.jsonl`: what each built-in parser makes of a model's text.
//!
//! Each text is cut in eight ways, and the joined answer must not depend on it. It is compared with Ollama's answer to the
//! text in pieces, which is nearest to what its users see, or to the text as a whole: where these two differ, either will do.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use hanzod::prompt::Piece;
use hanzod::prompt::parsers::{self, ParserEntry};

use super::decode;

/// Where hanzod gives another answer on purpose: the defect of Ollama's (by its number in the README beside the cases), the
/// parsers that have it (none named: all), the cases that show it.
const BETTER: &[(&str, &[&str], &[&str])] = &[
    ("1: a panic", &["olmo3", "functiongemma"], &["x-quote-panic", "x-escape-panic"]),
    (
        "3: white space at the end is lost",
        &[],
        &["trailing-space", "trailing-bare", "think-unclosed", "think-spaces", "call-spaces"],
    ),
    ("3: the beginning of a tag at the end is lost", &[], &["cut-open-1", "cut-open-most", "think-cut-close"]),
    (
        "3 and 4: an unclosed call is lost, or fails",
        &[],
        &["call-unclosed", "call-cut-half", "x-no-args", "x-action-cut"],
    ),
    ("3: a bad call swallows the good one after it", &["deepseek3", "cogito"], &["x-bad-then-good"]),
    ("4: rubbish between the tags fails, names a call, or is lost", &[], &["call-garbage", "call-empty-tags"]),
    (
        "4: what is no call in JSON fails, or is lost",
        &[],
        &[
            "x-json-array",
            "x-json-two-in-one",
            "x-json-broken",
            "x-json-fenced",
            "x-json-string-args",
            "x-json-no-name",
            "x-json-extra-brace",
            "x-json-big",
            "x-json-call",
            "x-args-array",
            "x-args-broken",
            "x-old-list",
            "x-no-sep",
        ],
    ),
    (
        "4: what is no call in XML fails",
        &[],
        &["x-xml-unclosed-param", "x-xml-no-function", "x-bad-param", "x-mismatch"],
    ),
    ("4: a closing tag within a value cuts the call, whose halves are rubbish", &[], &["call-tag-in-arg"]),
    ("4: an undeclared tool fails", &["ministral"], &["call-types-undeclared"]),
    (
        "4: half a call fails, or is called with half its arguments",
        &["glm-4.7", "glm-ocr", "laguna", "poolside-v1"],
        &[
            "x-glm-missing-value",
            "x-glm-unclosed-required",
            "x-glm-unclosed-undeclared",
            "x-glm-unclosed-inner",
            "x-lag-json-cut",
        ],
    ),
    (
        "4: rubbish names the call",
        &["glm-4.7", "glm-ocr", "laguna", "poolside-v1"],
        &[
            "x-glm-json",
            "x-glm-name-args",
            "x-glm-no-name",
            "x-glm-missing-key",
            "x-glm-missing-open",
            "x-glm-missing-value-close",
        ],
    ),
    (
        "4: a call that cannot be read is lost",
        &[],
        &[
            "x-no-equals",
            "x-positional",
            "x-multi-line",
            "x-no-call-word",
            "x-no-brace",
            "x-key-dash",
            "x-raw-undeclared",
            "x-action-broken",
            "x-numeric-id",
        ],
    ),
    (
        "5: text outside a frame vanishes",
        &["harmony"],
        &["plain-bare", "cut-open-text", "think-tag-in-text", "call-close-only", "after-tool-bare", "x-text-between"],
    ),
    ("5: two calls, or a call and a text, are glued together", &["harmony"], &["call-two-apart", "call-text-around"]),
    ("10.4 of the specification: a malformed call fails", &["harmony"], &["x-analysis-call", "x-args-empty"]),
    ("6: bare calls are never found", &["lfm2", "lfm2-thinking"], &["x-bare-call"]),
    (
        "6: escapes stay escaped",
        &["lfm2", "lfm2-thinking"],
        &["call-types", "call-types-undeclared", "x-python-values"],
    ),
    ("7: letters are cut to bytes", &["olmo3"], &["call-types", "call-types-undeclared", "x-unicode"]),
    ("7: a line break destroys the call", &["functiongemma"], &["call-types", "call-types-undeclared"]),
    (
        "7: XML in a value is rewritten, a second function dropped",
        &[],
        &["x-xml-inner-tags", "x-xml-code", "x-xml-two-functions"],
    ),
    ("7: NaN is no number in JSON", &[], &["x-xml-nan", "x-nan"]),
    ("not in the README: an empty list becomes null", &["functiongemma"], &["x-empty-list"]),
];

#[test]
fn parsers() {
    let cases = super::cases("parsers.jsonl");
    let mut better = BTreeMap::new();
    for case in &cases {
        let (id, parser) = (case["id"].as_str().expect("an id"), case["parser"].as_str().expect("a parser"));
        let kind = id.rsplit('/').next().expect("a name");
        let known = |(_, parsers, kinds): &&(&'static str, &[&str], &[&str])| {
            kinds.contains(&kind) && (parsers.is_empty() || parsers.contains(&parser))
        };
        if let Some((defect, ..)) = BETTER.iter().find(known) {
            better.insert(id, *defect);
        }
    }
    let met = RefCell::new(BTreeSet::new());
    super::run("parsers.jsonl", &better, |case| {
        let result = check(case);
        if let (Err(_), Some(defect)) = (&result, better.get(case["id"].as_str().expect("an id"))) {
            // The other answer is no worse in this: it holds all that the model wrote.
            let (text, have) = (case["output"].as_str().expect("an output"), answer(case));
            assert_eq!(lost(entry(case), text, &have), Vec::<String>::new(), "{} loses words: {have}", case["id"]);
            met.borrow_mut().insert(*defect);
        }
        result
    });
    let stale: Vec<_> =
        BETTER.iter().map(|(defect, ..)| defect).filter(|defect| !met.borrow().contains(*defect)).collect();
    assert!(stale.is_empty(), "no case differs by these any more: {stale:?}");
}

/// The words of a text that an answer does not hold: of letters only, and no part of the format's markup.
fn lost(entry: &ParserEntry, text: &str, have: &Value) -> Vec<String> {
    const MARKUP: &str = "name arguments parameters parameter function functions call tool_call_id tool_name json arg key value atem \
                          invoke true false none null assistant channel final analysis commentary to user";
    let letters = |char: char| !char.is_alphanumeric();
    let markup = format!("{MARKUP} {}", entry.preserved.join(" ")).to_lowercase();
    let markup: BTreeSet<&str> = markup.split(letters).collect();
    let mut said = String::new();
    speak(have, &mut said);
    let said = said.to_lowercase();
    let text = text.replace("\\n", "\n").to_lowercase();
    let words = text.split(letters).filter(|word| word.chars().all(char::is_alphabetic));
    words.filter(|word| !markup.contains(word) && !said.contains(word)).map(str::to_owned).collect()
}

/// All text in a value, names of fields included.
fn speak(value: &Value, said: &mut String) {
    match value {
        Value::String(text) => said.push_str(text),
        Value::Array(list) => list.iter().for_each(|item| speak(item, said)),
        Value::Object(map) => map.iter().for_each(|(name, value)| {
            said.extend([" ", name, " "]);
            speak(value, said);
        }),
        other => said.push_str(&other.to_string()),
    }
    said.push(' ');
}

fn check(case: &Value) -> Result<(), String> {
    let name = case["parser"].as_str().expect("a parser");
    let Some(entry) = parsers::find(name) else {
        return if case["error"].is_string() { Ok(()) } else { Err("no such parser".to_owned()) };
    };
    if case["kind"] == "info" {
        return info(entry, case);
    }
    let text = case["output"].as_str().expect("an output");
    let have = answer(case);
    for (way, pieces) in cuts(case, text) {
        let cut = joined(entry, case, &pieces);
        if cut != have {
            return Err(format!("{way} gives {cut}\n  and whole {have}"));
        }
    }
    let recorded = |run: &str| plain(&case[run]["final"]);
    let failed = |run: &str| case[run].get("error").or(case[run].get("panic")).or(case[run].get("encode_error"));
    if ["pieces", "whole"].iter().any(|run| failed(run).is_none() && recorded(run) == have) {
        return Ok(());
    }
    let want = failed("pieces").cloned().unwrap_or_else(|| recorded("pieces"));
    Err(format!("\n  text {text:?}\n  have {have}\n  want {want}"))
}

fn entry(case: &Value) -> &'static ParserEntry {
    parsers::find(case["parser"].as_str().expect("a parser")).expect("a known parser")
}

/// The answer to a case's whole text.
fn answer(case: &Value) -> Value {
    joined(entry(case), case, &[case["output"].as_str().expect("an output")])
}

fn info(entry: &ParserEntry, case: &Value) -> Result<(), String> {
    let preserved: Vec<&str> =
        case["preserved_tokens"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let same = case["has_tool_support"] == entry.tools
        && case["has_thinking_support"] == entry.thinking
        && preserved == entry.preserved;
    if same { Ok(()) } else { Err(format!("{} {} {:?}", entry.tools, entry.thinking, entry.preserved)) }
}

/// The ways a text is cut.
fn cuts<'a>(case: &'a Value, text: &'a str) -> Vec<(String, Vec<&'a str>)> {
    let mut ways: Vec<_> = [1, 2, 3, 5, 7, 11].map(|size| (format!("by {size}"), chunks(text, size))).into();
    let recorded = case["pieces"]["chunks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    ways.push(("pieces".to_owned(), recorded));
    ways
}

/// Pieces of so many characters.
pub(super) fn chunks(text: &str, size: usize) -> Vec<&str> {
    let bounds: Vec<usize> = text.char_indices().map(|(at, _)| at).step_by(size).chain([text.len()]).collect();
    bounds.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

/// The whole answer to a text in pieces.
pub(super) fn joined(entry: &ParserEntry, case: &Value, pieces: &[&str]) -> Value {
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
        let arguments = if function["arguments"].is_null() { json!({}) } else { function["arguments"].clone() };
        json!([function["index"], function["name"], arguments])
    };
    let calls: Vec<Value> = recorded["tool_calls"].as_array().into_iter().flatten().map(call).collect();
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
