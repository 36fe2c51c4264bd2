//! Tools, and namespaces of them: to a model each tool has one name, to the client its namespace stands apart.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::id;
use crate::types::{Function, Tool, ToolCall, ToolFunction};
use crate::wire::go_json::decode;
use crate::wire::openai::responses::{self as wire, Call, Given, by_name};

/// The type of tools that take a text of their own form.
const CUSTOM: &str = "custom";
/// What a custom tool's text is called to a model, which knows only functions.
pub(super) const INPUT: &str = "input";

/// A tool's name with that of its namespace, if it has one.
pub(super) fn full(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// Those that the model is told of. A search of the web would leave this machine, and what has no name cannot be called.
pub(super) fn offered(mut tools: Vec<wire::Tool>) -> Vec<wire::Tool> {
    tools.retain(|tool| !tool.kind.starts_with("web_search") && !tool.name.is_empty());
    for tool in &mut tools {
        tool.tools = offered(std::mem::take(&mut tool.tools));
    }
    tools
}

/// As answers repeat them, out of a hash table in Ollama. To the model they are in their author's order.
pub(super) fn told(mut tools: Vec<wire::Tool>) -> Vec<wire::Tool> {
    for tool in &mut tools {
        tool.parameters = by_name(std::mem::take(&mut tool.parameters));
        tool.tools = told(std::mem::take(&mut tool.tools));
    }
    tools
}

/// Every tool under its one name. Of whatever type they are, to a model they are functions.
///
/// # Errors
/// A schema that is none.
pub(super) fn all(tools: &[wire::Tool]) -> Result<Vec<Tool>, ApiError> {
    each(tools).map(|(space, tool)| one(tool, full(space, &tool.name))).collect()
}

/// The tools with their namespaces; of what is in no namespace, that is empty.
fn each(tools: &[wire::Tool]) -> impl Iterator<Item = (&str, &wire::Tool)> {
    tools.iter().flat_map(|tool| {
        let (space, inner) = if tool.kind == "namespace" {
            (tool.name.as_str(), &tool.tools[..])
        } else {
            ("", std::slice::from_ref(tool))
        };
        inner.iter().map(move |tool| (space, tool))
    })
}

fn one(tool: &wire::Tool, name: String) -> Result<Tool, ApiError> {
    let bare = match tool.kind.as_str() {
        CUSTOM => json!({ "type": "object", "properties": { INPUT: { "type": "string" } }, "required": [INPUT] }),
        _ => json!({ "type": "object", "properties": {} }),
    };
    let schema = if tool.parameters.is_null() { &bare } else { &tool.parameters };
    let parameters = decode(schema.to_string().as_bytes())
        .map_err(|error| ApiError::Invalid(format!("invalid parameters for tool {name:?}: {error}")))?;
    let description = tool.description.clone().unwrap_or_default();
    let raw = json!({
        "type": "function", "function": { "name": name, "description": description, "parameters": schema }
    });
    Ok(Tool { kind: "function".into(), items: None, function: ToolFunction { name, description, parameters }, raw })
}

/// How calls are told to the client, by the one name that the model calls a tool by.
#[derive(Default)]
pub(super) struct Names(HashMap<String, Name>);

struct Name {
    namespace: Option<String>,
    name: String,
    custom: bool,
}

impl Names {
    pub(super) fn of(tools: &[wire::Tool]) -> Self {
        let name = |(space, tool): (&str, &wire::Tool)| {
            let namespace = (!space.is_empty()).then(|| space.to_owned());
            let custom = tool.kind == CUSTOM;
            (full(space, &tool.name), Name { namespace, name: tool.name.clone(), custom })
        };
        Self(each(tools).map(name).collect())
    }

    /// A model's call as an item.
    pub(super) fn call(&self, call: ToolCall) -> Call {
        let Function { name, arguments, .. } = call.function;
        let text = crate::go::json::to_string(&arguments).unwrap_or_default();
        match self.0.get(&name) {
            Some(known) => {
                let given = match arguments.get(INPUT) {
                    Some(Value::String(input)) if known.custom => Given::Input(input.clone()),
                    _ if known.custom => Given::Input(text),
                    _ => Given::Arguments(text),
                };
                let id = id::hex(if known.custom { "ctc_" } else { "fc_" });
                Call::whole(id, call.id, known.namespace.clone(), known.name.clone(), given)
            }
            None => Call::whole(id::hex("fc_"), call.id, None, name, Given::Arguments(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_how_calls_are_told() {
        let tools = br#"[{"type":"namespace","name":"ns","tools":[{"type":"function","name":"f","parameters":{"type":
            "object","properties":{"x":{"type":"string"}}}}]},{"type":"function","name":"g"},{"type":"custom","name":"h"},
            {"type":"web_search"},{"type":"file_search"}]"#;
        let tools = offered(decode(tools).unwrap());
        let models: Vec<_> = all(&tools).unwrap().into_iter().map(|tool| tool.function.name).collect();
        assert_eq!(models, ["ns.f", "g", "h"]);
        let names = Names::of(&tools);
        let told = |name: &str, arguments: Value| {
            let arguments = arguments.as_object().unwrap().clone();
            let call =
                names.call(ToolCall { id: "c".into(), function: Function { index: 0, name: name.into(), arguments } });
            (call.namespace, call.name, call.given.text().to_owned())
        };
        assert_eq!(told("ns.f", json!({ "x": "y" })), (Some("ns".into()), "f".into(), r#"{"x":"y"}"#.into()));
        assert_eq!(told("g", json!({ "input": "a" })), (None, "g".into(), r#"{"input":"a"}"#.into()));
        assert_eq!(told("h", json!({ "input": "a\nb" })), (None, "h".into(), "a\nb".into()));
        assert_eq!(told("h", json!({ "patch": 1 })), (None, "h".into(), r#"{"patch":1}"#.into()));
        assert_eq!(told("other", json!({})), (None, "other".into(), "{}".into()));
    }
}
