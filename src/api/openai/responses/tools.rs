//! Tools, and namespaces of them: to a model each tool has one name, to the client its namespace stands apart.

use std::collections::HashMap;

use serde_json::json;

use crate::api::error::ApiError;
use crate::types::{Tool, ToolFunction};
use crate::wire::go_json::decode;
use crate::wire::openai::responses::{self as wire, by_name};

/// A tool's name with that of its namespace.
pub(super) fn full(namespace: &str, name: &str) -> String {
    format!("{namespace}.{name}")
}

/// Those that the model is told of. A search of the web would leave this machine, and what has no name cannot be called.
pub(super) fn offered(mut tools: Vec<wire::Tool>) -> Vec<wire::Tool> {
    tools.retain(|tool| !tool.kind.starts_with("web_search") && !tool.name.is_empty());
    for tool in &mut tools {
        tool.parameters = by_name(std::mem::take(&mut tool.parameters));
        tool.tools = offered(std::mem::take(&mut tool.tools));
    }
    tools
}

/// Every tool under its one name. Of whatever type they are, the client runs them as functions.
///
/// # Errors
/// A schema that is none.
pub(super) fn all(tools: &[wire::Tool]) -> Result<Vec<Tool>, ApiError> {
    let mut all = Vec::new();
    for tool in tools {
        if tool.kind == "namespace" {
            let inner = tool.tools.iter().map(|inner| one(inner, full(&tool.name, &inner.name)));
            all.append(&mut inner.collect::<Result<_, _>>()?);
        } else {
            all.push(one(tool, tool.name.clone())?);
        }
    }
    Ok(all)
}

fn one(tool: &wire::Tool, name: String) -> Result<Tool, ApiError> {
    // what takes a text of its own form takes it by a name here
    let free = match tool.kind.as_str() {
        "custom" => json!({ "type": "object", "properties": { "input": { "type": "string" } }, "required": ["input"] }),
        _ => json!({ "type": "object", "properties": {} }),
    };
    let schema = if tool.parameters.is_null() { &free } else { &tool.parameters };
    let parameters = decode(schema.to_string().as_bytes())
        .map_err(|error| ApiError::Invalid(format!("invalid parameters for tool {name:?}: {error}")))?;
    let description = tool.description.clone().unwrap_or_default();
    let raw = json!({
        "type": "function", "function": { "name": name, "description": description, "parameters": schema }
    });
    Ok(Tool { kind: "function".into(), items: None, function: ToolFunction { name, description, parameters }, raw })
}

/// Namespaces and names of tools that have both, by their one name.
#[derive(Default)]
pub(super) struct Names(HashMap<String, (String, String)>);

impl Names {
    pub(super) fn of(tools: &[wire::Tool]) -> Self {
        let spaces = tools.iter().filter(|tool| tool.kind == "namespace");
        let inner = spaces.flat_map(|space| space.tools.iter().map(|tool| (space.name.clone(), tool.name.clone())));
        Self(inner.map(|(space, name)| (full(&space, &name), (space, name))).collect())
    }

    /// The namespace, if there is one, and the name in it.
    pub(super) fn apart(&self, name: String) -> (Option<String>, String) {
        match self.0.get(&name) {
            Some((space, inner)) => (Some(space.clone()), inner.clone()),
            None => (None, name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces() {
        let tools = br#"[{"type":"namespace","name":"ns","tools":[{"type":"function","name":"f","parameters":{"type":
            "object","properties":{"x":{"type":"string"}}}}]},{"type":"function","name":"g"},{"type":"custom","name":"h"},
            {"type":"web_search"},{"type":"file_search"}]"#;
        let tools = offered(decode(tools).unwrap());
        let models: Vec<_> = all(&tools).unwrap().into_iter().map(|tool| tool.function.name).collect();
        assert_eq!(models, ["ns.f", "g", "h"]);
        let names = Names::of(&tools);
        assert_eq!(names.apart("ns.f".into()), (Some("ns".into()), "f".into()));
        assert_eq!(names.apart("g".into()), (None, "g".into()));
    }
}
