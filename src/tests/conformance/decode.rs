//! Tools, messages and `think` as the recorded cases hold them: in the shape a client sends.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use hanzod::types::{Function, Image, Message, Role, Think, ThinkLevel, Tool, ToolCall};

pub(crate) fn tools(list: &Value) -> Vec<Tool> {
    let tool = |raw: &Value| Tool { raw: raw.clone(), ..serde_json::from_value(raw.clone()).expect("a tool") };
    list.as_array().into_iter().flatten().map(tool).collect()
}

pub(crate) fn message(raw: &Value) -> Message {
    let text = |field: &str| raw[field].as_str().unwrap_or_default().to_owned();
    let list = |field: &str| raw[field].as_array().cloned().unwrap_or_default();
    Message {
        role: Role::new(&text("role")),
        content: text("content"),
        thinking: text("thinking"),
        images: list("images").iter().map(image).collect(),
        tool_calls: list("tool_calls").iter().enumerate().map(tool_call).collect(),
        tool_name: text("tool_name"),
        tool_call_id: text("tool_call_id"),
    }
}

pub(crate) fn think(raw: &Value) -> Option<Think> {
    match raw {
        Value::Null => None,
        Value::Bool(on) => Some(if *on { Think::On } else { Think::Off }),
        Value::String(level) => Some(Think::Level(match level.as_str() {
            "low" => ThinkLevel::Low,
            "medium" => ThinkLevel::Medium,
            "high" => ThinkLevel::High,
            "max" => ThinkLevel::Max,
            other => panic!("think {other:?}"),
        })),
        other => panic!("think {other}"),
    }
}

fn image(raw: &Value) -> Image {
    Image(STANDARD.decode(raw.as_str().expect("an image is text")).expect("base64").into())
}

fn tool_call((index, raw): (usize, &Value)) -> ToolCall {
    let function = &raw["function"];
    ToolCall {
        id: raw["id"].as_str().unwrap_or_default().to_owned(),
        function: Function {
            index,
            name: function["name"].as_str().unwrap_or_default().to_owned(),
            arguments: function["arguments"].as_object().cloned().unwrap_or_default(),
        },
    }
}
