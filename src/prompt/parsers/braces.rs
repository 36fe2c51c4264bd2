//! gemma4 and functiongemma: `call:NAME{key:value,…}` with strings between marks of their own.

use serde_json::{Map, Value};

use super::Start;
use super::out::{Call, Item, Out, Space};
use super::scan::Machine;
use super::tagged::{Begin, Body, Style, Tagged, Thought};
use crate::prompt::OutputParser;
use crate::types::Role;

pub(super) const GEMMA4_TOKENS: &[&str] =
    &["<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", GEMMA4_MARK];
pub(super) const FUNCTIONGEMMA_TOKENS: &[&str] = &["<start_function_call>", "<end_function_call>", FUNCTIONGEMMA_MARK];

const GEMMA4_MARK: &str = "<|\"|>";
const FUNCTIONGEMMA_MARK: &str = "<escape>";

/// How deep values may nest, as in `serde_json`.
const DEPTH: usize = 128;

static GEMMA4: Style = Style {
    thought: Thought { open: "<|channel>", label: "thought\n", close: "<channel|>", in_text: true, ..Thought::PLAIN },
    calls: &[["<|tool_call>", "<tool_call|>"]],
    after_call: &["<tool_call|>", "<|tool_response>"],
    blocks: &[],
    within_value: |body| within_string(body, GEMMA4_MARK),
    read: |body, _| read(body, GEMMA4_MARK),
    bare: None,
};

static FUNCTIONGEMMA: Style = Style {
    thought: Thought { in_text: false, ..GEMMA4.thought },
    calls: &[["<start_function_call>", "<end_function_call>"]],
    after_call: &[],
    blocks: &[],
    within_value: |body| within_string(body, FUNCTIONGEMMA_MARK),
    read: |body, _| read(body, FUNCTIONGEMMA_MARK),
    bare: None,
};

pub(super) fn gemma4(start: &Start) -> Box<dyn OutputParser> {
    let thinks = start.thinks_if_on();
    // After a tool's result the model is within its thoughts already.
    let resumes = thinks && start.last.is_some_and(|last| last.role == *Role::TOOL);
    begin(&GEMMA4, if resumes { Begin::Thought } else { Begin::Text }, thinks, start)
}

pub(super) fn gemma4_no_thinking(start: &Start) -> Box<dyn OutputParser> {
    begin(&GEMMA4, Begin::Text, false, start)
}

pub(super) fn functiongemma(start: &Start) -> Box<dyn OutputParser> {
    Machine::boxed(Tagged::new(&FUNCTIONGEMMA, Begin::Text, start.tools), Out::new(Space::default(), false))
}

fn begin(style: &'static Style, begin: Begin, thinks: bool, start: &Start) -> Box<dyn OutputParser> {
    let mut out = Out::new(Space { after_call: true, ..Space::default() }, true);
    out.hide_thinking = !thinks;
    Machine::boxed(Tagged::new(style, begin, start.tools), out)
}

fn within_string(body: &str, mark: &str) -> bool {
    body.matches(mark).count() % 2 == 1
}

fn read(body: &Body, mark: &'static str) -> Option<Vec<Item>> {
    let (name, rest) = body.text.trim().strip_prefix("call:")?.split_once('{')?;
    let name = name.trim();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    let mut reader = Reader { rest, mark, repair: body.closed, depth: 0 };
    let arguments = reader.object()?;
    if !reader.rest.trim().trim_matches('}').is_empty() {
        return None;
    }
    Some(vec![Item::Call(Call { name: name.to_owned(), arguments })])
}

