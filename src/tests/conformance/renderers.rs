//! `renderers.jsonl`: conversations into prompts by the built-in renderers.

use std::collections::BTreeMap;

use serde_json::Value;

use hanzod::prompt::renderers;
use hanzod::prompt::{Conversation, Rendered};

use super::decode;

#[test]
fn renderers() {
    let better: Vec<(String, &str)> = BETTER
        .iter()
        .flat_map(|(cases, defect)| {
            cases
                .split_whitespace()
                .map(move |case| (format!("renderers/{case}"), *defect))
        })
        .collect();
    let better = better.iter().map(|(id, defect)| (id.as_str(), *defect)).collect();
    super::run("renderers.jsonl", &better, check);
}

/// Where the recorded prompt is a fault, by the defects' numbers in the recordings' README.
const BETTER: [(&str, &str); 3] = [
    (
        "olmo3-think/only-assistant olmo3-think/prefill-think olmo3-think/prefill-nothink olmo3-think/prefill-spaces
         olmo3-32b-think/only-assistant olmo3-32b-think/prefill-think olmo3-32b-think/prefill-nothink
         olmo3-32b-think/prefill-spaces nemotron-3-nano/only-assistant nemotron-3-nano/prefill
         nemotron-3-nano/prefill-nothink nemotron-3-nano/prefill-spaces nemotron-3.5-nano/prefill
         nemotron-3.5-nano/prefill-think nemotron-3.5-nano/prefill-nothink nemotron-3.5-nano/prefill-spaces",
        "8: an assistant's text that comes last is closed, though the parser takes what follows for its continuation",
    ),
    (
        "olmo3/prefill-thinking-only olmo3/prefill-empty olmo3.1/prefill-thinking-only olmo3.1/prefill-empty",
        "8: an empty answer to go on with opens two turns",
    ),
    (
        "nemotron-3.5-nano/images-system-assistant",
        "9: images that are not shown are not counted, and later markers mean the wrong ones",
    ),
];

fn check(case: &Value) -> Result<(), String> {
    let name = case["renderer"].as_str().expect("each case names a renderer");
    let found = renderers::find(name);
    if case["kind"] == "info" {
        let have = found.and_then(|renderer| renderer.leading_bos()).unwrap_or_default();
        return if case["leading_bos"] == have {
            Ok(())
        } else {
            Err(format!("leading text {have:?}"))
        };
    }
    // What a request may say of thinking is the API's to check, before there is a conversation.
    let Some(think) = decode::think(case) else {
        return Ok(());
    };
    let conversation = Conversation {
        messages: decode::messages(case),
        tools: decode::tools(case),
        think,
    };
    let result = match found {
        Some(renderer) => renderer.render(&conversation).map_err(|error| error.to_string()),
        None => Err(format!("unknown renderer {name:?}")),
    };
    match (result, case["error"].as_str()) {
        (Ok(have), None) => same(&have, case),
        (Err(have), Some(want)) if have == want => Ok(()),
        (have, want) => Err(format!("{have:?} for error {want:?}")),
    }
}

fn same(have: &Rendered, case: &Value) -> Result<(), String> {
    let count = case["image_count"].as_u64().unwrap_or(0);
    if have.images.len() as u64 != count {
        return Err(format!("{} images for {count}", have.images.len()));
    }
    let today = chrono::Local::now().date_naive();
    let dated = |text: &str| {
        let day = |date: Option<chrono::NaiveDate>| date.map_or_else(String::new, |date| date.to_string());
        text.replace("<DATE>", &day(Some(today)))
            .replace("<YESTERDAY>", &day(today.pred_opt()))
    };
    let wanted: Vec<String> = match case["prompts"].as_array() {
        Some(seen) => seen.iter().filter_map(Value::as_str).map(dated).collect(),
        None => case["prompt"].as_str().map(dated).into_iter().collect(),
    };
    if wanted.contains(&have.text) {
        return Ok(());
    }
    let want = wanted.first().ok_or("the case has no prompt")?;
    let from = have
        .text
        .char_indices()
        .zip(want.chars())
        .find(|((_, a), b)| a != b)
        .map_or(have.text.len().min(want.len()), |((at, _), _)| at);
    let window = |text: &str| -> String {
        let from = (0..=from.saturating_sub(60))
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text[from..].chars().take(200).collect()
    };
    Err(format!(
        "at {from}\n  have {:?}\n  want {:?}",
        window(&have.text),
        window(want)
    ))
}
