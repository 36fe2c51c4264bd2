//! The words of the native API into ours, and back.

use std::time::SystemTime;

use serde_json::Value;

use crate::api::error::ApiError;
use crate::api::turn::Done;
use crate::engine::{FinishReason, TokenLogprob};
use crate::store::ModelDetails;
use crate::types::{Format, Function, Message, Role, ToolCall};
use crate::wire::go_json::Raw;
use crate::wire::ollama as wire;
use crate::wire::time;

pub fn message(message: wire::Message) -> Message {
    let call = |call: wire::chat::ToolCall| ToolCall {
        id: call.id,
        function: Function {
            index: usize::try_from(call.function.index).unwrap_or_default(),
            name: call.function.name,
            arguments: call.function.arguments,
        },
    };
    Message {
        role: Role::new(&message.role),
        content: message.content,
        thinking: message.thinking,
        images: message.images,
        tool_calls: message.tool_calls.into_iter().map(call).collect(),
        tool_name: message.tool_name,
        tool_call_id: message.tool_call_id,
    }
}

pub fn wire_message(message: &Message) -> wire::Message {
    wire::Message {
        role: message.role.to_string(),
        content: message.content.clone(),
        thinking: message.thinking.clone(),
        images: message.images.clone(),
        tool_calls: message.tool_calls.iter().cloned().map(wire_call).collect(),
        tool_name: message.tool_name.clone(),
        tool_call_id: message.tool_call_id.clone(),
    }
}

pub fn wire_call(call: ToolCall) -> wire::chat::ToolCall {
    wire::chat::ToolCall {
        id: call.id,
        function: wire::chat::ToolCallFunction {
            index: call.function.index as i64,
            name: call.function.name,
            arguments: call.function.arguments,
        },
    }
}

/// # Errors
/// What is neither `"json"` nor a schema.
pub fn format(raw: &Raw) -> Result<Option<Format>, ApiError> {
    match serde_json::from_str(&raw.0).unwrap_or(Value::Null) {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) if text == "json" => Ok(Some(Format::Json)),
        schema @ Value::Object(_) => Ok(Some(Format::Schema(schema))),
        _ => {
            let quoted = format!("{:?}", raw.0);
            Err(ApiError::Internal(format!(
                "invalid format: {quoted}; expected \"json\" or a valid JSON Schema object"
            )))
        }
    }
}

/// # Errors
/// A number of alternatives that nobody can want.
pub fn logprobs(wanted: bool, top: i64) -> Result<Option<u8>, ApiError> {
    match u8::try_from(top) {
        Ok(top @ 0..=20) => Ok(wanted.then_some(top)),
        _ => Err(ApiError::invalid("top_logprobs must be between 0 and 20")),
    }
}

pub fn wire_logprobs(logprobs: Vec<TokenLogprob>) -> Vec<wire::Logprob> {
    let one = |token: TokenLogprob| wire::Logprob {
        token: token.token,
        logprob: token.logprob.into(),
        bytes: token.bytes,
        top_logprobs: wire_logprobs(token.top),
    };
    logprobs.into_iter().map(one).collect()
}

pub fn reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

pub fn metrics(done: &Done) -> wire::Metrics {
    wire::Metrics {
        total_duration: nanos(done.total),
        load_duration: nanos(done.load),
        prompt_eval_count: done.usage.prompt_tokens,
        prompt_eval_duration: done.usage.prompt_ns.max(1),
        eval_count: done.usage.completion_tokens,
        eval_duration: done.usage.completion_ns.max(1),
    }
}

/// Never zero: a zero would be left out, and clients miss it.
pub fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

pub fn now() -> String {
    time::utc(SystemTime::now())
}

pub fn details(details: ModelDetails) -> wire::Details {
    wire::Details {
        parent_model: details.parent_model,
        format: details.format,
        family: details.family,
        families: details.families,
        parameter_size: details.parameter_size,
        quantization_level: details.quantization_level,
        context_length: details.context_length.unwrap_or_default(),
        embedding_length: details.embedding_length.unwrap_or_default(),
    }
}
