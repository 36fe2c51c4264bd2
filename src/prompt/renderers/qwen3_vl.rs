//! Qwen3-VL: ChatML with tools and calls as JSON, images, and thinking that a request may turn on or off.

use super::images::Images;
use super::json::{self, SPACED};
use super::{Renderer, last_query, qwen_result, rendered};
use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::{Message, Role, Tool};

pub(super) struct Qwen3Vl {
    /// Whether it thinks when nobody said.
    thinks: bool,
}

pub(super) static INSTRUCT: Qwen3Vl = Qwen3Vl { thinks: false };
pub(super) static THINKING: Qwen3Vl = Qwen3Vl { thinks: true };

impl Renderer for Qwen3Vl {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let thinks = conversation.think.map_or(self.thinks, crate::types::Think::is_on);
        let messages = conversation.messages.as_slice();
        let images = Images::of(messages);
        let last_query = last_query(messages).unwrap_or(messages.len());

        let mut out = String::new();
        let first_system = messages.first().filter(|message| message.role == Role::SYSTEM);
        if !conversation.tools.is_empty() {
            let text = first_system.map(|message| format!("{}\n\n", message.content)).unwrap_or_default();
            out += &format!("<|im_start|>system\n{text}{}<|im_end|>\n", tools(&conversation.tools));
        } else if let Some(message) = first_system {
            out += &format!("<|im_start|>system\n{}<|im_end|>\n", message.content);
        }
        for (index, message) in messages.iter().enumerate() {
            let content = images.content(messages, index);
            let is_last = index + 1 == messages.len();
            match message.role.as_str() {
                Role::SYSTEM if index == 0 => {}
                Role::SYSTEM => out += &format!("<|im_start|>system\n{}<|im_end|>\n", message.content),
                Role::USER => out += &format!("<|im_start|>user\n{content}<|im_end|>\n"),
                Role::ASSISTANT => {
                    out += "<|im_start|>assistant\n";
                    if thinks && index > last_query {
                        out += &with_thinking(message, &content, is_last);
                    } else {
                        out += &content;
                    }
                    out += &calls(message);
                    out += if is_last { "" } else { "<|im_end|>\n" };
                }
                Role::TOOL => out += &qwen_result(messages, index, &content),
                _ => {}
            }
        }
        if messages.last().is_none_or(|message| message.role != Role::ASSISTANT) {
            out += "<|im_start|>assistant\n";
            out += if thinks { "<think>\n" } else { "" };
        }
        Ok(rendered(out, conversation))
    }
}

/// Thinking that no text follows stays open: the model goes on with it.
fn with_thinking(message: &Message, content: &str, is_last: bool) -> String {
    if !is_last && message.thinking.is_empty() {
        return content.to_owned();
    }
    let mut out = format!("<think>\n{}", message.thinking.trim_matches('\n'));
    if !content.is_empty() {
        out += &format!("\n</think>\n\n{}", content.trim_start_matches('\n'));
    }
    out
}

fn calls(message: &Message) -> String {
    let call = |call: &crate::types::ToolCall| {
        let arguments = json::arguments(&call.function.arguments, SPACED);
        format!("<tool_call>\n{{\"name\": \"{}\", \"arguments\": {arguments}}}\n</tool_call>", call.function.name)
    };
    let calls: Vec<_> = message.tool_calls.iter().map(call).collect();
    let separator = if message.content.is_empty() || calls.is_empty() { "" } else { "\n" };
    format!("{separator}{}", calls.join("\n"))
}

fn tools(tools: &[Tool]) -> String {
    let lines: String = tools.iter().map(|tool| format!("{}\n", json::tool(tool, SPACED))).collect();
    format!(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
         You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{lines}</tools>\n\n\
         For each function call, return a json object with function name and arguments within <tool_call></tool_call> \
         XML tags:\n<tool_call>\n{{\"name\": <function-name>, \"arguments\": <args-json-object>}}\n</tool_call>"
    )
}
