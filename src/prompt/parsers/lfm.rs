//! lfm2 and lfm2-thinking: calls as a list of Python calls, in tags or as the whole of an answer.

use super::Start;
use super::out::{Item, Out, Space};
use super::python;
use super::scan::{Input, Machine};
use super::tagged::{Bare, Begin, Style, Tagged, Thought};
use crate::prompt::OutputParser;
use crate::types::Tool;

const CALLS: [&str; 2] = ["<|tool_call_start|>", "<|tool_call_end|>"];

pub(super) const TOKENS: &[&str] = &["<think>", "</think>", CALLS[0], CALLS[1]];

static LFM2: Style = Style {
    thought: Thought { open: "<think>", trim: true, ..Thought::PLAIN },
    calls: &[CALLS],
    after_call: &[],
    blocks: &[],
    within_value: python::within_string,
    read: |body, _| Some(python::calls(body.text, body.closed)?.into_iter().map(Item::Call).collect()),
    bare: Some(bare),
};

pub(super) fn lfm2(start: &Start) -> Box<dyn OutputParser> {
    begin(false, start)
}

/// Thinks if that is asked for and the answer says so.
pub(super) fn lfm2_thinking(start: &Start) -> Box<dyn OutputParser> {
    begin(start.thinks_if_on() && !start.continues(), start)
}

fn begin(may_think: bool, start: &Start) -> Box<dyn OutputParser> {
    let space = Space { answer: may_think, after_thought: true, ..Space::default() };
    let begin = if may_think { Begin::Either } else { Begin::Text };
    Machine::boxed(Tagged::new(&LFM2, begin, start.tools), Out::new(space, true))
}

/// A text that is nothing but calls of tools on offer. It is known at the answer's end only, so a text that begins with such
/// a call waits for it.
fn bare(input: &Input, tools: &[Tool]) -> Bare {
    let text = input.text().trim_start();
    let listed = text.strip_prefix('[').map_or(text, str::trim_start);
    if !input.ended {
        let begins = |tool: &Tool| {
            let opening = format!("{}(", tool.function.name);
            listed.starts_with(&opening) || opening.starts_with(listed)
        };
        return if tools.iter().any(begins) { Bare::Undecided } else { Bare::No };
    }
    let Some(calls) = python::calls(text, true) else {
        return Bare::No;
    };
    let known = calls.iter().all(|call| tools.iter().any(|tool| tool.function.name == call.name));
    if known { Bare::Yes(calls, input.text().len()) } else { Bare::No }
}
