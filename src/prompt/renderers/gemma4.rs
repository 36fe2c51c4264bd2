//! Gemma 4: calls, results and the answer that follows all inside one model turn; images; thinking in a channel.

use serde_json::{Map, Value};

use super::gemma_value::Notation;
use super::images::Images;
use super::{Renderer, is_prefill, json, rendered};
use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::chat::Properties;
use crate::types::{Message, Property, Role, Think, Tool, ToolCall};

pub(super) struct Gemma4 {
    /// The large models are told with an empty channel not to think.
    is_large: bool,
}

pub(super) static SMALL: Gemma4 = Gemma4 { is_large: false };
pub(super) static LARGE: Gemma4 = Gemma4 { is_large: true };

const START: &str = "<bos>";
const NOTATION: Notation = Notation { quote: "<|\"|>", null: "null" };

impl Renderer for Gemma4 {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let messages = conversation.messages.as_slice();
        let images = Images::of(messages);
        let thinks = conversation.think.is_some_and(Think::is_on);
        let last_user = messages.iter().rposition(|message| message.role == Role::USER);
        let is_system = messages.first().is_some_and(|first| first.role == Role::SYSTEM || first.role == "developer");

        let mut out = START.to_owned();
        if thinks || is_system || !conversation.tools.is_empty() {
            out += "<|turn>system\n";
            out += if thinks { "<|think|>\n" } else { "" };
            out += if is_system { messages[0].content.trim() } else { "" };
            out.extend(conversation.tools.iter().map(declaration));
            out += "<turn|>\n";
        }
        let mut is_closed = true;
        for (index, message) in messages.iter().enumerate().skip(usize::from(is_system)) {
            match message.role.as_str() {
                // Results stand right behind their calls.
                Role::TOOL => {}
                Role::ASSISTANT => {
                    let keeps_thinking = last_user.is_none_or(|last| index > last);
                    (out, is_closed) = answer(out, messages, index, &images, keeps_thinking);
                    if is_prefill(messages, index) {
                        return Ok(rendered(out, conversation));
                    }
                }
                role => {
                    out += &format!("<|turn>{role}\n{}<turn|>\n", images.content(messages, index).trim());
                    is_closed = true;
                }
            }
        }
        let ends_in_result = messages.last().is_some_and(|last| last.role == Role::TOOL);
        out += match (is_closed, self.is_large, thinks) {
            (true, true, false) => "<|turn>model\n<|channel>thought\n<channel|>",
            (true, ..) => "<|turn>model\n",
            // After a result the model thinks on without a new turn.
            (false, _, true) if ends_in_result => "<|channel>thought\n",
            (false, ..) => "",
        };
        Ok(rendered(out, conversation))
    }

    fn leading_bos(&self) -> Option<&'static str> {
        Some(START)
    }
}

/// Adds the model's message with the results of its calls, and says whether a new turn must open for what it writes next.
fn answer(
    mut out: String,
    messages: &[Message],
    index: usize,
    images: &Images,
    keeps_thinking: bool,
) -> (String, bool) {
    let message = &messages[index];
    let has_calls = !message.tool_calls.is_empty();
    out += if continues(messages, index) { "" } else { "<|turn>model\n" };
    if keeps_thinking && !message.thinking.is_empty() {
        out += &format!("<|channel>thought\n{}\n<channel|>", message.thinking);
    }
    for call in &message.tool_calls {
        out += &format!("<|tool_call>{}<tool_call|>", NOTATION.call(call));
    }
    let results = results(messages, index, images);
    let content = without_channels(&images.content(messages, index));
    out += &results;
    out += &content;
    let next = messages[index + 1..].iter().find(|message| message.role != Role::TOOL);
    let goes_on = match next {
        Some(next) => next.role == Role::ASSISTANT,
        None => is_prefill(messages, index) || (has_calls && content.is_empty()),
    };
    out += match (has_calls && results.is_empty(), goes_on) {
        // The call's result is still to come.
        (true, _) => "<|tool_response>",
        (false, true) => "",
        (false, false) => "<turn|>\n",
    };
    (out, !has_calls)
}

/// Whether the model spoke last before this message, results aside: then its turn is still open.
fn continues(messages: &[Message], index: usize) -> bool {
    let previous = messages[..index].iter().rfind(|message| message.role != Role::TOOL);
    previous.is_some_and(|message| message.role == Role::ASSISTANT)
}

fn results(messages: &[Message], index: usize, images: &Images) -> String {
    let calls = &messages[index].tool_calls;
    if calls.is_empty() {
        return String::new();
    }
    let results = messages.iter().enumerate().skip(index + 1).take_while(|(_, message)| message.role == Role::TOOL);
    results
        .map(|(index, message)| {
            let value = NOTATION.string(&images.content(messages, index));
            format!("<|tool_response>response:{}{{value:{value}}}<tool_response|>", result_name(message, calls))
        })
        .collect()
}

