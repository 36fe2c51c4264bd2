//! A resolved model: a name, its manifest, and what the manifest's small blobs say.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Descriptor, Manifest, MediaType, ModelConfig, Store, StoreError, Tag, messages};
use crate::gguf::{Gguf, Metadata};
use crate::types::{Digest, Message, ModelName};

/// Bytes of a text, a config or a parameter layer.
const SMALL: u64 = 16 << 20;

#[derive(Clone, Debug)]
pub struct Model {
    pub(super) store: Store,
    /// In the spelling it has on disk.
    pub name: ModelName,
    /// Of the manifest's own bytes: the model's identity.
    pub digest: Digest,
    pub manifest: Manifest,
    pub modified: SystemTime,
    pub config: ModelConfig,
    /// A Go template.
    pub template: Option<String>,
    pub system: Option<String>,
    pub parameters: Map<String, Value>,
    pub messages: Vec<Message>,
    pub licenses: Vec<String>,
    gguf: OnceLock<Gguf>,
}

/// How a model's weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFormat {
    Gguf,
    /// Whole safetensors files, as hanzod keeps them.
    Safetensors,
    /// A blob for each tensor, as Ollama keeps models for MLX.
    Tensors,
}

impl Store {
    /// Resolves a name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; a manifest or a small blob of it that is missing or broken.
    pub fn model(&self, name: &ModelName) -> Result<Model, StoreError> {
        self.model_of(self.tags().get(name)?)
    }

    /// The model that a tag of [`Tags::list`](super::Tags::list) points at.
    ///
    /// # Errors
    /// As [`Store::model`].
    pub fn model_of(&self, tag: Tag) -> Result<Model, StoreError> {
        let layers = Layers { store: self, tag: &tag };
        Ok(Model {
            config: layers.json("config", Some(&tag.manifest.config))?,
            template: layers.text(MediaType::Template)?,
            system: layers.text(MediaType::System)?,
            parameters: layers.json("parameter layer", layers.last(MediaType::Params))?,
            messages: layers.messages()?,
            licenses: layers.texts(MediaType::License)?,
            store: self.clone(),
            name: tag.name,
            digest: tag.digest,
            manifest: tag.manifest,
            modified: tag.modified,
            gguf: OnceLock::new(),
        })
    }
}

/// Reads the small blobs of a manifest.
struct Layers<'a> {
    store: &'a Store,
    tag: &'a Tag,
}

impl<'a> Layers<'a> {
    fn last(&self, kind: MediaType) -> Option<&'a Descriptor> {
        self.tag.manifest.layers_of(kind).last()
    }

    fn texts(&self, kind: MediaType) -> Result<Vec<String>, StoreError> {
        self.tag.manifest.layers_of(kind).map(|layer| self.read(layer)).collect()
    }

    fn text(&self, kind: MediaType) -> Result<Option<String>, StoreError> {
        self.last(kind).map(|layer| self.read(layer)).transpose()
    }

    fn read(&self, layer: &Descriptor) -> Result<String, StoreError> {
        let bytes = self.store.blobs().read(&layer.digest, SMALL)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn json<T: Default + DeserializeOwned>(&self, what: &str, layer: Option<&Descriptor>) -> Result<T, StoreError> {
        let Some(layer) = layer else { return Ok(T::default()) };
        let bytes = self.store.blobs().read(&layer.digest, SMALL)?;
        let read = serde_json::from_slice::<Option<T>>(&bytes);
        read.map(Option::unwrap_or_default).map_err(|error| self.broken(what, &error.to_string()))
    }

    fn messages(&self) -> Result<Vec<Message>, StoreError> {
        let Some(layer) = self.last(MediaType::Messages) else {
            return Ok(Vec::new());
        };
        let bytes = self.store.blobs().read(&layer.digest, SMALL)?;
        messages::parse(&bytes).map_err(|why| self.broken("message layer", &why))
    }

    fn broken(&self, what: &str, why: &str) -> StoreError {
        StoreError::BrokenManifest { name: self.tag.name.short(), why: format!("its {what} cannot be read: {why}") }
    }
}

impl Model {
    /// Bytes of all blobs.
    pub fn size(&self) -> u64 {
        self.manifest.total_size().expect("a manifest's sizes are summed when it is read: a bug")
    }

