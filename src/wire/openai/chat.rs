//! `/v1/chat/completions`.

use serde::Serialize;
use serde_json::Value;

use super::{StreamOptions, Usage};
use crate::wire::go_json::decode_struct;
use crate::wire::ollama::chat::Tools;
use crate::wire::ollama::{DebugInfo, Logprob};

#[derive(Clone, Debug, Default)]
pub struct ChatRequest {
    pub model: String,
    pub messages: Vec<Message>,
    pub stream: bool,
    pub stream_options: Option<StreamOptions>,
    pub max_tokens: Option<i64>,
    /// What OpenAI calls `max_tokens` now.
    pub max_completion_tokens: Option<i64>,
    pub seed: Option<i64>,
    pub stop: Value,
    pub temperature: Option<f64>,
    pub frequency_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub top_p: Option<f64>,
    pub response_format: Option<ResponseFormat>,
    pub tools: Tools,
    pub reasoning: Option<Reasoning>,
    pub reasoning_effort: Option<String>,
    pub logprobs: Option<bool>,
    pub top_logprobs: i64,
    pub debug_render_only: bool,
}

decode_struct!(ChatRequest as "openai" "ChatCompletionRequest" {
    "model" => model,
    "messages" => messages,
    "stream" => stream,
    "stream_options" => stream_options,
    "max_tokens" => max_tokens,
    "max_completion_tokens" => max_completion_tokens,
    "seed" => seed,
    "stop" => stop,
    "temperature" => temperature,
    "frequency_penalty" => frequency_penalty,
    "presence_penalty" => presence_penalty,
    "top_p" => top_p,
    "response_format" => response_format,
    "tools" => tools,
    "reasoning" => reasoning,
    "reasoning_effort" => reasoning_effort,
    "logprobs" => logprobs,
    "top_logprobs" => top_logprobs,
    "_debug_render_only" => debug_render_only,
});

#[derive(Clone, Debug, Default)]
pub struct Message {
    pub role: String,
    /// Text, a list of parts, or nothing.
    pub content: Value,
    pub reasoning: String,
    pub tool_calls: Vec<ToolCall>,
    pub name: String,
    pub tool_call_id: String,
}

decode_struct!(Message as "openai" "Message" {
    "role" => role,
    "content" => content,
    "reasoning" => reasoning,
    "tool_calls" => tool_calls,
    "name" => name,
    "tool_call_id" => tool_call_id,
});

#[derive(Clone, Debug, Default, Serialize)]
pub struct ToolCall {
    pub id: String,
    pub index: i64,
    #[serde(rename = "type")]
    pub kind: String,
    pub function: Function,
}

decode_struct!(ToolCall as "openai" "ToolCall" {
    "id" => id,
    "index" => index,
    "type" => kind,
    "function" => function,
});

#[derive(Clone, Debug, Default, Serialize)]
pub struct Function {
    pub name: String,
    /// JSON text.
    pub arguments: String,
}

decode_struct!(Function as "openai" "Function" { "name" => name, "arguments" => arguments });

#[derive(Clone, Debug, Default)]
pub struct ResponseFormat {
    pub kind: String,
    pub json_schema: Option<JsonSchema>,
}

decode_struct!(ResponseFormat as "openai" "ResponseFormat" { "type" => kind, "json_schema" => json_schema });

#[derive(Clone, Debug, Default)]
pub struct JsonSchema {
    pub schema: Value,
}

decode_struct!(JsonSchema as "openai" "JsonSchema" { "schema" => schema });

#[derive(Clone, Debug, Default)]
pub struct Reasoning {
    pub effort: String,
}

decode_struct!(Reasoning as "openai" "Reasoning" { "effort" => effort });

#[derive(Clone, Debug, Serialize)]
pub struct Completion {
    pub id: String,
    pub object: &'static str,
    pub created: i64,
    pub model: String,
    pub system_fingerprint: &'static str,
    pub choices: Vec<Choice>,
    pub usage: Usage,
    #[serde(rename = "_debug_info", skip_serializing_if = "Option::is_none")]
    pub debug_info: Option<DebugInfo>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    pub index: u32,
    pub message: Delta,
    pub finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Logprobs>,
}

/// A part of an answer's message, or all of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Logprobs {
    pub content: Vec<TokenLogprob>,
}

/// As the native one, but with every field: OpenAI's own clients insist on them.
#[derive(Clone, Debug, Serialize)]
pub struct TokenLogprob {
    pub token: String,
    pub logprob: f64,
    pub bytes: Vec<u8>,
    pub top_logprobs: Vec<TopLogprob>,
}

#[derive(Clone, Debug, Serialize)]
pub struct TopLogprob {
    pub token: String,
    pub logprob: f64,
    pub bytes: Vec<u8>,
}

impl From<Logprob> for TokenLogprob {
    fn from(token: Logprob) -> Self {
        let top = |top: Logprob| TopLogprob { token: top.token, logprob: top.logprob, bytes: top.bytes };
        Self {
            token: token.token,
            logprob: token.logprob,
            bytes: token.bytes,
            top_logprobs: token.top_logprobs.into_iter().map(top).collect(),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Chunk {
    pub id: String,
    pub object: &'static str,
    pub created: i64,
    pub model: String,
    pub system_fingerprint: &'static str,
    pub choices: Vec<ChunkChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ChunkChoice {
    pub index: u32,
    pub delta: Delta,
    pub finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Logprobs>,
}
