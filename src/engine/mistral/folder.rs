//! A model's folder: which family it is and what its files say, read before mistral.rs sees it, since that panics on much
//! that is merely unknown or broken.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use mistralrs::NormalLoaderType;
use mistralrs::core::EmbeddingLoaderType;
use serde_json::Value;

use super::weights::Weights;
use crate::engine::event::EngineError;
use crate::engine::request::LoadSpec;

/// A configuration of more bytes than this is refused; tokenizers come to tens of megabytes.
const LONGEST_JSON: u64 = 256 << 20;

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

/// The JSON object in `folder`'s file `name`.
///
/// # Errors
/// When there is none.
pub fn read_json(folder: &Path, name: &str) -> Result<Value, EngineError> {
    let file = File::open(folder.join(name)).map_err(|error| refuse(format!("cannot read `{name}`: {error}")))?;
    let value: Value = serde_json::from_reader(BufReader::new(file.take(LONGEST_JSON)))
        .map_err(|error| refuse(format!("`{name}` is broken: {error}")))?;
    if value.is_object() { Ok(value) } else { Err(refuse(format!("`{name}` holds no object"))) }
}

pub fn refuse(message: impl Into<String>) -> EngineError {
    EngineError::Load(message.into())
}
