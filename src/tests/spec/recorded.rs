//! The documents agree with what a real Ollama was recorded to answer.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::routes::NOT_ANSWERED;
use super::{check, check_request};

/// Answers of Ollama's that the documents refuse on purpose, and why.
const MISFITS: [(&str, &str); 0] = [];

/// Requests that Ollama took though they are not what the documents ask for, and why.
const ODD_REQUESTS: [(&str, &str); 0] = [];

/// Objects with names that the documents cannot know, by the last name on the way to them.
const OPEN: [&str; 6] = ["model_info", "projector_info", "arguments", "input", "parameters", "schema"];

fn cases() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/conformance/recorded.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let cases: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answered = |case: &Value| {
        let route = (text_of(case, "method"), text_of(case, "path"));
        !NOT_ANSWERED.contains(&route)
    };
    cases.into_iter().filter(answered).collect()
}

fn text_of<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap_or_default()
}

fn check_answer(case: &Value, body: &[u8]) -> Result<(), String> {
    let reply = &case["reply"];
    let status = u16::try_from(reply["status"].as_u64().unwrap()).unwrap();
    check(text_of(case, "method"), text_of(case, "path"), status, reply["type"].as_str(), body)
}

/// Compares the verdicts with the cases known to misfit.
fn assert_only(known: &[(&str, &str)], verdicts: &BTreeMap<String, Result<(), String>>) {
    let mut wrong = Vec::new();
    for (id, verdict) in verdicts {
        match (verdict, known.iter().any(|(misfit, _)| misfit == id)) {
            (Err(error), false) => wrong.push(format!("{id}: {error}")),
            (Ok(()), true) => wrong.push(format!("{id} fits by now")),
            _ => {}
        }
    }
    wrong.extend(known.iter().filter(|(id, _)| !verdicts.contains_key(*id)).map(|(id, _)| format!("{id} is no case")));
    println!("{} judged, {} known misfits", verdicts.len(), known.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), verdicts.len(), wrong.join("\n"));
}

#[test]
fn answers_of_ollama_fit() {
    let judge =
        |case: &Value| (text_of(case, "id").into(), check_answer(case, text_of(&case["reply"], "body").as_bytes()));
    let verdicts: BTreeMap<_, _> = cases().iter().map(judge).collect();
    assert!(verdicts.len() > 280, "only {} cases", verdicts.len());
    assert_only(&MISFITS, &verdicts);
}

#[test]
fn requests_that_ollama_took_fit() {
    let mut verdicts = BTreeMap::new();
    for case in cases().iter().filter(|case| case["reply"]["status"] == 200 && case.get("json").is_some()) {
        let body = case["json"].to_string();
        let verdict = check_request(text_of(case, "method"), text_of(case, "path"), body.as_bytes());
        verdicts.insert(text_of(case, "id").to_owned(), verdict);
    }
    assert!(verdicts.len() > 150, "only {} cases", verdicts.len());
    assert_only(&ODD_REQUESTS, &verdicts);
}

#[test]
fn what_nobody_knows_is_caught_wherever_it_stands() {
    let mut tried = 0;
    for case in cases().iter().filter(|case| MISFITS.iter().all(|(id, _)| *id != text_of(case, "id"))) {
        for (change, body) in changed(text_of(&case["reply"], "body")) {
            assert!(check_answer(case, body.as_bytes()).is_err(), "{}: {change} is taken", text_of(case, "id"));
            tried += 1;
        }
    }
    println!("{tried} changed answers tried");
    assert!(tried > 4_000, "only {tried} changed answers tried");
}

/// The body with one thing changed in one of its lines, in every way: a field more, or an object in place of a value.
fn changed(body: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = body.split('\n').collect();
    let near_an_end = |index: &usize| *index < 3 || index + 9 > lines.len();
    let mut changed = Vec::new();
    for index in (0..lines.len()).filter(near_an_end) {
        let (prefix, text) = lines[index].strip_prefix("data: ").map_or(("", lines[index]), |data| ("data: ", data));
        let Ok(value) = serde_json::from_str::<Value>(text) else { continue };
        for pointer in known(&value, "", "") {
            let mut other = value.clone();
            match other.pointer_mut(&pointer).unwrap() {
                Value::Object(fields) => drop(fields.insert("nobody_knows".into(), 1.into())),
                leaf => *leaf = serde_json::json!({"nobody_knows": 1}),
            }
            let line = format!("{prefix}{other}");
            let with_it: Vec<&str> = [&lines[..index], &[line.as_str()], &lines[index + 1..]].concat();
            changed.push((format!("{pointer:?} changed in line {index}"), with_it.join("\n")));
        }
    }
    changed
}

/// Pointers to all of a value whose shape is known: objects, and what is neither object nor list.
fn known(value: &Value, pointer: &str, name: &str) -> Vec<String> {
    match value {
        Value::Object(_) if OPEN.contains(&name) => Vec::new(),
        Value::Object(fields) => {
            let within = fields.iter().flat_map(|(key, value)| known(value, &format!("{pointer}/{key}"), key));
            within.chain([pointer.to_owned()]).collect()
        }
        Value::Array(items) => {
            let first = items.iter().take(2).enumerate();
            first.flat_map(|(index, value)| known(value, &format!("{pointer}/{index}"), "")).collect()
        }
        _ => vec![pointer.to_owned()],
    }
}
