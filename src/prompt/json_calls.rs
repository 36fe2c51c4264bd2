//! Tool calls written as JSON: after a tag, or as the whole answer.
//!
//! An object is a call when it names a tool, when a member of it does, or when a tool's name stands before it. Every other
//! object is content, and so is all text but the tags, and the blanks and punctuation between calls.

use serde_json::{Map, Value};

use super::scan::ObjectScan;
use super::thinking::overlap;
use super::{OutputParser, ParseError, Piece};
use crate::types::{Function, Tool};

/// How a model marks its calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallTags {
    /// Texts before a call.
    pub opens: Vec<String>,
    /// Texts that may follow one.
    pub closes: Vec<String>,
    /// `{` or `[`: a call may begin the answer without a tag.
    pub bare: Option<char>,
}

impl CallTags {
    pub fn tagged(opens: &[&str], closes: &[&str]) -> Self {
        let owned =
            |texts: &[&str]| texts.iter().filter(|text| !text.is_empty()).map(|text| (*text).to_owned()).collect();
        Self { opens: owned(opens), closes: owned(closes), bare: None }
    }

    pub fn bare(first: char) -> Self {
        Self { bare: Some(first), ..Self::default() }
    }
}

/// What ends a call that stands in Markdown.
const FENCE: &str = "```";

#[derive(Debug)]
pub struct JsonCallParser {
    tags: CallTags,
    tools: Vec<String>,
    state: State,
    /// Text that is not decided yet. In [`State::Opened`] it begins with the open tag, if there is one.
    held: String,
    /// Where in `held` the text after the open tag begins.
    body: usize,
    /// The object being read.
    scan: Option<ObjectScan>,
    calls: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but blanks yet.
    Start,
    /// Content, up to the next open tag.
    Content,
    /// A call should come; without a tag (`bare`) it must look like one.
    Opened { bare: bool },
    /// After a call.
    Called,
}

impl JsonCallParser {
    pub fn new(tags: CallTags, tools: &[Tool]) -> Self {
        let tools = tools.iter().map(|tool| tool.function.name.clone()).filter(|name| !name.is_empty()).collect();
        let state = if tags.bare.is_some() { State::Start } else { State::Content };
        Self { tags, tools, state, held: String::new(), body: 0, scan: None, calls: 0 }
    }

    /// One step on the held text. `None` when more text is needed.
    fn step(&mut self, out: &mut Vec<Piece>) -> Option<()> {
        match self.state {
            State::Start => self.start(out),
            State::Content => self.content(out),
            State::Opened { bare } => self.opened(bare, out),
            State::Called => self.called(),
        }
    }

    /// Gives the first `length` bytes of the held text out as content.
    fn release(&mut self, length: usize, out: &mut Vec<Piece>) {
        let text: String = self.held.drain(..length).collect();
        if !text.is_empty() {
            out.push(Piece::Content(text));
        }
        self.scan = None;
    }

    fn open(&mut self, body: usize, bare: bool) {
        self.state = State::Opened { bare };
        self.body = body;
        self.scan = None;
    }

    fn start(&mut self, out: &mut Vec<Piece>) -> Option<()> {
        self.release(self.held.len() - self.held.trim_start().len(), out);
        let first = self.held.chars().next()?;
        if self.tags.bare == Some(first) {
            self.open(usize::from(first == '['), true);
        } else {
            self.state = State::Content;
        }
        Some(())
    }

    fn content(&mut self, out: &mut Vec<Piece>) -> Option<()> {
        let opens = &self.tags.opens;
        // the first tag, the longest where two begin together
        let found = opens.iter().filter_map(|open| Some((self.held.find(open.as_str())?, open.len())));
        if let Some((at, length)) = found.min_by_key(|(at, length)| (*at, std::cmp::Reverse(*length))) {
            self.release(at, out);
            self.open(length, false);
            return Some(());
        }
        let overlap = opens.iter().map(|open| overlap(&self.held, open)).max().unwrap_or(0);
        self.release(self.held.len() - overlap, out);
        None
    }

    fn opened(&mut self, bare: bool, out: &mut Vec<Piece>) -> Option<()> {
        let start =
            self.scan.as_ref().map(|scan| scan.start).or_else(|| Some(self.body + self.held[self.body..].find('{')?));
        let before = &self.held[self.body..start.unwrap_or(self.held.len())];
        if bare && !self.may_begin_call(before, start) {
            self.state = State::Content;
            return Some(());
        }
        if !bare && self.scan.is_none() {
            // closed before any object came
            let closed = self.tags.closes.iter().filter_map(|close| Some(before.find(close.as_str())? + close.len()));
            if let Some(end) = closed.min() {
                self.no_call(self.body + end, out);
                return Some(());
            }
        }
        let start = start?;
        let scan = self.scan.get_or_insert_with(|| ObjectScan::new(start));
        let end = scan.end(&self.held)?;
        let Ok(object) = serde_json::from_str::<Map<String, Value>>(&self.held[start..end]) else {
            // the object may begin at an inner brace
            match self.held[start + 1..end].find('{').filter(|_| !bare) {
                Some(inner) => self.scan = Some(ObjectScan::new(start + 1 + inner)),
                None => self.no_call(end, out),
            }
            return Some(());
        };
        let found = self.find(object, start, bare);
        if found.is_empty() {
            self.no_call(end, out);
            return Some(());
        }
        for (name, arguments) in found {
            out.push(Piece::ToolCall(Function { index: self.calls, name, arguments }));
            self.calls += 1;
        }
        self.held.drain(..end);
        self.scan = None;
        self.state = State::Called;
        Some(())
    }

