//! The shape most formats share: thoughts up to a closing tag, then text, with calls between an opening and a closing tag.

use std::sync::Arc;

use super::out::{Call, Item, Out};
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
    pub thought: Thought,
    /// Opening and closing tags of calls.
    pub calls: &'static [[&'static str; 2]],
    /// Tags that a model may add after a call and that mean nothing.
    pub after_call: &'static [&'static str],
    /// Blocks that are neither thoughts nor calls, by opening and closing tag.
    pub blocks: &'static [([&'static str; 2], Block)],
    /// Whether a body ends within a value, so that a closing tag after it is part of that value.
    pub within_value: fn(&str) -> bool,
    /// Reads a body; `None` when it holds no call at all.
    pub read: fn(&Body, &[Tool]) -> Option<Vec<Item>>,
    /// Looks for calls without tags at the head of a text.
    pub bare: Option<fn(&Input, &[Tool]) -> Bare>,
}

/// How thoughts are marked.
#[derive(Clone, Copy)]
pub(super) struct Thought {
    /// Empty where the format knows none.
    pub open: &'static str,
    /// What may follow the opening tag and is no thought.
    pub label: &'static str,
    pub close: &'static str,
    /// White space before the first thought is layout.
    pub trim: bool,
    /// A call within the thoughts ends them; else it is one of them.
    pub ends_at_call: bool,
    /// Thoughts may come after text, too.
    pub in_text: bool,
    /// A closing tag in the text is dropped; else it is text.
    pub drop_close: bool,
}

impl Thought {
    /// What all up to `</think>` is, once it has begun.
    pub const PLAIN: Self = Self {
        open: "",
        label: "",
        close: "</think>",
        trim: false,
        ends_at_call: false,
        in_text: false,
        drop_close: false,
    };
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
    /// Which of the style's tags it stands between.
    pub tags: usize,
    /// The closing tag came; else the answer ended within.
    pub closed: bool,
}

/// Whether a text begins with calls that have no tags.
pub(super) enum Bare {
    Undecided,
    No,
    /// The calls, and the length of the text they take.
    Yes(Vec<Call>, usize),
}

/// A [`Style`] at work.
pub(super) struct Tagged {
    style: &'static Style,
    tools: Arc<[Tool]>,
    state: State,
}

enum State {
    Start(Begin),
    Label,
    Thought,
    Head,
    Text,
    Call { tags: usize, body: String },
    AfterCall,
    Block { which: usize, dropped: String },
}

/// What a tag in the text stands for.
#[derive(Clone, Copy)]
enum Mark {
    Call(usize),
    Block(usize),
    ThoughtOpen,
    ThoughtClose,
}

impl Tagged {
    pub fn new(style: &'static Style, begin: Begin, tools: &[Tool]) -> Self {
        Self { style, tools: tools.into(), state: State::Start(begin) }
    }

    /// White space and an opening tag, which the prompt often holds already.
    fn start(&mut self, begin: Begin, input: &mut Input, out: &mut Out) -> bool {
        let open = self.style.thought.open;
        if begin == Begin::Text || open.is_empty() {
            self.state = if begin == Begin::Text { State::Head } else { State::Thought };
            return true;
        }
        let rest = input.text().trim_start();
        if !input.ended && rest.len() < open.len() && open.starts_with(rest) {
            return false;
        }
        if rest.starts_with(open) {
            input.take_blanks();
            input.take(open.len());
            out.begin_thinking(self.style.thought.trim);
            self.state = State::Label;
        } else {
            self.state = if begin == Begin::Thought { State::Thought } else { State::Head };
        }
        true
    }

    fn label(&mut self, input: &mut Input) -> bool {
        let label = self.style.thought.label;
        let Some(labelled) = input.begins(&[label]) else {
            return false;
        };
        if labelled.is_some() {
            input.take(label.len());
        }
        self.state = State::Thought;
        true
    }

    fn thought(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let Thought { close, ends_at_call, .. } = self.style.thought;
        let mut tags = vec![close];
        if ends_at_call {
            tags.extend(self.style.calls.iter().map(|call| call[0]));
        }
        let (text, tag) = input.until(&tags);
        out.thinking(&text);
        let Some(tag) = tag else { return false };
        out.end_thinking();
        self.state = if tag == 0 { State::Head } else { State::Call { tags: tag - 1, body: String::new() } };
        true
    }

