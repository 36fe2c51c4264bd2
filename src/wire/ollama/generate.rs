//! `/api/generate`.

use serde::Serialize;
use serde_json::{Map, Value};

use super::chat::ToolCall;
use super::{DebugInfo, Logprob, Metrics};
use crate::types::{Image, KeepAlive, Think};
use crate::wire::go_json::{Raw, decode_struct};

#[derive(Clone, Debug, Default)]
pub struct GenerateRequest {
    pub model: String,
    pub prompt: String,
    pub suffix: String,
    pub system: String,
    pub template: String,
    pub context: Vec<i64>,
    pub stream: Option<bool>,
    pub raw: bool,
    pub format: Raw,
    pub keep_alive: Option<KeepAlive>,
    pub images: Vec<Image>,
    pub options: Map<String, Value>,
    pub think: Option<Think>,
    pub truncate: Option<bool>,
    pub shift: Option<bool>,
    pub debug_render_only: bool,
    pub logprobs: bool,
    pub top_logprobs: i64,
}

decode_struct!(GenerateRequest as "api" "GenerateRequest" {
    "model" => model,
    "prompt" => prompt,
    "suffix" => suffix,
    "system" => system,
    "template" => template,
    "context" => context,
    "stream" => stream,
    "raw" => raw,
    "format" => format,
    "keep_alive" => keep_alive,
    "images" => images,
    "options" => options,
    "think" => think,
    "truncate" => truncate,
    "shift" => shift,
    "_debug_render_only" => debug_render_only,
    "logprobs" => logprobs,
    "top_logprobs" => top_logprobs,
});

/// One line of an answer, or all of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GenerateResponse {
    pub model: String,
    pub created_at: String,
    pub response: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub thinking: String,
    pub done: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub done_reason: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<u32>,
    #[serde(flatten)]
    pub metrics: Metrics,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    #[serde(rename = "_debug_info", skip_serializing_if = "Option::is_none")]
    pub debug_info: Option<DebugInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<Logprob>,
}
