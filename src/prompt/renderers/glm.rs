//! GLM-4.7 and GLM-OCR: turns opened by a role's token and closed by the next, tools as JSON, calls as key and value pairs.

use super::images::Images;
use super::json::{self, COMPACT, SPACED};
use super::{Renderer, is_prefill, rendered, same_role_around};
use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::{Message, Role, Think, Tool, ToolCall};

/// Text only, no line breaks between the parts, thinking kept.
pub(super) struct Glm47;

/// Sees, and puts a line break after each part.
pub(super) struct GlmOcr;

const START: &str = "[gMASK]<sop>";

impl Renderer for Glm47 {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let mut out = format!("{START}{}", tools(&conversation.tools));
        for (index, message) in messages.iter().enumerate() {
            let content = &message.content;
            match message.role.as_str() {
                Role::SYSTEM => out += &format!("<|system|>{content}"),
                Role::USER => out += &format!("<|user|>{content}"),
                Role::ASSISTANT => {
                    let thinking = match message.thinking.as_str() {
                        "" => "</think>".to_owned(),
                        thinking => format!("<think>{thinking}</think>"),
                    };
                    let calls: String = message.tool_calls.iter().map(call).collect();
                    out += &format!("<|assistant|>{thinking}{content}{calls}");
                }
                Role::TOOL => {
                    out += if same_role_around(messages, index).0 { "" } else { "<|observation|>" };
                    out += &format!("<tool_response>{content}</tool_response>");
                }
                _ => {}
            }
        }
        out += "<|assistant|>";
        out += if conversation.think.is_none_or(Think::is_on) { "<think>" } else { "</think>" };
        Ok(rendered(out, conversation))
    }
}

impl Renderer for GlmOcr {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let images = Images::of(messages);
        let thinks = conversation.think.is_none_or(Think::is_on);
        let mut out = format!("{START}{}", tools(&conversation.tools));
        for (index, message) in messages.iter().enumerate() {
            match message.role.as_str() {
                Role::SYSTEM => out += &format!("<|system|>\n{}\n", message.content),
                Role::USER => {
                    let content = images.content(messages, index);
                    out += &format!("<|user|>\n{content}");
                    out += if thinks || content.ends_with("/nothink") { "" } else { "/nothink" };
                }
                Role::ASSISTANT => {
                    out += &answer(message);
                    if is_prefill(messages, index) {
                        return Ok(rendered(out.trim_end_matches('\n').to_owned(), conversation));
                    }
                }
                Role::TOOL => {
                    out += if same_role_around(messages, index).0 { "" } else { "<|observation|>" };
                    let content = images.content(messages, index);
                    out += &format!("\n<tool_response>\n{content}\n</tool_response>\n");
                }
                _ => {}
            }
        }
        out += "<|assistant|>\n";
        out += if thinks { "" } else { "<think></think>\n" };
        Ok(rendered(out, conversation))
    }
}

fn answer(message: &Message) -> String {
    let mut out = format!("<|assistant|>\n<think>{}</think>\n", message.thinking.trim());
    let content = message.content.trim();
    if !content.is_empty() {
        out += &format!("{content}\n");
    }
    for made in &message.tool_calls {
        out += &format!("{}\n", call(made));
    }
    out
}

fn call(call: &ToolCall) -> String {
    let arguments = call.function.arguments.iter().map(|(key, value)| {
        let value = json::text_or_json(value, COMPACT);
        format!("<arg_key>{key}</arg_key><arg_value>{value}</arg_value>")
    });
    format!("<tool_call>{}{}</tool_call>", call.function.name, arguments.collect::<String>())
}

fn tools(tools: &[Tool]) -> String {
    if tools.is_empty() {
        return String::new();
    }
    let lines: String = tools.iter().map(|tool| format!("{}\n", json::tool(tool, SPACED))).collect();
    format!(
        "<|system|>\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
         You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{lines}</tools>\n\n\
         For each function call, output the function name and arguments within the following XML format:\n\
         <tool_call>{{function-name}}<arg_key>{{arg-key-1}}</arg_key><arg_value>{{arg-value-1}}</arg_value>\
         <arg_key>{{arg-key-2}}</arg_key><arg_value>{{arg-value-2}}</arg_value>...</tool_call>"
    )
}
