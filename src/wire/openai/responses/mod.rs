//! `/v1/responses`: what is asked, what is answered, and the events between.

mod answer;
mod event;
mod input;

pub use answer::{
    Call, Content, Failure, Given, IncompleteDetails, InputDetails, Message, Output, OutputDetails, Response, Status,
    Thought, Usage,
};
pub use event::{Event, by_name};
pub use input::{Input, Item, Part};

use serde::Serialize;
use serde_json::Value;

use crate::wire::go_json::decode_struct;

#[derive(Clone, Debug, Default)]
pub struct ResponsesRequest {
    pub model: String,
    pub input: Option<Input>,
    pub instructions: String,
    pub max_output_tokens: Option<i64>,
    pub reasoning: Option<Reasoning>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub text: Text,
    pub tools: Vec<Tool>,
    pub stream: bool,
    pub truncation: String,
    pub background: bool,
}

decode_struct!(ResponsesRequest as "openai" "ResponsesRequest" {
    "model" => model,
    "input" => input,
    "instructions" => instructions,
    "max_output_tokens" => max_output_tokens,
    "reasoning" => reasoning,
    "temperature" => temperature,
    "top_p" => top_p,
    "text" => text,
    "tools" => tools,
    "stream" => stream,
    "truncation" => truncation,
    "background" => background,
});

/// How to think; an answer repeats it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reasoning {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub effort: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub summary: String,
}

decode_struct!(Reasoning as "openai" "ResponsesReasoning" { "effort" => effort, "summary" => summary });

/// What the text of an answer is like; an answer repeats it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Text {
    pub format: Format,
}

decode_struct!(Text as "openai" "ResponsesText" { "format" => format });

#[derive(Clone, Debug, Serialize)]
pub struct Format {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub schema: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

impl Default for Format {
    fn default() -> Self {
        Self { kind: "text".into(), name: String::new(), description: String::new(), schema: Value::Null, strict: None }
    }
}

decode_struct!(Format as "openai" "ResponsesTextFormat" {
    "type" => kind,
    "name" => name,
    "description" => description,
    "schema" => schema,
    "strict" => strict,
});

/// A tool, or a namespace of them; an answer repeats it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tool {
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    pub description: Option<String>,
    pub strict: Option<bool>,
    pub parameters: Value,
    /// Of a custom tool: what its text is like.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub format: Value,
    /// Of a namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
}

decode_struct!(Tool as "openai" "ResponsesTool" {
    "type" => kind,
    "name" => name,
    "description" => description,
    "strict" => strict,
    "parameters" => parameters,
    "format" => format,
    "tools" => tools,
});
