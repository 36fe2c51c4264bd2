//! Olmo 3: ChatML with tools as JSON and calls that look like Python; and its thinking kin, which knows no tools.

use super::json::{self, COMPACT, SPACED};
use super::{Renderer, is_prefill, rendered};
use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::{Message, Role, Tool, ToolCall};

/// The instruct models.
pub(super) struct Olmo3 {
    default_system: &'static str,
}

/// The thinking models. Tools and what they gave are left out.
pub(super) struct Olmo3Think {
    default_system: &'static str,
}

pub(super) static OLMO_3: Olmo3 = Olmo3 { default_system: "You are a helpful function-calling AI assistant." };
pub(super) static OLMO_3_1: Olmo3 = Olmo3 { default_system: OLMO };
pub(super) static OLMO_3_THINK: Olmo3Think = Olmo3Think { default_system: OLMO };
pub(super) static OLMO_3_THINK_32B: Olmo3Think = Olmo3Think { default_system: "You are a helpful AI assistant." };

const OLMO: &str = "You are Olmo, a helpful AI assistant built by Ai2. Your date cutoff is December 2024, and your model \
weights are available at https://huggingface.co/allenai.";
const NO_FUNCTIONS: &str = " You do not currently have access to any functions. <functions></functions>";
const SOME_FUNCTIONS: &str = " You are provided with function signatures within <functions></functions> XML tags. You may \
call one or more functions to assist with the user query. Output any function calls within \
<function_calls></function_calls> XML tags. Do not make assumptions about what values to plug into functions.";

impl Renderer for Olmo3 {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let tools = &conversation.tools;
        let mut out = "<|im_start|>system\n".to_owned();
        match (system(messages), tools.is_empty()) {
            (Some(text), _) => out += text,
            (None, true) => out += &format!("{}{NO_FUNCTIONS}", self.default_system),
            (None, false) => out += &format!("{}{SOME_FUNCTIONS}", self.default_system),
        }
        out += &functions(tools);
        out += "<|im_end|>\n";
        for (index, message) in messages.iter().enumerate() {
            match message.role.as_str() {
                Role::USER => out += &format!("<|im_start|>user\n{}<|im_end|>\n", message.content),
                Role::ASSISTANT if is_empty_last(messages, index) => {}
                Role::ASSISTANT => {
                    out += &format!("<|im_start|>assistant\n{}{}", message.content, calls(&message.tool_calls));
                    out += if is_prefill(messages, index) { "" } else { "<|im_end|>\n" };
                }
                Role::TOOL => out += &format!("<|im_start|>environment\n{}<|im_end|>\n", message.content),
                _ => {}
            }
        }
        if messages.is_empty() || !is_prefill(messages, messages.len() - 1) {
            out += "<|im_start|>assistant\n";
        }
        Ok(rendered(out, conversation))
    }
}

impl Renderer for Olmo3Think {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let system =
            system(messages).map_or_else(|| self.default_system.to_owned(), |text| format!("{text}{NO_FUNCTIONS}"));
        let mut out = format!("<|im_start|>system\n{system}<|im_end|>\n");
        for (index, message) in messages.iter().enumerate() {
            if message.role == Role::USER || message.role == Role::ASSISTANT {
                out += &format!("<|im_start|>{}\n{}", message.role, message.content);
                if is_prefill(messages, index) {
                    return Ok(rendered(out, conversation));
                }
                out += "<|im_end|>\n";
            }
        }
        Ok(rendered(out + "<|im_start|>assistant\n<think>", conversation))
    }
}

/// The one system message that counts, wherever it stands.
fn system(messages: &[Message]) -> Option<&str> {
    messages.iter().find(|message| message.role == Role::SYSTEM).map(|message| message.content.as_str())
}

/// An empty answer to go on with is what a new turn opens anyway.
fn is_empty_last(messages: &[Message], index: usize) -> bool {
    index + 1 == messages.len() && messages[index].content.is_empty() && messages[index].tool_calls.is_empty()
}

fn functions(tools: &[Tool]) -> String {
    if tools.is_empty() {
        return String::new();
    }
    let tools: Vec<_> = tools.iter().map(|tool| json::tool(tool, SPACED)).collect();
    format!("<functions>[{}]</functions>", tools.join(", "))
}

fn calls(calls: &[ToolCall]) -> String {
    if calls.is_empty() {
        return String::new();
    }
    let call = |call: &ToolCall| {
        let arguments = json::by_name(&call.function.arguments);
        let arguments: Vec<_> =
            arguments.iter().map(|(name, value)| format!("{name}={}", json::value(value, COMPACT))).collect();
        format!("{}({})", call.function.name, arguments.join(", "))
    };
    format!("<function_calls>{}</function_calls>", calls.iter().map(call).collect::<Vec<_>>().join("\n"))
}
