//! The config blob: what a model says of itself. In the key order in which Ollama writes it.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelConfig {
    /// `gguf` or `safetensors`.
    #[serde(deserialize_with = "or_default")]
    pub model_format: String,
    #[serde(deserialize_with = "or_default")]
    pub model_family: String,
    /// `None` is written as `null`.
    pub model_families: Option<Vec<String>>,
    /// The count of parameters, as text.
    #[serde(deserialize_with = "or_default")]
    pub model_type: String,
    /// The quantisation.
    #[serde(deserialize_with = "or_default")]
    pub file_type: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub renderer: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub parser: String,
    /// The version of Ollama that the model was made for.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub requires: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub remote_host: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub remote_model: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Zero when it is not told.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub context_length: u64,
    /// Zero when it is not told.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub embedding_length: u64,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub base_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<Value>,
    #[serde(deserialize_with = "or_default")]
    pub architecture: String,
    #[serde(deserialize_with = "or_default")]
    pub os: String,
}

impl Default for ModelConfig {
    /// Empty, for the one platform that Ollama names.
    fn default() -> Self {
        Self {
            model_format: String::new(),
            model_family: String::new(),
            model_families: None,
            model_type: String::new(),
            file_type: String::new(),
            renderer: String::new(),
            parser: String::new(),
            requires: String::new(),
            remote_host: String::new(),
            remote_model: String::new(),
            capabilities: Vec::new(),
            context_length: 0,
            embedding_length: 0,
            base_name: String::new(),
            draft: None,
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
        }
    }
}

impl ModelConfig {
    /// As Ollama's create writes it: one line.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = crate::go::json::to_vec(self).expect("a config is plain JSON: a bug");
        bytes.push(b'\n');
        bytes
    }
}

/// `null` is read as nothing, as Go reads it.
fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_ollama_wrote_it() {
        let text = "{\"model_format\":\"gguf\",\"model_family\":\"qwen3\",\"model_families\":[\"qwen3\"],\
                    \"model_type\":\"3.54M\",\"file_type\":\"F16\",\"architecture\":\"amd64\",\"os\":\"linux\"}\n";
        let config: ModelConfig = serde_json::from_str(text).unwrap();
        assert_eq!(String::from_utf8(config.to_bytes()).unwrap(), text);
    }

    #[test]
    fn nulls_and_what_is_not_known_are_passed_over() {
        let text = "{\"model_families\":null,\"capabilities\":null,\"rootfs\":{\"type\":\"layers\"},\"renderer\":null}";
        let config: ModelConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config, ModelConfig::default());
    }
}