fn result_name<'a>(message: &'a Message, calls: &'a [ToolCall]) -> &'a str {
    let by_id = calls.iter().find(|call| !call.id.is_empty() && call.id == message.tool_call_id);
    match (by_id, message.tool_name.as_str()) {
        (Some(call), _) => &call.function.name,
        (None, "") => "unknown",
        (None, name) => name,
    }
}

/// The answer's text without the channels a client may have sent back inside it.
fn without_channels(text: &str) -> String {
    let parts = text.split("<channel|>").map(|part| part.split("<|channel>").next().unwrap_or_default());
    parts.collect::<String>().trim().to_owned()
}

fn declaration(tool: &Tool) -> String {
    let function = &tool.function;
    let parameters = &function.parameters;
    let mut parts = Vec::new();
    if let Some(properties) = properties(parameters.properties.as_ref()) {
        parts.push(properties);
    }
    if !parameters.required.is_empty() {
        parts.push(format!("required:{}", NOTATION.strings(parameters.required.iter().map(String::as_str))));
    }
    if !parameters.kind.is_empty() {
        parts.push(format!("type:{}", NOTATION.string(&parameters.kind.to_uppercase())));
    }
    let mut out =
        format!("<|tool>declaration:{}{{description:{}", function.name, NOTATION.string(&function.description));
    if !parts.is_empty() {
        out += &format!(",parameters:{{{}}}", parts.join(","));
    }
    out + "}<tool|>"
}

fn properties(properties: Option<&Properties>) -> Option<String> {
    let mut list: Vec<_> = properties?.iter().collect();
    list.sort_by_key(|(name, _)| *name);
    let list: Vec<_> = list.iter().map(|(name, property)| format!("{name}:{{{}}}", self::property(property))).collect();
    (!list.is_empty()).then(|| format!("properties:{{{}}}", list.join(",")))
}

fn property(property: &Property) -> String {
    let kinds = kinds(property);
    let mut parts = Vec::new();
    if !property.description.is_empty() {
        parts.push(format!("description:{}", NOTATION.string(&property.description)));
    }
    if !property.variants.is_empty() && kinds == ["STRING"] {
        parts.push(format!("enum:{}", NOTATION.strings(property.variants.iter().filter_map(Value::as_str))));
    }
    if let Some(Value::Object(items)) = &property.items {
        parts.push(format!("items:{{{}}}", schema(items)));
    }
    parts.extend(properties(property.properties.as_ref()));
    if !property.required.is_empty() {
        parts.push(format!("required:{}", NOTATION.strings(property.required.iter().map(String::as_str))));
    }
    parts.extend(type_of(&kinds));
    parts.join(",")
}

fn type_of(kinds: &[String]) -> Option<String> {
    let text = match kinds {
        [] => return None,
        [one] => one.clone(),
        many => format!("[{}]", many.iter().map(|kind| format!("'{kind}'")).collect::<Vec<_>>().join(", ")),
    };
    Some(format!("type:{}", NOTATION.string(&text)))
}

/// The types a property may have; those of its alternatives when all of these are plain.
fn kinds(property: &Property) -> Vec<String> {
    let is_plain = |option: &Property| *option == Property { kind: option.kind.clone(), ..Property::default() };
    let named: Vec<&String> = if property.any_of.iter().all(is_plain) {
        property.kind.iter().chain(property.any_of.iter().flat_map(|option| &option.kind)).collect()
    } else {
        property.kind.iter().collect()
    };
    named.into_iter().map(|kind| kind.to_uppercase()).collect()
}

/// An item's schema, of which only its type and what is below it are known to be schema.
fn schema(map: &Map<String, Value>) -> String {
    let part = |(name, value): &(&String, &Value)| match (name.as_str(), value) {
        ("properties", Value::Object(inner)) => {
            let inner: Vec<_> = json::by_name(inner)
                .iter()
                .map(|(name, value)| match value {
                    Value::Object(map) => format!("{name}:{{{}}}", schema(map)),
                    other => format!("{name}:{}", NOTATION.value(other)),
                })
                .collect();
            format!("properties:{{{}}}", inner.join(","))
        }
        ("items", Value::Object(inner)) => format!("items:{{{}}}", schema(inner)),
        ("type", Value::String(kind)) => format!("type:{}", NOTATION.string(&kind.to_uppercase())),
        (name, value) => format!("{name}:{}", NOTATION.value(value)),
    };
    json::by_name(map).iter().map(part).collect::<Vec<_>>().join(",")
}
