//! Calls written as Python: `name(key="text", other=[1, None])`, one or several.

use serde_json::{Map, Number, Value};

use super::out::Call;

/// How deep values may nest, as in `serde_json`.
const DEPTH: usize = 128;

/// Reads a text that is nothing but calls, one after another, perhaps as a list. `closed`: nothing was cut off at its end.
pub(super) fn calls(text: &str, closed: bool) -> Option<Vec<Call>> {
    let mut reader = Reader { rest: text.trim(), depth: 0 };
    let listed = reader.skip("[");
    let mut calls = Vec::new();
    loop {
        reader.skip_blanks();
        if reader.rest.is_empty() || (listed && reader.rest == "]") {
            let ended = !listed || !reader.rest.is_empty() || !closed;
            return (ended && !calls.is_empty()).then_some(calls);
        }
        calls.push(reader.call()?);
        reader.skip_blanks();
        reader.skip(",");
    }
}

/// Whether a text ends within a string.
pub(super) fn within_string(text: &str) -> bool {
    let (mut quote, mut escaped, mut last) = (None, false, ' ');
    for char in text.chars() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if char == '\\' => escaped = true,
            Some(open) if char == open => quote = None,
            Some(_) => {}
            // A string begins where a value can: an apostrophe within a word is none.
            None if matches!(char, '"' | '\'') && "=([{,: \n".contains(last) => quote = Some(char),
            None => {}
        }
        last = char;
    }
    quote.is_some()
}

/// The length of the name that a call begins with, if an opening bracket follows it.
pub(super) fn name(text: &str) -> Option<usize> {
    let length = text.find(|char: char| !(char.is_alphanumeric() || "_.-".contains(char)))?;
    (length > 0 && text[length..].starts_with('(')).then_some(length)
}

/// Reads from the front of `rest`.
struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn call(&mut self) -> Option<Call> {
        let length = name(self.rest)?;
        let name = self.rest[..length].to_owned();
        self.rest = &self.rest[length + 1..];
        let mut arguments = Map::new();
        loop {
            self.skip_blanks();
            if self.skip(")") {
                return Some(Call { name, arguments });
            }
            let (key, rest) = self.rest.split_once('=')?;
            let key = key.trim();
            if key.is_empty() || key.contains(|char: char| !(char.is_alphanumeric() || "_-.".contains(char))) {
                return None;
            }
            self.rest = rest;
            let value = self.value(&[',', ')'])?;
            arguments.insert(key.to_owned(), value);
            self.skip_blanks();
            if !self.skip(",") && !self.rest.starts_with(')') {
                return None;
            }
        }
    }

    /// A value; one without quotes ends at one of `ends`.
    fn value(&mut self, ends: &[char]) -> Option<Value> {
        self.skip_blanks();
        match self.rest.chars().next()? {
            '"' | '\'' => self.string().map(Value::String),
            '[' => self.deeper(|reader| reader.list().map(Value::Array)),
            '{' => self.deeper(|reader| reader.dict().map(Value::Object)),
            _ => self.bare(ends),
        }
    }

    /// Reads a list or a dictionary, within bounds.
    fn deeper(&mut self, read: impl Fn(&mut Self) -> Option<Value>) -> Option<Value> {
        self.depth += 1;
        let value = if self.depth <= DEPTH { read(self) } else { None };
        self.depth -= 1;
        value
    }

    fn string(&mut self) -> Option<String> {
        let mut chars = self.rest.char_indices();
        let (_, quote) = chars.next()?;
        let mut text = String::new();
        while let Some((at, char)) = chars.next() {
            match char {
                _ if char == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Some(text);
                }
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    same @ ('\\' | '"' | '\'') => text.push(same),
                    other => text.extend(['\\', other]),
                },
                _ => text.push(char),
            }
        }
        None
    }

    fn list(&mut self) -> Option<Vec<Value>> {
        self.skip("[");
        let mut list = Vec::new();
        loop {
            self.skip_blanks();
            if self.skip("]") {
                return Some(list);
            }
            list.push(self.value(&[',', ']'])?);
            self.skip_blanks();
            if !self.skip(",") && !self.rest.starts_with(']') {
                return None;
            }
        }
    }

    fn dict(&mut self) -> Option<Map<String, Value>> {
        self.skip("{");
        let mut map = Map::new();
        loop {
            self.skip_blanks();
            if self.skip("}") {
                return Some(map);
            }
            let key = match self.value(&[':'])? {
                Value::String(key) => key,
                other => other.to_string(),
            };
            self.skip_blanks();
            self.skip(":").then_some(())?;
            let value = self.value(&[',', '}'])?;
            map.insert(key, value);
            self.skip_blanks();
            if !self.skip(",") && !self.rest.starts_with('}') {
                return None;
            }
        }
    }

    /// A word, a number, or text that is no Python: up to one of `ends` outside brackets and strings.
    fn bare(&mut self, ends: &[char]) -> Option<Value> {
        let mut depth = 0_usize;
        let end = self.rest.char_indices().position(|(_, char)| {
            if depth == 0 && ends.contains(&char) {
                return true;
            }
            match char {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            false
        })?;
        let end = self.rest.char_indices().nth(end)?.0;
        let text = self.rest[..end].trim();
        self.rest = &self.rest[end..];
        Some(match text {
            "True" | "true" => Value::Bool(true),
            "False" | "false" => Value::Bool(false),
            "None" | "none" | "null" => Value::Null,
            _ => number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number),
        })
    }

    fn skip(&mut self, what: &str) -> bool {
        let rest = self.rest.strip_prefix(what);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

/// A decimal number, perhaps with underscores between its digits. Infinities and NaN are no numbers in JSON.
fn number(text: &str) -> Option<Number> {
    let digits = text.replace('_', "");
    if !digits.starts_with(|char: char| char.is_ascii_digit() || "+-.".contains(char)) {
        return None;
    }
    digits.parse::<i64>().ok().map(Number::from).or_else(|| Number::from_f64(digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(text: &str) -> Option<Value> {
        let mut calls = calls(text, true)?;
        Some(Value::Object(calls.pop()?.arguments))
    }

    #[test]
    fn values_are_python() {
        let have = arguments(r#"f(a='it\'s', b="x\n", c=[1, None, 'two'], d={'k': True}, e=-1_000, f=f(1, 2))"#);
        let want =
            json!({"a": "it's", "b": "x\n", "c": [1, null, "two"], "d": {"k": true}, "e": -1000, "f": "f(1, 2)"});
        assert_eq!(have, Some(want));
    }

    #[test]
    fn what_is_no_call_is_none() {
        assert_eq!(calls("f(1)", true), None);
        assert_eq!(calls("f(a=\")", true), None);
        assert_eq!(calls("use f(a=1) now", true), None);
        assert_eq!(calls("[f(a=1)", true), None);
        assert_eq!(calls(&format!("f(a={})", "[".repeat(1_000_000)), true), None);
    }
}
