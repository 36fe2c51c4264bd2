//! A conversation in no dialect: messages, tools, and what is asked of the answer.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who speaks. Ollama passes roles it does not know on to the template, so this is not a closed set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Role(String);

impl Role {
    pub const SYSTEM: &str = "system";
    pub const USER: &str = "user";
    pub const ASSISTANT: &str = "assistant";
    pub const TOOL: &str = "tool";

    /// Lower-cased, as Ollama reads it.
    pub fn new(role: &str) -> Self {
        Self(role.to_lowercase())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq<&str> for Role {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<str> for Role {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The bytes of an image or a sound, decoded from what the client sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Image(pub Arc<[u8]>);

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} bytes)", self.0.len())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub role: Role,
    pub content: String,
    pub thinking: String,
    pub images: Vec<Image>,
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool's result: the tool that gave it. Empty when the client did not say.
    pub tool_name: String,
    /// Of a tool's result: the call it answers. Empty when the client did not say.
    pub tool_call_id: String,
}

impl Message {
    /// A message with text and nothing else.
    pub fn text(role: &str, content: impl Into<String>) -> Self {
        Self {
            role: Role::new(role),
            content: content.into(),
            thinking: String::new(),
            images: Vec::new(),
            tool_calls: Vec::new(),
            tool_name: String::new(),
            tool_call_id: String::new(),
        }
    }
}

/// A call of a tool that a model made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolCall {
    /// Empty until the server gives it one.
    pub id: String,
    pub function: Function,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Function {
    /// Which call of its answer this is, from zero.
    pub index: usize,
    pub name: String,
    /// In the model's own order.
    pub arguments: Map<String, Value>,
}

/// A tool that the client offers. What Ollama knows of JSON schema has fields, in the order Ollama writes them; the
/// rest is in `raw`, for templates that want the tool as it came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Value>,
    #[serde(default)]
    pub function: ToolFunction,
    /// The tool as the client sent it.
    #[serde(skip)]
    pub raw: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolFunction {
    #[serde(default)]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default)]
    pub parameters: ToolParameters,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolParameters {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(rename = "$defs", default, skip_serializing_if = "Option::is_none")]
    pub defs: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<String>,
    /// In the client's order; `None` is written as `null`.
    #[serde(default)]
    pub properties: Option<Properties>,
}

/// A property's name and its schema, in the client's order.
pub type Properties = OrderedMap<Property>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Property {
    #[serde(rename = "anyOf", default, skip_serializing_if = "Vec::is_empty")]
    pub any_of: Vec<Property>,
    /// Written as one string when there is one.
    #[serde(rename = "type", default, skip_serializing_if = "Vec::is_empty", with = "one_or_many")]
    pub kind: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Value>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(rename = "enum", default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<Properties>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<String>,
}

/// A map that keeps the order in which its names came.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderedMap<T>(pub Vec<(String, T)>);

impl<T> Default for OrderedMap<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> OrderedMap<T> {
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &T)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }
}

impl<T: Serialize> Serialize for OrderedMap<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrderedMap<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = OrderedMap<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries: Vec<(String, T)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    match entries.iter_mut().find(|(known, _)| *known == key) {
                        Some(entry) => entry.1 = value,
                        None => entries.push((key, value)),
                    }
                }
                Ok(OrderedMap(entries))
            }
        }
        deserializer.deserialize_map(Visitor(std::marker::PhantomData))
    }
}

mod one_or_many {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(list: &[String], serializer: S) -> Result<S::Ok, S::Error> {
        match list {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMany {
            One(String),
            Many(Vec<String>),
        }
        Ok(match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        })
    }
}

/// Whether, and how hard, the model is to think before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Think {
    Off,
    On,
    Level(ThinkLevel),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinkLevel {
    Low,
    Medium,
    High,
    Max,
}

impl Think {
    pub fn is_on(self) -> bool {
        self != Self::Off
    }

    /// The level's word; empty for plain on and off.
    pub fn level(self) -> &'static str {
        match self {
            Self::Off | Self::On => "",
            Self::Level(ThinkLevel::Low) => "low",
            Self::Level(ThinkLevel::Medium) => "medium",
            Self::Level(ThinkLevel::High) => "high",
            Self::Level(ThinkLevel::Max) => "max",
        }
    }
}

/// What the answer's text must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// Any JSON object.
    Json,
    /// JSON that fits this schema.
    Schema(Value),
}
