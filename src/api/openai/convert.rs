//! The words of OpenAI's API into ours.

use serde_json::{Map, Value};

use crate::api::error::ApiError;
use crate::types::{Format, Function, Image, Message, Think, ThinkLevel, ToolCall};
use crate::wire::go_json::from_base64;
use crate::wire::openai::chat::{self as wire, ChatRequest};

/// # Errors
/// Content of a kind that is not known, images that are no images, arguments that are no object.
pub fn messages(messages: Vec<wire::Message>) -> Result<Vec<Message>, ApiError> {
    let mut all: Vec<Message> = Vec::new();
    for message in messages {
        let mut parts = match &message.content {
            Value::String(text) => vec![Message::text(&message.role, text.as_str())],
            Value::Array(parts) => {
                parts.iter().map(|part| self::part(&message.role, part)).collect::<Result<_, _>>()?
            }
            Value::Null if !message.tool_calls.is_empty() => vec![Message::text(&message.role, "")],
            other => return Err(ApiError::Invalid(format!("invalid message content type: {}", go_type(other)))),
        };
        if parts.is_empty() {
            parts.push(Message::text(&message.role, ""));
        }
        if let Some(last) = parts.last_mut() {
            last.tool_calls = calls(message.tool_calls)?;
            last.tool_name = tool_name(message.name, &message.tool_call_id, &all);
            last.tool_call_id = message.tool_call_id;
            last.thinking = message.reasoning;
        }
        all.append(&mut parts);
    }
    Ok(all)
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        _ => "map[string]interface {}",
    }
}

/// Each part of a message's content is a message for itself, as in Ollama.
fn part(role: &str, part: &Value) -> Result<Message, ApiError> {
    let invalid = |text: &str| ApiError::invalid(text);
    match part["type"].as_str() {
        Some("text") => {
            let text = part["text"].as_str().ok_or_else(|| invalid("invalid message format"))?;
            Ok(Message::text(role, text))
        }
        Some("image_url") => {
            let url = part["image_url"]["url"].as_str().or_else(|| part["image_url"].as_str());
            let image = image(url.ok_or_else(|| invalid("invalid message format"))?)?;
            Ok(Message { images: vec![image], ..Message::text(role, "") })
        }
        Some("input_audio") => {
            let audio = part["input_audio"].as_object().ok_or_else(|| invalid("invalid input_audio format"))?;
            let data = audio.get("data").and_then(Value::as_str);
            let data = data.ok_or_else(|| invalid("invalid input_audio format: missing data"))?;
            let bytes = from_base64(data)
                .map_err(|error| ApiError::Invalid(format!("invalid input_audio base64 data: {error}")))?;
            Ok(Message { images: vec![Image(bytes.into())], ..Message::text(role, "") })
        }
        _ => Err(invalid("invalid message format")),
    }
}

/// The bytes in a data URI. Nothing is fetched from anywhere.
///
/// # Errors
/// What is no data URI of an image.
pub fn image(url: &str) -> Result<Image, ApiError> {
    if url.starts_with("http://") || url.starts_with("https://") {
        return Err(ApiError::invalid(
            "image URLs are not currently supported, please use base64 encoded data instead",
        ));
    }
    const KINDS: [&str; 5] = ["image/jpeg", "image/jpg", "image/png", "image/webp", ""];
    let data = KINDS.iter().find_map(|kind| url.strip_prefix("data:")?.strip_prefix(kind)?.strip_prefix(";base64,"));
    let bytes = data.and_then(|data| from_base64(data).ok());
    bytes.map(|bytes| Image(bytes.into())).ok_or_else(|| ApiError::invalid("invalid image input"))
}

fn calls(calls: Vec<wire::ToolCall>) -> Result<Vec<ToolCall>, ApiError> {
    let call = |(index, call): (usize, wire::ToolCall)| {
        let arguments: Map<String, Value> = serde_json::from_str(&call.function.arguments)
            .map_err(|_| ApiError::invalid("invalid tool call arguments"))?;
        Ok(ToolCall { id: call.id, function: Function { index, name: call.function.name, arguments } })
    };
    calls.into_iter().enumerate().map(call).collect()
}

/// The tool that a result is of: as the client says, or by the latest call of that id.
pub fn tool_name(name: String, call_id: &str, before: &[Message]) -> String {
    if !name.is_empty() || call_id.is_empty() {
        return name;
    }
    let mut calls = before.iter().rev().flat_map(|message| message.tool_calls.iter().rev());
    calls.find(|call| call.id == call_id).map(|call| call.function.name.clone()).unwrap_or_default()
}

