//! `/api/chat`: messages, tools and tool calls.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{DebugInfo, Logprob, Metrics};
use crate::types::{Image, KeepAlive, Property, Think, Tool, ToolFunction, ToolParameters};
use crate::wire::go_json::{Context, Decode, JsonError, Kind, Node, Raw, decode_struct};

#[derive(Clone, Debug, Default)]
pub struct ChatRequest {
    pub model: String,
    pub messages: Vec<Message>,
    pub stream: Option<bool>,
    pub format: Raw,
    pub keep_alive: Option<KeepAlive>,
    pub tools: Tools,
    pub options: Map<String, Value>,
    pub think: Option<Think>,
    pub truncate: Option<bool>,
    pub shift: Option<bool>,
    pub debug_render_only: bool,
    pub logprobs: bool,
    pub top_logprobs: i64,
}

decode_struct!(ChatRequest as "api" "ChatRequest" {
    "model" => model,
    "messages" => messages,
    "stream" => stream,
    "format" => format,
    "keep_alive" => keep_alive,
    "tools" => tools,
    "options" => options,
    "think" => think,
    "truncate" => truncate,
    "shift" => shift,
    "_debug_render_only" => debug_render_only,
    "logprobs" => logprobs,
    "top_logprobs" => top_logprobs,
});

#[derive(Clone, Debug, Default, Serialize)]
pub struct Message {
    pub role: String,
    pub content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub thinking: String,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "base64")]
    pub images: Vec<Image>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tool_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tool_call_id: String,
}

fn base64<S: Serializer>(images: &[Image], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(images.iter().map(|image| STANDARD.encode(&image.0)))
}

/// The fields of a [`Message`], for its own decoder.
#[derive(Default)]
struct Fields {
    message: Message,
}

decode_struct!(Fields as "api" "Alias" {
    "role" => message.role,
    "content" => message.content,
    "thinking" => message.thinking,
    "images" => message.images,
    "tool_calls" => message.tool_calls,
    "tool_name" => message.tool_name,
    "tool_call_id" => message.tool_call_id,
});

/// Ollama decodes a message by itself, to put its role in lower case.
impl Decode for Message {
    fn go_type() -> Cow<'static, str> {
        "api.Message".into()
    }

    fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError> {
        let mut fields = Fields { message: std::mem::take(self) };
        context.custom(|context| fields.decode(node, context))?;
        *self = fields.message;
        self.role = self.role.to_lowercase();
        Ok(())
    }
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct ToolCall {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    pub function: ToolCallFunction,
}

decode_struct!(ToolCall as "api" "ToolCall" { "id" => id, "function" => function });

#[derive(Clone, Debug, Default, Serialize)]
pub struct ToolCallFunction {
    pub index: i64,
    pub name: String,
    /// In the model's own order.
    pub arguments: Map<String, Value>,
}

decode_struct!(ToolCallFunction as "api" "ToolCallFunction" {
    "index" => index,
    "name" => name,
    "arguments" => arguments,
});

/// The tools of a request; each keeps the JSON it came as.
#[derive(Clone, Debug, Default)]
pub struct Tools(pub Vec<Tool>);

impl Decode for Tools {
    fn go_type() -> Cow<'static, str> {
        "api.Tools".into()
    }

    fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError> {
        match &node.kind {
            Kind::Array(items) => {
                self.0.clear();
                for item in items {
                    let mut tool = Tool::default();
                    tool.decode(item, context)?;
                    tool.raw.decode(item, context)?;
                    self.0.push(tool);
                }
            }
            Kind::Null => self.0.clear(),
            _ => context.mismatch(node, "api.Tools"),
        }
        Ok(())
    }
}

decode_struct!(Tool as "api" "Tool" { "type" => kind, "items" => items, "function" => function });

decode_struct!(ToolFunction as "api" "ToolFunction" {
    "name" => name,
    "description" => description,
    "parameters" => parameters,
});

decode_struct!(ToolParameters as "api" "ToolFunctionParameters" {
    "type" => kind,
    "$defs" => defs,
    "items" => items,
    "required" => required,
    "properties" => properties,
});

