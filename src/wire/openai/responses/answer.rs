//! The answer: what was asked for, and the items that came of it.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Reasoning, Text, Tool};

#[derive(Clone, Debug, Serialize)]
pub struct Response {
    pub id: String,
    pub object: &'static str,
    pub created_at: i64,
    pub completed_at: Option<i64>,
    pub status: Status,
    pub incomplete_details: Option<IncompleteDetails>,
    pub model: String,
    pub previous_response_id: Option<()>,
    pub instructions: Option<String>,
    pub output: Vec<Output>,
    pub error: Option<Failure>,
    pub tools: Vec<Tool>,
    pub tool_choice: &'static str,
    pub truncation: String,
    pub parallel_tool_calls: bool,
    pub text: Text,
    pub top_p: f64,
    pub presence_penalty: f64,
    pub frequency_penalty: f64,
    pub top_logprobs: u32,
    pub temperature: f64,
    pub reasoning: Option<Reasoning>,
    pub usage: Option<Usage>,
    pub max_output_tokens: Option<i64>,
    pub max_tool_calls: Option<()>,
    pub store: bool,
    pub background: bool,
    pub service_tier: &'static str,
    pub metadata: Map<String, Value>,
    pub safety_identifier: Option<()>,
    pub prompt_cache_key: Option<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

#[derive(Clone, Debug, Serialize)]
pub struct IncompleteDetails {
    pub reason: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    pub code: &'static str,
    pub message: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub total_tokens: u64,
    pub input_tokens_details: InputDetails,
    pub output_tokens_details: OutputDetails,
}

/// Always zero, as in Ollama.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct InputDetails {
    pub cached_tokens: u64,
}

/// Always zero, as in Ollama.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct OutputDetails {
    pub reasoning_tokens: u64,
}

/// An item of an answer.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Output {
    Reasoning(Thought),
    Message(Message),
    Call(Call),
}

#[derive(Clone, Debug, Serialize)]
pub struct Thought {
    pub id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    pub summary: Vec<Summary>,
    /// The plain text, for clients to hand back with the next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_content: Option<String>,
}

impl Thought {
    pub fn begin(id: String) -> Self {
        Self { id, kind: "reasoning", summary: Vec::new(), encrypted_content: None }
    }

    pub fn whole(id: String, text: String) -> Self {
        let summary = vec![Summary { kind: "summary_text", text: text.clone() }];
        Self { summary, encrypted_content: Some(text), ..Self::begin(id) }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    #[serde(rename = "type")]
    kind: &'static str,
    text: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Message {
    pub id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    pub status: Status,
    role: &'static str,
    pub content: Vec<Content>,
}

impl Message {
    pub fn begin(id: String) -> Self {
        Self { id, kind: "message", status: Status::InProgress, role: "assistant", content: Vec::new() }
    }

    pub fn whole(id: String, text: String, status: Status) -> Self {
        Self { status, content: vec![Content::new(text)], ..Self::begin(id) }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Content {
    #[serde(rename = "type")]
    kind: &'static str,
    pub text: String,
    annotations: [(); 0],
    logprobs: [(); 0],
}

impl Content {
    pub fn new(text: String) -> Self {
        Self { kind: "output_text", text, annotations: [], logprobs: [] }
    }
}

/// A call of a tool: a function with arguments, or a custom tool with a text.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    pub id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    pub status: Status,
    pub call_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
    #[serde(flatten)]
    pub given: Given,
}

/// What a tool is called with.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Given {
    /// JSON text.
    Arguments(String),
    Input(String),
}

impl Given {
    pub fn text(&self) -> &str {
        match self {
            Self::Arguments(text) | Self::Input(text) => text,
        }
    }

    /// Of the same kind, with nothing of it there yet.
    fn empty(&self) -> Self {
        match self {
            Self::Arguments(_) => Self::Arguments(String::new()),
            Self::Input(_) => Self::Input(String::new()),
        }
    }
}

impl Call {
    pub fn whole(id: String, call_id: String, namespace: Option<String>, name: String, given: Given) -> Self {
        let kind = match given {
            Given::Arguments(_) => "function_call",
            Given::Input(_) => "custom_tool_call",
        };
        Self { id, kind, status: Status::Completed, call_id, namespace, name, given }
    }

    /// The call before anything of what it is given has come.
    pub fn begun(&self) -> Self {
        Self { status: Status::InProgress, given: self.given.empty(), ..self.clone() }
    }
}
