//! For tests: an answer parsed in one piece, a character at a time, and in pieces between; all must agree.

use super::{OutputParser, Piece};

/// An answer, its calls as `name{arguments}` with a blank between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub content: String,
    pub thinking: String,
    pub calls: String,
}

impl Answer {
    pub fn new(content: &str, thinking: &str, calls: &str) -> Self {
        Self { content: content.to_owned(), thinking: thinking.to_owned(), calls: calls.to_owned() }
    }

    pub fn content(content: &str) -> Self {
        Self::new(content, "", "")
    }
}

/// The answer, once it is known not to depend on the cuts.
pub fn all_cuts(text: &str, parser: impl Fn() -> Box<dyn OutputParser>) -> Answer {
    let chars: Vec<char> = text.chars().collect();
    let mut first: Option<Answer> = None;
    for size in [chars.len().max(1), 1, 2, 3, 5, 7] {
        let mut parser = parser();
        let mut answer = Answer::default();
        let mut pieces = Vec::new();
        for piece in chars.chunks(size) {
            pieces.extend(parser.push(&piece.iter().collect::<String>()).expect("it parses"));
        }
        pieces.extend(parser.finish().expect("it ends"));
        for piece in pieces {
            match piece {
                Piece::Content(text) => answer.content.push_str(&text),
                Piece::Thinking(text) => answer.thinking.push_str(&text),
                Piece::ToolCall(call) => {
                    let arguments = serde_json::to_string(&call.arguments).expect("it is JSON");
                    let blank = if answer.calls.is_empty() { "" } else { " " };
                    answer.calls.push_str(&format!("{blank}{}{arguments}", call.name));
                }
            }
        }
        match &first {
            Some(first) => assert_eq!(*first, answer, "in pieces of {size}: {text}"),
            None => first = Some(answer),
        }
    }
    first.unwrap_or_default()
}
