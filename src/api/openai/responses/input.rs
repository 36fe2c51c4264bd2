//! What was said and done so far, as messages.

use serde_json::{Map, Value};

use super::tools::{INPUT, full};
use crate::api::error::ApiError;
use crate::api::openai::convert::{image, tool_name};
use crate::types::{Function, Message, Role, ToolCall};
use crate::wire::openai::responses::{Input, Item, Part, ResponsesRequest};

/// The conversation, with the instructions first.
///
/// # Errors
/// Files, images that are no images, arguments that are no object.
pub(super) fn messages(instructions: &str, input: Option<Input>) -> Result<Vec<Message>, ApiError> {
    let mut messages = Messages::default();
    if !instructions.is_empty() {
        messages.all.push(Message::text(Role::SYSTEM, instructions));
    }
    match input {
        None => {}
        Some(Input::Text(text)) => messages.all.push(Message::text(Role::USER, text)),
        Some(Input::Items(items)) => items.into_iter().try_for_each(|item| messages.add(item))?,
    }
    Ok(messages.all)
}

#[derive(Default)]
struct Messages {
    all: Vec<Message>,
    /// Of the assistant's message or call that comes next.
    thinking: String,
}

impl Messages {
    fn add(&mut self, item: Item) -> Result<(), ApiError> {
        match item {
            Item::Message { role, content } => {
                // OpenAI's newer name, which few models were taught
                let role = if role == "developer" { Role::SYSTEM } else { &role };
                let message = message(role, content)?;
                if message.role == *Role::ASSISTANT { self.say(message) } else { self.other(message) }
            }
            Item::Call { id, namespace, name, arguments } => {
                let arguments = match arguments.as_str() {
                    "" => Map::new(),
                    text => serde_json::from_str(text).map_err(|_| ApiError::invalid("invalid tool call arguments"))?,
                };
                self.call(id, full(&namespace, &name), arguments);
            }
            Item::CustomCall { id, namespace, name, input } => {
                let arguments = Map::from_iter([(INPUT.to_owned(), Value::String(input))]);
                self.call(id, full(&namespace, &name), arguments);
            }
            Item::Result { id, output } => {
                let tool_name = tool_name(String::new(), &id, &self.all);
                self.other(Message { tool_name, tool_call_id: id, ..message(Role::TOOL, output)? });
            }
            Item::Reasoning(text) => join(&mut self.thinking, &text),
            Item::Search => {}
        }
        Ok(())
    }

    /// What is said between a call and its result belongs to the call's message: templates want them side by side.
    fn say(&mut self, message: Message) {
        let thinking = std::mem::take(&mut self.thinking);
        match self.all.last_mut() {
            Some(last) if !last.tool_calls.is_empty() => {
                join(&mut last.thinking, &thinking);
                join(&mut last.content, &message.content);
                last.images.extend(message.images);
            }
            _ => self.all.push(Message { thinking, ..message }),
        }
    }

    fn call(&mut self, id: String, name: String, arguments: Map<String, Value>) {
        if self.all.last().is_none_or(|last| last.role != *Role::ASSISTANT) {
            self.all.push(Message::text(Role::ASSISTANT, ""));
        }
        let thinking = std::mem::take(&mut self.thinking);
        if let Some(last) = self.all.last_mut() {
            join(&mut last.thinking, &thinking);
            let index = last.tool_calls.len();
            last.tool_calls.push(ToolCall { id, function: Function { index, name, arguments } });
        }
    }

    /// All that a system says at the beginning is one message: many templates have room for no more.
    fn other(&mut self, message: Message) {
        self.thinking.clear();
        match self.all.as_mut_slice() {
            [first] if first.role == *Role::SYSTEM && message.role == *Role::SYSTEM => {
                first.content.push_str("\n\n");
                first.content.push_str(&message.content);
                first.images.extend(message.images);
            }
            _ => self.all.push(message),
        }
    }
}

/// Texts of two items, on lines of their own.
fn join(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(more);
}

fn message(role: &str, content: Vec<Part>) -> Result<Message, ApiError> {
    let mut message = Message::text(role, "");
    for part in content {
        match part {
            Part::Text(text) => message.content.push_str(&text),
            Part::Image(url) if url.is_empty() => {}
            Part::Image(url) => message.images.push(image(&url)?),
            Part::File => return Err(ApiError::invalid("file inputs are not currently supported")),
        }
    }
    Ok(message)
}

