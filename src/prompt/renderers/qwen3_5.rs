//! Qwen3.5 and what grew from it (Ornith, Qwen3.8): ChatML, tools as JSON, calls as XML, images, and thinking.

use super::images::Images;
use super::xml_tools::{self, Words};
use super::{Renderer, last_query, qwen_result, rendered, split_thinking};
use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::{Message, Role, Think, ThinkLevel};

pub(super) struct Qwen35 {
    /// Whether every answer carries its thinking, not only those past the last question.
    keeps_thinking: bool,
    /// How system messages are treated, and what else the format demands.
    generation: Generation,
}

#[derive(PartialEq)]
enum Generation {
    /// System messages stay where they are.
    Three5,
    /// All system and developer messages make one turn, which begins with how hard to think.
    Three8,
}

pub(super) static QWEN_3_5: Qwen35 = Qwen35 { keeps_thinking: false, generation: Generation::Three5 };
pub(super) static ORNITH: Qwen35 = Qwen35 { keeps_thinking: true, generation: Generation::Three5 };
pub(super) static QWEN_3_8: Qwen35 = Qwen35 { keeps_thinking: true, generation: Generation::Three8 };

const LOW_EFFORT: &str = "Reasoning effort is set to low. Keep your thinking brief and focused, moving directly to the \
conclusion without unnecessary elaboration.";
const HIGH_EFFORT: &str = "Reasoning effort is set to xhigh. Please think carefully through the task, validate key \
assumptions, consider plausible alternatives, and prioritize correctness, consistency, and clarity in the final answer.";

impl Renderer for Qwen35 {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let thinks = conversation.think.is_none_or(Think::is_on);
        let messages = conversation.messages.as_slice();
        let images = Images::of(messages);
        let last_query = last_query(messages);
        let folds = self.generation == Generation::Three8;
        if folds {
            check(messages, last_query)?;
        }
        let last_query = last_query.unwrap_or(messages.len());

        let mut out = self.system_turn(conversation, &images);
        for (index, message) in messages.iter().enumerate() {
            let content = images.content(messages, index);
            let content = content.trim();
            let is_last = index + 1 == messages.len();
            match message.role.as_str() {
                Role::SYSTEM if index == 0 || folds => {}
                "developer" if folds => {}
                Role::SYSTEM | Role::USER => out += &format!("<|im_start|>{}\n{content}<|im_end|>\n", message.role),
                Role::ASSISTANT => {
                    let (thinking, content) = split_thinking(&message.thinking, content);
                    out += "<|im_start|>assistant\n";
                    if self.keeps_thinking || (thinks && index > last_query) {
                        out += &format!("<think>\n{}\n</think>\n\n", thinking.trim());
                    }
                    out += content;
                    out += &calls(message, content);
                    out += if is_last { "" } else { "<|im_end|>\n" };
                }
                Role::TOOL => out += &qwen_result(messages, index, content),
                role if folds => out += &format!("<|im_start|>{role}\n{content}<|im_end|>\n"),
                _ => {}
            }
        }
        if messages.last().is_some_and(|message| message.role != Role::ASSISTANT) {
            out += "<|im_start|>assistant\n";
            out += if thinks { "<think>\n" } else { "<think>\n\n</think>\n\n" };
        }
        Ok(rendered(out, conversation))
    }
}

impl Qwen35 {
    fn system_turn(&self, conversation: &Conversation, images: &Images) -> String {
        let messages = conversation.messages.as_slice();
        let folds = self.generation == Generation::Three8;
        let is_system = |(index, message): &(usize, &Message)| match message.role.as_str() {
            Role::SYSTEM => folds || *index == 0,
            role => folds && role == "developer",
        };
        let mut parts = Vec::new();
        parts.extend(effort(conversation.think).filter(|_| folds).map(str::to_owned));
        if !conversation.tools.is_empty() {
            parts.push(xml_tools::as_json(&conversation.tools));
        }
        let texts = messages.iter().enumerate().filter(is_system);
        parts.extend(texts.map(|(index, _)| images.content(messages, index).trim().to_owned()));
        parts.retain(|part| !part.is_empty());
        // An empty system message still has its turn, where messages keep their places.
        let is_first = messages.first().is_some_and(|message| message.role == Role::SYSTEM);
        if parts.is_empty() && (folds || !is_first) {
            return String::new();
        }
        format!("<|im_start|>system\n{}<|im_end|>\n", parts.join("\n\n"))
    }
}

/// What Qwen3.8 is told of how hard to think. Medium, and plain on, are what it does by itself.
fn effort(think: Option<Think>) -> Option<&'static str> {
    match think {
        Some(Think::Level(ThinkLevel::Low)) => Some(LOW_EFFORT),
        None | Some(Think::Level(ThinkLevel::High | ThinkLevel::Max)) => Some(HIGH_EFFORT),
        Some(Think::Off | Think::On | Think::Level(ThinkLevel::Medium)) => None,
    }
}

fn check(messages: &[Message], last_query: Option<usize>) -> Result<(), PromptError> {
    let is_system = |message: &&Message| message.role == Role::SYSTEM || message.role == "developer";
    if messages.iter().filter(is_system).any(|message| !message.images.is_empty()) {
        return Err(PromptError("system message cannot contain images".to_owned()));
    }
    if last_query.is_none() {
        return Err(PromptError("no user query found in messages".to_owned()));
    }
    Ok(())
}

fn calls(message: &Message, content: &str) -> String {
    let calls: Vec<_> = message.tool_calls.iter().map(|call| xml_tools::call(call, Words::Go)).collect();
    let separator = if content.is_empty() || calls.is_empty() { "" } else { "\n\n" };
    format!("{separator}{}", calls.join("\n"))
}
