//! glimmer: frames `<|start|>assistant to=recipient<|message|>…<|eot|>`, the first start implied; calls as XML of its own.

use std::sync::Arc;

use serde_json::Map;

use super::Start;
use super::out::{Call, Out, Space};
use super::scan::{Format, Input, Machine};
use super::typed;
use crate::prompt::OutputParser;
use crate::types::Tool;

const START: &str = "<|start|>assistant";
/// Ends a frame that has no end of its own.
const NEXT: &str = "<|start|>assistant to=";
const TO: &str = "to=";
const MESSAGE: &str = "<|message|>";
const ENDS: [&str; 2] = ["<|eom|>", "<|eot|>"];
const CALLS: [&str; 2] = ["<atem:function_calls>", "</atem:function_calls>"];
const PARAMETER: [&str; 2] = ["<atem:parameter name=\"", "</atem:parameter>"];

pub(super) const TOKENS: &[&str] = &["<|start|>", MESSAGE, ENDS[0], ENDS[1]];

struct Glimmer {
    tools: Arc<[Tool]>,
    state: State,
}

enum State {
    /// Outside a frame, where a header may begin.
    Between,
    /// Text that stands in no frame.
    Stray,
    /// The head of a text, which may turn out to be calls.
    Head {
        framed: bool,
    },
    Content,
    Thinking,
    Calls {
        recipient: String,
        body: String,
    },
}

pub(super) fn glimmer(start: &Start) -> Box<dyn OutputParser> {
    let mut out = Out::new(Space::default(), false);
    out.hide_thinking = !start.thinks_unless_off();
    Machine::boxed(Glimmer { tools: start.tools.into(), state: State::Between }, out)
}

impl Glimmer {
    /// Reads a header, or finds that none stands here.
    fn between(&mut self, input: &mut Input) -> bool {
        let text = input.text();
        let rest = text.trim_start();
        let open = |rest: &str, word: &str| rest.len() < word.len() && word.starts_with(rest);
        let after = rest.strip_prefix(START).map_or(rest, str::trim_start);
        if !input.ended && (open(rest, START) || open(after, TO)) {
            return false;
        }
        let recipient = after.strip_prefix(TO).unwrap_or_default();
        let end = recipient.find(|char: char| char.is_whitespace() || char == '<').unwrap_or(recipient.len());
        let (recipient, tail) = recipient.split_at(end);
        if !input.ended && after.starts_with(TO) && open(tail, MESSAGE) {
            return false;
        }
        if recipient.is_empty() || !tail.starts_with(MESSAGE) {
            self.state = State::Head { framed: false };
            return true;
        }
        let length = text.len() - tail.len() + MESSAGE.len();
        self.state = match recipient {
            "self" => State::Thinking,
            "user" => State::Head { framed: true },
            tool => State::Calls { recipient: tool.to_owned(), body: String::new() },
        };
        input.take(length);
        true
    }

    fn head(&mut self, framed: bool, input: &mut Input) -> bool {
        let rest = input.text().trim_start();
        if !input.ended && rest.len() < CALLS[0].len() && CALLS[0].starts_with(rest) {
            return false;
        }
        self.state = match framed {
            _ if rest.starts_with(CALLS[0]) => State::Calls { recipient: String::new(), body: String::new() },
            true => State::Content,
            false => State::Stray,
        };
        true
    }

    fn calls(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let State::Calls { body, .. } = &mut self.state else {
            return false;
        };
        let tags = [ENDS[0], ENDS[1], NEXT];
        let (text, tag) = input.until(&tags);
        body.push_str(&text);
        let Some(tag) = tag else { return false };
        if within_parameter(body) {
            body.push_str(tags[tag]);
            return true;
        }
        if tags[tag] == NEXT {
            input.put_back(NEXT);
        }
        self.end_calls(out);
        true
    }

    fn end_calls(&mut self, out: &mut Out) {
        let state = std::mem::replace(&mut self.state, State::Between);
        let State::Calls { recipient, body } = state else {
            return;
        };
        let calls = read(&body, &self.tools);
        let meant = |call: &Call| {
            let named = recipient.rsplit('.').next() == Some(&call.name) || recipient == call.name;
            let declared = self.tools.iter().any(|tool| tool.function.name == call.name);
            declared && (named || recipient.is_empty())
        };
        match calls.filter(|calls| calls.iter().all(meant)) {
            Some(calls) => calls.into_iter().for_each(|call| out.call(call)),
            // The recipient is said again in the calls, unless it is another's.
            None if !body.contains(recipient.rsplit('.').next().unwrap_or_default()) => {
                out.content(&format!("{TO}{recipient}{MESSAGE}{body}"));
            }
            None => out.content(&body),
        }
    }
}

impl Format for Glimmer {
    fn step(&mut self, input: &mut Input, out: &mut Out) -> bool {
        match self.state {
            State::Between => !input.text().is_empty() && self.between(input),
            State::Head { framed } => self.head(framed, input),
            State::Calls { .. } => self.calls(input, out),
            State::Stray => {
                let (text, ended) = input.until_end(&[], &[NEXT]);
                out.content(&text);
                if ended {
                    self.state = State::Between;
                }
                ended
            }
            State::Content | State::Thinking => {
                let (text, ended) = input.until_end(&ENDS, &[NEXT]);
                match self.state {
                    State::Thinking => out.thinking(&text),
                    _ => out.content(&text),
                }
                if ended {
                    self.state = State::Between;
                }
                ended
            }
        }
    }

    fn finish(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let State::Calls { body, .. } = &mut self.state else {
            return false;
        };
        if within_parameter(body) {
            input.end_at_first(&ENDS, body);
        }
        self.end_calls(out);
        true
    }
}

/// Reads a block that is nothing but calls.
fn read(body: &str, tools: &[Tool]) -> Option<Vec<Call>> {
    let mut rest = body.trim().strip_prefix(CALLS[0])?.trim_start();
    let mut calls = Vec::new();
    while let Some(invoke) = rest.strip_prefix("<atem:invoke name=\"") {
        let (name, after) = invoke.split_once("\">")?;
        let name = name.replace(MESSAGE, "");
        let mut arguments = Map::new();
        rest = after.trim_start();
        while let Some(parameter) = rest.strip_prefix(PARAMETER[0]) {
            let (key, value) = parameter.split_once("\">")?;
            let (value, after) = value.split_once(PARAMETER[1])?;
            arguments.insert(key.to_owned(), typed::value(value, tools, &name, key));
            rest = after.trim_start();
        }
        rest = rest.strip_prefix("</atem:invoke>")?.trim_start();
        calls.push(Call { name, arguments });
    }
    (rest == CALLS[1] && !calls.is_empty()).then_some(calls)
}

fn within_parameter(body: &str) -> bool {
    body.rfind(PARAMETER[0]).is_some_and(|at| !body[at..].contains(PARAMETER[1]))
}
