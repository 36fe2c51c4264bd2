//! The words of Anthropic's API into ours.

use serde_json::{Map, Value, json};

use crate::api::error::ApiError;
use crate::types::{Function, Image, Message, Role, Think, ThinkLevel, Tool, ToolCall, ToolFunction};
use crate::wire::anthropic::{self as wire, MessagesRequest};
use crate::wire::go_json::{decode, from_base64};

/// The conversation, its system message first.
///
/// # Errors
/// Blocks that lack what they need.
pub fn messages(request: &MessagesRequest) -> Result<Vec<Message>, ApiError> {
    let mut all = Vec::new();
    let system = system(&request.system);
    if !system.is_empty() {
        all.push(Message::text(Role::SYSTEM, system));
    }
    for message in &request.messages {
        match &message.content {
            Value::String(text) => all.push(Message::text(&message.role, text.as_str())),
            Value::Array(blocks) => add_blocks(&mut all, &message.role, blocks)?,
            Value::Null => {}
            _ => return Err(ApiError::invalid("invalid message content type")),
        }
    }
    Ok(all)
}

/// Text, or the texts of its blocks one after the other.
fn system(system: &Value) -> String {
    match system {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// Results of tools come before what is said with them.
fn add_blocks(all: &mut Vec<Message>, role: &str, blocks: &[Value]) -> Result<(), ApiError> {
    let mut message = Message::text(role, "");
    let mut said = false;
    for block in blocks {
        match block["type"].as_str().unwrap_or_default() {
            "text" => message.content.push_str(block["text"].as_str().unwrap_or_default()),
            "thinking" => message.thinking.push_str(block["thinking"].as_str().unwrap_or_default()),
            "image" => message.images.push(image(block)?),
            "tool_use" => {
                let index = message.tool_calls.len();
                message.tool_calls.push(call(block, index)?);
            }
            "tool_result" => {
                let result = result(block, all)?;
                all.push(result);
                continue;
            }
            _ => continue,
        }
        said = true;
    }
    if said {
        all.push(message);
    }
    Ok(())
}

fn image(block: &Value) -> Result<Image, ApiError> {
    let source = block["source"].as_object().ok_or_else(|| ApiError::invalid("invalid image source"))?;
    let text = |name: &str| source.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("type") != "base64" {
        let kind = text("type");
        return Err(ApiError::Invalid(format!("invalid image source type: {kind}. Only base64 images are supported.")));
    }
    let bytes = from_base64(text("data"));
    let bytes = bytes.map_err(|error| ApiError::Invalid(format!("invalid base64 image data: {error}")))?;
    Ok(Image(bytes.into()))
}

fn call(block: &Value, index: usize) -> Result<ToolCall, ApiError> {
    let field = |name: &str| {
        let text = block[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        text.ok_or_else(|| ApiError::Invalid(format!("tool_use block missing required '{name}' field")))
    };
    let arguments = block["input"].as_object().cloned().unwrap_or_default();
    Ok(ToolCall { id: field("id")?, function: Function { index, name: field("name")?, arguments } })
}

fn result(block: &Value, before: &[Message]) -> Result<Message, ApiError> {
    let id = block["tool_use_id"].as_str().unwrap_or_default();
    let mut message = Message::text(Role::TOOL, "");
    match &block["content"] {
        Value::String(text) => message.content.clone_from(text),
        Value::Array(parts) => {
            for part in parts {
                match part["type"].as_str().unwrap_or_default() {
                    "text" => message.content.push_str(part["text"].as_str().unwrap_or_default()),
                    "image" => message.images.push(image(part)?),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    let mut calls = before.iter().rev().flat_map(|message| message.tool_calls.iter());
    let name = calls.find(|call| call.id == id).map(|call| call.function.name.clone());
    Ok(Message { tool_name: name.unwrap_or_default(), tool_call_id: id.to_owned(), ..message })
}

/// # Errors
/// A schema that is none.
pub fn tools(tools: &[wire::Tool]) -> Result<Vec<Tool>, ApiError> {
    // a search of the web would leave this machine: such tools are not offered to the model
    tools.iter().filter(|tool| !tool.kind.starts_with("web_search")).map(tool).collect()
}

fn tool(tool: &wire::Tool) -> Result<Tool, ApiError> {
    let schema = if tool.input_schema.0.is_empty() { "{}" } else { &tool.input_schema.0 };
    let parameters = decode(schema.as_bytes())
        .map_err(|error| ApiError::Invalid(format!("invalid input_schema for tool {:?}: {error}", tool.name)))?;
    let raw: Value = serde_json::from_str(schema).unwrap_or_default();
    Ok(Tool {
        kind: "function".into(),
        items: None,
        function: ToolFunction { name: tool.name.clone(), description: tool.description.clone(), parameters },
        raw: json!({
            "type": "function",
            "function": { "name": tool.name, "description": tool.description, "parameters": raw }
        }),
    })
}

pub fn think(request: &MessagesRequest) -> Option<Think> {
    match request.thinking.as_ref().map(|thinking| thinking.kind.as_str()) {
        Some("enabled") => return Some(Think::On),
        Some("disabled") => return Some(Think::Off),
        _ => {}
    }
    let level = match request.output_config.as_ref()?.effort.as_str() {
        "low" => ThinkLevel::Low,
        "medium" => ThinkLevel::Medium,
        "high" | "xhigh" => ThinkLevel::High,
        "max" => ThinkLevel::Max,
        _ => return None,
    };
    Some(Think::Level(level))
}

pub fn options(request: &MessagesRequest) -> Map<String, Value> {
    let mut options = Map::new();
    options.insert("num_predict".into(), request.max_tokens.into());
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            options.insert(name.to_owned(), value);
        }
    };
    set("temperature", request.temperature.map(Into::into));
    set("top_p", request.top_p.map(Into::into));
    set("top_k", request.top_k.map(Into::into));
    let stop = request.stop_sequences.clone();
    set("stop", (!stop.is_empty()).then(|| stop.into()));
    options
}

/// Tokens of the prompt before anybody has counted: a quarter of the characters, as Ollama guesses.
pub fn estimate(request: &MessagesRequest) -> u64 {
    let block = |block: &Value| match block["text"].as_str().filter(|_| block["type"] == "text") {
        Some(text) => text.len(),
        None => block.to_string().len(),
    };
    let content = |content: &Value| match content {
        Value::String(text) => text.len(),
        Value::Array(blocks) => blocks.iter().map(block).sum(),
        _ => 0,
    };
    let messages: usize = request.messages.iter().map(|one| one.role.len() + content(&one.content)).sum();
    let tool = |tool: &wire::Tool| tool.name.len() + tool.description.len() + tool.input_schema.0.len();
    let tools: usize = request.tools.iter().map(tool).sum();
    let characters = system(&request.system).len() + messages + tools;
    (characters as u64 / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_before_what_is_said() {
        let body = br#"{"system":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"messages":[
            {"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"f","input":{"x":1}}]},
            {"role":"user","content":[{"type":"text","text":"so?"},{"type":"tool_result","tool_use_id":"t1",
            "content":[{"type":"text","text":"42"}]}]}]}"#;
        let messages = messages(&decode(body).unwrap()).unwrap();
        let seen: Vec<_> = messages.iter().map(|one| (one.role.as_str(), one.content.as_str())).collect();
        assert_eq!(seen, [("system", "ab"), ("assistant", ""), ("tool", "42"), ("user", "so?")]);
        assert_eq!((messages[2].tool_name.as_str(), messages[2].tool_call_id.as_str()), ("f", "t1"));
    }
}
