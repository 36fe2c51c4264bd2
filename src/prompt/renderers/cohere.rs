//! Cohere Command: turns framed by tokens, a tool section that is always there, calls numbered through the conversation.

use std::collections::HashMap;

use super::json::{self, SPACED};
use super::{Renderer, rendered, same_role_around};
use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::{Message, Role, Think, Tool};

pub(super) struct Cohere;

const TURN: &str = "<|START_OF_TURN_TOKEN|>";
const END_OF_TURN: &str = "<|END_OF_TURN_TOKEN|>";

impl Renderer for Cohere {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let is_system = messages.first().is_some_and(|first| first.role == Role::SYSTEM);
        let system = if is_system { messages[0].content.as_str() } else { "" };
        let gap = if system.is_empty() { "" } else { "\n\n\n\n" };
        let mut out = text_turn("SYSTEM", &format!("{system}{gap}{}", tools(&conversation.tools)));

        let mut calls = Calls::default();
        for (index, message) in messages.iter().enumerate().skip(usize::from(is_system)) {
            match message.role.as_str() {
                Role::SYSTEM => out += &text_turn("SYSTEM", &message.content),
                Role::USER => out += &text_turn("USER", &message.content),
                Role::ASSISTANT | "chatbot" if !message.tool_calls.is_empty() => out += &calls.turn(message),
                Role::ASSISTANT | "chatbot" => {
                    out += &format!("{TURN}<|CHATBOT_TOKEN|>{}<|START_TEXT|>{}", thinking(message), message.content);
                    if index + 1 == messages.len() {
                        return Ok(rendered(out, conversation));
                    }
                    out += &format!("<|END_TEXT|>{END_OF_TURN}");
                }
                Role::TOOL => {
                    let (before, after) = same_role_around(messages, index);
                    out +=
                        &if before { ",".to_owned() } else { format!("{TURN}<|SYSTEM_TOKEN|><|START_TOOL_RESULT|>[") };
                    out += &calls.result(message);
                    out += &if after { String::new() } else { format!("\n\n]<|END_TOOL_RESULT|>{END_OF_TURN}") };
                }
                _ => {}
            }
        }
        out += &format!("{TURN}<|CHATBOT_TOKEN|><|START_THINKING|>");
        out += if conversation.think.is_none_or(Think::is_on) { "" } else { "<|END_THINKING|>" };
        Ok(rendered(out, conversation))
    }

    fn leading_bos(&self) -> Option<&'static str> {
        Some("<BOS_TOKEN>")
    }
}

fn text_turn(who: &str, text: &str) -> String {
    format!("{TURN}<|{who}_TOKEN|><|START_TEXT|>{text}<|END_TEXT|>{END_OF_TURN}")
}

fn thinking(message: &Message) -> String {
    match message.thinking.as_str() {
        "" => String::new(),
        thinking => format!("<|START_THINKING|>{thinking}<|END_THINKING|>"),
    }
}

/// The calls so far. The model knows them by number, the client by its own ids.
#[derive(Default)]
struct Calls {
    count: usize,
    numbers: HashMap<String, String>,
}

impl Calls {
    fn turn(&mut self, message: &Message) -> String {
        let mut list = Vec::new();
        for call in &message.tool_calls {
            let number = self.count.to_string();
            self.count += 1;
            let name = json::write(&call.function.name, SPACED);
            let arguments = json::arguments(&call.function.arguments, SPACED);
            list.push(format!(r#"    {{"tool_call_id": "{number}", "tool_name": {name}, "parameters": {arguments}}}"#));
            if !call.id.is_empty() {
                self.numbers.entry(call.id.clone()).or_insert(number);
            }
        }
        // The model's own template leaves these blanks behind.
        format!(
            "{TURN}<|CHATBOT_TOKEN|>\n            \n                {}<|START_ACTION|>[\n\n{}\n\n]<|END_ACTION|>\
             {END_OF_TURN}",
            thinking(message),
            list.join(",\n\n")
        )
    }

    fn result(&self, message: &Message) -> String {
        let id = self.numbers.get(&message.tool_call_id).unwrap_or(&message.tool_call_id);
        let (id, content) = (json::write(id, SPACED), json::write(&message.content, SPACED));
        format!(
            "\n    {{\n        \"tool_call_id\": {id},\n        \"results\": {{\n\n            \n            \
             \"0\": {{\"content\": {content}}}\n\n        }},\n        \"is_error\": null\n    }}"
        )
    }
}

fn tools(tools: &[Tool]) -> String {
    let list: Vec<_> = tools
        .iter()
        .map(|tool| {
            let function = json::function(tool, true, true);
            let open = function.strip_suffix('}').expect("an object ends in a brace: a bug");
            format!("    {open}, \"responses\": null}}")
        })
        .collect();
    let end = if list.is_empty() { "" } else { "\n" };
    format!("# Available Tools\n```json\n[\n\n{}{end}\n\n]\n```", list.join(",\n\n\n"))
}
