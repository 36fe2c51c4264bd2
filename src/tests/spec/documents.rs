//! The documents by themselves: they parse, hang together, and say nothing that no validator reads.

use std::collections::BTreeSet;

use boon::Schemas;
use serde_json::Value;

use super::contract::{Contract, compiler};
use super::document::{Documents, Place};

/// The keywords that the schemas use. An unknown one would be ignored, misspelt ones among them.
const KEYWORDS: [&str; 31] = [
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contentEncoding",
    "contentMediaType",
    "default",
    "deprecated",
    "description",
    "else",
    "enum",
    "format",
    "if",
    "items",
    "maxItems",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "not",
    "oneOf",
    "pattern",
    "properties",
    "required",
    "then",
    "type",
    "unevaluatedProperties",
    "uniqueItems",
];

/// Calls `see` with each value of a document and its place.
fn walk(value: &Value, place: &Place, see: &mut impl FnMut(&Value, &Place)) {
    see(value, place);
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| walk(value, &place.child(key), see)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| walk(value, &place.child(&index.to_string()), see));
        }
        _ => {}
    }
}

fn references(documents: &Documents) -> Vec<(Place, Place)> {
    let mut found = Vec::new();
    for (name, document) in documents.iter() {
        walk(document, &Place::new(name, ""), &mut |value, place| {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                found.push((place.clone(), place.refer(reference)));
            }
        });
    }
    found
}

/// The schemas that stand by themselves: named ones, and those of bodies and parameters.
fn schemas(documents: &Documents) -> Vec<Place> {
    let mut found = Vec::new();
    for (name, document) in documents.iter() {
        walk(document, &Place::new(name, ""), &mut |value, place| {
            let parent = place.pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
            let named = parent == "/components/schemas";
            let used = place.pointer.ends_with("/schema") || place.pointer.ends_with("/x-last");
            let property = parent.ends_with("/properties");
            if (named || used && !property) && (value.is_object() || value.is_boolean()) {
                found.push(place.clone());
            }
        });
    }
    found
}

#[test]
fn they_parse_and_every_operation_can_be_judged() {
    let contract = Contract::load().unwrap();
    println!("{} operations", contract.operations.len());
    assert!(contract.operations.len() > 30);
}

#[test]
fn every_reference_leads_somewhere() {
    let documents = Documents::load().unwrap();
    let references = references(&documents);
    let lost: Vec<_> = references.iter().filter(|(_, to)| documents.get(to).is_none()).collect();
    println!("{} references", references.len());
    assert!(references.len() > 200 && lost.is_empty(), "{lost:?}");
}

#[test]
fn every_component_is_used() {
    let documents = Documents::load().unwrap();
    let used: BTreeSet<_> = references(&documents).into_iter().map(|(_, to)| to).collect();
    let mut idle = Vec::new();
    for (name, document) in documents.iter() {
        for group in ["/components/schemas", "/components/responses", "/components/parameters"] {
            let names = document.pointer(group).and_then(Value::as_object).into_iter().flat_map(|group| group.keys());
            let places = names.map(|key| Place::new(name, group).child(key));
            idle.extend(places.filter(|place| !used.contains(place)));
        }
    }
    assert!(idle.is_empty(), "{idle:?}");
}

#[test]
fn every_schema_compiles() {
    let documents = Documents::load().unwrap();
    let places = schemas(&documents);
    let (mut compiler, mut compiled) = (compiler(&documents), Schemas::new());
    for place in &places {
        if let Err(error) = compiler.compile(&place.url(), &mut compiled) {
            panic!("{}: {error:#}", place.url());
        }
    }
    println!("{} schemas", places.len());
    assert!(places.len() > 150, "only {}", places.len());
}

#[test]
fn schemas_use_known_keywords_and_require_known_fields() {
    fn look(schema: &Value, place: &Place, wrong: &mut Vec<String>) {
        let Some(fields) = schema.as_object() else { return };
        if let (Some(properties), None) = (schema.get("properties"), schema.get("allOf")) {
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            let unknown = required.filter(|name| properties.get(name.as_str().unwrap_or_default()).is_none());
            wrong.extend(unknown.map(|name| format!("{} requires {name}", place.url())));
        }
        for (key, value) in fields {
            let here = place.child(key);
            match key.as_str() {
                "properties" => {
                    let named = value.as_object().into_iter().flatten();
                    named.for_each(|(name, schema)| look(schema, &here.child(name), wrong));
                }
                "allOf" | "anyOf" | "oneOf" => {
                    value.as_array().into_iter().flatten().for_each(|schema| look(schema, &here, wrong));
                }
                "additionalProperties" | "unevaluatedProperties" | "items" | "not" | "if" | "then" | "else" => {
                    look(value, &here, wrong);
                }
                known if KEYWORDS.contains(&known) => {}
                _ => wrong.push(here.url()),
            }
        }
    }
    let documents = Documents::load().unwrap();
    let mut wrong = Vec::new();
    for place in schemas(&documents) {
        look(documents.get(&place).unwrap(), &place, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
