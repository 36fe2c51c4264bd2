//! `templates.jsonl`: Go templates, the errors in them, and history cut to the context.

use std::collections::BTreeMap;

use chrono::{Days, Local};
use serde_json::Value;

use hanzod::prompt::go_prompt::GoPrompt;
use hanzod::prompt::{Conversation, history};

use super::decode;

#[test]
fn templates() {
    let better = BTreeMap::from([
        ("templates/msg/merged-extras", "thinking and calls of the second of two messages of one role are lost"),
        ("templates/lang/define", "a block that exists cannot be called without a pipeline"),
        ("templates/legacy/function-after-cut", "the last turn knows no functions"),
        ("templates/legacy/json-before-cut", "the last turn knows no functions"),
        ("templates/legacy/define", "the last turn knows no defined blocks"),
    ]);
    super::run("templates.jsonl", &better, check);
}

fn check(case: &Value) -> Result<(), String> {
    match rendered(case) {
        Ok((prompt, names)) => {
            let today = Local::now().date_naive();
            let yesterday = today - Days::new(1);
            let want = case["prompt"].as_str().ok_or(format!("{prompt:?} for {}", case["error"]))?;
            let want = want.replace("<DATE>", &today.to_string()).replace("<YESTERDAY>", &yesterday.to_string());
            if prompt != want {
                return Err(format!("\n  have {prompt:?}\n  want {want:?}"));
            }
            let vars: Vec<&str> = case["vars"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if names == vars { Ok(()) } else { Err(format!("names {names:?} for {vars:?}")) }
        }
        Err(error) if case["error"] == error => Ok(()),
        Err(error) => Err(format!("\n  have {error:?}\n  want {}{}", case["error"], case["prompt"])),
    }
}

fn rendered(case: &Value) -> Result<(String, Vec<String>), String> {
    let think = decode::think(case).ok_or_else(|| case["error"].as_str().unwrap_or("no think").to_owned())?;
    let mut given = Conversation { messages: decode::messages(case), tools: decode::tools(case), think };
    let template = GoPrompt::parse(case["template"].as_str().unwrap_or_default()).map_err(|error| error.to_string())?;
    let names = template.names().iter().cloned().collect();
    if case["kind"] == "suffix" {
        let part = |name: &str| case[name].as_str().unwrap_or_default();
        let text = template.render_suffix(part("prompt_in"), part("suffix"), given.think);
        return Ok((text.map_err(|error| error.to_string())?, names));
    }
    if let Some(limit) = case["num_ctx"].as_u64() {
        let limit = usize::try_from(limit).map_err(|error| error.to_string())?;
        let words = |messages| {
            let rendered = template.render(&Conversation { messages, ..given.clone() });
            std::future::ready(rendered.map(|rendered| rendered.text.split_whitespace().count()))
        };
        let fitting = history::fit(&given.messages, limit, words);
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
        given.messages = runtime.block_on(fitting).map_err(|error| error.to_string())?;
    }
    Ok((template.render(&given).map_err(|error| error.to_string())?.text, names))
}

/// Whatever is left out of a template, there is an answer or an error.
#[test]
fn no_template_brings_the_program_down() {
    for case in super::cases("templates.jsonl") {
        let text = case["template"].as_str().unwrap_or_default();
        let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let conversation = Conversation { messages: decode::messages(&case), tools: decode::tools(&case), think: None };
        for (index, &at) in ends.iter().enumerate() {
            let after = ends.get(index + 1).map_or("", |&next| &text[next..]);
            for damaged in [text[..at].to_owned(), format!("{}{after}", &text[..at])] {
                if let Ok(template) = GoPrompt::parse(&damaged) {
                    let _ = template.render(&conversation);
                }
            }
        }
    }
}
