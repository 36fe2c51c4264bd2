//! Values that a model wrote as bare text, typed by the schema of the tool they are for.

use serde_json::{Number, Value};

use crate::types::{Property, Tool};

/// The value of an argument, as Ollama types it: one line break at each end is layout; then the first declared type that
/// fits, in a fixed order, else a string.
pub(super) fn value(text: &str, tools: &[Tool], tool: &str, argument: &str) -> Value {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    if text.eq_ignore_ascii_case("null") {
        return Value::Null;
    }
    let kinds = kinds(tools, tool, argument);
    let has = |kind: &str| kinds.contains(&kind);
    let json = |is: fn(&Value) -> bool| serde_json::from_str(text).ok().filter(is);
    let boolean = || match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ if kinds.len() == 1 => Some(false),
        _ => None,
    };
    None.or_else(|| has("boolean").then(boolean).flatten().map(Value::Bool))
        .or_else(|| has("integer").then(|| text.parse::<i64>().ok()).flatten().map(Value::from))
        .or_else(|| has("number").then(|| number(text)).flatten())
        .or_else(|| has("array").then(|| json(Value::is_array)).flatten())
        .or_else(|| has("object").then(|| json(Value::is_object)).flatten())
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A finite number; a whole one as an integer.
fn number(text: &str) -> Option<Value> {
    let number: f64 = text.parse().ok()?;
    if number.fract() == 0.0 && number.abs() < 9.0e18 {
        return Some(Value::from(number as i64));
    }
    Number::from_f64(number).map(Value::Number)
}

fn kinds<'a>(tools: &'a [Tool], tool: &str, argument: &str) -> Vec<&'a str> {
    let mut kinds = Vec::new();
    let tool = tools.iter().find(|known| known.function.name == tool);
    let properties = tool.and_then(|tool| tool.function.parameters.properties.as_ref());
    if let Some(property) = properties.and_then(|properties| properties.get(argument)) {
        collect(property, &mut kinds);
    }
    kinds
}

fn collect<'a>(property: &'a Property, kinds: &mut Vec<&'a str>) {
    property.any_of.iter().for_each(|one| collect(one, kinds));
    kinds.extend(property.kind.iter().map(String::as_str));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_finite_and_whole_ones_are_integers() {
        assert_eq!(number("3.0"), Some(Value::from(3)));
        assert_eq!(number("0.25"), Some(Value::from(0.25)));
        assert_eq!(number("NaN"), None);
        assert_eq!(number("inf"), None);
        assert_eq!(number("three"), None);
    }
}
