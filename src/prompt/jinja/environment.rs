//! Jinja as Hugging Face's chat templates expect it: block trimming, Python's methods, and Python's JSON.

use std::fmt::Write as _;
use std::io;
use std::sync::LazyLock;

use chrono::Local;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior};
use regex::Regex;
use serde::Serialize;
use serde_json::Value as Json;

use super::guards;

/// The name of the only template of an environment.
const NAME: &str = "chat_template";

/// Instructions that one prompt may take, about a second of them: ten thousand messages need two million. A template comes from
/// whoever made the model. What its values may weigh is the [`guards`]' business.
const FUEL: u64 = 10_000_000;
/// Bytes of a prompt: no real one comes near.
const OUTPUT: usize = 1 << 28;

/// An environment with this template, compiled.
pub(super) fn environment(text: &str) -> Result<Environment<'static>, Error> {
    // Hugging Face's own block, which only marks what the model wrote
    static GENERATION: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})").expect("a fixed pattern: a bug"));
    let text = GENERATION.replace_all(text, |found: &regex::Captures<'_>| {
        let word = if found.get(2).is_some() { "endif" } else { "if true" };
        format!("{}{word}{}", &found[1], &found[3])
    });
    with_template(guards::guarded(&text)).or_else(|error| {
        let plain = with_template(text.into_owned())?;
        tracing::warn!(%error, "what this template's values may weigh is not bounded");
        Ok(plain)
    })
}

pub(super) fn with_template(text: String) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::None => out.write_str("None").map_err(Error::from),
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }).map_err(Error::from),
        _ => minijinja::escape_formatter(out, state, &guards::keep(state, value.clone())?),
    });
    guards::install(&mut environment);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_template_owned(NAME, text)?;
    Ok(environment)
}

/// Renders the template of an [`environment`].
pub(super) fn render(environment: &Environment<'_>, data: impl Serialize) -> Result<String, Error> {
    let mut out = Bounded(Vec::new());
    environment.get_template(NAME)?.render_captured_to(data, &mut out)?;
    String::from_utf8(out.0).map_err(|error| Error::new(ErrorKind::WriteFailure, "not text").with_source(error))
}

/// A prompt in the making, which ends in an error before it fills the memory.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT {
            return Err(io::Error::other("the prompt is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: String) -> Result<String, Error> {
    let mut out = String::new();
    write!(out, "{}", Local::now().format(&format))
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, format!("bad date format {format:?}")))?;
    Ok(out)
}

/// Python's `json.dumps`, as Hugging Face's filter calls it: nothing escaped for HTML, letters as they are.
fn to_json(state: &State<'_, '_>, value: Value, options: Kwargs) -> Result<String, Error> {
    let mut value = serde_json::to_value(guards::keep(state, value)?)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "cannot write as JSON").with_source(error))?;
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    if options.get::<Option<bool>>("sort_keys")?.unwrap_or(false) {
        value.sort_all_objects();
    }
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    options.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.as_str(), key.as_str()),
        _ => (if indent.is_some() { "," } else { ", " }, ": "),
    };
    let mut writer = JsonWriter { item, key, indent: indent.map(|indent| indent.min(16)), ascii, out: String::new() };
    writer.write(&value, 0);
    // The writer stops there.
    if writer.out.len() > OUTPUT {
        return Err(Error::new(ErrorKind::InvalidOperation, "the JSON is too long"));
    }
    Ok(writer.out)
}

/// A value as Python's `json.dumps` writes it.
pub(super) fn python_json(value: &Json) -> String {
    let mut writer = JsonWriter { item: ", ", key: ": ", indent: None, ascii: false, out: String::new() };
    writer.write(value, 0);
    writer.out
}

struct JsonWriter<'a> {
    item: &'a str,
    key: &'a str,
    indent: Option<usize>,
    ascii: bool,
    out: String,
}

impl JsonWriter<'_> {
    fn write(&mut self, value: &Json, depth: usize) {
        if self.out.len() > OUTPUT {
            return;
        }
        match value {
            Json::Number(number) if number.is_f64() => self.float(number.as_f64().unwrap_or_default()),
            Json::String(text) => self.text(text),
            Json::Array(items) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.separate(index, depth + 1);
                    self.write(item, depth + 1);
                }
                self.end(items.len(), depth, ']');
            }
            Json::Object(members) => {
                self.out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    self.separate(index, depth + 1);
                    self.text(name);
                    self.out.push_str(self.key);
                    self.write(value, depth + 1);
                }
                self.end(members.len(), depth, '}');
            }
            plain => self.out.push_str(&plain.to_string()),
        }
    }

    fn separate(&mut self, index: usize, depth: usize) {
        if index > 0 {
            self.out.push_str(self.item);
        }
        self.new_line(depth);
    }

    fn end(&mut self, count: usize, depth: usize, bracket: char) {
        if count > 0 {
            self.new_line(depth);
        }
        self.out.push(bracket);
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.push_str(&" ".repeat(indent * depth));
        }
    }

    fn text(&mut self, text: &str) {
        let quoted = Json::from(text).to_string();
        if !self.ascii {
            self.out.push_str(&quoted);
            return;
        }
        for char in quoted.chars() {
            if char.is_ascii() {
                self.out.push(char);
            } else {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    self.out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }

    /// Python's `repr`: an exponent has a sign and two digits.
    fn float(&mut self, number: f64) {
        let text = format!("{number:?}");
        match text.split_once('e') {
            None => self.out.push_str(&text),
            Some((digits, power)) => {
                let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
                self.out.push_str(&format!("{digits}e{sign}{power:0>2}"));
            }
        }
    }
}

/// JSON as a template's value, with objects in their own order.
pub(super) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => Value::from_serialize(number),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(members) => members.iter().map(|(name, json)| (name.as_str(), value(json))).collect(),
    }
}
