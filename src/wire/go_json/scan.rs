//! Reads JSON text into a tree, refusing what Go's scanner refuses and in its words.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// How deep arrays and objects may nest. Go stops at 10,000, which a recursive reader should not try.
const DEEPEST: usize = 512;
/// How many values there may be, within each other and beside each other. Each takes some twenty times the memory of its
/// shortest text; a context of a million tokens is a million of them.
const MOST: usize = 2 << 20;

/// Why text is not JSON, as Go's scanner says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// There is nothing but white space.
    #[error("EOF")]
    Empty,
    #[error("unexpected EOF")]
    Cut,
    #[error("invalid character {} {place}", quote(*.byte))]
    Character { byte: u8, place: &'static str },
    /// Go has no such bound.
    #[error("more than {MOST} values")]
    Many,
}

/// Go prints the byte as if it were a character of that number.
fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".into(),
        b'"' => "'\"'".into(),
        b'\\' => r"'\\'".into(),
        7 => r"'\a'".into(),
        8 => r"'\b'".into(),
        9 => r"'\t'".into(),
        10 => r"'\n'".into(),
        11 => r"'\v'".into(),
        12 => r"'\f'".into(),
        13 => r"'\r'".into(),
        0x20..=0x7e | 0xa1..=0xac | 0xae.. => format!("'{}'", char::from(byte)),
        0..=0x7f => format!("'\\x{byte:02x}'"),
        _ => format!("'\\u{byte:04x}'"),
    }
}

/// A value, and the text it was read from.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    pub kind: Kind<'a>,
    pub raw: &'a [u8],
}

#[derive(Clone, Debug)]
pub enum Kind<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    /// In the text's order, repeated names included.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl Node<'_> {
    /// Go's word for what this is.
    pub fn word(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "bool",
            Kind::Number(_) => "number",
            Kind::String(_) => "string",
            Kind::Array(_) => "array",
            Kind::Object(_) => "object",
        }
    }

    /// The value without its text; `None` when it holds a number that no float can.
    pub fn to_value(&self) -> Option<Value> {
        Some(match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(flag) => Value::Bool(*flag),
            Kind::Number(text) => Value::Number(number(text)?),
            Kind::String(text) => Value::String(text.clone().into_owned()),
            Kind::Array(items) => Value::Array(items.iter().map(Node::to_value).collect::<Option<_>>()?),
            Kind::Object(entries) => {
                let entry =
                    |(name, node): &(Cow<'_, str>, Node<'_>)| Some((name.clone().into_owned(), node.to_value()?));
                Value::Object(entries.iter().map(entry).collect::<Option<Map<_, _>>>()?)
            }
        })
    }
}

fn number(text: &str) -> Option<serde_json::Number> {
    let whole = text.parse::<i64>().ok().filter(|_| text != "-0");
    whole.map(Into::into).or_else(|| serde_json::Number::from_f64(text.parse().ok()?))
}

