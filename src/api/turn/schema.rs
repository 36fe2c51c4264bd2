//! What an answer's format means to an engine.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::types::Format;

/// The JSON schema of a format, as text.
///
/// Where properties are named there is an object, and it has those and no others, unless its schema speaks of others: so Ollama reads
/// schemas, and so do those who write them.
///
/// Where calls have no tags of their own but are `bare` JSON, an object or a list, one of `tools` fits too.
pub(super) fn text(format: &Format, bare: Option<char>, tools: &[String]) -> String {
    let schema = match format {
        Format::Json => json!({ "type": "object" }),
        Format::Schema(schema) => {
            let mut schema = schema.clone();
            let mut needed = BTreeSet::new();
            led_to(&schema, &mut needed);
            let kept = schema.as_object().cloned().unwrap_or_default();
            without_notes(&mut schema);
            if let Some(root) = schema.as_object_mut() {
                let lost = kept.into_iter().filter(|(word, _)| needed.contains(word));
                lost.for_each(|(word, value)| {
                    root.entry(word).or_insert(value);
                });
            }
            close(&mut schema);
            schema
        }
    };
    match bare {
        Some(first) if !tools.is_empty() => or_calls(schema, first, tools).to_string(),
        _ => schema.to_string(),
    }
}

fn or_calls(mut schema: Value, first: char, tools: &[String]) -> Value {
    let with = |arguments: &str| {
        json!({
            "type": "object", "properties": { "name": { "enum": tools }, arguments: { "type": "object" } },
            "required": ["name", arguments], "additionalProperties": false
        })
    };
    let call = json!({ "anyOf": [with("parameters"), with("arguments")] });
    let calls = if first == '[' { json!({ "type": "array", "items": call, "minItems": 1 }) } else { call };
    // References lead from the root, and this is the root no more.
    lead_from(&mut schema, "#/$defs/answer");
    json!({ "$defs": { "answer": schema }, "anyOf": [{ "$ref": "#/$defs/answer" }, calls] })
}

/// Makes references into the schema lead there when it stands at `place`.
fn lead_from(schema: &mut Value, place: &str) {
    match schema {
        Value::Object(map) => {
            for (word, value) in map {
                match value {
                    Value::String(to) if word == "$ref" && to.starts_with('#') => to.replace_range(..1, place),
                    value => lead_from(value, place),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| lead_from(value, place)),
        _ => {}
    }
}

/// The words at the root that references lead to, such as `components` in `#/components/schemas/X`.
fn led_to(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(to) = map.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix("#/")) {
                found.extend(to.split('/').next().map(str::to_owned));
            }
            map.values().for_each(|value| led_to(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| led_to(value, found)),
        _ => {}
    }
}

/// JSON Schema's words that say what fits, those that the engines cannot hold an answer to among them: they refuse them.
/// What else stands in a schema is a note, by JSON Schema's own rule.
const WORDS: [&str; 46] = [
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "$defs",
    "definitions",
    "$anchor",
    "$id",
    "$schema",
    "type",
    "enum",
    "const",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "properties",
    "patternProperties",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "required",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "minProperties",
    "maxProperties",
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "minContains",
    "maxContains",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "multipleOf",
    "format",
];
/// Formats that the engines know; others say nothing, by the same rule.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Takes what says nothing out of a schema and the schemas within.
fn without_notes(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    let known = |word: &str| WORDS.contains(&word) || word.starts_with("exclusiveM");
    map.retain(|word, value| {
        known(word) && (word != "format" || value.as_str().is_some_and(|format| FORMATS.contains(&format)))
    });
    for (key, value) in map {
        match (key.as_str(), value) {
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(named)) => {
                named.values_mut().for_each(without_notes);
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(list)) => {
                list.iter_mut().for_each(without_notes);
            }
            ("items" | "additionalProperties" | "additionalItems", value) => without_notes(value),
            _ => {}
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
        map.entry("type").or_insert_with(|| "object".into());
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
    use super::*;

    #[test]
    fn notes_say_nothing() {
        let noted = json!({
            "title": "t", "x-y": 1, "properties": { "title": { "type": "string", "format": "int32", "example": 3 },
            "day": { "type": "string", "format": "date", "deprecated": true } }, "uniqueItems": true
        });
        let plain = text(&Format::Schema(noted), None, &[]);
        assert_eq!(
            plain,
            r#"{"properties":{"title":{"type":"string"},"day":{"type":"string","format":"date"}},"uniqueItems":true,"type":"object","additionalProperties":false}"#
        );
    }

    #[test]
    fn what_a_reference_leads_to_is_kept() {
        let schema = json!({ "components": { "x": { "const": 1 } }, "notes": 2, "$ref": "#/components/x" });
        let kept: Value = serde_json::from_str(&text(&Format::Schema(schema), None, &[])).unwrap();
        assert_eq!(kept, json!({ "components": { "x": { "const": 1 } }, "$ref": "#/components/x" }));
    }

    #[test]
    fn bare_calls_fit_too() {
        let schema = json!({ "$defs": { "a": {} }, "$ref": "#/$defs/a" });
        let either = text(&Format::Schema(schema), Some('{'), &["get".to_owned()]);
        let either: Value = serde_json::from_str(&either).unwrap();
        let answer = json!({ "$defs": { "a": {} }, "$ref": "#/$defs/answer/$defs/a" });
        assert_eq!((&either["$defs"]["answer"], &either["anyOf"][0]), (&answer, &json!({ "$ref": "#/$defs/answer" })));
        assert_eq!(either["anyOf"][1]["anyOf"][0]["properties"]["name"]["enum"], json!(["get"]));
        assert_eq!(text(&Format::Json, Some('{'), &[]), "{\"type\":\"object\"}");
    }

    #[test]
    fn objects_have_no_more_than_is_named() {
        let closed = |schema| text(&Format::Schema(schema), None, &[]);
        assert_eq!(
            closed(json!({ "properties": { "a": { "items": { "properties": { "b": {} } } } } })),
            r#"{"properties":{"a":{"items":{"properties":{"b":{}},"type":"object","additionalProperties":false}}},"type":"object","additionalProperties":false}"#
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