/// # Errors
/// A word that is no effort.
pub fn think(request: &ChatRequest) -> Result<Option<Think>, ApiError> {
    let nested = request.reasoning.as_ref().map(|reasoning| reasoning.effort.as_str());
    let word = nested.filter(|word| !word.is_empty()).or(request.reasoning_effort.as_deref());
    effort(word.unwrap_or_default())
}

/// # Errors
/// A word that is no effort.
pub fn effort(word: &str) -> Result<Option<Think>, ApiError> {
    Ok(Some(match word {
        "" => return Ok(None),
        "none" => Think::Off,
        "minimal" | "low" => Think::Level(ThinkLevel::Low),
        "medium" => Think::Level(ThinkLevel::Medium),
        "high" => Think::Level(ThinkLevel::High),
        "max" | "xhigh" | "ultra" => Think::Level(ThinkLevel::Max),
        other => {
            return Err(ApiError::Invalid(format!(
                "invalid reasoning value: {other:?} (must be \"minimal\", \"low\", \"medium\", \"high\", \"xhigh\", \
                 \"ultra\", \"max\", or \"none\")"
            )));
        }
    }))
}

pub fn format(request: &ChatRequest) -> Option<Format> {
    let format = request.response_format.as_ref()?;
    format_of(&format.kind, format.json_schema.as_ref().map(|named| &named.schema))
}

/// What a form of that kind means; one without a schema that could be one means nothing.
pub fn format_of(kind: &str, schema: Option<&Value>) -> Option<Format> {
    match kind.to_lowercase().as_str() {
        "json_object" => Some(Format::Json),
        "json_schema" => schema.filter(|schema| schema.is_object()).cloned().map(Format::Schema),
        _ => None,
    }
}

/// The options of a request, with OpenAI's own defaults where Ollama has others.
pub fn options(request: &ChatRequest) -> Map<String, Value> {
    let mut options = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            options.insert(name.to_owned(), value);
        }
    };
    set("temperature", Some(request.temperature.unwrap_or(1.0).into()));
    set("top_p", Some(request.top_p.unwrap_or(1.0).into()));
    set("num_predict", request.max_tokens.or(request.max_completion_tokens).map(Into::into));
    set("seed", request.seed.map(Into::into));
    set("frequency_penalty", request.frequency_penalty.map(Into::into));
    set("presence_penalty", request.presence_penalty.map(Into::into));
    set("stop", stop(&request.stop));
    options
}

/// One stop string or several; what is no string is passed over.
fn stop(stop: &Value) -> Option<Value> {
    match stop {
        Value::String(_) => Some(Value::Array(vec![stop.clone()])),
        Value::Array(list) => Some(list.iter().filter(|item| item.is_string()).cloned().collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::go_json::decode;

    fn read(body: &str) -> Result<Vec<Message>, String> {
        let request: ChatRequest = decode(body.as_bytes()).unwrap();
        messages(request.messages).map_err(|error| error.to_string())
    }

    #[test]
    fn a_result_finds_its_tool() {
        let messages = read(
            r#"{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"c1","function":{"name":"f",
            "arguments":"{\"b\":1,\"a\":2}"}}]},{"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"ok"}]}]}"#,
        )
        .unwrap();
        assert_eq!(messages[0].tool_calls[0].function.arguments.keys().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!((messages[1].tool_name.as_str(), messages[1].tool_call_id.as_str()), ("f", "c1"));
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (message, error) in [
            (r#"{"role":"user"}"#, "invalid message content type: <nil>"),
            (r#"{"role":"user","content":7}"#, "invalid message content type: float64"),
            (r#"{"role":"user","content":[{"type":"image_url","image_url":"ftp://x"}]}"#, "invalid image input"),
            (r#"{"role":"user","content":[{"type":"video"}]}"#, "invalid message format"),
            (
                r#"{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":"[]"}}]}"#,
                "invalid tool call arguments",
            ),
        ] {
            assert_eq!(read(&format!("{{\"messages\":[{message}]}}")).unwrap_err(), error, "{message}");
        }
        let image =
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AQI="}}]}"#;
        assert_eq!(*read(&format!("{{\"messages\":[{image}]}}")).unwrap()[0].images[0].0, [1, 2]);
    }
}
