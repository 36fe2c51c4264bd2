//! deepseek3 and cogito: one block of calls, each in tags of its own; cogito fences the arguments.

use super::Start;
use super::json;
use super::out::{Call, Item, Out, Space};
use super::scan::Machine;
use super::tagged::{Begin, Block, Body, Style, Tagged, Thought};
use crate::prompt::OutputParser;

const CALL: [&str; 2] = ["<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"];
const SEPARATOR: &str = "<｜tool▁sep｜>";

pub(super) const TOKENS: &[&str] = &[
    "</think>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    CALL[0],
    CALL[1],
    SEPARATOR,
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
];

pub(super) const COGITO_TOKENS: &[&str] = &[
    "</think>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    CALL[0],
    CALL[1],
    SEPARATOR,
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
];

static DEEPSEEK3: Style = Style {
    thought: Thought::PLAIN,
    calls: &[["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"]],
    after_call: &[],
    blocks: &[(["<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"], Block::Text)],
    within_value,
    read: |body, _| {
        calls(body, |call| {
            let (name, arguments) = call.split_once(SEPARATOR)?;
            Some((name, arguments))
        })
    },
    bare: None,
};

static COGITO: Style = Style {
    blocks: &[(["<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"], Block::Drop)],
    read: |body, _| {
        calls(body, |call| {
            // The kind, always `function`, stands before the separator.
            let (_, call) = call.split_once(SEPARATOR)?;
            let (name, fenced) = call.split_once("```json")?;
            Some((name, fenced.trim_end().strip_suffix("```")?))
        })
    },
    ..DEEPSEEK3
};

pub(super) fn deepseek3(start: &Start) -> Box<dyn OutputParser> {
    begin(&DEEPSEEK3, start.thinks_if_on() && !start.continues(), start)
}

/// cogito does not think while it is offered tools.
pub(super) fn cogito(start: &Start) -> Box<dyn OutputParser> {
    begin(&COGITO, start.thinks_if_on() && !start.continues() && start.tools.is_empty(), start)
}

fn begin(style: &'static Style, thinks: bool, start: &Start) -> Box<dyn OutputParser> {
    let begin = if thinks { Begin::Thought } else { Begin::Text };
    let space = Space { after_thought: true, ..Space::default() };
    Machine::boxed(Tagged::new(style, begin, start.tools), Out::new(space, true))
}

/// Reads the calls of a block one by one; a bad one is text and takes no other with it.
fn calls(body: &Body, parts: fn(&str) -> Option<(&str, &str)>) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    let mut rest = body.text;
    while let Some(at) = rest.find(CALL[0]) {
        let (before, inner) = (&rest[..at], &rest[at + CALL[0].len()..]);
        if !before.trim().is_empty() {
            items.push(Item::Text(before.to_owned()));
        }
        let end = end_of_call(inner);
        let (call, after) = end.map_or((inner, ""), |end| (&inner[..end], &inner[end + CALL[1].len()..]));
        let read = parts(call).and_then(|(name, arguments)| {
            let name = name.trim().to_owned();
            let arguments = json::arguments(arguments)?;
            (!name.is_empty()).then_some(Call { name, arguments })
        });
        let raw = &rest[at..rest.len() - after.len()];
        items.push(read.map_or_else(|| Item::Text(raw.to_owned()), Item::Call));
        rest = after;
    }
    if items.iter().all(|item| matches!(item, Item::Text(_))) {
        return None;
    }
    if !rest.trim().is_empty() {
        items.push(Item::Text(rest.to_owned()));
    }
    Some(items)
}

/// Where the closing tag stands that is not part of an argument; failing that, the first.
fn end_of_call(text: &str) -> Option<usize> {
    let mut ends = text.match_indices(CALL[1]).map(|(at, _)| at);
    ends.clone().find(|at| !within_value(&text[..*at])).or_else(|| ends.next())
}

fn within_value(body: &str) -> bool {
    let arguments = body.rfind(SEPARATOR).map_or("", |at| &body[at + SEPARATOR.len()..]);
    json::within_string(arguments)
}
