//! A model's folder: which family it is and what its files say, read before mistral.rs sees it, since that panics on much
//! that is merely unknown or broken.

use std::path::PathBuf;

use mistralrs::NormalLoaderType;
use mistralrs::core::EmbeddingLoaderType;
use serde_json::Value;

use super::json::{read_json, refuse};
use super::weights::Weights;
use crate::engine::event::EngineError;
use crate::engine::request::LoadSpec;

/// What a folder's model does, and as which family mistral.rs loads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Family {
    Text(NormalLoaderType),
    Embedding(EmbeddingLoaderType),
}

/// A folder that has everything a model needs.
#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
    pub family: Family,
    pub config: Value,
    pub weights: Weights,
}

impl Folder {
    /// # Errors
    /// When something is missing, broken or unknown.
    pub fn open(spec: &LoadSpec) -> Result<Self, EngineError> {
        let [path] = spec.weights.as_slice() else {
            return Err(refuse("a safetensors model is one folder"));
        };
        if !spec.adapters.is_empty() {
            return Err(refuse("adapters are not supported on safetensors models"));
        }
        if !spec.projectors.is_empty() {
            return Err(refuse("projectors are not supported on safetensors models"));
        }
        let config = read_json(path, "config.json")?;
        let embedding = spec.embedding || path.join("modules.json").exists();
        let family = family(&config, embedding)?;
        Ok(Self { path: path.clone(), family, weights: Weights::find(path)?, config })
    }

    /// A number of the configuration, which families with pictures keep one level down.
    pub fn number(&self, name: &str) -> Option<u64> {
        [&self.config[name], &self.config["text_config"][name]].into_iter().find_map(Value::as_u64)
    }

    /// How the weights are quantised, when it is in a way of its own (`gptq`, `awq`, `fp8` …).
    pub fn quantisation(&self) -> Option<&str> {
        self.config["quantization_config"]["quant_method"].as_str()
    }
}

fn family(config: &Value, embedding: bool) -> Result<Family, EngineError> {
    let Some(name) = config["architectures"][0].as_str() else {
        return Err(refuse("`config.json` names no architecture"));
    };
    let family = if embedding {
        EmbeddingLoaderType::from_causal_lm_name(name).map(Family::Embedding)
    } else {
        NormalLoaderType::from_causal_lm_name(name).map(Family::Text)
    };
    let what = if embedding { "embedding models" } else { "models" };
    family.map_err(|_| refuse(format!("{what} of architecture `{name}` are not supported")))
}
