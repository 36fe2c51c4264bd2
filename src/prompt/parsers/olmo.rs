//! olmo3: calls as lines of Python between `<function_calls>` tags. olmo3-think: thoughts and text, no calls.

use super::Start;
use super::out::{Item, Out, Space};
use super::python;
use super::scan::Machine;
use super::tagged::{Begin, Style, Tagged, Thought};
use crate::prompt::OutputParser;

static OLMO3_THINK: Style = Style { calls: &[], ..OLMO3 };

static OLMO3: Style = Style {
    thought: Thought::PLAIN,
    calls: &[["<function_calls>", "</function_calls>"]],
    after_call: &[],
    blocks: &[],
    within_value: python::within_string,
    read: |body, _| Some(python::calls(body.text, body.closed)?.into_iter().map(Item::Call).collect()),
    bare: None,
};

pub(super) fn olmo3(start: &Start) -> Box<dyn OutputParser> {
    Machine::boxed(Tagged::new(&OLMO3, Begin::Text, start.tools), Out::new(Space::default(), false))
}

/// Thinks whatever is asked.
pub(super) fn olmo3_think(start: &Start) -> Box<dyn OutputParser> {
    let begin = if start.continues() { Begin::Text } else { Begin::Thought };
    let space = Space { after_thought: true, ..Space::default() };
    Machine::boxed(Tagged::new(&OLMO3_THINK, begin, start.tools), Out::new(space, true))
}
