//! The functions a template can call: those of Go's `text/template`, and Ollama's four.

use std::cmp::Ordering;

use chrono::{Days, Local};

use super::budget::Text;
use super::printf;
use super::value::{List, Shown, Value};

/// The fewest arguments of a function and whether it takes more; `None` when there is no such function.
pub(super) fn arity(name: &str) -> Option<(usize, bool)> {
    Some(match name {
        "not" | "len" | "json" | "toTypeScriptType" => (1, false),
        "ne" | "lt" | "le" | "gt" | "ge" => (2, false),
        "and" | "or" | "eq" | "index" | "slice" | "printf" | "call" => (1, true),
        "print" | "println" | "html" | "js" | "urlquery" | "currentDate" | "yesterdayDate" => (0, true),
        _ => return None,
    })
}

/// Calls a function with as many arguments as [`arity`] asks for. `and` and `or` are the executor's business.
pub(super) fn call(name: &str, args: &[Value]) -> Result<Value, String> {
    let date = |back| {
        let today = Local::now().date_naive();
        Value::from(today.checked_sub_days(Days::new(back)).unwrap_or(today).format("%Y-%m-%d").to_string())
    };
    Ok(match name {
        "not" => Value::Bool(!args[0].is_true()),
        "len" => Value::Int(length(&args[0])?),
        "json" => Value::from(args[0].json()),
        "toTypeScriptType" => Value::from(type_script(&args[0])),
        "eq" => Value::Bool(equals_any(&args[0], &args[1..])?),
        "ne" => Value::Bool(!equal(&args[0], &args[1])?),
        "lt" => Value::Bool(order(&args[0], &args[1])? == Some(Ordering::Less)),
        "le" => Value::Bool(matches!(order(&args[0], &args[1])?, Some(Ordering::Less | Ordering::Equal))),
        "gt" => Value::Bool(order(&args[0], &args[1])? == Some(Ordering::Greater)),
        "ge" => Value::Bool(matches!(order(&args[0], &args[1])?, Some(Ordering::Greater | Ordering::Equal))),
        "index" => index(&args[0], &args[1..])?,
        "slice" => slice(&args[0], &args[1..])?,
        "print" => Value::from(print(args)?),
        "println" => Value::from(println(args)?),
        "printf" => match &args[0] {
            Value::Text(format) => Value::from(printf::printf(format, &args[1..])?),
            other => {
                return Err(format!("wrong type for value; expected string; got {}", other.type_name()));
            }
        },
        "html" => Value::from(html(&print(args)?)),
        "js" => Value::from(js(&print(args)?)),
        "urlquery" => Value::from(urlquery(&print(args)?)),
        "currentDate" => date(0),
        "yesterdayDate" => date(1),
        _ => return Err(format!("{name} is not a function: a bug")),
    })
}

fn length(value: &Value) -> Result<i64, String> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(list) => list.items.len(),
        Value::Map(map) => map.entries.len(),
        Value::Nil => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(i64::try_from(length).unwrap_or(i64::MAX))
}

fn equals_any(first: &Value, others: &[Value]) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(left: &Value, right: &Value) -> Result<bool, String> {
    Ok(match (left, right) {
        (Value::Nil, Value::Nil) => true,
        (Value::Nil, _) | (_, Value::Nil) => false,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Int(left), Value::Int(right)) => left == right,
        (Value::Float(left), Value::Float(right)) => left == right,
        _ => match (as_text(left), as_text(right)) {
            (Some(left), Some(right)) => left == right,
            _ => return Err(incomparable(left, right)),
        },
    })
}

fn order(left: &Value, right: &Value) -> Result<Option<Ordering>, String> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => Ok(Some(left.cmp(right))),
        (Value::Float(left), Value::Float(right)) => Ok(left.partial_cmp(right)),
        (Value::Text(left), Value::Text(right)) => Ok(Some(left.cmp(right))),
        (Value::Bool(_), Value::Bool(_)) => Err("invalid type for comparison".to_owned()),
        _ => Err(incomparable(left, right)),
    }
}

