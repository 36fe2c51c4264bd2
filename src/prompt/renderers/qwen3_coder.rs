//! Qwen3-Coder: ChatML with tools and calls as XML. It neither thinks nor sees.

use super::xml_tools::{self, Words};
use super::{Renderer, is_prefill, qwen_result, rendered};
use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::{Message, Role};

pub(super) struct Qwen3Coder;

const DEFAULT_SYSTEM: &str = "You are Qwen, a helpful AI assistant that can interact with a computer to solve tasks.";

impl Renderer for Qwen3Coder {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        // One system message counts, wherever it stands; the others are left out.
        let is_system = |message: &&Message| message.role == Role::SYSTEM;
        let system = conversation.messages.iter().filter(is_system).map(|message| message.content.as_str());
        let system = system.clone().find(|text| !text.is_empty());
        let messages: Vec<Message> =
            conversation.messages.iter().filter(|message| !is_system(message)).cloned().collect();

        let mut out = String::new();
        if system.is_some() || !conversation.tools.is_empty() {
            out += &format!("<|im_start|>system\n{}", system.unwrap_or(DEFAULT_SYSTEM));
            if !conversation.tools.is_empty() {
                out += &format!("\n\n{}", xml_tools::as_xml(&conversation.tools, Words::Go));
            }
            out += "<|im_end|>\n";
        }
        for (index, message) in messages.iter().enumerate() {
            turn(&mut out, &messages, index);
            let is_last = index + 1 == messages.len();
            if is_last && message.role != Role::ASSISTANT {
                out += "<|im_start|>assistant\n";
            }
        }
        Ok(rendered(out, conversation))
    }
}

fn turn(out: &mut String, messages: &[Message], index: usize) {
    let message = &messages[index];
    if message.role == Role::TOOL {
        *out += &qwen_result(messages, index, &message.content);
        return;
    }
    *out += &format!("<|im_start|>{}\n{}", message.role, message.content);
    if message.role == Role::ASSISTANT && !message.tool_calls.is_empty() {
        *out += if message.content.is_empty() { "" } else { "\n" };
        for call in &message.tool_calls {
            *out += &format!("\n{}", xml_tools::call(call, Words::Go));
        }
    } else if is_prefill(messages, index) || (index + 1 == messages.len() && message.role == Role::ASSISTANT) {
        return;
    }
    *out += "<|im_end|>\n";
}