    /// `None` when there are no weights: the model runs somewhere else.
    pub fn format(&self) -> Option<ModelFormat> {
        [
            (MediaType::Model, ModelFormat::Gguf),
            (MediaType::File, ModelFormat::Safetensors),
            (MediaType::Tensor, ModelFormat::Tensors),
        ]
        .into_iter()
        .find_map(|(kind, format)| self.manifest.layers_of(kind).next().map(|_| format))
    }

    /// Another server runs it, and all that is here is its name and what goes with it.
    pub fn is_remote(&self) -> bool {
        !self.config.remote_model.is_empty()
    }

    /// What an engine is to load: a GGUF file or its parts in order, or the folder of a safetensors model.
    ///
    /// # Errors
    /// When there are no weights, none that an engine of this program can run, or blobs of them are missing or damaged.
    pub fn weights(&self) -> Result<Vec<PathBuf>, StoreError> {
        for layer in &self.manifest.layers {
            self.store.blobs().check(&layer.digest, layer.size)?;
        }
        match self.format() {
            Some(ModelFormat::Gguf) => Ok(self.gguf_layers().map(|layer| self.path(layer)).collect()),
            Some(ModelFormat::Safetensors) => Ok(vec![self.view()?]),
            Some(ModelFormat::Tensors) => Err(self.unusable("its weights are kept one tensor a blob, for MLX only")),
            None => Err(self.unusable("it has no weights")),
        }
    }

    fn unusable(&self, why: &str) -> StoreError {
        StoreError::Unusable { name: self.name.short(), why: why.to_owned() }
    }

    /// All parts of a split model; else the last file, which is the one that counts for Ollama.
    pub(super) fn gguf_layers(&self) -> impl Iterator<Item = &Descriptor> {
        let count = self.manifest.layers_of(MediaType::Model).count();
        let is_part = |layer: &Descriptor| self.head_of(layer).is_some_and(|head| head.split().is_some());
        let whole = count < 2 || self.manifest.layers_of(MediaType::Model).all(is_part);
        self.manifest.layers_of(MediaType::Model).skip(if whole { 0 } else { count - 1 })
    }

    pub(super) fn path(&self, layer: &Descriptor) -> PathBuf {
        self.store.blobs().path(&layer.digest)
    }

    /// LoRAs.
    pub fn adapters(&self) -> Vec<PathBuf> {
        self.paths(MediaType::Adapter)
    }

    /// What turns images and sounds into embeddings.
    pub fn projectors(&self) -> Vec<PathBuf> {
        self.paths(MediaType::Projector)
    }

    /// A small model that guesses ahead for this one.
    pub fn drafts(&self) -> Vec<PathBuf> {
        self.paths(MediaType::Draft)
    }

    /// The draft's metadata; `None` when there is none, or it cannot be read.
    pub fn draft_head(&self) -> Option<Arc<Metadata>> {
        self.manifest.layers_of(MediaType::Draft).next().and_then(|layer| self.head_of(layer))
    }

    fn paths(&self, kind: MediaType) -> Vec<PathBuf> {
        self.manifest.layers_of(kind).map(|layer| self.store.blobs().path(&layer.digest)).collect()
    }

    /// The GGUF weights' header; of a split model, the first part's. `None` for other formats.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Damaged`]; [`StoreError::Gguf`] for what is no sound GGUF file.
    pub fn gguf(&self) -> Result<Option<&Gguf>, StoreError> {
        if self.format() != Some(ModelFormat::Gguf) {
            return Ok(None);
        }
        if self.gguf.get().is_none()
            && let Some(layer) = self.gguf_layers().next()
        {
            self.store.blobs().open(&layer.digest)?;
            let opened = Gguf::open(&self.path(layer));
            let opened = opened.map_err(|source| StoreError::Gguf { name: self.name.short(), source })?;
            self.gguf.set(opened).ok();
        }
        Ok(self.gguf.get())
    }

    /// The weights' metadata; of a split model, the first part's. Broken weights are an error where they are used, not
    /// in a list.
    pub fn head(&self) -> Option<Arc<Metadata>> {
        self.gguf_layers().next().and_then(|layer| self.head_of(layer))
    }