impl Decode for Property {
    fn go_type() -> Cow<'static, str> {
        "api.ToolProperty".into()
    }

    fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError> {
        const STRUCT: &str = "ToolProperty";
        for (key, value) in context.entries(node, "api.ToolProperty").unwrap_or_default() {
            match &**key {
                "anyOf" => context.field(STRUCT, "anyOf", value, &mut self.any_of)?,
                "type" => match &value.kind {
                    Kind::String(kind) => self.kind = vec![kind.clone().into_owned()],
                    _ => context.field(STRUCT, "type", value, &mut self.kind)?,
                },
                "items" => context.field(STRUCT, "items", value, &mut self.items)?,
                "description" => context.field(STRUCT, "description", value, &mut self.description)?,
                "enum" => context.field(STRUCT, "enum", value, &mut self.variants)?,
                "properties" => context.field(STRUCT, "properties", value, &mut self.properties)?,
                "required" => context.field(STRUCT, "required", value, &mut self.required)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// One line of an answer, or all of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChatResponse {
    pub model: String,
    pub created_at: String,
    pub message: Message,
    pub done: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub done_reason: &'static str,
    #[serde(rename = "_debug_info", skip_serializing_if = "Option::is_none")]
    pub debug_info: Option<DebugInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<Logprob>,
    #[serde(flatten)]
    pub metrics: Metrics,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::go_json::decode;
    use crate::wire::ollama::{CopyRequest, EmbedRequest, GenerateRequest, PullRequest};

    fn error<T: Decode>(body: &str) -> String {
        match decode::<T>(body.as_bytes()) {
            Ok(_) => panic!("{body} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn wrong_types_are_told_as_go_tells_them() {
        for (body, text) in [
            ("[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
            ("{\"model\":7}", "json: cannot unmarshal number into Go struct field ChatRequest.model of type string"),
            (
                "{\"stream\":\"x\"}",
                "json: cannot unmarshal string into Go struct field ChatRequest.stream of type bool",
            ),
            (
                "{\"messages\":[{\"content\":[]}]}",
                "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string",
            ),
            (
                "{\"model\":7,\"messages\":[{\"tool_calls\":[{\"function\":{\"name\":1}}]}]}",
                "json: cannot unmarshal number into Go struct field ChatRequest.messages.tool_calls.function.name of type string",
            ),
            (
                "{\"tools\":\"x\"}",
                "json: cannot unmarshal string into Go struct field ChatRequest.tools of type api.Tools",
            ),
            (
                "{\"tools\":[{\"function\":{\"name\":1}}]}",
                "json: cannot unmarshal number into Go struct field ToolFunction.tools.function.name of type string",
            ),
            (
                "{\"model\":7,\"think\":[]}",
                "think must be a boolean or string (\"high\", \"medium\", \"low\", \"max\", true, or false)",
            ),
        ] {
            assert_eq!(error::<ChatRequest>(body), text, "{body}");
        }
        for (body, text) in [
            (
                "{\"options\":7}",
                "json: cannot unmarshal number into Go struct field GenerateRequest.options of type map[string]interface {}",
            ),
            (
                "{\"top_logprobs\":1.5}",
                "json: cannot unmarshal number 1.5 into Go struct field GenerateRequest.top_logprobs of type int",
            ),
            (
                "{\"options\":{\"seed\":1e400}}",
                "json: cannot unmarshal number 1e400 into Go struct field GenerateRequest.options of type float64",
            ),
            (
                "{\"images\":\"x\"}",
                "json: cannot unmarshal string into Go struct field GenerateRequest.images of type []api.ImageData",
            ),
            ("{\"images\":[\"!!!\"]}", "illegal base64 data at input byte 0"),
            ("{\"images\":[\"AAAAab\"]}", "illegal base64 data at input byte 4"),
            ("{\"keep_alive\":\"10\"}", "time: missing unit in duration \"10\""),
            ("{\"keep_alive\":{}}", "Unsupported type: 'map[string]interface {}'"),
        ] {
            assert_eq!(error::<GenerateRequest>(body), text, "{body}");
        }
        assert_eq!(
            error::<CopyRequest>("{\"source\":7}"),
            "json: cannot unmarshal number into Go struct field CopyRequest.source of type string"
        );
        assert_eq!(error::<EmbedRequest>("{\"truncate\":1}").split(' ').next_back(), Some("bool"));
        assert_eq!(error::<PullRequest>(""), "EOF");
    }

    #[test]
    fn lenient_as_go() {
        let body = br#"{"MODEL":"a","model":"b","nope":{},"Messages":[{"role":"USER"},null],"stream":false,"stream":null} junk"#;
        let request: ChatRequest = decode(body).unwrap();
        assert_eq!((request.model.as_str(), request.messages.len(), request.stream), ("b", 2, None));
        assert_eq!(request.messages[0].role, "user");
        let zero: ChatRequest = decode(b"null").unwrap();
        assert!(zero.model.is_empty());
    }

    #[test]
    fn tools_keep_their_order_and_their_text() {
        let body = br#"{"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object",
            "properties":{"z":{"type":["string","null"],"minimum":1},"a":{"type":"integer"}}}}}]}"#;
        let request: ChatRequest = decode(body).unwrap();
        let tool = &request.tools.0[0];
        let properties = tool.function.parameters.properties.as_ref().unwrap();
        assert_eq!(properties.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["z", "a"]);
        assert_eq!(properties.get("z").unwrap().kind, ["string", "null"]);
        assert_eq!(tool.raw["function"]["parameters"]["properties"]["z"]["minimum"], 1);
    }
}
