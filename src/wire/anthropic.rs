//! Anthropic's messages API, as Ollama 0.33 speaks it.

use serde::Serialize;
use serde_json::{Map, Value};

use super::go_json::{Raw, decode_struct};

#[derive(Clone, Debug, Default)]
pub struct MessagesRequest {
    pub model: String,
    pub max_tokens: i64,
    pub messages: Vec<Message>,
    /// Text, or a list of blocks of text.
    pub system: Value,
    pub stream: bool,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<i64>,
    pub stop_sequences: Vec<String>,
    pub tools: Vec<Tool>,
    pub thinking: Option<Thinking>,
    pub output_config: Option<OutputConfig>,
}

decode_struct!(MessagesRequest as "anthropic" "MessagesRequest" {
    "model" => model,
    "max_tokens" => max_tokens,
    "messages" => messages,
    "system" => system,
    "stream" => stream,
    "temperature" => temperature,
    "top_p" => top_p,
    "top_k" => top_k,
    "stop_sequences" => stop_sequences,
    "tools" => tools,
    "thinking" => thinking,
    "output_config" => output_config,
});

#[derive(Clone, Debug, Default)]
pub struct Message {
    pub role: String,
    /// Text, or a list of blocks.
    pub content: Value,
}

decode_struct!(Message as "anthropic" "MessageParam" { "role" => role, "content" => content });

#[derive(Clone, Debug, Default)]
pub struct Tool {
    pub kind: String,
    pub name: String,
    pub description: String,
    pub input_schema: Raw,
}

decode_struct!(Tool as "anthropic" "Tool" {
    "type" => kind,
    "name" => name,
    "description" => description,
    "input_schema" => input_schema,
});

#[derive(Clone, Debug, Default)]
pub struct Thinking {
    pub kind: String,
}

decode_struct!(Thinking as "anthropic" "ThinkingConfig" { "type" => kind });

#[derive(Clone, Debug, Default)]
pub struct OutputConfig {
    pub effort: String,
}

decode_struct!(OutputConfig as "anthropic" "OutputConfig" { "effort" => effort });

#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub role: &'static str,
    pub model: String,
    pub content: Vec<Block>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<&'static str>,
    pub usage: Usage,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// A part of an answer.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    Thinking { thinking: String },
    Text { text: String },
    ToolUse { id: String, name: String, input: Map<String, Value> },
}

/// What is added to a block.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Delta {
    ThinkingDelta { thinking: String },
    TextDelta { text: String },
    InputJsonDelta { partial_json: String },
}

/// An event of a stream.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    MessageStart { message: Answer },
    ContentBlockStart { index: usize, content_block: Block },
    ContentBlockDelta { index: usize, delta: Delta },
    ContentBlockStop { index: usize },
    MessageDelta { delta: End, usage: Usage },
    MessageStop,
}

impl Event {
    /// As the stream's `event:` lines call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct End {
    pub stop_reason: &'static str,
}

/// The one shape of every error.
#[derive(Clone, Debug, Serialize)]
pub struct Envelope {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Error,
    request_id: String,
}

#[derive(Clone, Debug, Serialize)]
struct Error {
    #[serde(rename = "type")]
    kind: &'static str,
    message: String,
}

impl Envelope {
    pub fn new(kind: &'static str, message: String, request_id: String) -> Self {
        Self { kind: "error", error: Error { kind, message }, request_id }
    }
}