/// The options of a request. OpenAI's own default of the temperature is Ollama's here, that of `top_p` is not.
pub(super) fn options(request: &ResponsesRequest) -> Map<String, Value> {
    let mut options = Map::new();
    options.insert("temperature".into(), request.temperature.unwrap_or(1.0).into());
    let more = [("top_p", request.top_p.map(Value::from)), ("num_predict", request.max_output_tokens.map(Value::from))];
    options.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::go_json::decode;

    fn read(items: &str) -> Result<Vec<Message>, String> {
        let input = decode(items.as_bytes()).map_err(|error| error.to_string())?;
        messages("be brief", Some(input)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_turn_of_calls_is_one_message() {
        let messages = read(
            r#"[{"role":"user","content":"so?"},{"type":"reasoning","encrypted_content":"hm"},
            {"type":"function_call","call_id":"c1","namespace":"ns","name":"f","arguments":"{\"b\":1,\"a\":2}"},
            {"type":"function_call","call_id":"c2","name":"g","arguments":""},
            {"type":"custom_tool_call","call_id":"c3","name":"h","input":"i"},
            {"role":"assistant","content":[{"type":"output_text","text":"a moment"}]},
            {"type":"function_call_output","call_id":"c1","output":"1"},
            {"type":"custom_tool_call_output","call_id":"c2","output":[{"type":"input_text","text":"2"}]},
            {"role":"assistant","content":"3"}]"#,
        )
        .unwrap();
        let seen: Vec<_> = messages.iter().map(|one| (one.role.as_str(), one.content.as_str())).collect();
        let rest = [("user", "so?"), ("assistant", "a moment"), ("tool", "1"), ("tool", "2"), ("assistant", "3")];
        assert_eq!(seen, [&[("system", "be brief")][..], &rest].concat());
        let turn = &messages[2];
        let calls: Vec<_> =
            turn.tool_calls.iter().map(|call| (call.id.as_str(), call.function.name.as_str())).collect();
        assert_eq!((turn.thinking.as_str(), calls), ("hm", vec![("c1", "ns.f"), ("c2", "g"), ("c3", "h")]));
        assert_eq!(turn.tool_calls[2].function.arguments["input"], "i");
        assert_eq!(turn.tool_calls[0].function.arguments.keys().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!((turn.tool_calls[1].function.index, messages[3].tool_name.as_str()), (1, "ns.f"));
    }

    #[test]
    fn developers_are_the_system() {
        let messages = read(
            r#"[{"role":"developer","content":"a"},{"role":"system","content":"b"},{"role":"user","content":"c"},
            {"role":"developer","content":"d"}]"#,
        )
        .unwrap();
        let seen: Vec<_> = messages.iter().map(|one| (one.role.as_str(), one.content.as_str())).collect();
        assert_eq!(seen, [("system", "be brief\n\na\n\nb"), ("user", "c"), ("system", "d")]);
    }

    #[test]
    fn thinking_of_another_turn_is_not_this_one_s() {
        let messages = read(
            r#"[{"type":"reasoning","summary":[{"type":"summary_text","text":"old"}]},{"role":"user","content":"a"},
            {"role":"assistant","content":"b"}]"#,
        )
        .unwrap();
        assert_eq!(messages[2].thinking, "");
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (item, error) in [
            (r#"{"role":"user","content":[{"type":"input_file"}]}"#, "file inputs are not currently supported"),
            (r#"{"role":"user","content":[{"type":"input_image","image_url":"x"}]}"#, "invalid image input"),
            (r#"{"type":"function_call","name":"f","arguments":"[]"}"#, "invalid tool call arguments"),
        ] {
            assert_eq!(read(&format!("[{item}]")).unwrap_err(), error, "{item}");
        }
        let images = r#"{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,AQI="},
            {"type":"input_image","file_id":"elsewhere"}]}"#;
        let messages = read(&format!("[{images}]")).unwrap();
        assert_eq!(messages[1].images.iter().map(|image| image.0.to_vec()).collect::<Vec<_>>(), [[1, 2]]);
    }
}