/// Reads the first value of `text`; what follows it is not looked at.
///
/// # Errors
/// [`SyntaxError`] with Go's text.
pub fn read(text: &[u8]) -> Result<Node<'_>, SyntaxError> {
    let mut scanner = Scanner { text, at: 0, values: 0 };
    scanner.space();
    if scanner.peek().is_none() {
        return Err(SyntaxError::Empty);
    }
    scanner.value(0)
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    /// How many there were.
    values: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Takes the next byte if it is one of `wanted`; anything else is an error `place`.
    fn expect(&mut self, wanted: impl Fn(u8) -> bool, place: &'static str) -> Result<u8, SyntaxError> {
        match self.peek() {
            None => Err(SyntaxError::Cut),
            Some(byte) if wanted(byte) => {
                self.at += 1;
                Ok(byte)
            }
            Some(byte) => Err(SyntaxError::Character { byte, place }),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, SyntaxError> {
        self.values += 1;
        if self.values > MOST {
            return Err(SyntaxError::Many);
        }
        self.space();
        let start = self.at;
        let kind = match self.peek().ok_or(SyntaxError::Cut)? {
            byte @ (b'{' | b'[') if depth == DEEPEST => {
                return Err(SyntaxError::Character { byte, place: "exceeded max depth" });
            }
            b'{' => self.object(depth + 1)?,
            b'[' => self.array(depth + 1)?,
            b'"' => Kind::String(self.string()?),
            b'-' | b'0'..=b'9' => Kind::Number(self.number()?),
            b't' => self.word(b"true", Kind::Bool(true))?,
            b'f' => self.word(b"false", Kind::Bool(false))?,
            b'n' => self.word(b"null", Kind::Null)?,
            byte => {
                return Err(SyntaxError::Character { byte, place: "looking for beginning of value" });
            }
        };
        Ok(Node { kind, raw: &self.text[start..self.at] })
    }

    fn object(&mut self, depth: usize) -> Result<Kind<'a>, SyntaxError> {
        self.at += 1;
        let mut entries = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Kind::Object(entries));
        }
        loop {
            self.space();
            self.expect(|byte| byte == b'"', "looking for beginning of object key string")?;
            self.at -= 1;
            let name = self.string()?;
            self.space();
            self.expect(|byte| byte == b':', "after object key")?;
            entries.push((name, self.value(depth)?));
            self.space();
            if self.expect(|byte| matches!(byte, b',' | b'}'), "after object key:value pair")? == b'}' {
                return Ok(Kind::Object(entries));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Kind<'a>, SyntaxError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Kind::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.space();
            if self.expect(|byte| matches!(byte, b',' | b']'), "after array element")? == b']' {
                return Ok(Kind::Array(items));
            }
        }
    }

    fn word(&mut self, word: &'static [u8], kind: Kind<'a>) -> Result<Kind<'a>, SyntaxError> {
        for (index, wanted) in word.iter().enumerate() {
            let place = match (word, index) {
                (b"true", 1) => "in literal true (expecting 'r')",
                (b"true", 2) => "in literal true (expecting 'u')",
                (b"true", _) => "in literal true (expecting 'e')",
                (b"false", 1) => "in literal false (expecting 'a')",
                (b"false", 2) => "in literal false (expecting 'l')",
                (b"false", 3) => "in literal false (expecting 's')",
                (b"false", _) => "in literal false (expecting 'e')",
                (_, 1) => "in literal null (expecting 'u')",
                _ => "in literal null (expecting 'l')",
            };
            self.expect(|byte| byte == *wanted, place)?;
        }
        Ok(kind)
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<&'a str, SyntaxError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.expect(|byte| byte.is_ascii_digit(), "in numeric literal")? != b'0' {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.expect(|byte| byte.is_ascii_digit(), "after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.expect(|byte| byte.is_ascii_digit(), "in exponent of numeric literal")?;
            self.digits();
        }
        Ok(std::str::from_utf8(&self.text[start..self.at]).expect("a number is ASCII: a bug"))
    }

    /// A string; what is no UTF-8 in it, and half surrogates, become U+FFFD.
    fn string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        self.at += 1;
        let mut start = self.at;
        let mut out = String::new();
        loop {
            match self.peek().ok_or(SyntaxError::Cut)? {
                b'"' => {
                    let rest = String::from_utf8_lossy(&self.text[start..self.at]);
                    self.at += 1;
                    return Ok(if out.is_empty() { rest } else { Cow::Owned(out + &rest) });
                }
                b'\\' => {
                    out.push_str(&String::from_utf8_lossy(&self.text[start..self.at]));
                    self.at += 1;
                    out.push(self.escape()?);
                    start = self.at;
                }
                byte @ ..0x20 => {
                    return Err(SyntaxError::Character { byte, place: "in string literal" });
                }
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let known = |byte| matches!(byte, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'u');
        Ok(match self.expect(known, "in string escape code")? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with(b"\\u") {
                    let back = self.at;
                    self.at += 2;
                    let second = self.hex()?;
                    if (0xdc00..0xe000).contains(&second) {
                        let joined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                        return Ok(char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    self.at = back;
                }
                char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            byte => char::from(byte),
        })
    }

    fn hex(&mut self) -> Result<u32, SyntaxError> {
        let mut number = 0;
        for _ in 0..4 {
            let digit = self.expect(|byte| byte.is_ascii_hexdigit(), r"in \u hexadecimal character escape")?;
            number = number * 16 + char::from(digit).to_digit(16).unwrap_or(0);
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_in_go_s_words() {
        for (text, error) in [
            ("", "EOF"),
            (" \n", "EOF"),
            ("{", "unexpected EOF"),
            ("{\"model\": ", "unexpected EOF"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("\u{feff}{}", "invalid character 'ï' looking for beginning of value"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[01]", "invalid character '1' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("\"a\nb\"", r"invalid character '\n' in string literal"),
            ("\"\0\"", r"invalid character '\x00' in string literal"),
            (r#""\x""#, "invalid character 'x' in string escape code"),
            (r#""\u12'""#, r"invalid character '\'' in \u hexadecimal character escape"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1e\"", "invalid character '\"' in exponent of numeric literal"),
            ("trux", "invalid character 'x' in literal true (expecting 'e')"),
            ("nil", "invalid character 'i' in literal null (expecting 'u')"),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err().to_string(), error, "{text:?}");
        }
        let deep = "[".repeat(1_000_000);
        assert_eq!(read(deep.as_bytes()).unwrap_err().to_string(), "invalid character '[' exceeded max depth");
        let many = format!("[{}0]", "0,".repeat(MOST));
        assert_eq!(read(many.as_bytes()).unwrap_err().to_string(), "more than 2097152 values");
    }

    #[test]
    fn reads_the_first_value() {
        let value = |text: &str| read(text.as_bytes()).unwrap().to_value().unwrap();
        assert_eq!(value("{\"a\":[1,2.5,-0]} trailing"), serde_json::json!({"a": [1, 2.5, -0.0]}));
        assert_eq!(value(r#""\ud83d\ude00 \ud83d \u00e9\n""#), "😀 \u{fffd} é\n");
        assert_eq!(value("{\"a\":1,\"a\":2}"), serde_json::json!({"a": 2}));
        assert!(read(b"1e400").unwrap().to_value().is_none());
        assert!(matches!(read(b"\"\xff\"").unwrap().kind, Kind::String(text) if text == "\u{fffd}"));
    }
}
