//! What is there: `/api/tags`, `/api/ps`, `/api/show`, and the requests that copy and delete.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Message, is_zero};
use crate::wire::go_json::decode_struct;

#[derive(Clone, Debug, Serialize)]
pub struct Models<T> {
    pub models: Vec<T>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Details {
    pub parent_model: String,
    pub format: String,
    pub family: String,
    pub families: Option<Vec<String>>,
    pub parameter_size: String,
    pub quantization_level: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub context_length: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub embedding_length: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ListedModel {
    pub name: String,
    pub model: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_model: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_host: String,
    pub modified_at: String,
    pub size: u64,
    pub digest: String,
    pub details: Details,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
pub struct LoadedModel {
    pub name: String,
    pub model: String,
    pub size: u64,
    pub digest: String,
    pub details: Details,
    pub expires_at: String,
    pub size_vram: u64,
    pub context_length: u64,
}

#[derive(Clone, Debug, Default)]
pub struct ShowRequest {
    pub model: String,
    pub name: String,
    pub system: String,
    pub template: String,
    pub verbose: bool,
    pub options: Map<String, Value>,
}

decode_struct!(ShowRequest as "api" "ShowRequest" {
    "model" => model,
    "name" => name,
    "system" => system,
    "template" => template,
    "verbose" => verbose,
    "options" => options,
});

#[derive(Clone, Debug, Default, Serialize)]
pub struct ShowResponse {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub license: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub modelfile: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parameters: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub template: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system: String,
    pub details: Details,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_model: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_host: String,
    /// Its values are JSON text already: numbers of several widths, each with its own shortest digits.
    pub model_info: BTreeMap<String, Box<RawValue>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub projector_info: BTreeMap<String, Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<TensorInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<&'static str>,
    pub modified_at: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub requires: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct TensorInfo {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub shape: Vec<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct CopyRequest {
    pub source: String,
    pub destination: String,
}

decode_struct!(CopyRequest as "api" "CopyRequest" { "source" => source, "destination" => destination });

#[derive(Clone, Debug, Default)]
pub struct DeleteRequest {
    pub model: String,
    pub name: String,
}

decode_struct!(DeleteRequest as "api" "DeleteRequest" { "model" => model, "name" => name });