fn as_text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn incomparable(left: &Value, right: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", left.type_name(), right.type_name())
}

fn index(base: &Value, path: &[Value]) -> Result<Value, String> {
    let mut value = base.clone();
    for at in path {
        value = match (&value, at) {
            (Value::Nil, _) => return Err("index of untyped nil".to_owned()),
            (Value::List(list), Value::Int(number)) => list.items[position(*number, list.items.len(), false)?].clone(),
            (Value::Text(text), Value::Int(number)) => {
                Value::Int(i64::from(text.as_bytes()[position(*number, text.len(), false)?]))
            }
            (Value::Map(map), Value::Text(name)) => map.entries.get(&**name).cloned().unwrap_or_default(),
            (Value::List(_) | Value::Text(_), other) => {
                return Err(format!("cannot index slice/array with type {}", other.type_name()));
            }
            (Value::Map(_), other) => return Err(format!("value has type {}; should be string", other.type_name())),
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn position(number: i64, length: usize, end: bool) -> Result<usize, String> {
    let bound = length + usize::from(end);
    usize::try_from(number).ok().filter(|at| *at < bound).ok_or_else(|| format!("index out of range: {number}"))
}

fn slice(base: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = match base {
        Value::Text(text) => text.len(),
        Value::List(list) => list.items.len(),
        Value::Nil => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    if bounds.len() == 3 && matches!(base, Value::Text(_)) {
        return Err("cannot 3-index slice a string".to_owned());
    }
    let mut range = [0, length, length];
    for (slot, bound) in range.iter_mut().zip(bounds) {
        *slot = match bound {
            Value::Int(number) => position(*number, length, true)?,
            other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
        };
    }
    let [start, end, _] = range;
    if start > end {
        return Err(format!("invalid slice index: {start} > {end}"));
    }
    Ok(match base {
        Value::Text(text) => Value::from(String::from_utf8_lossy(&text.as_bytes()[start..end])),
        Value::List(list) => {
            let shown = if list.shown == Shown::Json { Shown::Json } else { Shown::Plain };
            Value::List(List { items: list.items[start..end].to_vec(), shown }.into())
        }
        _ => Value::Nil,
    })
}

/// Go's `Sprint`: a blank between two operands when neither is a string.
pub(super) fn print(args: &[Value]) -> Result<String, String> {
    let mut out = Text::default();
    for (index, arg) in args.iter().enumerate() {
        let text = |value: &Value| matches!(value, Value::Text(_));
        if index > 0 && !text(arg) && !text(&args[index - 1]) {
            out.push(" ")?;
        }
        out.push(&arg.to_string())?;
    }
    Ok(out.done())
}

fn println(args: &[Value]) -> Result<String, String> {
    let mut out = Text::default();
    for (index, arg) in args.iter().enumerate() {
        out.push(if index > 0 { " " } else { "" })?;
        out.push(&arg.to_string())?;
    }
    out.push("\n")?;
    Ok(out.done())
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' | '\0'..='\u{1f}' | '\u{7f}' => {
                out.push_str(&format!("\\u{:04X}", u32::from(char)));
            }
            other => out.push(other),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// The TypeScript type of a tool's property.
fn type_script(property: &Value) -> String {
    let Value::Object(object) = property else {
        return "any".to_owned();
    };
    let field = |name: &str| match object.fields.iter().find(|(field, _)| *field == name) {
        Some((_, Value::List(list))) => &list.items[..],
        _ => &[],
    };
    let (any_of, types) = (field("AnyOf"), field("Type"));
    let types: Vec<String> = if any_of.is_empty() {
        types.iter().map(|kind| type_script_name(&kind.to_string()).to_owned()).collect()
    } else {
        any_of.iter().map(type_script).collect()
    };
    if types.is_empty() { "any".to_owned() } else { types.join(" | ") }
}

fn type_script_name(kind: &str) -> &'static str {
    match kind {
        "string" => "string",
        "number" | "integer" => "number",
        "boolean" => "boolean",
        "null" => "null",
        "array" => "any[]",
        "object" => "Record<string, any>",
        _ => "any",
    }
}
