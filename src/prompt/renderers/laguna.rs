//! Poolside's Laguna and its first version: turns as XML elements, calls as key and value pairs, thinking off by default.

use super::json::{self, SPACED};
use super::{Renderer, is_prefill, rendered, split_thinking};
use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::{Message, Role, Think, Tool};

/// Each part on a line of its own.
pub(super) struct Laguna;

/// No line breaks within a turn.
pub(super) struct PoolsideV1;

const START: &str = "〈|EOS|〉";
const DEFAULT_SYSTEM: &str = "You are a helpful, conversationally-fluent assistant made by Poolside. You are here to be \
helpful to users through natural language conversations.";

impl Renderer for Laguna {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let thinks = conversation.think.is_some_and(Think::is_on);
        let (system, rest) = system(messages);
        let mut out = START.to_owned();
        if thinks || !system.is_empty() || !conversation.tools.is_empty() {
            out += "<system>\n";
            out += &if system.is_empty() { String::new() } else { format!("\n{system}") };
            if !conversation.tools.is_empty() {
                out += &format!("\n\n{}\n\n{}", tools(&conversation.tools), how_to_call(thinks));
            }
            out += "\n</system>\n";
        }
        for (index, message) in messages.iter().enumerate().skip(rest) {
            let content = &message.content;
            match message.role.as_str() {
                Role::SYSTEM | Role::USER => out += &format!("<{0}>\n{content}\n</{0}>\n", message.role),
                Role::TOOL => out += &format!("<tool_response>\n{content}\n</tool_response>\n"),
                Role::ASSISTANT => {
                    out += &laguna_answer(message);
                    let is_empty = content.trim().is_empty() && message.thinking.trim().is_empty();
                    if is_prefill(messages, index) && !content.trim().is_empty() {
                        return Ok(rendered(out.trim_end_matches('\n').to_owned(), conversation));
                    }
                    if index + 1 == messages.len() && !(is_empty && message.tool_calls.is_empty()) {
                        return Ok(rendered(out, conversation));
                    }
                    out += "</assistant>\n";
                }
                _ => {}
            }
        }
        if messages.last().is_none_or(|last| last.role != Role::ASSISTANT) {
            out += &format!("<assistant>\n{}", if thinks { "<think>" } else { "</think>" });
        }
        Ok(rendered(out, conversation))
    }

    fn leading_bos(&self) -> Option<&'static str> {
        Some(START)
    }
}

impl Renderer for PoolsideV1 {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let thinks = conversation.think.is_some_and(Think::is_on);
        let (system, rest) = system(messages);
        let mut parts = vec![system.to_owned()];
        parts.extend((!conversation.tools.is_empty()).then(|| tools(&conversation.tools)));
        parts.retain(|part| !part.is_empty());
        let mut out = START.to_owned();
        if thinks || !parts.is_empty() {
            out += &format!("<system>{}</system>\n", parts.join("\n\n"));
        }
        for message in &messages[rest..] {
            let content = &message.content;
            match message.role.as_str() {
                Role::SYSTEM | Role::USER => out += &format!("<{0}>{content}</{0}>\n", message.role),
                Role::TOOL => out += &format!("<tool_response>{content}</tool_response>\n"),
                Role::ASSISTANT => {
                    let thinking =
                        if thinks { format!("<think>{}</think>", message.thinking) } else { "</think>".to_owned() };
                    let calls = calls(message, "");
                    out += &format!("<assistant>{thinking}{content}{calls}</assistant>\n");
                }
                _ => {}
            }
        }
        out += &format!("<assistant>{}", if thinks { "<think>" } else { "</think>" });
        Ok(rendered(out, conversation))
    }

    fn leading_bos(&self) -> Option<&'static str> {
        Some(START)
    }
}

/// The system text, and where the messages after it begin.
fn system(messages: &[Message]) -> (&str, usize) {
    match messages.first() {
        Some(first) if first.role == Role::SYSTEM => (first.content.trim_end(), 1),
        _ => (DEFAULT_SYSTEM, 0),
    }
}

fn laguna_answer(message: &Message) -> String {
    let (thinking, content) = split_thinking(&message.thinking, &message.content);
    let (thinking, content) = (thinking.trim(), content.trim());
    let mut out = "<assistant>\n".to_owned();
    out += &if thinking.is_empty() { "</think>\n".to_owned() } else { format!("<think>\n{thinking}\n</think>\n") };
    out += &if content.is_empty() { String::new() } else { format!("{content}\n") };
    out + &calls(message, "\n")
}

/// The calls, with `line` between their parts.
fn calls(message: &Message, line: &str) -> String {
    let mut out = String::new();
    for call in &message.tool_calls {
        out += &format!("<tool_call>{}{line}", call.function.name);
        for (key, value) in &call.function.arguments {
            let value = json::text_or_json(value, SPACED);
            out += &format!("<arg_key>{key}</arg_key>{line}<arg_value>{value}</arg_value>{line}");
        }
        out += &format!("</tool_call>{line}");
    }
    out
}

fn tools(tools: &[Tool]) -> String {
    let lines: String = tools.iter().map(|tool| format!("{}\n", json::tool(tool, SPACED))).collect();
    format!(
        "### Tools\n\nYou may call functions to assist with the user query.\n\
         All available function signatures are listed below:\n<available_tools>\n{lines}</available_tools>"
    )
}

fn how_to_call(thinks: bool) -> String {
    let (first, example) = if thinks {
        (
            "Wrap your thinking in '<think>', '</think>' tags, followed by a function call. ",
            "<think> your thoughts here </think>\n",
        )
    } else {
        ("", "")
    };
    format!(
        "{first}For each function call, return an unescaped XML-like object with function name and arguments within \
         '<tool_call>' and '</tool_call>' tags, like here:\n{example}<tool_call>function-name\n\
         <arg_key>argument-key</arg_key>\n<arg_value>value-of-argument-key</arg_value>\n</tool_call>"
    )
}
