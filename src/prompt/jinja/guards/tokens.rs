//! The words of a Jinja tag.

use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Name,
    /// A text or a number.
    Literal,
    Open,
    Close,
    Operator,
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
}

impl Token {
    pub(super) fn text<'a>(&self, template: &'a str) -> &'a str {
        &template[self.range.clone()]
    }

    pub(super) fn is(&self, template: &str, word: &str) -> bool {
        self.text(template) == word
    }
}

/// The words from a place on to the `end` of the tag, and the place behind that.
pub(super) fn tokens(text: &str, start: usize, end: &str) -> (Vec<Token>, usize) {
    let mut found: Vec<Token> = Vec::new();
    let mut at = start + usize::from(text[start..].starts_with(['-', '+']));
    let mut depth = 0_usize;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        if depth == 0 {
            let closes = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            if let Some(after) = closes.strip_prefix(end).or_else(|| rest.strip_prefix(end)) {
                return (found, text.len() - after.len());
            }
        }
        let (kind, length) = match first {
            blank if blank.is_whitespace() => {
                at += blank.len_utf8();
                continue;
            }
            '\'' | '"' => (Kind::Literal, quoted(rest, first)),
            '(' | '[' | '{' => {
                depth += 1;
                (Kind::Open, 1)
            }
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                (Kind::Close, 1)
            }
            digit if digit.is_ascii_digit() => {
                // `a.0` is no number with a point.
                let fraction = !found.last().is_some_and(|last| last.is(text, "."));
                (Kind::Literal, number(rest, fraction))
            }
            letter if is_word(letter) => (Kind::Name, word(rest)),
            other => {
                let two = ["==", "!=", ">=", "<=", "//", "**"].iter().any(|two| rest.starts_with(two));
                (Kind::Operator, if two { 2 } else { other.len_utf8() })
            }
        };
        found.push(Token { kind, range: at..at + length });
        at += length;
    }
    (found, text.len())
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn word(text: &str) -> usize {
    text.find(|letter| !is_word(letter)).unwrap_or(text.len())
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            letter if letter == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn number(text: &str, fraction: bool) -> usize {
    let mut length = word(text);
    let is_digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    if fraction && text[length..].starts_with('.') && is_digit(length + 1) {
        length += 1 + word(&text[length + 1..]);
    }
    let power = !text.starts_with("0x") && text[..length].ends_with(['e', 'E']);
    if power && text[length..].starts_with(['-', '+']) && is_digit(length + 1) {
        length += 1 + word(&text[length + 1..]);
    }
    length
}
