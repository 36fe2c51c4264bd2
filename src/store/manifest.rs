//! A manifest: the blobs a model is made of, by type, digest and size.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::StoreError;
use crate::types::Digest;

/// A manifest longer than this is hostile.
pub const LARGEST: usize = 4 << 20;
const SCHEMA_VERSION: u32 = 2;

/// What a blob is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MediaType {
    Manifest,
    Config,
    Model,
    Adapter,
    Projector,
    Draft,
    Template,
    System,
    Params,
    Messages,
    License,
    /// One tensor of a model in Ollama's MLX form.
    Tensor,
    /// A named JSON file of a model in Ollama's MLX form.
    Json,
    /// hanzod's own: a named file of a safetensors folder, whole.
    File,
    Other(String),
}

const NAMES: [(MediaType, &str); 14] = [
    (MediaType::Manifest, "application/vnd.docker.distribution.manifest.v2+json"),
    (MediaType::Config, "application/vnd.docker.container.image.v1+json"),
    (MediaType::Model, "application/vnd.ollama.image.model"),
    (MediaType::Adapter, "application/vnd.ollama.image.adapter"),
    (MediaType::Projector, "application/vnd.ollama.image.projector"),
    (MediaType::Draft, "application/vnd.ollama.image.draft"),
    (MediaType::Template, "application/vnd.ollama.image.template"),
    (MediaType::System, "application/vnd.ollama.image.system"),
    (MediaType::Params, "application/vnd.ollama.image.params"),
    (MediaType::Messages, "application/vnd.ollama.image.messages"),
    (MediaType::License, "application/vnd.ollama.image.license"),
    (MediaType::Tensor, "application/vnd.ollama.image.tensor"),
    (MediaType::Json, "application/vnd.ollama.image.json"),
    (MediaType::File, "application/vnd.hanzod.image.file"),
];
/// Ollama's first name for templates.
const PROMPT: &str = "application/vnd.ollama.image.prompt";

impl MediaType {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(text) => text,
            known => NAMES.iter().find(|(kind, _)| kind == known).map_or("", |(_, name)| name),
        }
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        if text == PROMPT {
            return Self::Template;
        }
        let known = NAMES.iter().find(|(_, name)| *name == text);
        known.map_or_else(|| Self::Other(text.to_owned()), |(kind, _)| kind.clone())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(String::deserialize(deserializer)?.as_str().into())
    }
}

/// One blob of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: MediaType,
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// The model that the layer was taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Of a file or a tensor: what it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Descriptor {
    /// Of a blob that is no file with a name.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, from: None, name: None }
    }
}

/// In the key order in which Ollama writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    pub media_type: MediaType,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { schema_version: SCHEMA_VERSION, media_type: MediaType::Manifest, config, layers }
    }

    /// # Errors
    /// [`StoreError::Manifest`] when the bytes are no manifest that this program can use.
    pub fn parse(bytes: &[u8]) -> Result<Self, StoreError> {
        let broken = |why: String| StoreError::Manifest(why);
        if bytes.len() > LARGEST {
            return Err(broken(format!("it is {} bytes long", bytes.len())));
        }
        // Ollama's decoder reads one value and ignores what follows.
        let first = serde_json::Deserializer::from_slice(bytes).into_iter().next();
        let manifest: Self =
            first.ok_or_else(|| broken("it is empty".into()))?.map_err(|error| broken(error.to_string()))?;
        if manifest.schema_version != SCHEMA_VERSION {
            return Err(broken(format!("schema version {} is not {SCHEMA_VERSION}", manifest.schema_version)));
        }
        if manifest.total_size().is_none() {
            return Err(broken("its sizes overflow".into()));
        }
        Ok(manifest)
    }

    /// As Ollama's create writes it: one line.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = crate::go::json::to_vec(self).expect("a manifest is plain JSON: a bug");
        bytes.push(b'\n');
        bytes
    }

    /// The layers in their order, then the config.
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        self.layers.iter().chain([&self.config])
    }

    pub fn layers_of(&self, kind: MediaType) -> impl Iterator<Item = &Descriptor> {
        self.layers.iter().filter(move |layer| layer.media_type == kind)
    }

    /// Bytes of all blobs, a blob that is named twice counted twice, as Ollama counts. `None` when that is too much.
    pub fn total_size(&self) -> Option<u64> {
        self.descriptors().try_fold(0_u64, |sum, descriptor| sum.checked_add(descriptor.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_it_was_read() {
        let digest = Digest::of(b"x");
        let text = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\",\
             \"config\":{{\"mediaType\":\"application/vnd.docker.container.image.v1+json\",\"digest\":\"{digest}\",\
             \"size\":1}},\"layers\":[{{\"mediaType\":\"application/vnd.ollama.image.model\",\"digest\":\"{digest}\",\
             \"size\":7,\"from\":\"a:b\"}}]}}\n"
        );
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(manifest.total_size(), Some(8));
        assert_eq!(manifest.to_bytes(), text.as_bytes());
    }

    #[test]
    fn hostile_manifests_are_errors() {
        for bad in ["", "{}", "null", "{\"schemaVersion\":1}", "[[[[", "{\"config\":{\"digest\":\"sha256:../../x\"}}"] {
            assert!(Manifest::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = "[".repeat(10_000);
        assert!(Manifest::parse(deep.as_bytes()).is_err());
    }
}
