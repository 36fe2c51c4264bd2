//! What a request brings: text, or a list of what was said and done so far.

use std::borrow::Cow;

use serde_json::Value;

use crate::wire::go_json::{Context, Decode, JsonError, Kind, Node, decode_struct};

#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Text(String),
    Items(Vec<Item>),
}

impl Default for Input {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Message {
        role: String,
        content: Vec<Part>,
    },
    Call {
        id: String,
        /// That of the tool, when it is apart from its name.
        namespace: String,
        name: String,
        /// JSON text.
        arguments: String,
    },
    /// A call of a tool that takes a text of its own form.
    CustomCall {
        id: String,
        namespace: String,
        name: String,
        input: String,
    },
    /// A call's result.
    Result {
        id: String,
        output: Vec<Part>,
    },
    Reasoning(String),
    /// A search that another server made.
    Search,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Text(String),
    /// A data URI; empty when the image is a file on another server.
    Image(String),
    File,
}

/// The fields of all kinds of items.
#[derive(Default)]
struct Fields {
    kind: String,
    role: String,
    content: Value,
    call_id: String,
    namespace: String,
    name: String,
    arguments: String,
    input: String,
    output: Value,
    encrypted_content: String,
    summary: Value,
}

decode_struct!(Fields as "openai" "ResponsesInputItem" {
    "type" => kind,
    "role" => role,
    "content" => content,
    "call_id" => call_id,
    "namespace" => namespace,
    "name" => name,
    "arguments" => arguments,
    "input" => input,
    "output" => output,
    "encrypted_content" => encrypted_content,
    "summary" => summary,
});

/// Its first fault ends the decoding, as that of a Go type with a decoder of its own.
impl Decode for Input {
    fn go_type() -> Cow<'static, str> {
        "openai.ResponsesInput".into()
    }

    fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError> {
        match &node.kind {
            Kind::Null => {}
            Kind::String(text) => *self = Self::Text(text.clone().into_owned()),
            Kind::Array(nodes) => {
                let mut items = Vec::new();
                for (index, node) in nodes.iter().enumerate() {
                    let mut fields = Fields::default();
                    let item = context.custom(|context| fields.decode(node, context)).and_then(|()| fields.item());
                    items.push(item.map_err(|error| JsonError::Custom(format!("input[{index}]: {error}")))?);
                }
                *self = Self::Items(items);
            }
            _ => {
                return Err(JsonError::Custom(format!(
                    "input must be a string or array: json: cannot unmarshal {} into Go value of type \
                     []json.RawMessage",
                    node.word()
                )));
            }
        }
        Ok(())
    }
}

impl Fields {
    fn item(self) -> Result<Item, JsonError> {
        let kind = if self.kind.is_empty() && !self.role.is_empty() { "message" } else { &self.kind };
        Ok(match kind {
            "message" => Item::Message { role: self.role, content: parts("content", &self.content)? },
            "function_call" => {
                Item::Call { id: self.call_id, namespace: self.namespace, name: self.name, arguments: self.arguments }
            }
            "custom_tool_call" => {
                Item::CustomCall { id: self.call_id, namespace: self.namespace, name: self.name, input: self.input }
            }
            "function_call_output" | "custom_tool_call_output" => {
                Item::Result { id: self.call_id, output: parts("output", &self.output)? }
            }
            "reasoning" => Item::Reasoning(self.thinking()),
            "web_search_call" => Item::Search,
            "" => return Err(JsonError::Custom("input item missing required 'type' field".into())),
            other => return Err(JsonError::Custom(format!("unknown input item type: {other:?}"))),
        })
    }

    /// Our own answers have it as `encrypted_content`, which is no secret; others at least sum it up.
    fn thinking(self) -> String {
        if !self.encrypted_content.is_empty() {
            return self.encrypted_content;
        }
        let texts = |list: &Value| -> String {
            let parts = list.as_array().into_iter().flatten();
            parts.filter_map(|part| part["text"].as_str()).collect()
        };
        let whole = texts(&self.content);
        if whole.is_empty() { texts(&self.summary) } else { whole }
    }
}

/// Text, or parts of texts and images.
fn parts(field: &str, content: &Value) -> Result<Vec<Part>, JsonError> {
    let list = match content {
        Value::Null => return Ok(Vec::new()),
        Value::String(text) => return Ok(vec![Part::Text(text.clone())]),
        Value::Array(list) => list,
        _ => return Err(JsonError::Custom(format!("{field} must be a string or array"))),
    };
    let part = |(index, part): (usize, &Value)| {
        let text = |name: &str| part[name].as_str().unwrap_or_default().to_owned();
        match part["type"].as_str().unwrap_or_default() {
            "input_text" | "output_text" => Ok(Part::Text(text("text"))),
            "input_image" => Ok(Part::Image(text("image_url"))),
            "input_file" => Ok(Part::File),
            other => Err(JsonError::Custom(format!("{field}[{index}]: unknown content type: {other}"))),
        }
    };
    list.iter().enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::go_json::decode;

    #[test]
    fn items() {
        let items: Input = decode(
            br#"[{"role":"user","content":"a"},{"TYPE":"message","role":"user","content":[{"type":"input_text","text":"b"},
            {"type":"input_image","image_url":"data:,"}]},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},
            {"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"d"}]},
            {"type":"reasoning","summary":[{"type":"summary_text","text":"e"}],"encrypted_content":null}]"#,
        )
        .unwrap();
        let text = |text: &str| Part::Text(text.into());
        let message = |content| Item::Message { role: "user".into(), content };
        let call = Item::Call { id: "c".into(), namespace: String::new(), name: "f".into(), arguments: "{}".into() };
        let result = Item::Result { id: "c".into(), output: vec![text("d")] };
        let second = message(vec![text("b"), Part::Image("data:,".into())]);
        let all = vec![message(vec![text("a")]), second, call, result, Item::Reasoning("e".into())];
        assert_eq!(items, Input::Items(all));
    }

    #[test]
    fn faults() {
        for (body, fault) in [
            (
                "7",
                "input must be a string or array: json: cannot unmarshal number into Go value of type []json.RawMessage",
            ),
            ("[{}]", "input[0]: input item missing required 'type' field"),
            (r#"[{"role":"user"},{"type":"x"}]"#, "input[1]: unknown input item type: \"x\""),
            (r#"[{"role":"user","content":[{"type":"x"}]}]"#, "input[0]: content[0]: unknown content type: x"),
            (r#"[{"type":"function_call_output","output":7}]"#, "input[0]: output must be a string or array"),
        ] {
            assert_eq!(decode::<Input>(body.as_bytes()).unwrap_err().to_string(), fault, "{body}");
        }
    }
}