    fn head(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let bare = self.style.bare.map_or(Bare::No, |bare| bare(input, &self.tools));
        match bare {
            Bare::Undecided => return false,
            Bare::No => self.state = State::Text,
            Bare::Yes(calls, length) => {
                input.take(length);
                calls.into_iter().for_each(|call| out.call(call));
                self.state = State::AfterCall;
            }
        }
        true
    }

    fn text(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let Style { thought, calls, blocks, .. } = self.style;
        let calls = calls.iter().enumerate().map(|(which, tags)| (tags[0], Mark::Call(which)));
        let blocks = blocks.iter().enumerate().map(|(which, (tags, _))| (tags[0], Mark::Block(which)));
        let opens = thought.in_text.then_some((thought.open, Mark::ThoughtOpen));
        let closes = thought.drop_close.then_some((thought.close, Mark::ThoughtClose));
        let (tags, marks): (Vec<&str>, Vec<Mark>) = calls.chain(blocks).chain(opens).chain(closes).unzip();
        let (text, tag) = input.until(&tags);
        out.content(&text);
        let Some(tag) = tag else { return false };
        match marks[tag] {
            Mark::Call(tags) => self.state = State::Call { tags, body: String::new() },
            Mark::Block(which) => self.state = State::Block { which, dropped: String::new() },
            Mark::ThoughtOpen => {
                out.keep_blanks();
                out.begin_thinking(thought.trim);
                self.state = State::Label;
            }
            Mark::ThoughtClose => out.tag(),
        }
        true
    }

    fn call(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let State::Call { tags, body } = &mut self.state else {
            return false;
        };
        let [_, close] = self.style.calls[*tags];
        let (text, tag) = input.until(&[close]);
        body.push_str(&text);
        if tag.is_some() && (self.style.within_value)(body) {
            body.push_str(close);
        } else if tag.is_some() {
            let (tags, body) = (*tags, std::mem::take(body));
            self.end_call(tags, &body, true, out);
        }
        tag.is_some()
    }

    fn end_call(&mut self, tags: usize, body: &str, closed: bool, out: &mut Out) {
        let [open, close] = self.style.calls[tags];
        let text = if closed { body } else { without_open(body, close) };
        self.state = State::AfterCall;
        if text.trim().is_empty() && closed {
            return out.tag();
        }
        match (self.style.read)(&Body { text, tags, closed }, &self.tools) {
            Some(items) => items.into_iter().for_each(|item| out.item(item)),
            None => {
                out.content(&format!("{open}{body}{}", if closed { close } else { "" }));
                self.state = State::Text;
            }
        }
    }

    fn after_call(&mut self, input: &mut Input) -> bool {
        let rest = input.text().trim_start();
        let tags = self.style.after_call;
        if !input.ended && tags.iter().any(|tag| rest.len() < tag.len() && tag.starts_with(rest)) {
            return false;
        }
        match tags.iter().find(|tag| rest.starts_with(**tag)) {
            Some(tag) => {
                input.take_blanks();
                input.take(tag.len());
            }
            None => self.state = State::Head,
        }
        true
    }

    fn block(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let State::Block { which, dropped } = &mut self.state else {
            return false;
        };
        let ([_, close], block) = self.style.blocks[*which];
        let (text, tag) = input.until(&[close]);
        match block {
            Block::Text => out.content(&text),
            Block::Drop => dropped.push_str(&text),
        }
        if tag.is_some() {
            self.state = State::Text;
        }
        tag.is_some()
    }
}

impl Format for Tagged {
    fn step(&mut self, input: &mut Input, out: &mut Out) -> bool {
        match self.state {
            State::Start(begin) => self.start(begin, input, out),
            State::Label => self.label(input),
            State::Thought => self.thought(input, out),
            State::Head => self.head(input, out),
            State::Text => self.text(input, out),
            State::Call { .. } => self.call(input, out),
            State::AfterCall => self.after_call(input),
            State::Block { .. } => self.block(input, out),
        }
    }

    fn finish(&mut self, input: &mut Input, out: &mut Out) -> bool {
        let (tags, mut body) = match &mut self.state {
            State::Call { tags, body } => (*tags, std::mem::take(body)),
            State::Block { which, dropped } => {
                // A block that never closed is none.
                let ([open, _], _) = self.style.blocks[*which];
                if !dropped.is_empty() {
                    out.content(&format!("{open}{dropped}"));
                }
                return false;
            }
            _ => return false,
        };
        let [_, close] = self.style.calls[tags];
        let closed = (self.style.within_value)(&body) && input.end_at_first(&[close], &mut body);
        self.end_call(tags, &body, closed, out);
        true
    }
}
