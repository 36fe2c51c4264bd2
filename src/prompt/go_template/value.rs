//! What a Go template works on, and how Go prints it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::go::json;

/// A value of a template. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    List(Arc<List>),
    Map(Arc<Dict>),
    Object(Arc<Object>),
}

/// How a list or a map is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// As Go prints slices and maps: `[a b]`, `map[a:1]`.
    #[default]
    Plain,
    /// As its JSON.
    Json,
    /// A list of one as that one, none as nothing.
    OneOrMany,
    /// A list that is not there: `[]`, but `null` in JSON.
    Absent,
}

#[derive(Debug, Default, PartialEq)]
pub struct List {
    pub items: Vec<Value>,
    pub shown: Shown,
}

/// A map; its order is that of the names, as Go ranges over it.
#[derive(Debug, Default, PartialEq)]
pub struct Dict {
    pub entries: BTreeMap<String, Value>,
    pub shown: Shown,
}

/// A Go struct: asking for a field it lacks is an error.
#[derive(Debug, PartialEq)]
pub struct Object {
    /// Go's name for the type, as errors show it.
    pub type_name: &'static str,
    pub fields: Vec<(&'static str, Value)>,
    /// Its JSON, when that is not the fields by their names.
    pub json: Option<String>,
    pub shown: Shown,
}

impl Value {
    pub fn list(items: Vec<Value>) -> Self {
        Self::List(Arc::new(List { items, shown: Shown::Plain }))
    }

    /// A Go slice, which is nil rather than empty.
    pub fn slice(items: Vec<Value>) -> Self {
        let shown = if items.is_empty() { Shown::Absent } else { Shown::Plain };
        Self::List(Arc::new(List { items, shown }))
    }

    /// A Go struct.
    pub fn object(
        type_name: &'static str,
        shown: Shown,
        json: Option<String>,
        fields: Vec<(&'static str, Value)>,
    ) -> Self {
        Self::Object(Arc::new(Object { type_name, fields, json, shown }))
    }

    pub fn map(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let entries = entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self::Map(Arc::new(Dict { entries, shown: Shown::Plain }))
    }

    /// What Go's templates take for true.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Map(map) => !map.entries.is_empty(),
            Self::Object(_) => true,
        }
    }

    /// Go's name for its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Object(object) => object.type_name,
        }
    }

    /// The value as `json.Marshal` writes it.
    pub fn json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }

    fn write_json(&self, out: &mut String) {
        let quoted = |text: &str| json::to_string(text).expect("a string is always JSON: a bug");
        match self {
            Self::Nil => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(number) => out.push_str(&number.to_string()),
            Self::Float(number) if number.is_finite() => out.push_str(&json::float(*number)),
            Self::Float(_) => out.push_str("null"),
            Self::Text(text) => out.push_str(&quoted(text)),
            Self::List(list) => match &list.items[..] {
                [one] if list.shown == Shown::OneOrMany => one.write_json(out),
                [] if list.shown == Shown::Absent => out.push_str("null"),
                items => {
                    out.push('[');
                    for (index, item) in items.iter().enumerate() {
                        out.push_str(if index > 0 { "," } else { "" });
                        item.write_json(out);
                    }
                    out.push(']');
                }
            },
            Self::Map(map) => write_members(out, map.entries.iter().map(|(name, value)| (name.as_str(), value))),
            Self::Object(object) => match &object.json {
                Some(json) => out.push_str(json),
                None => write_members(out, object.fields.iter().map(|(name, value)| (*name, value))),
            },
        }
    }
}

fn write_members<'a>(out: &mut String, members: impl Iterator<Item = (&'a str, &'a Value)>) {
    out.push('{');
    for (index, (name, value)) in members.enumerate() {
        out.push_str(if index > 0 { "," } else { "" });
        Value::from(name).write_json(out);
        out.push(':');
        value.write_json(out);
    }
    out.push('}');
}

/// Go's `%v`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spaced = |f: &mut fmt::Formatter<'_>, items: &mut dyn Iterator<Item = &Value>| {
            items.enumerate().try_for_each(|(index, item)| write!(f, "{}{item}", if index > 0 { " " } else { "" }))
        };
        match self {
            Self::Nil => f.write_str("<nil>"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => f.write_str(&float(*number)),
            Self::Text(text) => f.write_str(text),
            Self::List(list) => match (list.shown, &list.items[..]) {
                (Shown::Json, _) => f.write_str(&self.json()),
                (Shown::OneOrMany, []) => Ok(()),
                (Shown::OneOrMany, [one]) => write!(f, "{one}"),
                (_, items) => {
                    f.write_str("[")?;
                    spaced(f, &mut items.iter())?;
                    f.write_str("]")
                }
            },
            Self::Map(map) if map.shown == Shown::Json => f.write_str(&self.json()),
            Self::Map(map) => {
                f.write_str("map[")?;
                for (index, (name, value)) in map.entries.iter().enumerate() {
                    write!(f, "{}{name}:{value}", if index > 0 { " " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Object(object) if object.shown == Shown::Json => f.write_str(&self.json()),
            Self::Object(object) => {
                f.write_str("{")?;
                spaced(f, &mut object.fields.iter().map(|(_, value)| value))?;
                f.write_str("}")
            }
        }
    }
}

/// Go's `%v` of a float: the shortest digits, with an exponent below 1e-4 and from 1e6 on.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let shortest = format!("{number:e}");
    let (digits, exponent) = shortest.split_once('e').expect("`{:e}` has an exponent: a bug");
    let exponent: i32 = exponent.parse().expect("an exponent is a number: a bug");
    if number != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{number}")
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Cow<'_, str>> for Value {
    fn from(text: Cow<'_, str>) -> Self {
        Self::Text(text.into())
    }
}

/// JSON as Go decodes it: every number is a float.
impl From<&serde_json::Value> for Value {
    fn from(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Nil,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => Self::Float(number.as_f64().unwrap_or_default()),
            serde_json::Value::String(text) => Self::from(text.as_str()),
            serde_json::Value::Array(items) => Self::list(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(members) => Self::Map(Arc::new(Dict {
                entries: members.iter().map(|(name, value)| (name.clone(), Self::from(value))).collect(),
                shown: Shown::Plain,
            })),
        }
    }
}
