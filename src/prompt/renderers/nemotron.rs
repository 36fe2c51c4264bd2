//! Nemotron Nano 3 and 3.5: ChatML with tools and calls as XML, images, and thinking that older turns lose.

use super::images::Images;
use super::xml_tools::{self, Words};
use super::{Renderer, is_prefill, rendered, same_role_around};
use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::{Message, Role, Think, ThinkLevel};

pub(super) struct Nemotron {
    generation: Generation,
}

#[derive(Clone, Copy, PartialEq)]
enum Generation {
    /// Takes `/think` and `/no_think` from what system and user say.
    Three,
    /// Takes a word on effort instead.
    Three5,
}

pub(super) static NANO_3: Nemotron = Nemotron { generation: Generation::Three };
pub(super) static NANO_3_5: Nemotron = Nemotron { generation: Generation::Three5 };

const NO_THINKING: &str = "<think></think>";

impl Renderer for Nemotron {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let images = Images::of(messages);
        let mut thinks = conversation.think.is_none_or(Think::is_on);
        if self.generation == Generation::Three {
            thinks = switched(messages).unwrap_or(thinks);
        }
        let last_user = messages.iter().rposition(|message| message.role == Role::USER);
        let is_efficient =
            self.generation == Generation::Three5 && conversation.think == Some(Think::Level(ThinkLevel::Medium));

        let has_system = messages.first().is_some_and(|message| message.role == Role::SYSTEM);
        let system = if has_system { self.plain(&messages[0].content) } else { String::new() };
        let mut out = system_turn(&system, conversation);
        for (index, message) in messages.iter().enumerate().skip(usize::from(has_system)) {
            match message.role.as_str() {
                Role::ASSISTANT => {
                    let is_past = last_user.is_some_and(|last| index < last);
                    out += &format!("<|im_start|>assistant\n{}", self.answer(message, is_past));
                    if is_prefill(messages, index) {
                        return Ok(rendered(out, conversation));
                    }
                    out += "<|im_end|>\n";
                }
                Role::TOOL => {
                    let previous = index.checked_sub(1).map(|previous| messages[previous].role.as_str());
                    // As the model's own template has it, results that come first open no turn.
                    out += if previous.is_some_and(|role| role != Role::TOOL) { "<|im_start|>user\n" } else { "" };
                    out += &format!("<tool_response>\n{}\n</tool_response>\n", images.content(messages, index));
                    out += if same_role_around(messages, index).1 { "" } else { "<|im_end|>\n" };
                }
                Role::USER => {
                    let mut content = self.plain(&images.content(messages, index));
                    if self.generation == Generation::Three {
                        content = content.trim().to_owned();
                    }
                    if is_efficient && last_user == Some(index) {
                        content += "\n\n{reasoning effort: efficient}";
                    }
                    out += &format!("<|im_start|>user\n{content}<|im_end|>\n");
                }
                role => out += &format!("<|im_start|>{role}\n{}<|im_end|>\n", message.content),
            }
        }
        out += "<|im_start|>assistant\n";
        out += if thinks { "<think>\n" } else { NO_THINKING };
        Ok(rendered(out, conversation))
    }
}

impl Nemotron {
    /// The text without the words that only switch thinking; `</think>` looks like one and is none.
    fn plain(&self, text: &str) -> String {
        if self.generation == Generation::Three5 {
            return text.to_owned();
        }
        let parts = text.split("</think>").map(|part| part.replace("/think", "").replace("/no_think", ""));
        parts.collect::<Vec<_>>().join("</think>")
    }

    fn answer(&self, message: &Message, is_past: bool) -> String {
        let mut text = if message.thinking.trim().is_empty() {
            let has_tags = message.content.contains("<think>") || message.content.contains("</think>");
            format!("{}{}", if has_tags { "" } else { NO_THINKING }, message.content)
        } else {
            let breaks = if self.generation == Generation::Three { "\n" } else { "" };
            format!("<think>\n{}{breaks}</think>{breaks}{}", message.thinking, message.content)
        };
        if is_past && text.contains("<think>") && text.contains("</think>") {
            let kept = text.rsplit("</think>").next().unwrap_or_default();
            let kept = if message.tool_calls.is_empty() { kept } else { kept.trim() };
            text = format!("{NO_THINKING}{kept}");
        }
        let mut out = text.trim().to_owned();
        if !message.tool_calls.is_empty() {
            out += if out.is_empty() { "" } else { "\n" };
            for call in &message.tool_calls {
                out += &format!("{}\n", xml_tools::call(call, Words::Python));
            }
        }
        out
    }
}

fn system_turn(system: &str, conversation: &Conversation) -> String {
    let mut out = format!("<|im_start|>system\n{system}");
    if !conversation.tools.is_empty() {
        out += if system.is_empty() { "" } else { "\n\n" };
        out += &xml_tools::as_xml(&conversation.tools, Words::Python);
    }
    out + "<|im_end|>\n"
}

/// What the last switch in the text of system or user says.
fn switched(messages: &[Message]) -> Option<bool> {
    let speaks = |message: &&Message| message.role == Role::SYSTEM || message.role == Role::USER;
    messages.iter().rev().filter(speaks).find_map(|message| {
        let text = message.content.replace("</think>", "");
        if text.contains("/think") {
            Some(true)
        } else if text.contains("/no_think") {
            Some(false)
        } else {
            None
        }
    })
}