    fn no_call(&mut self, end: usize, out: &mut Vec<Piece>) {
        self.release(end, out);
        self.state = State::Content;
    }

    /// Without a tag, the text before the object and the object's beginning must look like a call, or it is an answer.
    fn may_begin_call(&self, before: &str, start: Option<usize>) -> bool {
        let before = before.trim_start_matches(|char: char| char.is_whitespace() || char == '[');
        let named = before.is_empty()
            || self.tools.iter().any(|name| {
                name.starts_with(before)
                    || before.strip_prefix(name.as_str()).is_some_and(|rest| rest.trim().is_empty())
            });
        let inner = start.map_or("", |start| self.held[start + 1..].trim_start());
        named && (inner.is_empty() || inner.starts_with(['"', '}']))
    }

    fn called(&mut self) -> Option<()> {
        loop {
            let first = self.held.chars().next()?;
            let held = self.held.as_str();
            let CallTags { opens, closes, bare } = &self.tags;
            let opens = || opens.iter().map(String::as_str);
            let closes = || closes.iter().map(String::as_str).chain([FENCE]);
            let opened = opens().filter(|tag| held.starts_with(tag)).map(str::len).max();
            let closed = closes().filter(|tag| held.starts_with(tag)).map(str::len).max();
            if opens().chain(closes()).any(|tag| tag.len() > held.len() && tag.starts_with(held)) {
                return None;
            }
            if let Some(length) = opened.filter(|length| closed.is_none_or(|closed| *length >= closed)) {
                self.open(length, false);
                return Some(());
            }
            if let Some(length) = closed {
                self.held.drain(..length);
                continue;
            }
            if first.is_whitespace() || ",;[]".contains(first) {
                self.held.drain(..first.len_utf8());
                continue;
            }
            let object_after = |name: &String| match held.strip_prefix(name.as_str()) {
                None => name.starts_with(held).then_some(false),
                Some(rest) => match rest.trim_start() {
                    "" => Some(false),
                    rest => rest.starts_with('{').then_some(true),
                },
            };
            let named: Vec<bool> = self.tools.iter().filter_map(object_after).collect();
            if first == '{' || named.contains(&true) {
                let bare = bare.is_some();
                self.open(0, bare);
                return Some(());
            }
            if !named.is_empty() {
                return None;
            }
            self.state = State::Content;
            return Some(());
        }
    }

    /// The calls an object makes that begins at `start`.
    fn find(&self, object: Map<String, Value>, start: usize, bare: bool) -> Vec<(String, Map<String, Value>)> {
        let mut found = Vec::new();
        let value = Value::Object(object);
        self.find_named(&value, bare, &mut found);
        if found.is_empty() {
            self.find_keyed(&value, &mut found);
        }
        if let (true, Some(name), Value::Object(object)) =
            (found.is_empty(), self.name_in(&self.held[self.body..start]), value)
        {
            found.push((name.clone(), object));
        }
        found
    }

