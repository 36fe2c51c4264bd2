//! Messages, tools and `think` of a recorded case into our types, as far as the recordings go.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

use hanzod::types::{Function, Image, Message, Think, ThinkLevel, Tool, ToolCall};

pub(crate) fn messages(case: &Value) -> Vec<Message> {
    case["messages"].as_array().into_iter().flatten().map(message).collect()
}

pub(crate) fn message(value: &Value) -> Message {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let images = value["images"].as_array().into_iter().flatten().map(|image| {
        let bytes = STANDARD.decode(image.as_str().expect("an image is a string")).expect("an image is base64");
        Image(Arc::from(bytes))
    });
    Message {
        thinking: text("thinking"),
        images: images.collect(),
        tool_calls: value["tool_calls"].as_array().into_iter().flatten().map(tool_call).collect(),
        tool_name: text("tool_name"),
        tool_call_id: text("tool_call_id"),
        ..Message::text(&text("role"), text("content"))
    }
}

fn tool_call(value: &Value) -> ToolCall {
    let function = &value["function"];
    let function = Function {
        index: function["index"].as_u64().unwrap_or(0) as usize,
        name: function["name"].as_str().unwrap_or_default().to_owned(),
        arguments: function["arguments"].as_object().cloned().unwrap_or_else(Map::new),
    };
    ToolCall { id: value["id"].as_str().unwrap_or_default().to_owned(), function }
}

pub(crate) fn tools(case: &Value) -> Vec<Tool> {
    let tool = |value: &Value| Tool { raw: value.clone(), ..Tool::deserialize(value).expect("a recorded tool") };
    case["tools"].as_array().into_iter().flatten().map(tool).collect()
}

/// `None` for a value that no request may have, which is the API's to refuse.
pub(crate) fn think(case: &Value) -> Option<Option<Think>> {
    Some(match &case["think"] {
        Value::Null => None,
        Value::Bool(true) => Some(Think::On),
        Value::Bool(false) => Some(Think::Off),
        Value::String(level) => Some(Think::Level(match level.as_str() {
            "low" => ThinkLevel::Low,
            "medium" => ThinkLevel::Medium,
            "high" => ThinkLevel::High,
            "max" => ThinkLevel::Max,
            _ => return None,
        })),
        _ => return None,
    })
}
