//! Puts a look at every value that could have grown into a template's text.
//!
//! Operators are minijinja's own, but a filter binds tighter than any of them: `a ~ b` becomes `a|__keep ~ b|__keep`. What the
//! two make is then no larger than what was looked at, and is looked at itself where it is used again. So is what is called,
//! filtered, cut or listed. `*` makes much of little and becomes a filter, and loops pay for the text that they repeat.
//! The filters are in [`weights`]. Lines stay where they are, for errors tell them.

mod tokens;
mod weights;

use std::collections::HashMap;
use std::ops::Range;

use tokens::{Kind, Token, tokens};
pub(super) use weights::{install, keep};

/// A value that was made, or goes into one.
const KEEP: &str = "__keep";
/// That is compared.
const HELD: &str = "__held";
/// That goes into a namespace.
const STORED: &str = "__stored";
const TIMES: &str = "__times";
const NUMBER: &str = "__number";
const NUMBER_END: &str = "|__number";
const PAY: &str = "__pay";

/// Less text than that in a loop is paid for by its instructions.
const SHORT: usize = 64;
/// Words that stand behind a value. Elsewhere they may be names, but for `not`.
const KEYWORDS: [&str; 8] = ["and", "or", "not", "in", "is", "if", "else", "recursive"];
const COMPARISONS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];

/// A piece of a template: text, or what stands in `{{ }}` or `{% %}`.
enum Piece {
    Text(Range<usize>),
    Tag { all: Range<usize>, tokens: Vec<Token>, block: bool },
}

/// The template with its guards.
pub(super) fn guarded(text: &str) -> String {
    let pieces = pieces(text);
    let repeated = repeated(text, &pieces);
    let mut out = Writer { text, out: String::with_capacity(text.len() * 2), copied: 0 };
    for (index, piece) in pieces.iter().enumerate() {
        let Piece::Tag { all, tokens, block } = piece else { continue };
        out.tag(tokens, *block);
        if let Some(bytes) = repeated.get(&index).filter(|bytes| **bytes >= SHORT) {
            out.copy(all.end);
            // Blanks behind it are trimmed as they were.
            let end = &text[tokens.last().map_or(all.start, |last| last.range.end)..all.end];
            let lines = end.trim_start();
            out.out.push_str(&format!("{{% if {bytes}|{PAY} %}}{{% endif {lines}"));
        }
    }
    out.copy(text.len());
    out.out
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find('{').map(|found| at + found) {
        let rest = &text[start..];
        let end = match rest.as_bytes().get(1) {
            Some(b'#') => rest.find("#}").map_or(text.len(), |end| start + end + 2),
            Some(b'{' | b'%') => {
                let block = rest.starts_with("{%");
                let (mut tokens, mut end) = tokens(text, start + 2, if block { "%}" } else { "}}" });
                if block && matches!(&tokens[..], [only] if only.is(text, "raw")) {
                    end = text[end..].find("endraw").map_or(text.len(), |raw| end + raw);
                    end = text[end..].find("%}").map_or(text.len(), |close| end + close + 2);
                    tokens.clear();
                }
                found.push(Piece::Text(at..start));
                found.push(Piece::Tag { all: start..end, tokens, block });
                at = end;
                continue;
            }
            _ => start + 1,
        };
        found.push(Piece::Text(at..end));
        at = end;
    }
    found.push(Piece::Text(at..text.len()));
    found
}

/// Bytes of text in each loop, by the place of its tag; without those of loops within it.
fn repeated(text: &str, pieces: &[Piece]) -> HashMap<usize, usize> {
    let mut loops = HashMap::new();
    let mut open = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let bytes = match piece {
            Piece::Text(range) => range.len(),
            // A block that is shown as it is.
            Piece::Tag { all, tokens, .. } if tokens.is_empty() => all.len(),
            Piece::Tag { tokens, block: true, .. } if tokens[0].is(text, "for") => {
                open.push(index);
                0
            }
            Piece::Tag { tokens, block: true, .. } if tokens[0].is(text, "endfor") => {
                open.pop();
                0
            }
            Piece::Tag { .. } => 0,
        };
        if let Some(inner) = open.last() {
            *loops.entry(*inner).or_insert(0) += bytes;
        }
    }
    loops
}

/// What came before an operand, as far as it matters.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    /// `~` or `+`.
    Grows,
    Compares,
    /// `/`, `%` and the like, which bind as `*` does.
    Factor,
}

