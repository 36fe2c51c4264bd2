//! laguna and poolside-v1: calls as glm's, also as JSON, without tags or in the wrong ones; thoughts anywhere.

use super::Start;
use super::arguments;
use super::json;
use super::out::{Call, Item, Out, Space};
use super::scan::{Input, Machine};
use super::tagged::{Bare, Begin, Body, Style, Tagged, Thought};
use crate::prompt::OutputParser;
use crate::types::Tool;

pub(super) const TOKENS: &[&str] = &[
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<user>",
    "</user>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
];

const OPEN: &str = "<tool_call>";
/// Names from other agents' tools, and ours that mean the same.
const ALIASES: [(&str, &str); 4] =
    [("read_file", "read"), ("write_file", "write"), ("edit_file", "edit"), ("web_fetch", "webfetch")];

static LAGUNA: Style = Style {
    thought: Thought {
        open: "<think>",
        trim: true,
        ends_at_call: true,
        in_text: true,
        drop_close: true,
        ..Thought::PLAIN
    },
    calls: &[[OPEN, "</tool_call>"], ["<user>", "</user>"]],
    after_call: &[],
    blocks: &[],
    within_value: arguments::within_value,
    read,
    bare: Some(bare),
};

/// laguna goes on with an assistant's message as text.
pub(super) fn laguna(start: &Start) -> Box<dyn OutputParser> {
    begin(start.thinks_if_on() && start.prefill().is_none(), start)
}

pub(super) fn poolside_v1(start: &Start) -> Box<dyn OutputParser> {
    begin(start.thinks_if_on(), start)
}

fn begin(thinks: bool, start: &Start) -> Box<dyn OutputParser> {
    let space = Space { answer: true, after_thought: true, after_call: false, before_tag: true };
    let mut out = Out::new(space, true);
    out.hide_thinking = !start.thinks_if_on();
    if thinks {
        out.begin_thinking(true);
    }
    let begin = if thinks { Begin::Thought } else { Begin::Text };
    Machine::boxed(Tagged::new(&LAGUNA, begin, start.tools), out)
}

fn read(body: &Body, tools: &[Tool]) -> Option<Vec<Item>> {
    let mut text = body.text.trim_start();
    while let Some(inner) = text.strip_prefix(OPEN) {
        text = inner.trim_start();
    }
    let call = named(arguments::call(text, body.closed, tools)?, text, tools);
    let declared = tools.iter().any(|tool| tool.function.name == call.name);
    // A user's name in tags is no call, and neither is half a tool's name.
    let certain = declared || !call.arguments.is_empty() || (body.closed && body.tags == 0);
    certain.then(|| vec![Item::Call(call)])
}

/// The call under the name of the tool that is meant, its values typed by that tool.
fn named(call: Call, text: &str, tools: &[Tool]) -> Call {
    let known = |name: &str| tools.iter().any(|tool| tool.function.name == name);
    let alias = ALIASES.into_iter().find(|(from, to)| call.name == *from && !known(from) && known(to));
    let Some((from, to)) = alias else { return call };
    let renamed = text.strip_prefix(from).map(|rest| format!("{to}{rest}"));
    let typed = renamed.and_then(|text| arguments::call(&text, true, tools));
    typed.unwrap_or_else(|| Call { name: to.to_owned(), ..call })
}

/// An object that names a tool on offer is a call of it.
fn bare(input: &Input, tools: &[Tool]) -> Bare {
    let text = input.text().trim_start();
    if text.is_empty() && !input.ended {
        return Bare::Undecided;
    }
    if !text.starts_with('{') || tools.is_empty() {
        return Bare::No;
    }
    let Some(length) = json::object_end(text) else {
        return if input.ended { Bare::No } else { Bare::Undecided };
    };
    let call = serde_json::from_str(&text[..length]).ok().and_then(|object| json::call(object, "name", "arguments"));
    match call.map(|call| named(call, "", tools)) {
        Some(call) if tools.iter().any(|tool| tool.function.name == call.name) => {
            Bare::Yes(vec![call], input.text().len() - text.len() + length)
        }
        _ => Bare::No,
    }
}