/// Reads values from the front of `rest`.
struct Reader<'a> {
    rest: &'a str,
    mark: &'static str,
    /// The call was closed, so what is missing was forgotten, not cut off.
    repair: bool,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// An object after its opening brace.
    fn object(&mut self) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        loop {
            self.skip_blanks();
            if self.closes('}')? {
                return Some(map);
            }
            let key = self.key()?;
            let value = self.value(true)?;
            map.insert(key, value);
            self.skip_blanks();
            self.skip(",");
        }
    }

    fn list(&mut self) -> Option<Vec<Value>> {
        let mut list = Vec::new();
        loop {
            self.skip_blanks();
            if self.closes(']')? {
                return Some(list);
            }
            list.push(self.value(false)?);
            self.skip_blanks();
            self.skip(",");
        }
    }

    /// Whether the object or list ends here; `None` when the text ends first.
    fn closes(&mut self, close: char) -> Option<bool> {
        if let Some(rest) = self.rest.strip_prefix(close) {
            self.rest = rest;
            return Some(true);
        }
        if self.rest.is_empty() { self.repair.then_some(true) } else { Some(false) }
    }

    fn key(&mut self) -> Option<String> {
        let (key, rest) = match self.quoted() {
            Some(key) => (key, self.rest.trim_start().strip_prefix(':')?),
            None => self.rest.split_once(':').map(|(key, rest)| (key.trim().to_owned(), rest))?,
        };
        self.rest = rest;
        (!key.is_empty() && !key.contains(['{', '}', '[', ']', ','])).then_some(key)
    }

    fn value(&mut self, in_object: bool) -> Option<Value> {
        self.skip_blanks();
        if let Some(text) = self.quoted() {
            return Some(Value::String(text));
        }
        if self.skip("{") {
            return self.deeper(|reader| reader.object().map(Value::Object));
        }
        if self.skip("[") {
            return self.deeper(|reader| reader.list().map(Value::Array));
        }
        if self.rest.starts_with(self.mark) {
            // The closing mark is missing: the rest is the string, but for the call's own brace.
            let text = self.rest[self.mark.len()..].trim_end();
            let text = text.strip_suffix('}').unwrap_or(text);
            self.rest = "";
            return self.repair.then(|| Value::String(text.to_owned()));
        }
        let end = self.bare_end(in_object);
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.bare(text.trim())
    }

    /// Reads an object or a list, within bounds.
    fn deeper(&mut self, read: impl Fn(&mut Self) -> Option<Value>) -> Option<Value> {
        self.depth += 1;
        let value = if self.depth <= DEPTH { read(self) } else { None };
        self.depth -= 1;
        value
    }

    /// A string in marks, or in quotes as JSON or Python have them.
    fn quoted(&mut self) -> Option<String> {
        if let Some(inner) = self.rest.strip_prefix(self.mark) {
            let (text, rest) = inner.split_once(self.mark)?;
            self.rest = rest;
            return Some(text.to_owned());
        }
        if self.rest.starts_with('"') {
            let mut stream = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
            let text = stream.next()?.ok()?;
            self.rest = &self.rest[stream.byte_offset()..];
            return Some(text);
        }
        let inner = self.rest.strip_prefix('\'')?;
        let ends = |at: &usize| inner[at + 1..].trim_start().starts_with([',', '}', ']', ':']);
        let end = inner.match_indices('\'').map(|(at, _)| at).find(ends)?;
        self.rest = &inner[end + 1..];
        Some(inner[..end].to_owned())
    }

    /// Where a value without marks ends. In an object a comma is part of it unless a key follows.
    fn bare_end(&self, in_object: bool) -> usize {
        let key_follows = |rest: &str| {
            let rest = rest.trim_start();
            let key = rest.trim_start_matches(|char: char| char.is_alphanumeric() || "_-.".contains(char));
            rest.starts_with([self.mark.chars().next().unwrap_or('"'), '"', '\''])
                || (key.len() < rest.len() && key.trim_start().starts_with(':'))
        };
        let ends = |(at, char): &(usize, char)| match char {
            ']' | '}' => true,
            ',' => !in_object || key_follows(&self.rest[at + 1..]),
            _ => false,
        };
        self.rest.char_indices().find(ends).map_or(self.rest.len(), |(at, _)| at)
    }

    fn bare(&self, text: &str) -> Option<Value> {
        match text {
            "true" => return Some(Value::Bool(true)),
            "false" => return Some(Value::Bool(false)),
            "null" => return Some(Value::Null),
            "" => return None,
            _ => {}
        }
        if let Ok(number) = serde_json::from_str::<serde_json::Number>(text) {
            return Some(Value::Number(number));
        }
        // Words without marks, perhaps with the closing one.
        Some(Value::String(text.strip_suffix(self.mark).unwrap_or(text).to_owned()))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(text: &str, closed: bool) -> Option<Value> {
        let items = read(&Body { text, tags: 0, closed }, GEMMA4_MARK)?;
        let [Item::Call(call)] = &items[..] else { return None };
        Some(Value::Object(call.arguments.clone()))
    }

    #[test]
    fn what_a_model_forgets_is_put_back() {
        let note = json!({"note": "by the pier, at noon"});
        let forms = [
            r#"call:f{note:<|"|>by the pier, at noon<|"|>}"#,
            r#"call:f{note:<|"|>by the pier, at noon}"#,
            r#"call:f{note:by the pier, at noon<|"|>}"#,
            r#"call:f{note:<|"|>by the pier, at noon<|"|>"#,
            "call:f{note:'by the pier, at noon'}",
            "call:f{\"note\":\"by the pier, at noon\"}",
            "call:f{note:by the pier, at noon}",
        ];
        for form in forms {
            assert_eq!(arguments(form, true), Some(note.clone()), "{form}");
        }
        assert_eq!(arguments("call:f{a:it, b:[x, 1], c:{}}", true), Some(json!({"a": "it", "b": ["x", 1], "c": {}})));
    }

    #[test]
    fn what_was_cut_off_is_no_call() {
        assert_eq!(arguments(r#"call:f{note:<|"|>by the"#, false), None);
        assert_eq!(arguments(r#"call:f{note:<|"|>by<|"|>"#, false), None);
        assert_eq!(arguments("call:f", true), None);
        assert_eq!(arguments(&format!("call:f{{a:{}", "[".repeat(1_000_000)), true), None);
    }
}