/// What a bracket opens.
#[derive(Clone, Copy, PartialEq)]
enum Bracket {
    /// The tag itself.
    None,
    Call,
    Index,
    /// A list, a map, or brackets around an expression.
    Value,
    /// Names of a macro's arguments.
    Names,
}

/// What a word is.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// The end of a value, as far as has been read.
    Operand,
    /// The name of a test, behind `is`.
    Test,
    Keyword,
    /// What stands before a value: an operator, an open bracket.
    Between,
}

struct Frame {
    bracket: Bracket,
    before: Before,
    /// The operand is called, filtered, cut or listed: it is made here.
    made: bool,
    cut: bool,
}

impl Frame {
    fn new(bracket: Bracket) -> Self {
        Self { bracket, before: Before::Nothing, made: false, cut: false }
    }

    fn next(&mut self, before: Before) {
        (self.before, self.made) = (before, false);
    }
}

struct Writer<'a> {
    text: &'a str,
    out: String,
    copied: usize,
}

impl<'a> Writer<'a> {
    fn copy(&mut self, to: usize) {
        self.out.push_str(&self.text[self.copied..to]);
        self.copied = to;
    }

    fn insert(&mut self, at: usize, filter: &str) {
        self.copy(at);
        self.out.push('|');
        self.out.push_str(filter);
    }

    fn tag(&mut self, tokens: &[Token], block: bool) {
        let word = |at: usize| tokens.get(at).map_or("", |token| token.text(self.text));
        if !block {
            return self.expression(tokens, KEEP, true);
        }
        let top = |wanted: &[&str]| {
            let mut depth = 0_usize;
            tokens.iter().position(|token| {
                match token.kind {
                    Kind::Open => depth += 1,
                    Kind::Close => depth = depth.saturating_sub(1),
                    _ => return depth == 0 && wanted.contains(&token.text(self.text)),
                }
                false
            })
        };
        let start = match word(0) {
            "set" => match top(&["=", "|"]) {
                Some(at) if word(at) == "=" => at + 1,
                Some(at) => at,
                None => return,
            },
            "for" => match top(&["in"]) {
                Some(at) => at + 1,
                None => return,
            },
            "call" | "do" => return self.expression(&tokens[1..], KEEP, false),
            "macro" => return self.expression(&tokens[2.min(tokens.len())..], KEEP, false),
            "filter" => 0,
            _ => 1,
        };
        // Of one that goes into a namespace.
        let dotted = word(0) == "set" && tokens[..start].iter().any(|token| token.is(self.text, "."));
        self.expression(&tokens[start.min(tokens.len())..], if dotted { STORED } else { KEEP }, true);
    }

