//! Messages and tools as a Go template sees them.
//!
//! Tools, calls and their parts print as JSON. In Ollama some of the parts print as Go's structs (`{get Gets it. {object …`),
//! which no template means: `{"type": "function", "function": {{ .Function }}}` is what most of its library says.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::go_template::{Dict, List, Shown, Value};
use crate::go::json;
use crate::types::{Function, Message, Property, Think, Tool, ToolCall, ToolFunction, ToolParameters};

/// `.Messages`.
pub fn messages(messages: &[Message]) -> Value {
    Value::list(messages.iter().map(message).collect())
}

fn message(message: &Message) -> Value {
    let images = message.images.iter().map(|image| Value::from(format!("{} bytes", image.0.len()))).collect();
    let fields = vec![
        ("Role", Value::from(message.role.as_str())),
        ("Content", Value::from(message.content.as_str())),
        ("Thinking", Value::from(message.thinking.as_str())),
        ("Images", Value::slice(images)),
        ("ToolCalls", calls(&message.tool_calls)),
        ("ToolName", Value::from(message.tool_name.as_str())),
        ("ToolCallID", Value::from(message.tool_call_id.as_str())),
    ];
    Value::object("*template.templateMessage", Shown::Plain, None, fields)
}

fn calls(calls: &[ToolCall]) -> Value {
    let shown = if calls.is_empty() { Shown::Absent } else { Shown::Json };
    Value::List(Arc::new(List { items: calls.iter().map(tool_call).collect(), shown }))
}

fn tool_call(call: &ToolCall) -> Value {
    let function = function(&call.function);
    let id = Value::from(call.id.as_str());
    let json = match call.id.as_str() {
        "" => format!("{{\"function\":{}}}", function.json()),
        _ => format!("{{\"id\":{},\"function\":{}}}", id.json(), function.json()),
    };
    Value::object("template.templateToolCall", Shown::Json, Some(json), vec![("ID", id), ("Function", function)])
}

fn function(function: &Function) -> Value {
    let name = Value::from(function.name.as_str());
    let arguments = arguments(&function.arguments);
    let json = format!("{{\"index\":{},\"name\":{},\"arguments\":{}}}", function.index, name.json(), arguments.json());
    let index = Value::Int(i64::try_from(function.index).unwrap_or(i64::MAX));
    let fields = vec![("Index", index), ("Name", name), ("Arguments", arguments)];
    Value::object("template.templateToolCallFunction", Shown::Json, Some(json), fields)
}

/// A map that can be ranged over, and prints as JSON.
fn arguments(arguments: &Map<String, Json>) -> Value {
    let entries = arguments.iter().map(|(name, value)| (name.clone(), Value::from(value))).collect();
    Value::Map(Arc::new(Dict { entries, shown: Shown::Json }))
}

/// `.Tools`: a list that prints as JSON.
pub fn tools(tools: &[Tool]) -> Value {
    Value::List(Arc::new(List { items: tools.iter().map(tool).collect(), shown: Shown::Json }))
}

fn tool(given: &Tool) -> Value {
    let tool = sorted_tool(given);
    let fields = vec![
        ("Type", Value::from(tool.kind.as_str())),
        ("Items", any(tool.items.as_ref())),
        ("Function", tool_function(&tool.function)),
    ];
    Value::object("template.templateTool", Shown::Json, Some(text(&tool)), fields)
}

/// Printed whole, it and its parameters come out as Go prints structs, as recorded from Ollama 0.33, though a template that
/// says `{{ .Function }}` would rather have JSON: the prompt, and the count of its tokens, is something clients see.
fn tool_function(function: &ToolFunction) -> Value {
    let fields = vec![
        ("Name", Value::from(function.name.as_str())),
        ("Description", Value::from(function.description.as_str())),
        ("Parameters", parameters(&function.parameters)),
    ];
    Value::object("template.templateToolFunction", Shown::Plain, Some(text(function)), fields)
}

fn parameters(parameters: &ToolParameters) -> Value {
    let properties = parameters.properties.as_ref().map_or(Value::Nil, |properties| {
        let entries: BTreeMap<String, Value> =
            properties.iter().map(|(name, property)| (name.to_owned(), self::property(property))).collect();
        Value::Map(Arc::new(Dict { entries, shown: Shown::Json }))
    });
    let fields = vec![
        ("Type", Value::from(parameters.kind.as_str())),
        ("Defs", any(parameters.defs.as_ref())),
        ("Items", any(parameters.items.as_ref())),
        ("Required", words(&parameters.required)),
        ("Properties", properties),
    ];
    Value::object("template.templateToolFunctionParameters", Shown::Plain, Some(text(parameters)), fields)
}

