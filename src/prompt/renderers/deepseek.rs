//! DeepSeek 3.1, and Cogito on top of the same tokens.

use super::json::{self, COMPACT};
use super::{Renderer, is_prefill, rendered, same_role_around};
use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::{Message, Role, Think, Tool, ToolCall};

pub(super) struct DeepSeek31;
pub(super) struct Cogito;

const START: &str = "<｜begin▁of▁sentence｜>";
const END: &str = "<｜end▁of▁sentence｜>";
const COGITO: &str = "You are Cogito, an AI assistant created by Deep Cogito, which is an AI research lab based in San \
Francisco.";

impl Renderer for DeepSeek31 {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let systems: Vec<_> = messages
            .iter()
            .filter(|message| message.role == Role::SYSTEM && !message.content.is_empty())
            .map(|message| message.content.as_str())
            .collect();
        let mut out = format!("{START}{}{}", systems.join("\n\n"), deepseek_tools(&conversation.tools));
        // What the model answers to decides how its turn opens: a user's words do, a tool's result goes on with it.
        let (mut after_user, mut after_tool) = (false, false);
        for (index, message) in messages.iter().enumerate() {
            match message.role.as_str() {
                Role::USER => {
                    out += &format!("<｜User｜>{}", message.content);
                    (after_user, after_tool) = (true, false);
                }
                Role::ASSISTANT => {
                    out += if after_user { "<｜Assistant｜></think>" } else { "" };
                    let content = match message.content.split_once("</think>") {
                        Some((_, answer)) if message.tool_calls.is_empty() && !after_tool => answer,
                        _ => &message.content,
                    };
                    out += content;
                    out += &calls(&message.tool_calls, "", |call| {
                        let arguments = json::arguments(&call.function.arguments, COMPACT);
                        format!("{}<｜tool▁sep｜>{arguments}", call.function.name)
                    });
                    out += if is_prefill(messages, index) { "" } else { END };
                    (after_user, after_tool) = (false, false);
                }
                Role::TOOL => {
                    out += &format!("<｜tool▁output▁begin｜>{}<｜tool▁output▁end｜>", message.content);
                    (after_user, after_tool) = (false, true);
                }
                _ => {}
            }
        }
        if after_user {
            out += "<｜Assistant｜>";
            out += if conversation.think.is_some_and(Think::is_on) { "<think>" } else { "</think>" };
        }
        Ok(rendered(out, conversation))
    }

    fn leading_bos(&self) -> Option<&'static str> {
        Some(START)
    }
}

impl Renderer for Cogito {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let thinks = conversation.think.is_some_and(Think::is_on);
        let mut out = START.to_owned();
        out += if thinks { "Enable deep thinking subroutine.\n\n" } else { "" };
        out += COGITO;
        if let Some(system) = messages.first().filter(|first| first.role == Role::SYSTEM && !first.content.is_empty()) {
            out += &format!("\n\n{}{}", system.content, if thinks { "\n\n" } else { "" });
        }
        out += &cogito_tools(&conversation.tools);
        // A user's turn opens the answer at once.
        let mut is_open = false;
        for (index, message) in messages.iter().enumerate() {
            match message.role.as_str() {
                Role::USER => {
                    out += &format!("<｜User｜>{}<｜Assistant｜>", message.content);
                    is_open = true;
                }
                Role::ASSISTANT => {
                    out += &message.content;
                    out += &calls(&message.tool_calls, "\n", |call| {
                        let arguments = json::arguments(&call.function.arguments, COMPACT);
                        format!("function<｜tool▁sep｜>{}\n```json\n{arguments}\n```", call.function.name)
                    });
                    if is_prefill(messages, index) {
                        return Ok(rendered(out, conversation));
                    }
                    out += END;
                    is_open = false;
                }
                Role::TOOL => {
                    out += &cogito_result(messages, index);
                    is_open = false;
                }
                _ => {}
            }
        }
        out += if is_open { "" } else { "<｜Assistant｜>" };
        out += if thinks { "<think>\n" } else { "" };
        Ok(rendered(out, conversation))
    }

    fn leading_bos(&self) -> Option<&'static str> {
        Some(START)
    }
}

fn cogito_result(messages: &[Message], index: usize) -> String {
    let (before, after) = same_role_around(messages, index);
    let open = if before { "\n" } else { "<｜tool▁outputs▁begin｜>" };
    let close = if after { "" } else { "<｜tool▁outputs▁end｜>" };
    format!("{open}<｜tool▁output▁begin｜>{}<｜tool▁output▁end｜>{close}", messages[index].content)
}

fn calls(calls: &[ToolCall], separator: &str, body: impl Fn(&ToolCall) -> String) -> String {
    if calls.is_empty() {
        return String::new();
    }
    let calls: Vec<_> =
        calls.iter().map(|call| format!("<｜tool▁call▁begin｜>{}<｜tool▁call▁end｜>", body(call))).collect();
    format!("<｜tool▁calls▁begin｜>{}<｜tool▁calls▁end｜>", calls.join(separator))
}

fn deepseek_tools(tools: &[Tool]) -> String {
    if tools.is_empty() {
        return String::new();
    }
    let list = tools.iter().map(|tool| {
        let function = json::tidy(tool).function;
        let parameters = json::write(&function.parameters, COMPACT);
        format!("\n### {}\nDescription: {}\n\nParameters: {parameters}\n", function.name, function.description)
    });
    format!(
        "\n\n## Tools\nYou have access to the following tools:\n{}\nIMPORTANT: ALWAYS adhere to this exact format for \
         tool use:\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments\
         <｜tool▁call▁end｜>{{{{additional_tool_calls}}}}<｜tool▁calls▁end｜>\n\nWhere:\n\n\
         - `tool_call_name` must be an exact match to one of the available tools\n\
         - `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n\
         - For multiple tool calls, chain them directly without separators or spaces\n",
        list.collect::<String>()
    )
}

fn cogito_tools(tools: &[Tool]) -> String {
    if tools.is_empty() {
        return String::new();
    }
    let list = tools.iter().map(|tool| format!("```json\n{}\n```\n", json::indented(&json::tool(tool, COMPACT))));
    format!("\nYou have the following functions available:\n{}", list.collect::<String>())
}
