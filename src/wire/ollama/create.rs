//! `/api/create`.

use serde_json::{Map, Value};

use super::Message;
use crate::types::chat::OrderedMap;
use crate::wire::go_json::decode_struct;

#[derive(Clone, Debug, Default)]
pub struct CreateRequest {
    pub model: String,
    pub name: String,
    pub stream: Option<bool>,
    pub quantize: String,
    pub quantization: String,
    pub draft_quantize: String,
    pub from: String,
    pub remote_host: String,
    /// File names and the digests of their content.
    pub files: OrderedMap<String>,
    pub draft_files: OrderedMap<String>,
    pub adapters: OrderedMap<String>,
    pub template: String,
    /// A string or a list of strings.
    pub license: Value,
    pub system: String,
    pub parameters: Map<String, Value>,
    pub messages: Vec<Message>,
    pub renderer: String,
    pub parser: String,
    pub requires: String,
    pub info: Map<String, Value>,
}

decode_struct!(CreateRequest as "api" "CreateRequest" {
    "model" => model,
    "name" => name,
    "stream" => stream,
    "quantize" => quantize,
    "quantization" => quantization,
    "draft_quantize" => draft_quantize,
    "from" => from,
    "remote_host" => remote_host,
    "files" => files,
    "draft_files" => draft_files,
    "adapters" => adapters,
    "template" => template,
    "license" => license,
    "system" => system,
    "parameters" => parameters,
    "messages" => messages,
    "renderer" => renderer,
    "parser" => parser,
    "requires" => requires,
    "info" => info,
});