fn property(property: &Property) -> Value {
    let kinds = property.kind.iter().map(|kind| Value::from(kind.as_str())).collect();
    let inner = property.properties.as_ref().map_or(Value::Nil, |properties| {
        let entries = properties.iter().map(|(name, property)| (name.to_owned(), self::property(property))).collect();
        Value::Map(Arc::new(Dict { entries, shown: Shown::Json }))
    });
    let fields = vec![
        ("AnyOf", Value::slice(property.any_of.iter().map(self::property).collect())),
        ("Type", Value::List(Arc::new(List { items: kinds, shown: Shown::OneOrMany }))),
        ("Items", any(property.items.as_ref())),
        ("Description", Value::from(property.description.as_str())),
        ("Enum", Value::slice(property.variants.iter().map(Value::from).collect())),
        ("Properties", inner),
        ("Required", words(&property.required)),
    ];
    Value::object("api.ToolProperty", Shown::Plain, Some(text(property)), fields)
}

fn words(words: &[String]) -> Value {
    Value::slice(words.iter().map(|word| Value::from(word.as_str())).collect())
}

fn any(value: Option<&Json>) -> Value {
    value.map_or(Value::Nil, Value::from)
}

fn text(value: &impl serde::Serialize) -> String {
    json::to_string(value).expect("a tool is always JSON: a bug")
}

/// The tool as Ollama's templates write it: its properties and all that has no type of its own in the order of their names.
fn sorted_tool(tool: &Tool) -> Tool {
    let mut tool = tool.clone();
    sort_any(&mut tool.items);
    let parameters = &mut tool.function.parameters;
    sort_any(&mut parameters.defs);
    sort_any(&mut parameters.items);
    if let Some(properties) = &mut parameters.properties {
        properties.0.sort_by(|left, right| left.0.cmp(&right.0));
        properties.0.iter_mut().for_each(|(_, property)| sort_property(property));
    }
    tool
}

fn sort_property(property: &mut Property) {
    sort_any(&mut property.items);
    property.variants.iter_mut().for_each(sort);
    property.any_of.iter_mut().for_each(sort_property);
    property.properties.iter_mut().flat_map(|properties| &mut properties.0).for_each(|(_, inner)| sort_property(inner));
}

fn sort_any(value: &mut Option<Json>) {
    value.iter_mut().for_each(sort);
}

fn sort(value: &mut Json) {
    value.sort_all_objects();
}

/// `.Think`, `.ThinkLevel`, `.IsThinkSet`.
pub fn think(think: Option<Think>) -> [(&'static str, Value); 3] {
    let level = match think {
        Some(Think::On) => "medium",
        Some(think) => think.level(),
        None => "",
    };
    [
        ("Think", Value::Bool(think.is_some_and(Think::is_on))),
        ("ThinkLevel", Value::from(level)),
        ("IsThinkSet", Value::Bool(think.is_some())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::go_template::Template;

    #[test]
    fn parts_print_as_ollama_prints_them() {
        let raw = r#"{"type":"function","function":{"name":"get","parameters":{"type":"object","properties":{}}}}"#;
        let given: Tool = serde_json::from_str(raw).unwrap();
        let call =
            ToolCall { id: "a".to_owned(), function: Function { name: "get".to_owned(), ..Function::default() } };
        let data = Value::map([("Tools", tools(&[given])), ("Calls", calls(&[call]))]);
        let show = |text: &str| Template::parse(text).unwrap().execute(&data).unwrap();
        assert_eq!(
            show("{{ range .Tools }}{{ .Function }} {{ .Function.Parameters }}{{ end }}"),
            "{get  {object <nil> <nil> [] {}}} {object <nil> <nil> [] {}}"
        );
        assert_eq!(
            show("{{ range .Tools }}{{ json .Function }}{{ end }}"),
            r#"{"name":"get","parameters":{"type":"object","properties":{}}}"#
        );
        assert_eq!(show("{{ .Calls }}"), r#"[{"id":"a","function":{"index":0,"name":"get","arguments":{}}}]"#);
    }
}
