//! How Gemma models write values and calls: JSON without quotes around names, strings between markers of their own.

use serde_json::{Number, Value};

use super::json;
use crate::types::ToolCall;

/// One model family's markers.
#[derive(Clone, Copy)]
pub(super) struct Notation {
    /// Stands before and after each string.
    pub(super) quote: &'static str,
    pub(super) null: &'static str,
}

impl Notation {
    pub(super) fn string(self, text: &str) -> String {
        format!("{0}{text}{0}", self.quote)
    }

    pub(super) fn strings<'a>(self, texts: impl Iterator<Item = &'a str>) -> String {
        format!("[{}]", texts.map(|text| self.string(text)).collect::<Vec<_>>().join(","))
    }

    pub(super) fn value(self, value: &Value) -> String {
        match value {
            Value::Null => self.null.to_owned(),
            Value::Bool(given) => given.to_string(),
            Value::Number(given) => number(given),
            Value::String(text) => self.string(text),
            Value::Array(list) => {
                format!("[{}]", list.iter().map(|item| self.value(item)).collect::<Vec<_>>().join(","))
            }
            Value::Object(map) => self.object(map),
        }
    }

    fn object(self, map: &serde_json::Map<String, Value>) -> String {
        let entries: Vec<_> =
            json::by_name(map).iter().map(|(name, value)| format!("{name}:{}", self.value(value))).collect();
        format!("{{{}}}", entries.join(","))
    }

    /// `call:name{…}`, the arguments sorted by name.
    pub(super) fn call(self, call: &ToolCall) -> String {
        format!("call:{}{}", call.function.name, self.object(&call.function.arguments))
    }
}

/// Whole numbers in full as long as they fit 64 bits, others as Go prints them.
fn number(number: &Number) -> String {
    let float = number.as_f64().unwrap_or(f64::NAN);
    if float.fract() == 0.0 && float.abs() < 9.2e18 { format!("{float:.0}") } else { json::number(number) }
}
