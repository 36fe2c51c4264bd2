//! What a parser gives: pieces in order, white space at the edges of a text kept or dropped as the format has it.

use serde_json::{Map, Value};

use crate::prompt::Piece;
use crate::types::Function;

/// A call without its place in the answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub name: String,
    pub arguments: Map<String, Value>,
}

/// What stands in a block of calls: a call, or text that is none.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Call(Call),
    Text(String),
}

/// Which white space is layout of the format rather than text of the model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Space {
    /// Before the first text of the answer.
    pub answer: bool,
    /// Between the thoughts and the text.
    pub after_thought: bool,
    pub after_call: bool,
    /// Before a call or a thought. Where this holds, a text of nothing but white space is layout as well.
    pub before_tag: bool,
}

/// Text in stretches between tags.
#[derive(Default)]
struct Stretch {
    /// White space that is dropped when a tag follows.
    held: String,
    /// Nothing but white space yet.
    blank: bool,
    drop_start: bool,
    drop_end: bool,
}

impl Stretch {
    fn push(&mut self, mut text: &str) -> String {
        if self.blank && self.drop_start {
            text = text.trim_start();
        }
        if !self.drop_end {
            self.blank &= text.trim().is_empty();
            return text.to_owned();
        }
        let core = text.trim_end();
        if core.is_empty() {
            self.held.push_str(text);
            return String::new();
        }
        self.blank = false;
        let mut certain = std::mem::take(&mut self.held);
        certain.push_str(core);
        self.held.push_str(&text[core.len()..]);
        certain
    }

    fn begin(&mut self, drop_start: bool) {
        self.held.clear();
        self.blank = true;
        self.drop_start = drop_start;
    }

    fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        if self.blank { String::new() } else { held }
    }
}

/// Collects the pieces of an answer.
pub(super) struct Out {
    pieces: Vec<Piece>,
    calls: usize,
    space: Space,
    content: Stretch,
    thinking: Stretch,
    /// Thoughts nobody asked for are not shown.
    pub hide_thinking: bool,
}

impl Out {
    /// `thinking`: whether white space before the end of the thoughts is layout.
    pub fn new(space: Space, thinking: bool) -> Self {
        let mut content = Stretch { drop_end: space.before_tag, ..Stretch::default() };
        content.begin(space.answer);
        let mut thoughts = Stretch { drop_end: thinking, ..Stretch::default() };
        thoughts.begin(false);
        Self { pieces: Vec::new(), calls: 0, space, content, thinking: thoughts, hide_thinking: false }
    }

    pub fn content(&mut self, text: &str) {
        let text = self.content.push(text);
        self.add(Piece::Content(text));
    }

    pub fn thinking(&mut self, text: &str) {
        let text = self.thinking.push(text);
        if !self.hide_thinking {
            self.add(Piece::Thinking(text));
        }
    }

    /// White space before a tag is text after all.
    pub fn keep_blanks(&mut self) {
        let held = self.content.finish();
        self.add(Piece::Content(held));
    }

    /// Thoughts begin, after white space that is no thought where `drop_start` says so.
    pub fn begin_thinking(&mut self, drop_start: bool) {
        self.content.held.clear();
        self.thinking.begin(drop_start);
    }

    /// The thoughts' closing tag, or what ends them in its place.
    pub fn end_thinking(&mut self) {
        self.thinking.begin(false);
        self.content.begin(self.space.after_thought);
    }

    /// A tag that is neither text nor call stands here.
    pub fn tag(&mut self) {
        self.content.begin(false);
    }

    pub fn call(&mut self, call: Call) {
        self.content.begin(self.space.after_call);
        let Call { name, arguments } = call;
        self.pieces.push(Piece::ToolCall(Function { index: self.calls, name, arguments }));
        self.calls += 1;
    }

    pub fn item(&mut self, item: Item) {
        match item {
            Item::Call(call) => self.call(call),
            Item::Text(text) => self.content(&text),
        }
    }

    /// Gives the pieces that are certain.
    pub fn take(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.pieces)
    }

    /// Lets go of held white space: no tag follows.
    pub fn finish(&mut self) {
        let thinking = self.thinking.finish();
        if !self.hide_thinking {
            self.add(Piece::Thinking(thinking));
        }
        let content = self.content.finish();
        self.add(Piece::Content(content));
    }

    fn add(&mut self, piece: Piece) {
        match (self.pieces.last_mut(), piece) {
            (_, Piece::Content(text) | Piece::Thinking(text)) if text.is_empty() => {}
            (Some(Piece::Content(last)), Piece::Content(text))
            | (Some(Piece::Thinking(last)), Piece::Thinking(text)) => {
                last.push_str(&text);
            }
            (_, piece) => self.pieces.push(piece),
        }
    }
}