    pub(super) fn head_of(&self, layer: &Descriptor) -> Option<Arc<Metadata>> {
        let head = self.store.inner.heads.get(self.store.blobs(), &layer.digest);
        head.inspect_err(|error| tracing::warn!(model.name = %self.name, %error, "a GGUF file cannot be read")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{layer, store};
    use crate::store::{Capability, ModelDetails};

    fn tag(store: &Store, name: &str, config: &ModelConfig, layers: Vec<Descriptor>) -> Model {
        let config = layer(store, MediaType::Config, &config.to_bytes());
        let name = ModelName::parse(name).unwrap();
        store.tag(&name, &Manifest::new(config, layers).to_bytes()).unwrap();
        store.model(&name).unwrap()
    }

    fn tiny(path: &str) -> Vec<u8> {
        std::fs::read(format!("{}/compat-tests/models/tiny/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn a_gguf_model_tells_of_itself() {
        let (_folder, store) = store();
        let weights = layer(&store, MediaType::Model, &tiny("tiny-q4_k_m.gguf"));
        let layers = vec![
            weights.clone(),
            layer(&store, MediaType::Template, b"{{ .Prompt }}\n"),
            layer(&store, MediaType::Params, b"{\"stop\":[\"a\",\" b\"],\"num_ctx\":1048576}\n"),
            layer(&store, MediaType::Messages, b"[{\"role\":\"user\",\"content\":\"hi\"}]\n"),
        ];
        let model = tag(&store, "tiny", &ModelConfig::default(), layers);
        assert_eq!(model.weights().unwrap(), [store.blobs().path(&weights.digest)]);
        assert_eq!(model.gguf().unwrap().unwrap().architecture(), "qwen3");
        assert_eq!(model.base_capabilities(), [Capability::Completion]);
        let details = ModelDetails {
            quantization_level: "Q4_K_M".into(),
            context_length: Some(4096),
            embedding_length: Some(256),
            ..ModelDetails::default()
        };
        assert_eq!(model.details(), details);
        let path = store.blobs().path(&weights.digest);
        assert_eq!(
            model.modelfile().to_string(),
            format!(
                "FROM {}\nTEMPLATE \"{{{{ .Prompt }}}}\n\"\nPARAMETER num_ctx 1048576\nPARAMETER stop a\n\
                 PARAMETER stop \" b\"\nMESSAGE user hi\n",
                path.display()
            )
        );
    }

    #[test]
    fn broken_weights_are_an_error_only_where_they_are_used() {
        let (_folder, store) = store();
        let weights = layer(&store, MediaType::Model, &tiny("tiny-q4_k_m.gguf")[..36]);
        let model = tag(&store, "broken", &ModelConfig::default(), vec![weights]);
        assert_eq!(
            (model.details(), model.base_capabilities()),
            (ModelDetails::default(), vec![Capability::Completion])
        );
        assert!(matches!(model.gguf(), Err(StoreError::Gguf { .. })));
    }

    #[test]
    fn a_safetensors_model_is_a_folder_of_links() {
        let (_folder, store) = store();
        let file = |name: &str, content: &[u8]| Descriptor {
            name: Some(name.into()),
            ..layer(&store, MediaType::File, content)
        };
        let layers = vec![file("config.json", b"{}"), file("sub/model.safetensors", b"weights")];
        let model = tag(&store, "tensors", &ModelConfig::default(), layers.clone());
        let view = model.weights().unwrap().remove(0);
        assert_eq!(view.parent().unwrap(), store.layout().views());
        assert_eq!(std::fs::read(view.join("sub/model.safetensors")).unwrap(), b"weights");
        assert_eq!(std::fs::read(view.join("config.json")).unwrap(), b"{}");
        assert_eq!(model.weights().unwrap(), std::slice::from_ref(&view));
        let system = layer(&store, MediaType::System, b"Be brief.");
        let alike = [vec![layers[1].clone(), system], layers[..1].to_vec()].concat();
        let alike = tag(&store, "alike", &ModelConfig::default(), alike);
        assert_eq!((alike.weights().unwrap(), alike.digest == model.digest), (vec![view.clone()], false));
        let other = vec![file("config.json", b"{ }"), layers[1].clone()];
        let other = tag(&store, "other", &ModelConfig::default(), other).weights().unwrap();
        assert_ne!(other, [view]);
        assert_eq!(std::fs::read_dir(store.layout().views()).unwrap().count(), 2);

        let escaping = tag(&store, "escaping", &ModelConfig::default(), vec![file("../x", b"")]);
        assert!(matches!(escaping.weights(), Err(StoreError::BrokenManifest { .. })));
        let mlx = tag(&store, "mlx", &ModelConfig::default(), vec![layer(&store, MediaType::Tensor, b"t")]);
        assert!(mlx.weights().unwrap_err().to_string().starts_with("model `mlx:latest` cannot be run here"));
    }
}
