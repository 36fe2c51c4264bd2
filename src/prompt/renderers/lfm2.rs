//! LFM2: ChatML with tools as one JSON list and calls that look like Python, images, and a thinking variant.

use super::images::Images;
use super::json::{self, SPACED_PLAIN};
use super::{Renderer, rendered};
use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::{Message, Role, Think, Tool, ToolCall};

pub(super) struct Lfm2 {
    thinks: bool,
}

pub(super) static LFM2: Lfm2 = Lfm2 { thinks: false };
pub(super) static LFM2_THINKING: Lfm2 = Lfm2 { thinks: true };

const START: &str = "<|startoftext|>";

impl Renderer for Lfm2 {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let images = Images::of(messages);
        let last_answer = messages.iter().rposition(|message| message.role == Role::ASSISTANT);
        let keeps_thinking = self.thinks && conversation.think.is_some_and(Think::is_on);

        let has_system = messages.first().is_some_and(|message| message.role == Role::SYSTEM);
        let mut system = if has_system { messages[0].content.clone() } else { String::new() };
        if !conversation.tools.is_empty() {
            system += if system.is_empty() { "" } else { "\n" };
            system += &tools(&conversation.tools);
        }
        let mut out = START.to_owned();
        if !system.is_empty() {
            out += &format!("<|im_start|>system\n{system}<|im_end|>\n");
        }
        for (index, message) in messages.iter().enumerate().skip(usize::from(has_system)) {
            let content = images.content(messages, index);
            let is_last = index + 1 == messages.len();
            out += &format!("<|im_start|>{}\n", message.role);
            match message.role.as_str() {
                Role::ASSISTANT => {
                    let is_past = last_answer != Some(index) && !keeps_thinking;
                    out += &self.answer(message, &content, is_past);
                    if is_last {
                        return Ok(rendered(out, conversation));
                    }
                }
                Role::TOOL => out += &format!("<|tool_response_start|>{content}<|tool_response_end|>"),
                _ => out += &content,
            }
            out += "<|im_end|>\n";
        }
        Ok(rendered(out + "<|im_start|>assistant\n", conversation))
    }

    fn leading_bos(&self) -> Option<&'static str> {
        Some(START)
    }
}

impl Lfm2 {
    fn answer(&self, message: &Message, content: &str, is_past: bool) -> String {
        let mut out = String::new();
        if self.thinks && !is_past && !message.thinking.is_empty() {
            out += &format!("<think>{}</think>", message.thinking);
        }
        let content = match content.rsplit_once("</think>") {
            Some((_, answer)) if is_past => answer.trim(),
            _ => content,
        };
        if !message.tool_calls.is_empty() {
            let calls: Vec<_> = message.tool_calls.iter().map(call).collect();
            out += &format!("<|tool_call_start|>[{}]<|tool_call_end|>", calls.join(","));
            out += if content.is_empty() { "" } else { "\n" };
        }
        out + content
    }
}

fn call(call: &ToolCall) -> String {
    let arguments: Vec<_> = json::by_name(&call.function.arguments)
        .iter()
        .map(|(name, value)| format!("{name}={}", json::value(value, SPACED_PLAIN)))
        .collect();
    format!("{}({})", call.function.name, arguments.join(","))
}

fn tools(tools: &[Tool]) -> String {
    let tools: Vec<_> = tools.iter().map(|tool| json::function(tool, false, false)).collect();
    format!("List of tools: <|tool_list_start|>[{}]<|tool_list_end|>", tools.join(", "))
}
