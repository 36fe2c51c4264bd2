//! Cuts a Go template into its text and the tokens between `{{` and `}}`.

use super::Pos;
use super::number;
use super::value::Value;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Text(String),
    Open,
    Close,
    /// `.name`, without the dot.
    Field(String),
    /// `$name`, with its `$`.
    Variable(String),
    Word(String),
    Dot,
    /// A number, a character or a quoted string, and its text in the source.
    Constant(Value, String),
    Pipe,
    Declare,
    Assign,
    OpenBracket,
    CloseBracket,
    /// A character with no meaning outside a few places, such as the comma.
    Other(char),
    /// What could not be read, in Go's words. Met only if the parser comes as far.
    Bad(String),
    End,
}

impl Token {
    pub(super) fn begins_operand(&self) -> bool {
        match self {
            Self::Word(word) => !is_keyword(word),
            Self::Constant(..) | Self::Dot | Self::Field(_) | Self::Variable(_) | Self::OpenBracket => true,
            _ => false,
        }
    }

    /// The token as it stood in the template.
    pub(super) fn source(&self) -> String {
        let plain = match self {
            Self::Text(text) | Self::Bad(text) | Self::Variable(text) | Self::Word(text) => text,
            Self::Constant(_, text) => text,
            Self::Field(name) => return format!(".{name}"),
            Self::Other(char) => return char.to_string(),
            Self::Open => "{{",
            Self::Close => "}}",
            Self::Dot => ".",
            Self::Pipe => "|",
            Self::Declare => ":=",
            Self::Assign => "=",
            Self::OpenBracket => "(",
            Self::CloseBracket => ")",
            Self::End => "",
        };
        plain.to_owned()
    }
}

pub(super) fn is_keyword(word: &str) -> bool {
    matches!(word, "block" | "break" | "continue" | "define" | "else" | "end" | "if" | "range" | "template" | "with")
}

#[derive(Clone, Debug)]
pub(super) struct Lexeme {
    pub token: Token,
    pub pos: Pos,
    /// A blank stands before it inside an action: `.a.b` is one operand, `.a .b` two.
    pub spaced: bool,
}

/// The tokens of a template; the last is [`Token::End`] or [`Token::Bad`].
pub(super) fn lex(text: &str) -> Vec<Lexeme> {
    let mut lexer = Lexer { text, at: 0, brackets: 0, out: Vec::new() };
    while lexer.outside() {}
    lexer.out
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    brackets: usize,
    out: Vec<Lexeme>,
}

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

