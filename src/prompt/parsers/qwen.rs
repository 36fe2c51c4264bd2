//! The qwen3 family: thoughts up to `</think>`, calls between `<tool_call>` tags, as JSON or as XML of its own kind.

use serde_json::Map;

use super::Start;
use super::json;
use super::out::{Call, Item, Out, Space};
use super::scan::Machine;
use super::tagged::{Begin, Body, Style, Tagged, Thought};
use super::typed;
use crate::prompt::OutputParser;
use crate::types::Tool;

const THOUGHT: Thought = Thought { open: "<think>", trim: true, ends_at_call: true, ..Thought::PLAIN };

static QWEN3: Style = Style {
    thought: THOUGHT,
    calls: &[["<tool_call>", "</tool_call>"]],
    after_call: &[],
    blocks: &[],
    within_value: json::within_string,
    read: |body, _| json::named(body.text, "name", "arguments"),
    bare: None,
};

static QWEN3_VL: Style = Style { thought: Thought { open: "", ..THOUGHT }, ..QWEN3 };
static QWEN3_CODER: Style = Style { within_value: within_parameter, read: functions, ..QWEN3 };

const SPACE: Space = Space { answer: false, after_thought: true, after_call: false, before_tag: true };

pub(super) fn qwen3(start: &Start) -> Box<dyn OutputParser> {
    begin(&QWEN3, SPACE, Begin::Text, start)
}

pub(super) fn qwen3_thinking(start: &Start) -> Box<dyn OutputParser> {
    begin(&QWEN3, SPACE, if start.thinks_unless_off() { Begin::Thought } else { Begin::Text }, start)
}

pub(super) fn qwen3_coder(start: &Start) -> Box<dyn OutputParser> {
    begin(&QWEN3_CODER, SPACE, Begin::Text, start)
}

/// qwen3.5, ornith and both nemotrons: thoughts unless they are off or the answer has begun, then calls as qwen3-coder.
pub(super) fn qwen3_5(start: &Start) -> Box<dyn OutputParser> {
    let thinks = start.thinks_unless_off() && !start.continues();
    begin(&QWEN3_CODER, SPACE, if thinks { Begin::Thought } else { Begin::Text }, start)
}

pub(super) fn qwen3_vl_instruct(start: &Start) -> Box<dyn OutputParser> {
    begin(&QWEN3_VL, Space { after_call: true, ..SPACE }, Begin::Text, start)
}

pub(super) fn qwen3_vl_thinking(start: &Start) -> Box<dyn OutputParser> {
    let begins = if start.continues() { Begin::Text } else { Begin::Thought };
    begin(&QWEN3_VL, Space { after_call: true, ..SPACE }, begins, start)
}

fn begin(style: &'static Style, space: Space, begin: Begin, start: &Start) -> Box<dyn OutputParser> {
    Machine::boxed(Tagged::new(style, begin, start.tools), Out::new(space, true))
}

/// Reads `<function=NAME>` blocks, each with `<parameter=KEY>` blocks; values are verbatim.
fn functions(body: &Body, tools: &[Tool]) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    let mut rest = body.text;
    while let Some((_, after)) = rest.split_once("<function=") {
        let (name, mut inner) = after.split_once('>')?;
        let mut arguments = Map::new();
        loop {
            let end = inner.find("</function>")?;
            match inner.find("<parameter=") {
                Some(at) if at < end => {
                    let (key, value) = inner[at + "<parameter=".len()..].split_once('>')?;
                    let (value, after) = value.split_once("</parameter>")?;
                    arguments.insert(key.to_owned(), typed::value(value, tools, name, key));
                    inner = after;
                }
                _ => {
                    rest = &inner[end + "</function>".len()..];
                    break;
                }
            }
        }
        items.push(Item::Call(Call { name: name.to_owned(), arguments }));
    }
    (!items.is_empty()).then_some(items)
}

fn within_parameter(body: &str) -> bool {
    body.rfind("<parameter=").is_some_and(|at| !body[at..].contains("</parameter>"))
}