    /// `keep`: the filter for values at the top. `whole`: what the tag holds is an expression, not a call that must stay one.
    fn expression(&mut self, tokens: &[Token], keep: &str, whole: bool) {
        let mut frames = vec![Frame::new(Bracket::None)];
        // Where second factors end, and what stands there then.
        let mut factors: Vec<(usize, &str)> = Vec::new();
        let mut roles: Vec<Role> = Vec::with_capacity(tokens.len());
        for (at, token) in tokens.iter().enumerate() {
            let word = token.text(self.text);
            let next_word = tokens.get(at + 1).map_or("", |next| next.text(self.text));
            let (last, last_word) = match at.checked_sub(1) {
                Some(last) => (roles[last], tokens[last].text(self.text)),
                None => (Role::Between, ""),
            };
            let role = self.role(tokens, &roles, at);
            roles.push(role);
            let Some(frame) = frames.last_mut() else { return };
            let mut ends = role == Role::Operand;
            match token.kind {
                Kind::Open => {
                    let bracket = match (last, word) {
                        (Role::Operand | Role::Test, "(") => Bracket::Call,
                        (Role::Operand, "[") => Bracket::Index,
                        (_, "(") if !whole && at == 0 => Bracket::Names,
                        _ => Bracket::Value,
                    };
                    frame.made |= bracket != Bracket::Index;
                    frames.push(Frame::new(bracket));
                }
                Kind::Close => {
                    let closed = frames.pop().map(|frame| (frame.bracket, frame.cut));
                    let Some(frame) = frames.last_mut() else { return };
                    frame.made |= closed == Some((Bracket::Index, true));
                    ends = !matches!(closed, Some((Bracket::Names, _)));
                }
                Kind::Name => match role {
                    Role::Operand if last_word == "|" => frame.made = true,
                    Role::Operand => ends = !(frame.bracket == Bracket::Names && matches!(last_word, "(" | ",")),
                    // What follows without brackets is its argument.
                    Role::Test if next_word != "(" => frame.next(Before::Nothing),
                    Role::Test => {}
                    Role::Keyword | Role::Between => {
                        let compares = word == "in" || (word == "not" && next_word == "in");
                        frame.next(if compares { Before::Compares } else { Before::Nothing });
                    }
                },
                Kind::Literal => ends = false,
                Kind::Operator => match word {
                    "." => {}
                    "|" => frame.made = true,
                    "*" if last == Role::Operand || last == Role::Test => {
                        let end = self.operand(tokens, at + 1);
                        let follows = tokens.get(end).map_or("", |token| token.text(self.text));
                        if frame.before == Before::Factor || follows == "**" {
                            self.insert(token.range.start, NUMBER);
                            factors.push((end, NUMBER_END));
                            frame.next(Before::Factor);
                        } else {
                            self.insert(token.range.start, TIMES);
                            self.out.push('(');
                            self.copied = token.range.end;
                            factors.push((end, ")"));
                            frame.next(Before::Nothing);
                        }
                    }
                    "~" | "+" => frame.next(Before::Grows),
                    "/" | "//" | "%" | "**" => frame.next(Before::Factor),
                    ":" => {
                        frame.cut |= frame.bracket == Bracket::Index;
                        frame.next(Before::Nothing);
                    }
                    word if COMPARISONS.contains(&word) => frame.next(Before::Compares),
                    _ => frame.next(Before::Nothing),
                },
            }
            let depth = frames.len();
            let Some(frame) = frames.last() else { return };
            let goes_on = matches!(next_word, "." | "[" | "(" | "=")
                || (next_word == "|" && !frame.made)
                || (next_word == ":" && frame.bracket != Bracket::None)
                || (next_word == "is" && !frame.made);
            if ends && !goes_on && (whole || depth > 1) {
                let compared = COMPARISONS.contains(&next_word) || matches!(next_word, "in" | "not");
                let grows = frame.before == Before::Grows || matches!(next_word, "~" | "+");
                if depth == 1 && keep == STORED {
                    self.insert(token.range.end, STORED);
                } else if frame.made || grows {
                    self.insert(token.range.end, KEEP);
                } else if compared || frame.before == Before::Compares {
                    self.insert(token.range.end, HELD);
                }
            }
            while let Some((_, behind)) = factors.pop_if(|(end, _)| *end == at + 1) {
                self.copy(token.range.end);
                self.out.push_str(behind);
            }
        }
    }

    fn role(&self, tokens: &[Token], roles: &[Role], at: usize) -> Role {
        let word = |back: usize| at.checked_sub(back).map_or("", |at| tokens[at].text(self.text));
        let role = |back: usize| at.checked_sub(back).map_or(Role::Between, |at| roles[at]);
        match tokens[at].kind {
            Kind::Literal | Kind::Close => Role::Operand,
            Kind::Open | Kind::Operator => Role::Between,
            Kind::Name if matches!(word(1), "." | "|") => Role::Operand,
            Kind::Name => {
                let is = |back| word(back) == "is" && role(back) == Role::Keyword;
                let is_not = word(1) == "not" && is(2);
                let not_in = word(0) == "in" && word(1) == "not" && role(2) == Role::Operand;
                let behind = matches!(role(1), Role::Operand | Role::Test);
                match word(0) {
                    "not" if is(1) => Role::Keyword,
                    _ if is(1) || is_not => Role::Test,
                    "not" => Role::Keyword,
                    word if KEYWORDS.contains(&word) && (behind || not_in) => Role::Keyword,
                    _ => Role::Operand,
                }
            }
        }
    }

    /// Where the operand that begins at a token ends.
    fn operand(&self, tokens: &[Token], mut at: usize) -> usize {
        let word = |at: usize| tokens.get(at).map_or("", |token| token.text(self.text));
        let matching = |mut at: usize| {
            let mut depth = 0_usize;
            while let Some(token) = tokens.get(at) {
                match token.kind {
                    Kind::Open => depth += 1,
                    Kind::Close => depth = depth.saturating_sub(1),
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    break;
                }
            }
            at
        };
        while matches!(word(at), "-" | "+") {
            at += 1;
        }
        at = matching(at);
        loop {
            at = match word(at) {
                "." | "|" => (at + 2).min(tokens.len()),
                "[" | "(" => matching(at),
                _ => return at,
            };
        }
    }
}

#[cfg(test)]
mod tests;
