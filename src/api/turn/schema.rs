//! What an answer's format means to an engine.

use serde_json::{Map, Value};

use crate::types::Format;

/// The JSON schema of a format, as text.
///
/// An object whose properties are named has those and no others, unless its schema speaks of others: so Ollama reads
/// schemas, and so do those who write them.
pub(super) fn text(format: &Format) -> String {
    match format {
        Format::Json => "{\"type\":\"object\"}".to_owned(),
        Format::Schema(schema) => {
            let mut schema = schema.clone();
            close(&mut schema);
            schema.to_string()
        }
    }
}

/// An integer has 16 digits at the most, as with llama.cpp: a model that repeats itself would never end one.
const LARGEST: i64 = 9_999_999_999_999_999;
/// What bounds an integer otherwise.
const BOUNDS: [&str; 7] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "enum", "const"];

/// Goes where further schemas are. Schemas that describe one object together are left open: each would shut out the
/// others' properties.
fn close(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    let named = map.get("properties").is_some_and(Value::is_object);
    if named && !speaks_of_others(map) {
        map.insert("additionalProperties".into(), false.into());
    }
    if map.get("type").is_some_and(|kind| kind == "integer") && !BOUNDS.iter().any(|word| map.contains_key(*word)) {
        map.insert("minimum".into(), (-LARGEST).into());
        map.insert("maximum".into(), LARGEST.into());
    }
    for (key, value) in map {
        match (key.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(named)) => named.values_mut().for_each(close),
            ("anyOf" | "oneOf", Value::Array(list)) if !named => list.iter_mut().for_each(close),
            ("prefixItems", Value::Array(list)) => list.iter_mut().for_each(close),
            ("items" | "additionalProperties", value) => close(value),
            _ => {}
        }
    }
}

fn speaks_of_others(map: &Map<String, Value>) -> bool {
    const WORDS: [&str; 7] =
        ["additionalProperties", "unevaluatedProperties", "patternProperties", "allOf", "anyOf", "oneOf", "$ref"];
    WORDS.iter().any(|word| map.contains_key(*word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_have_no_more_than_is_named() {
        let closed = |schema| text(&Format::Schema(schema));
        assert_eq!(
            closed(json!({ "properties": { "a": { "items": { "properties": { "b": {} } } } } })),
            r#"{"properties":{"a":{"items":{"properties":{"b":{}},"additionalProperties":false}}},"additionalProperties":false}"#
        );
        assert!(closed(json!({ "type": "integer" })).contains("9999999999999999"));
        for open in [
            json!({ "type": "integer", "minimum": 0 }),
            json!({ "type": "object" }),
            json!({ "properties": {}, "additionalProperties": { "type": "string" } }),
            json!({ "oneOf": [{ "properties": { "a": {} } }], "properties": { "b": {} } }),
            json!({ "allOf": [{ "properties": { "a": {} } }], "properties": { "b": {} } }),
        ] {
            assert_eq!(closed(open.clone()), open.to_string());
        }
    }
}
