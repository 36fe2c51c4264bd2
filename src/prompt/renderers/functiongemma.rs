//! FunctionGemma: a small model for calls only. Tools, calls and results each have their own tokens.

use super::gemma_value::Notation;
use super::{Renderer, is_prefill, rendered};
use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::chat::Properties;
use crate::types::{Message, Property, Role, Tool};

pub(super) struct FunctionGemma;

const START: &str = "<bos>";
const NOTATION: Notation = Notation { quote: "<escape>", null: "<nil>" };

impl Renderer for FunctionGemma {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let is_system = messages.first().is_some_and(|first| first.role == Role::SYSTEM || first.role == "developer");
        let mut system = if is_system { messages[0].content.trim().to_owned() } else { String::new() };
        if !conversation.tools.is_empty() {
            system += if system.is_empty() { "" } else { "\n" };
            system += "You can do function calling with the following functions:";
            system.extend(conversation.tools.iter().map(declaration));
        }
        let mut out = START.to_owned();
        if !system.is_empty() {
            out += &format!("<start_of_turn>developer\n{system}<end_of_turn>\n");
        }
        for (index, message) in messages.iter().enumerate().skip(usize::from(is_system)) {
            // As the model's own template has it, nobody's turn opens right behind a result.
            let is_open = index.checked_sub(1).is_some_and(|previous| messages[previous].role == Role::TOOL);
            let content = message.content.trim();
            let role = match message.role.as_str() {
                Role::TOOL => {
                    let name = called(messages, index);
                    let value = NOTATION.string(&message.content);
                    out += &format!("<start_function_response>response:{name}{{{value}}}<end_function_response>");
                    continue;
                }
                Role::ASSISTANT => "model",
                role => role,
            };
            out += &if is_open { String::new() } else { format!("<start_of_turn>{role}\n") };
            out += content;
            for call in &message.tool_calls {
                out += &format!("<start_function_call>{}<end_function_call>", NOTATION.call(call));
            }
            if is_prefill(messages, index) {
                return Ok(rendered(out, conversation));
            }
            let answered = messages.get(index + 1).is_some_and(|next| next.role == Role::TOOL);
            out += if answered && !message.tool_calls.is_empty() { "" } else { "<end_of_turn>\n" };
        }
        if messages.last().is_none_or(|last| last.role != Role::TOOL) {
            out += "<start_of_turn>model\n";
        }
        Ok(rendered(out, conversation))
    }

    fn leading_bos(&self) -> Option<&'static str> {
        Some(START)
    }
}

/// The tool whose result this is: results answer the calls before them in their order.
fn called(messages: &[Message], index: usize) -> &str {
    let Some(caller) = messages[..index].iter().rposition(|message| message.role != Role::TOOL) else {
        return "";
    };
    messages[caller].tool_calls.get(index - caller - 1).map_or("", |call| &call.function.name)
}

fn declaration(tool: &Tool) -> String {
    let function = &tool.function;
    let parameters = &function.parameters;
    let mut parts = Vec::new();
    let mut properties: Vec<_> = parameters.properties.iter().flat_map(Properties::iter).collect();
    properties.sort_by_key(|(name, _)| *name);
    if !properties.is_empty() {
        let list: Vec<_> = properties.iter().map(|(name, property)| self::property(name, property)).collect();
        parts.push(format!("properties:{{{}}}", list.join(",")));
    }
    if !parameters.required.is_empty() {
        parts.push(format!("required:{}", NOTATION.strings(parameters.required.iter().map(String::as_str))));
    }
    if !parameters.kind.is_empty() {
        parts.push(format!("type:{}", NOTATION.string(&parameters.kind.to_uppercase())));
    }
    let description = NOTATION.string(&function.description);
    let parameters = if parts.is_empty() { String::new() } else { format!(",parameters:{{{}}}", parts.join(",")) };
    format!(
        "<start_function_declaration>declaration:{}{{description:{description}{parameters}}}<end_function_declaration>",
        function.name
    )
}

fn property(name: &str, property: &Property) -> String {
    let mut out = format!("{name}:{{description:{}", NOTATION.string(&property.description));
    if let Some(kind) = property.kind.first() {
        out += &format!(",type:{}", NOTATION.string(&kind.to_uppercase()));
    }
    out + "}"
}
