//! What a model is to be made of.

use serde_json::{Map, Value};

use super::{CreateError, Quantized};
use crate::store::is_clean_path;
use crate::types::{Digest, Message, ModelName};

/// What is empty or `None` was not asked for.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    pub name: ModelName,
    /// A model of the store to start from.
    pub from: Option<ModelName>,
    /// In place of that: a model of another server, of which this store is to have the name.
    pub remote: Option<Remote>,
    pub files: Vec<CreateFile>,
    pub adapters: Vec<CreateFile>,
    pub drafts: Vec<CreateFile>,
    /// A Go template that is known to parse.
    pub template: String,
    pub system: String,
    pub licenses: Vec<String>,
    pub parameters: Map<String, Value>,
    pub messages: Vec<Message>,
    pub renderer: String,
    pub parser: String,
    pub requires: String,
    pub info: CreateInfo,
    pub quantize: Option<String>,
    pub draft_quantize: Option<String>,
    /// What was made of [`quantizations`](super::quantizations).
    pub quantized: Vec<Quantized>,
}

impl CreateRequest {
    /// A request for `name` that asks for nothing yet.
    pub fn new(name: ModelName) -> Self {
        Self {
            name,
            from: None,
            remote: None,
            files: Vec::new(),
            adapters: Vec::new(),
            drafts: Vec::new(),
            template: String::new(),
            system: String::new(),
            licenses: Vec::new(),
            parameters: Map::new(),
            messages: Vec::new(),
            renderer: String::new(),
            parser: String::new(),
            requires: String::new(),
            info: CreateInfo::default(),
            quantize: None,
            draft_quantize: None,
            quantized: Vec::new(),
        }
    }
}

/// A model that another server runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The name it has there.
    pub model: String,
    /// `scheme://host:port`.
    pub host: String,
}

/// A blob of the store, and the name it has on the client's side.
///
/// Invariant: the name is a clean relative path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CreateFile {
    path: String,
    digest: Digest,
}

impl CreateFile {
    /// # Errors
    /// [`CreateError::FilePath`], [`CreateError::Digest`].
    pub fn new(path: &str, digest: &str) -> Result<Self, CreateError> {
        if !is_clean_path(path) {
            return Err(CreateError::FilePath);
        }
        let digest = digest.parse().map_err(|_| CreateError::Digest)?;
        Ok(Self { path: path.to_owned(), digest })
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// What a client says of the model, over what its files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateInfo {
    pub capabilities: Vec<String>,
    pub model_family: Option<String>,
    pub base_name: Option<String>,
    pub quantization_level: Option<String>,
    pub parameter_size: Option<String>,
    pub context_length: Option<u64>,
    pub embedding_length: Option<u64>,
}

impl CreateInfo {
    /// Reads the fields that are known and passes over the others.
    ///
    /// # Errors
    /// [`CreateError::Info`] for a field of the wrong type.
    pub fn parse(info: &Map<String, Value>) -> Result<Self, CreateError> {
        let text = |field| {
            let value = info.get(field).filter(|value| !value.is_null());
            let text = |value: &Value| value.as_str().map(str::to_owned);
            value.map(|value| text(value).ok_or(CreateError::Info { field, kind: "a string" })).transpose()
        };
        let number = |field| match info.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => match (number.as_u64(), number.as_f64()) {
                (Some(number), _) => Ok(Some(number)),
                // JSON does not tell `4096.0` from `4096`
                (None, Some(float)) if float >= 0.0 && float.fract() == 0.0 && float < 9e15 => Ok(Some(float as u64)),
                _ => Err(CreateError::Info { field, kind: "a non-negative integer" }),
            },
            Some(_) => Err(CreateError::Info { field, kind: "a number" }),
        };
        let capabilities = info.get("capabilities").and_then(Value::as_array);
        let words = capabilities.into_iter().flatten().filter_map(Value::as_str);
        Ok(Self {
            capabilities: words.map(str::to_owned).collect(),
            model_family: text("model_family")?,
            base_name: text("base_name")?,
            quantization_level: text("quantization_level")?,
            parameter_size: text("parameter_size")?,
            context_length: number("context_length")?,
            embedding_length: number("embedding_length")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_are_held_to_their_form() {
        let digest = Digest::of(b"").to_string();
        assert!(CreateFile::new("sub/model.gguf", &digest).is_ok());
        assert_eq!(CreateFile::new("../x.gguf", &digest).unwrap_err().to_string(), "file path must be relative");
        assert_eq!(CreateFile::new("x.gguf", "").unwrap_err().to_string(), "invalid digest format");
    }

    #[test]
    fn info_fields_are_typed() {
        let parse = |info: Value| CreateInfo::parse(info.as_object().unwrap());
        let info = parse(json!({"model_family": "owl", "context_length": 4096.0, "wings": 2})).unwrap();
        assert_eq!((info.model_family.as_deref(), info.context_length), (Some("owl"), Some(4096)));
        for (info, error) in [
            (json!({"base_name": 1}), "info field \"base_name\" must be a string"),
            (json!({"context_length": "4096"}), "info field \"context_length\" must be a number"),
            (json!({"embedding_length": -1}), "info field \"embedding_length\" must be a non-negative integer"),
        ] {
            assert_eq!(parse(info).unwrap_err().to_string(), error);
        }
    }
}
