//! glm-4.7 and glm-ocr: `<tool_call>NAME<arg_key>…</arg_key><arg_value>…</arg_value></tool_call>`.

use super::Start;
use super::arguments;
use super::out::{Call, Item, Out, Space};
use super::scan::Machine;
use super::tagged::{Begin, Style, Tagged, Thought};
use crate::prompt::OutputParser;
use crate::types::Tool;

pub(super) const TOKENS: &[&str] =
    &["<think>", "</think>", "<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"];

static GLM_4_7: Style = Style {
    thought: Thought { trim: true, ..Thought::PLAIN },
    calls: &[["<tool_call>", "</tool_call>"]],
    after_call: &[],
    blocks: &[],
    within_value: arguments::within_value,
    read: |body, tools| {
        let call = arguments::call(body.text, body.closed, tools)?;
        // Without its closing tag a call must be whole by itself.
        (body.closed || complete(&call, tools)).then(|| vec![Item::Call(call)])
    },
    bare: None,
};

static GLM_OCR: Style = Style { thought: Thought { open: "<think>", ..GLM_4_7.thought }, ..GLM_4_7 };

const SPACE: Space = Space { answer: false, after_thought: true, after_call: false, before_tag: true };

pub(super) fn glm_4_7(start: &Start) -> Box<dyn OutputParser> {
    let begin = if start.thinks_unless_off() { Begin::Thought } else { Begin::Text };
    Machine::boxed(Tagged::new(&GLM_4_7, begin, start.tools), Out::new(SPACE, true))
}

/// glm-ocr thinks only when it says so.
pub(super) fn glm_ocr(start: &Start) -> Box<dyn OutputParser> {
    Machine::boxed(Tagged::new(&GLM_OCR, Begin::Either, start.tools), Out::new(SPACE, true))
}

/// A call of a tool that is offered, with all it requires.
fn complete(call: &Call, tools: &[Tool]) -> bool {
    let tool = tools.iter().find(|tool| tool.function.name == call.name);
    tool.is_some_and(|tool| tool.function.parameters.required.iter().all(|name| call.arguments.contains_key(name)))
}
