//! ministral: `[TOOL_CALLS]name[ARGS]{…}` with no closing tag, thoughts between `[THINK]` tags.

use super::Start;
use super::json;
use super::out::{Call, Out, Space};
use super::scan::{Format, Input, Machine};
use crate::prompt::OutputParser;

const CALL: &str = "[TOOL_CALLS]";
const ARGUMENTS: &str = "[ARGS]";
const THINK: [&str; 2] = ["[THINK]", "[/THINK]"];

pub(super) const TOKENS: &[&str] = &[CALL, THINK[0], THINK[1], ARGUMENTS];

enum Ministral {
    Text,
    Thought,
    Name(String),
    Arguments(Arguments),
}

/// A call whose object is not at its end.
#[derive(Default)]
struct Arguments {
    name: String,
    body: String,
    scan: json::Scan,
}

impl Arguments {
    /// Reads on; gives where the object in `body` ends, which is zero if there is none.
    fn step(&mut self, input: &mut Input) -> Option<usize> {
        let (before, text) = (self.body.len(), input.take_all());
        self.body.push_str(&text);
        match self.body.trim_start().chars().next()? {
            '{' => self.scan.object_end(&text).map(|end| before + end),
            _ => Some(0),
        }
    }
}

pub(super) fn ministral(_: &Start) -> Box<dyn OutputParser> {
    Machine::boxed(Ministral::Text, Out::new(Space { before_tag: true, ..Space::default() }, false))
}

impl Format for Ministral {
    fn step(&mut self, input: &mut Input, out: &mut Out) -> bool {
        match self {
            Self::Text => {
                let (text, tag) = input.until(&[CALL, THINK[0]]);
                out.content(&text);
                match tag {
                    None => return false,
                    Some(0) => *self = Self::Name(String::new()),
                    Some(_) => {
                        out.begin_thinking(false);
                        *self = Self::Thought;
                    }
                }
                true
            }
            Self::Thought => {
                let (text, tag) = input.until(&[THINK[1]]);
                out.thinking(&text);
                if tag.is_some() {
                    out.end_thinking();
                    *self = Self::Text;
                }
                tag.is_some()
            }
            Self::Name(name) => {
                let (text, tag) = input.until(&[ARGUMENTS, CALL]);
                name.push_str(&text);
                match tag {
                    None => return false,
                    Some(0) => {
                        let name = std::mem::take(name);
                        *self = Self::Arguments(Arguments { name, ..Arguments::default() });
                    }
                    Some(_) => {
                        out.content(&format!("{CALL}{name}"));
                        name.clear();
                    }
                }
                true
            }
            Self::Arguments(call) => {
                let Some(end) = call.step(input) else { return false };
                let Arguments { name, body, .. } = std::mem::take(call);
                *self = Self::Text;
                input.put_back(&body[end..]);
                match json::arguments(&body[..end]) {
                    Some(arguments) if plausible(&name) => {
                        out.call(Call { name: name.trim().to_owned(), arguments });
                    }
                    _ => out.content(&format!("{CALL}{name}{ARGUMENTS}{}", &body[..end])),
                }
                true
            }
        }
    }

    fn finish(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let (name, mark) = match self {
            Self::Text | Self::Thought => return false,
            Self::Name(name) => (std::mem::take(name), ""),
            Self::Arguments(call) => {
                input.put_back(&call.body);
                (std::mem::take(&mut call.name), ARGUMENTS)
            }
        };
        *self = Self::Text;
        if !name.is_empty() || !input.text().is_empty() {
            out.content(&format!("{CALL}{name}{mark}"));
        }
        true
    }
}

fn plausible(name: &str) -> bool {
    let name = name.trim();
    !name.is_empty() && !name.contains(char::is_whitespace)
}
