//! Thinking that stands between two tags at the beginning of an answer.

use super::{OutputParser, ParseError, Piece};

/// What a model writes around its thinking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags {
    pub open: String,
    pub close: String,
}

impl Tags {
    pub fn new(open: &str, close: &str) -> Self {
        Self { open: open.to_owned(), close: close.to_owned() }
    }

    /// Whether the model goes on inside the tags: the prompt already ends with the open one.
    pub fn opened_by(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open.trim())
    }
}

/// Splits an answer into its thinking and the rest. Only a block at the very beginning counts.
#[derive(Debug)]
pub struct ThinkingParser {
    tags: Tags,
    state: State,
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but blanks yet.
    Start,
    /// After the open tag, blanks going.
    Opened,
    Thinking,
    /// After the close tag, blanks going.
    Closed,
    Content,
}

impl ThinkingParser {
    /// `inside` when the prompt has opened the thinking already.
    pub fn new(tags: Tags, inside: bool) -> Self {
        Self { tags, state: if inside { State::Opened } else { State::Start }, held: String::new() }
    }

    /// One step on the held text. `None` when more text is needed.
    fn step(&mut self, out: &mut Vec<Piece>) -> Option<()> {
        match self.state {
            State::Start => {
                let rest = self.held.trim_start();
                if let Some(rest) = rest.strip_prefix(&self.tags.open) {
                    self.held = rest.to_owned();
                    self.state = State::Opened;
                } else if self.tags.open.starts_with(rest) {
                    return None;
                } else {
                    self.state = State::Content;
                }
            }
            State::Opened | State::Closed => {
                self.held = self.held.trim_start().to_owned();
                if self.held.is_empty() {
                    return None;
                }
                self.state = if self.state == State::Opened { State::Thinking } else { State::Content };
            }
            State::Thinking => {
                let (end, found) = match self.held.find(&self.tags.close) {
                    Some(at) => (at, true),
                    None => (self.held.len() - overlap(&self.held, &self.tags.close), false),
                };
                let thinking: String = self.held.drain(..end).collect();
                if !thinking.is_empty() {
                    out.push(Piece::Thinking(thinking));
                }
                if !found {
                    return None;
                }
                self.held.drain(..self.tags.close.len());
                self.state = State::Closed;
            }
            State::Content => {
                if !self.held.is_empty() {
                    out.push(Piece::Content(std::mem::take(&mut self.held)));
                }
                return None;
            }
        }
        Some(())
    }
}

impl OutputParser for ThinkingParser {
    fn push(&mut self, text: &str) -> Result<Vec<Piece>, ParseError> {
        self.held.push_str(text);
        let mut out = Vec::new();
        while self.step(&mut out).is_some() {}
        Ok(out)
    }

    fn finish(&mut self) -> Result<Vec<Piece>, ParseError> {
        let held = std::mem::take(&mut self.held);
        Ok(match self.state {
            _ if held.is_empty() => Vec::new(),
            State::Opened | State::Thinking => vec![Piece::Thinking(held)],
            State::Start | State::Closed | State::Content => vec![Piece::Content(held)],
        })
    }
}

/// How many bytes at the end of `text` may be the beginning of `tag`.
pub(super) fn overlap(text: &str, tag: &str) -> usize {
    let longest = text.len().min(tag.len().saturating_sub(1));
    (1..=longest).rev().find(|&length| text.as_bytes().ends_with(&tag.as_bytes()[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(inside: bool, text: &str) -> (String, String) {
        let mut parser = ThinkingParser::new(Tags::new("<t>", "</t>"), inside);
        let mut pieces = parser.push(text).unwrap();
        pieces.extend(parser.finish().unwrap());
        let join = |thinking: bool| {
            pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Thinking(text) => thinking.then_some(text.as_str()),
                    Piece::Content(text) => (!thinking).then_some(text.as_str()),
                    Piece::ToolCall(_) => None,
                })
                .collect()
        };
        (join(true), join(false))
    }

    #[test]
    fn keeps_what_was_cut_short() {
        assert_eq!(parse(false, "<t>a</t"), ("a</t".into(), "".into()));
        assert_eq!(parse(false, " <t"), ("".into(), " <t".into()));
        assert_eq!(parse(true, "語</t>\n b"), ("語".into(), "b".into()));
    }

    #[test]
    fn overlap_stays_within_characters() {
        assert_eq!(overlap("aé<", "<t>"), 1);
        assert_eq!(overlap("</", "</t>"), 2);
        assert_eq!(overlap("é", "èx"), 0);
    }
}