impl Lexer<'_> {
    fn emit(&mut self, token: Token, pos: Pos, spaced: bool) {
        self.out.push(Lexeme { token, pos, spaced });
    }

    fn bad(&mut self, message: impl Into<String>) -> bool {
        self.emit(Token::Bad(message.into()), self.at, false);
        false
    }

    fn skip_blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches(BLANKS).len();
    }

    /// Reads text up to the next action, and the action. False at the end.
    fn outside(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let start = self.at;
        let Some(length) = rest.find("{{") else {
            if !rest.is_empty() {
                self.emit(Token::Text(rest.to_owned()), start, false);
            }
            self.emit(Token::End, self.text.len(), false);
            return false;
        };
        let after = &rest[length + 2..];
        let trims = after.strip_prefix('-').is_some_and(|after| after.starts_with(BLANKS));
        let text = if trims { rest[..length].trim_end_matches(BLANKS) } else { &rest[..length] };
        if !text.is_empty() {
            self.emit(Token::Text(text.to_owned()), start, false);
        }
        let open = start + length;
        self.at = open + 2 + if trims { 2 } else { 0 };
        if self.text[self.at..].starts_with("/*") {
            return self.comment();
        }
        self.emit(Token::Open, open, false);
        self.brackets = 0;
        self.inside()
    }

    fn comment(&mut self) -> bool {
        let Some(length) = self.text[self.at..].find("*/") else {
            return self.bad("unclosed comment");
        };
        self.at += length + 2;
        match self.closing() {
            Some(length) => self.close(length),
            None => self.bad("comment ends before closing delimiter"),
        }
    }

    /// The length of the closing delimiter that begins here: 2, or 4 with its trim marker.
    fn closing(&self) -> Option<usize> {
        let rest = &self.text[self.at..];
        let trimmed = rest.strip_prefix(BLANKS).is_some_and(|rest| rest.starts_with("-}}"));
        if trimmed { Some(4) } else { rest.starts_with("}}").then_some(2) }
    }

    fn close(&mut self, length: usize) -> bool {
        self.at += length;
        if length == 4 {
            self.skip_blanks();
        }
        true
    }

    fn inside(&mut self) -> bool {
        let mut spaced = false;
        loop {
            if let Some(length) = self.closing() {
                if self.brackets > 0 {
                    return self.bad("unclosed left paren");
                }
                self.emit(Token::Close, self.at, spaced);
                return self.close(length);
            }
            let start = self.at;
            let rest = &self.text[start..];
            let Some(char) = rest.chars().next() else {
                return self.bad("unclosed action");
            };
            self.at += char.len_utf8();
            let token = match char {
                _ if BLANKS.contains(&char) => {
                    spaced = true;
                    continue;
                }
                '=' => Token::Assign,
                '|' => Token::Pipe,
                ':' if rest.starts_with(":=") => {
                    self.at += 1;
                    Token::Declare
                }
                ':' => Token::Bad("expected :=".to_owned()),
                '(' => {
                    self.brackets += 1;
                    Token::OpenBracket
                }
                ')' if self.brackets == 0 => Token::Bad("unexpected right paren".to_owned()),
                ')' => {
                    self.brackets -= 1;
                    Token::CloseBracket
                }
                '"' | '\'' | '`' => self.quoted(char, start),
                '.' if !rest[1..].starts_with(|next: char| next.is_ascii_digit()) => {
                    let name = self.name();
                    let token = if name.is_empty() { Token::Dot } else { Token::Field(name) };
                    self.terminated(token)
                }
                '$' => {
                    let name = self.name();
                    self.terminated(Token::Variable(format!("${name}")))
                }
                '+' | '-' | '.' | '0'..='9' => {
                    let (length, token) = number::scan(rest);
                    self.at = start + length;
                    token
                }
                _ if is_name(char) => {
                    self.at = start;
                    let name = self.name();
                    self.terminated(Token::Word(name))
                }
                ' '..='~' => Token::Other(char),
                _ => Token::Bad(format!("unrecognized character in action: {}", code_point(char))),
            };
            let stop = matches!(token, Token::Bad(_));
            self.emit(token, start, spaced);
            spaced = false;
            if stop {
                return false;
            }
        }
    }

    fn name(&mut self) -> String {
        let rest = &self.text[self.at..];
        let length = rest.find(|char| !is_name(char)).unwrap_or(rest.len());
        self.at += length;
        rest[..length].to_owned()
    }

    /// A name must be followed by something that can follow one.
    fn terminated(&self, token: Token) -> Token {
        let rest = &self.text[self.at..];
        match rest.chars().next() {
            None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | '(' | ')') => token,
            Some('=') if matches!(token, Token::Variable(_)) => token,
            _ if rest.starts_with("}}") => token,
            Some(char) => Token::Bad(format!("bad character {}", code_point(char))),
        }
    }

    fn quoted(&mut self, quote: char, start: usize) -> Token {
        let body = &self.text[start + 1..];
        let end = if quote == '`' {
            body.find('`')
        } else {
            let mut escaped = false;
            let stop = body.find(|char| {
                let stops = !escaped && (char == quote || char == '\n');
                escaped = !escaped && char == '\\';
                stops || char == '\n'
            });
            stop.filter(|&end| body[end..].starts_with(quote))
        };
        let Some(end) = end else {
            return Token::Bad(
                match quote {
                    '`' => "unterminated raw quoted string",
                    '"' => "unterminated quoted string",
                    _ => "unterminated character constant",
                }
                .to_owned(),
            );
        };
        self.at = start + 1 + end + 1;
        let source = self.text[start..self.at].to_owned();
        let body = &body[..end];
        if quote == '`' {
            return Token::Constant(Value::from(body.replace('\r', "")), source);
        }
        match number::unquote(body) {
            Some(text) if quote == '"' => Token::Constant(Value::from(text), source),
            Some(text) if text.chars().count() == 1 => {
                let char = text.chars().next().expect("it has one character: a bug");
                Token::Constant(Value::Int(i64::from(u32::from(char))), source)
            }
            Some(_) => Token::Bad(format!("malformed character constant: {source}")),
            None => Token::Bad("invalid syntax".to_owned()),
        }
    }
}

fn is_name(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}

/// Go's `%#U`.
fn code_point(char: char) -> String {
    format!("U+{:04X} '{char}'", u32::from(char))
}
