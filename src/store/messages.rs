//! The messages layer: a conversation that comes with a model, as JSON.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::types::{Function, Image, Message, Role, ToolCall};

#[derive(Serialize, Deserialize)]
struct StoredMessage {
    role: String,
    #[serde(default)]
    content: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    thinking: String,
    /// In base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    images: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<StoredCall>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    tool_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    tool_call_id: String,
}

#[derive(Serialize, Deserialize)]
struct StoredCall {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    id: String,
    function: StoredFunction,
}

#[derive(Serialize, Deserialize)]
struct StoredFunction {
    #[serde(default)]
    index: usize,
    name: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

/// The layer's content, one line.
pub(crate) fn to_bytes(messages: &[Message]) -> Vec<u8> {
    let stored: Vec<StoredMessage> = messages.iter().map(StoredMessage::from).collect();
    let mut bytes = crate::go::json::to_vec(&stored).expect("messages are plain JSON: a bug");
    bytes.push(b'\n');
    bytes
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Message>, String> {
    let stored: Option<Vec<StoredMessage>> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    stored.into_iter().flatten().map(Message::try_from).collect()
}

impl From<&Message> for StoredMessage {
    fn from(message: &Message) -> Self {
        let call = |call: &ToolCall| StoredCall {
            id: call.id.clone(),
            function: StoredFunction {
                index: call.function.index,
                name: call.function.name.clone(),
                arguments: call.function.arguments.clone(),
            },
        };
        Self {
            role: message.role.to_string(),
            content: message.content.clone(),
            thinking: message.thinking.clone(),
            images: message.images.iter().map(|image| STANDARD.encode(&image.0)).collect(),
            tool_calls: message.tool_calls.iter().map(call).collect(),
            tool_name: message.tool_name.clone(),
            tool_call_id: message.tool_call_id.clone(),
        }
    }
}

impl TryFrom<StoredMessage> for Message {
    type Error = String;

    fn try_from(stored: StoredMessage) -> Result<Self, String> {
        let image = |text: String| STANDARD.decode(text).map(|bytes| Image(Arc::from(bytes)));
        let images = stored.images.into_iter().map(image).collect::<Result<_, _>>();
        let call = |call: StoredCall| ToolCall {
            id: call.id,
            function: Function {
                index: call.function.index,
                name: call.function.name,
                arguments: call.function.arguments,
            },
        };
        Ok(Self {
            role: Role::new(&stored.role),
            content: stored.content,
            thinking: stored.thinking,
            images: images.map_err(|error| format!("an image is not base64: {error}"))?,
            tool_calls: stored.tool_calls.into_iter().map(call).collect(),
            tool_name: stored.tool_name,
            tool_call_id: stored.tool_call_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_back_as_written() {
        let mut user = Message::text("user", "look");
        user.images.push(Image(Arc::from(*b"png")));
        let messages = [Message::text("system", "be <kind>"), user];
        let bytes = to_bytes(&messages);
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "[{\"role\":\"system\",\"content\":\"be \\u003ckind\\u003e\"},\
             {\"role\":\"user\",\"content\":\"look\",\"images\":[\"cG5n\"]}]\n"
        );
        assert_eq!(parse(&bytes).unwrap(), messages);
        assert_eq!(parse(b"null").unwrap(), []);
        assert!(parse(b"[{\"role\":\"user\",\"images\":[\"?\"]}]").is_err());
    }
}