    /// `{"name": …, "arguments": {…}}`, however deep.
    fn find_named(&self, value: &Value, bare: bool, found: &mut Vec<(String, Map<String, Value>)>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.find_named(item, bare, found)),
            Value::Object(object) => {
                let name = object.get("name").or_else(|| object.get("tool_name"));
                let name = name.and_then(Value::as_str).unwrap_or_default();
                let given = object.get("arguments").or_else(|| object.get("parameters"));
                let arguments = match given {
                    Some(Value::Object(arguments)) => Some(arguments.clone()),
                    Some(Value::String(text)) => serde_json::from_str(text).ok(),
                    Some(Value::Null) => Some(Map::new()),
                    Some(_) => None,
                    None => Some(
                        object
                            .iter()
                            .filter(|(key, _)| !["name", "tool_name", "type", "id"].contains(&key.as_str()))
                            .map(|(key, value)| (key.clone(), value.clone()))
                            .collect(),
                    ),
                };
                let declared = self.tools.iter().any(|tool| tool == name);
                // after a tag, a call of a tool that does not exist is still a call: the client can say so to the model
                let invented = !name.is_empty() && !bare && given.is_some();
                match arguments {
                    Some(arguments) if declared || invented => found.push((name.to_owned(), arguments)),
                    _ => object.values().for_each(|value| self.find_named(value, bare, found)),
                }
            }
            _ => {}
        }
    }

    /// `{"tool": {…}}`, however deep.
    fn find_keyed(&self, value: &Value, found: &mut Vec<(String, Map<String, Value>)>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.find_keyed(item, found)),
            Value::Object(object) => {
                for (key, value) in object {
                    match value {
                        Value::Object(arguments) if self.tools.contains(key) => {
                            found.push((key.clone(), arguments.clone()));
                        }
                        _ => self.find_keyed(value, found),
                    }
                }
            }
            _ => {}
        }
    }

    /// The tool named first in a text, the longest where several begin there.
    fn name_in(&self, text: &str) -> Option<&String> {
        let is_word = |char: char| char.is_alphanumeric() || char == '_';
        let place = |name: &&String| {
            text.match_indices(name.as_str())
                .map(|(at, _)| at)
                .find(|at| !text[..*at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word))
        };
        self.tools
            .iter()
            .filter_map(|name| Some((place(&name)?, std::cmp::Reverse(name.len()), name)))
            .min()
            .map(|(_, _, name)| name)
    }
}

impl OutputParser for JsonCallParser {
    fn push(&mut self, text: &str) -> Result<Vec<Piece>, ParseError> {
        self.held.push_str(text);
        let mut out = Vec::new();
        while self.step(&mut out).is_some() {}
        Ok(out)
    }

    fn finish(&mut self) -> Result<Vec<Piece>, ParseError> {
        let mut out = Vec::new();
        let mut tags = self.tags.opens.iter().chain(&self.tags.closes).map(String::as_str).chain([FENCE]);
        let part_of_tag = tags.any(|tag| tag.starts_with(&self.held));
        drop(tags);
        if self.state != State::Called || !part_of_tag {
            self.release(self.held.len(), &mut out);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::testing::{Answer, all_cuts};
    use crate::types::ToolFunction;

    fn parse(open: &str, close: &str, text: &str) -> Answer {
        let tool = |name: &str| Tool {
            function: ToolFunction { name: name.to_owned(), ..ToolFunction::default() },
            ..Tool::default()
        };
        let tools = [tool("get"), tool("get_all")];
        let tags = match open {
            "{" | "[" => CallTags { bare: open.chars().next(), ..CallTags::tagged(&[], &[close]) },
            tag => CallTags::tagged(&[tag], &[close]),
        };
        all_cuts(text, || Box::new(JsonCallParser::new(tags.clone(), &tools)))
    }

    #[test]
    fn text_around_calls_is_kept() {
        let answer = parse("<c>", "</c>", "Hm.<c>{\"name\":\"get\",\"arguments\":{\"b\":1,\"a\":2}}</c> Done. <c");
        assert_eq!((answer.content.as_str(), answer.calls.as_str()), ("Hm.Done. <c", "get{\"b\":1,\"a\":2}"));
    }

    #[test]
    fn what_is_no_call_is_content() {
        for text in
            ["<c>nothing</c>", "<c>{\"x\": 1}</c>", "<c>{\"name\": \"get\", \"arg", "<c>{{\"a\": get}", "a < b <c"]
        {
            assert_eq!(parse("<c>", "</c>", text), Answer::content(text));
        }
        for text in
            ["{\"answer\": \"get_all\"}", "{x} get", "{\"name\": \"nope\", \"arguments\": {}}", "{\"name\": \"g"]
        {
            assert_eq!(parse("{", "", text), Answer::content(text));
        }
        for text in ["[link](http://get)", "[1, 2]", "[{\"a\": 1}]", "[get it"] {
            assert_eq!(parse("[", "", text), Answer::content(text));
        }
    }

    #[test]
    fn finds_calls_in_their_shapes() {
        for text in [
            "get {\"a\":1}",
            "{\"get\":{\"a\":1}}",
            "{\"name\":\"get\",\"a\":1}",
            "use get\nwith {\"a\":1}",
            "{{\"name\":\"get\",\"parameters\":\"{\\\"a\\\":1}\"}}",
        ] {
            assert_eq!(parse("<c>", "</c>", &format!("<c>{text}</c>")).calls, "get{\"a\":1}", "{text}");
        }
        assert_eq!(parse("<c>", "</c>", "<c>get_all {\"a\":1}\nget {}</c>").calls, "get_all{\"a\":1} get{}");
        assert_eq!(parse("<c>", "", "<c>{\"name\":\"gone\",\"arguments\":{}}").calls, "gone{}");
        assert_eq!(
            parse("{", "", "{\"name\":\"get\"}\n{\"name\":\"get_all\"} x"),
            Answer::new("x", "", "get{} get_all{}")
        );
    }
}
