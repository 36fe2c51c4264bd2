//! cohere: thoughts, then texts and actions in tags of their own; an action is a list of calls as JSON.

use super::Start;
use super::json;
use super::out::{Item, Out, Space};
use super::scan::{Format, Input, Machine};
use crate::prompt::OutputParser;

const THOUGHT_END: &str = "<|END_THINKING|>";
const ACTION: [&str; 2] = ["<|START_ACTION|>", "<|END_ACTION|>"];
const TEXT_ENDS: [&str; 2] = ["<|END_TEXT|>", "<|END_RESPONSE|>"];
/// What may stand between texts and actions.
const MARKS: [&str; 7] =
    [ACTION[0], "<|START_TEXT|>", "<|START_RESPONSE|>", TEXT_ENDS[0], TEXT_ENDS[1], ACTION[1], "<|END_OF_TURN_TOKEN|>"];

pub(super) const TOKENS: &[&str] = &[
    "<|START_THINKING|>",
    THOUGHT_END,
    "<|START_TEXT|>",
    TEXT_ENDS[0],
    ACTION[0],
    ACTION[1],
    "<|START_RESPONSE|>",
    TEXT_ENDS[1],
];

enum Cohere {
    Thought,
    Between,
    Text,
    Action(String),
}

pub(super) fn cohere(start: &Start) -> Box<dyn OutputParser> {
    let state = match () {
        () if start.continues() => Cohere::Text,
        () if start.thinks_unless_off() => Cohere::Thought,
        () => Cohere::Between,
    };
    Machine::boxed(state, Out::new(Space::default(), true))
}

impl Cohere {
    fn between(&mut self, input: &mut Input) -> bool {
        let rest = input.text().trim_start();
        if !input.ended && MARKS.iter().any(|mark| rest.len() < mark.len() && mark.starts_with(rest)) {
            return false;
        }
        if rest.is_empty() {
            input.take_blanks();
            return false;
        }
        let Some(mark) = MARKS.into_iter().find(|mark| rest.starts_with(mark)) else {
            *self = Self::Text;
            return true;
        };
        input.take_blanks();
        input.take(mark.len());
        match mark {
            _ if mark == ACTION[0] => *self = Self::Action(String::new()),
            "<|START_TEXT|>" | "<|START_RESPONSE|>" => *self = Self::Text,
            _ => {}
        }
        true
    }
}

impl Format for Cohere {
    fn step(&mut self, input: &mut Input, out: &mut Out) -> bool {
        match self {
            Self::Thought => {
                let (text, tag) = input.until(&[THOUGHT_END]);
                out.thinking(&text);
                if tag.is_some() {
                    out.end_thinking();
                    *self = Self::Between;
                }
                tag.is_some()
            }
            Self::Between => self.between(input),
            Self::Text => {
                let (text, tag) = input.until(&[ACTION[0], TEXT_ENDS[0], TEXT_ENDS[1]]);
                out.content(&text);
                match tag {
                    None => return false,
                    Some(0) => *self = Self::Action(String::new()),
                    Some(_) => *self = Self::Between,
                }
                true
            }
            Self::Action(body) => {
                let (text, tag) = input.until(&[ACTION[1]]);
                body.push_str(&text);
                if tag.is_some() && json::within_string(body) {
                    body.push_str(ACTION[1]);
                } else if tag.is_some() {
                    end_action(body, ACTION[1], out);
                    *self = Self::Between;
                }
                tag.is_some()
            }
        }
    }

    fn finish(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let Self::Action(body) = self else { return false };
        let closed = json::within_string(body) && input.end_at_first(&ACTION[1..], body);
        end_action(body, if closed { ACTION[1] } else { "" }, out);
        *self = Self::Between;
        true
    }
}

fn end_action(body: &str, close: &str, out: &mut Out) {
    let items = items(body);
    if items.iter().any(|item| matches!(item, Item::Call(_))) {
        items.into_iter().for_each(|item| out.item(item));
    } else if !items.is_empty() {
        out.content(&format!("{}{body}{close}", ACTION[0]));
    }
}

/// The calls of a list, one by one; what is none is text.
fn items(body: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut rest = body;
    loop {
        rest = rest.trim_start_matches(|char: char| char.is_whitespace() || "[],".contains(char));
        if rest.is_empty() {
            return items;
        }
        let end = if rest.starts_with('{') { json::object_end(rest) } else { rest.find('{') };
        let (text, after) = rest.split_at(end.unwrap_or(rest.len()));
        let call = serde_json::from_str(text).ok().and_then(|object| json::call(object, "tool_name", "parameters"));
        items.push(call.map_or_else(|| Item::Text(text.to_owned()), Item::Call));
        rest = after;
    }
}
