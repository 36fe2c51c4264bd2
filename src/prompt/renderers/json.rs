//! Tools and arguments as text: JSON the way Go's code writes it into prompts, and Go's plain text of a value.

use serde::Serialize;
use serde_json::{Map, Number, Value};

use crate::go;
use crate::types::{Property, Tool};

/// How JSON is laid out.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// `, ` and `: ` where compact JSON has `,` and `:`, as Python writes.
    pub(super) spaced: bool,
    /// `<`, `>` and `&` escaped, as Go does unless told otherwise.
    pub(super) html: bool,
}

pub(super) const COMPACT: Style = Style { spaced: false, html: true };
pub(super) const SPACED: Style = Style { spaced: true, html: true };
pub(super) const SPACED_PLAIN: Style = Style { spaced: true, html: false };

pub(super) fn write<T: Serialize + ?Sized>(value: &T, style: Style) -> String {
    let compact = go::json::to_string(value).expect("our own types have string keys: a bug");
    restyle(&compact, style)
}

/// A value from a client: Go keeps inner objects in hash maps, whose keys it sorts.
pub(super) fn value(value: &Value, style: Style) -> String {
    write(&sorted(value), style)
}

/// A call's arguments as one object: the model's order outside, sorted within.
pub(super) fn arguments(arguments: &Map<String, Value>, style: Style) -> String {
    write(&arguments.iter().map(|(key, value)| (key.clone(), sorted(value))).collect::<Map<_, _>>(), style)
}

/// A call's arguments by name.
pub(super) fn by_name(arguments: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = arguments.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

pub(super) fn sorted(value: &Value) -> Value {
    let mut value = value.clone();
    value.sort_all_objects();
    value
}

/// The tool with every part that Go holds in a hash map sorted.
pub(super) fn tidy(tool: &Tool) -> Tool {
    let mut tool = tool.clone();
    let parameters = &mut tool.function.parameters;
    for part in [&mut tool.items, &mut parameters.defs, &mut parameters.items].into_iter().flatten() {
        part.sort_all_objects();
    }
    for (_, property) in parameters.properties.iter_mut().flat_map(|properties| properties.0.iter_mut()) {
        tidy_property(property);
    }
    tool
}

fn tidy_property(property: &mut Property) {
    property.items.iter_mut().chain(&mut property.variants).for_each(Value::sort_all_objects);
    property.any_of.iter_mut().for_each(tidy_property);
    for (_, inner) in property.properties.iter_mut().flat_map(|properties| properties.0.iter_mut()) {
        tidy_property(inner);
    }
}

pub(super) fn tool(tool: &Tool, style: Style) -> String {
    write(&tidy(tool), style)
}

/// `{"name": …, "description": …, "parameters": …}`, the tool without its wrapper. `html` is whether name and description
/// are escaped as Go does; the schema always is. `empty` is whether an empty description is written.
pub(super) fn function(tool: &Tool, html: bool, empty: bool) -> String {
    let function = tidy(tool).function;
    let style = if html { SPACED } else { SPACED_PLAIN };
    let mut out = format!("{{\"name\": {}", write(&function.name, style));
    if empty || !function.description.is_empty() {
        out += &format!(", \"description\": {}", write(&function.description, style));
    }
    out + &format!(", \"parameters\": {}}}", write(&function.parameters, SPACED))
}

/// Compact JSON spread over lines, four blanks a level, as Go's `MarshalIndent` does: empty lists and objects stay whole.
pub(super) fn indented(compact: &str) -> String {
    let mut out = String::with_capacity(compact.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    let mut chars = compact.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", depth));
    };
    while let Some(char) = chars.next() {
        if in_string {
            in_string = escaped || char != '"';
            escaped = !escaped && char == '\\';
            out.push(char);
            continue;
        }
        match char {
            '{' | '[' => {
                out.push(char);
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                line(&mut out, depth);
                out.push(char);
            }
            ',' => {
                out.push(char);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                in_string = char == '"';
                out.push(char);
            }
        }
    }
    out
}

/// A number as Go's `%v` prints a float64: with an exponent, of two places at least, below 1e-4 and from
/// 1e6 on, for whole numbers too.
pub(super) fn number(number: &Number) -> String {
    let float = number.as_f64().unwrap_or(f64::NAN);
    let shortest = format!("{float:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().expect("`{:e}` writes an integer exponent: a bug");
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    float.to_string()
}

/// A value as Go's `%v` prints it, but JSON for lists and objects and `null` for nothing.
pub(super) fn printed(value: &Value, style: Style) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(given) => number(given),
        _ => self::value(value, style),
    }
}

/// Text as it is, any other value as JSON.
pub(super) fn text_or_json(value: &Value, style: Style) -> String {
    value.as_str().map_or_else(|| self::value(value, style), str::to_owned)
}

/// Compact JSON in another layout. Only strings hold backslashes, and only they may hold `,` or `:` that stay.
fn restyle(compact: &str, style: Style) -> String {
    let mut out = String::with_capacity(compact.len() + compact.len() / 8);
    let mut in_string = false;
    let mut rest = compact;
    while let Some(char) = rest.chars().next() {
        if in_string && char == '\\' {
            // Go itself leaves U+0085 as it is.
            let plain = match rest.get(..6) {
                Some("\\u003c") if !style.html => Some('<'),
                Some("\\u003e") if !style.html => Some('>'),
                Some("\\u0026") if !style.html => Some('&'),
                Some("\\u0085") => Some('\u{85}'),
                _ => None,
            };
            if let Some(plain) = plain {
                out.push(plain);
                rest = &rest[6..];
            } else {
                out.push_str(&rest[..2]);
                rest = &rest[2..];
            }
            continue;
        }
        in_string ^= char == '"';
        out.push(char);
        if style.spaced && !in_string && matches!(char, ',' | ':') {
            out.push(' ');
        }
        rest = &rest[char.len_utf8()..];
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn layout() {
        let value = json!({"b": [1, "x, y: \\\"<"], "a": {"z": null, "k": 1e-7}});
        assert_eq!(super::value(&value, SPACED), r#"{"a": {"k": 1e-7, "z": null}, "b": [1, "x, y: \\\"\u003c"]}"#);
        assert_eq!(
            super::value(&value, Style { html: false, ..COMPACT }),
            r#"{"a":{"k":1e-7,"z":null},"b":[1,"x, y: \\\"<"]}"#
        );
    }

    #[test]
    fn numbers() {
        for (given, want) in [
            (json!(42), "42"),
            (json!(3.0), "3"),
            (json!(0.25), "0.25"),
            (json!(12_345_678_901_i64), "1.2345678901e+10"),
            (json!(1e-7), "1e-07"),
            (json!(1e21), "1e+21"),
            (json!(0), "0"),
        ] {
            assert_eq!(number(given.as_number().unwrap()), want);
        }
    }
}
