//! The shape most formats share: thoughts up to a closing tag, then text, with calls between an opening and a closing tag.

use std::sync::Arc;

use super::out::{Item, Out};
use super::scan::{Format, Input, without_open};
use crate::types::Tool;

/// What stands at the beginning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Text,
    /// Thoughts, whether or not their opening tag is repeated.
    Thought,
    /// Thoughts if their opening tag comes first, else text.
    Either,
}

/// A family's tags and the readers of its calls.
pub(super) struct Style {
    /// Empty where the format knows none.
    pub think_open: &'static str,
    pub think_close: &'static str,
    /// A call within the thoughts ends them; else it is one of them.
    pub call_ends_thought: bool,
    /// Opening and closing tag.
    pub call: [&'static str; 2],
    /// Other blocks, by opening and closing tag.
    pub blocks: &'static [(&'static str, &'static str, Block)],
    /// Whether a body ends within a value, so that a closing tag after it is part of that value.
    pub within_value: fn(&str) -> bool,
    /// Reads a body; `None` when it holds no call at all.
    pub read: fn(&Body, &[Tool]) -> Option<Vec<Item>>,
}

/// What to do with a block that is neither thought nor call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    Text,
    Drop,
}

/// What stands between a call's tags.
pub(super) struct Body<'a> {
    pub text: &'a str,
    /// The closing tag came; else the answer ended within.
    pub closed: bool,
}

/// A [`Style`] at work.
pub(super) struct Tagged {
    style: &'static Style,
    tools: Arc<[Tool]>,
    state: State,
}

enum State {
    Start(Begin),
    Thought,
    Text,
    Call { body: String },
    Block { which: usize },
}

impl Tagged {
    pub fn new(style: &'static Style, begin: Begin, tools: &[Tool]) -> Self {
        Self {
            style,
            tools: tools.into(),
            state: State::Start(begin),
        }
    }

    /// White space and an opening tag, which the prompt often holds already.
    fn start(&mut self, begin: Begin, input: &mut Input, out: &mut Out) -> bool {
        if begin == Begin::Text {
            self.state = State::Text;
            return true;
        }
        let open = self.style.think_open;
        let rest = input.text().trim_start();
        if !open.is_empty() && !input.ended && open.starts_with(rest) && rest.len() < open.len() {
            return false;
        }
        let opened = !open.is_empty() && rest.starts_with(open);
        if opened || begin == Begin::Either {
            input.take_blanks();
        }
        if opened {
            input.take(open.len());
        }
        self.state = if opened || begin == Begin::Thought {
            State::Thought
        } else {
            State::Text
        };
        if opened {
            out.begin_thinking(true);
        }
        true
    }

    fn thought(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let Style {
            think_close,
            call: [call, _],
            call_ends_thought,
            ..
        } = self.style;
        let tags: &[&str] = if *call_ends_thought {
            &[think_close, call]
        } else {
            &[think_close]
        };
        let (text, tag) = input.until(tags);
        out.thinking(&text);
        if tag.is_some() {
            out.end_thinking();
            self.state = if tag == Some(0) {
                State::Text
            } else {
                State::Call { body: String::new() }
            };
        }
        tag.is_some()
    }

    fn text(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let mut tags = vec![self.style.call[0]];
        tags.extend(self.style.blocks.iter().map(|block| block.0));
        let tags: Vec<&str> = tags.into_iter().filter(|tag| !tag.is_empty()).collect();
        let (text, tag) = input.until(&tags);
        out.content(&text);
        match tag {
            None => return false,
            Some(0) => self.state = State::Call { body: String::new() },
            Some(block) => self.state = State::Block { which: block - 1 },
        }
        true
    }

    fn end_call(&mut self, body: &str, closed: bool, out: &mut Out) {
        let [open, close] = self.style.call;
        let text = if closed { body } else { without_open(body, close) };
        if text.trim().is_empty() && closed {
            out.tag();
        } else {
            match (self.style.read)(&Body { text, closed }, &self.tools) {
                Some(items) => items.into_iter().for_each(|item| out.item(item)),
                None => out.content(&format!("{open}{body}{}", if closed { close } else { "" })),
            }
        }
        self.state = State::Text;
    }
}

impl Format for Tagged {
    fn step(&mut self, input: &mut Input, out: &mut Out) -> bool {
        match &mut self.state {
            State::Start(begin) => {
                let begin = *begin;
                self.start(begin, input, out)
            }
            State::Thought => self.thought(input, out),
            State::Text => self.text(input, out),
            State::Call { body } => {
                let close = self.style.call[1];
                let (text, tag) = input.until(&[close]);
                body.push_str(&text);
                if tag.is_none() {
                    return false;
                }
                if (self.style.within_value)(body) {
                    body.push_str(close);
                } else {
                    let body = std::mem::take(body);
                    self.end_call(&body, true, out);
                }
                true
            }
            State::Block { which } => {
                let (_, close, block) = self.style.blocks[*which];
                let (text, tag) = input.until(&[close]);
                if block == Block::Text {
                    out.content(&text);
                }
                if tag.is_some() {
                    self.state = State::Text;
                }
                tag.is_some()
            }
        }
    }

    fn finish(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let State::Call { body } = &mut self.state else {
            return false;
        };
        let mut body = std::mem::take(body);
        let close = self.style.call[1];
        // The value that a closing tag seemed to stand in never ended: the tag was one after all.
        let closed = (self.style.within_value)(&body).then(|| body.find(close)).flatten();
        if let Some(at) = closed {
            input.put_back(&body[at + close.len()..]);
            body.truncate(at);
        }
        self.end_call(&body, closed.is_some(), out);
        true
    }
}
