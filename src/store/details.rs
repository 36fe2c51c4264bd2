//! What lists and `show` tell of a model, from its config and the metadata of its weights.

use super::{MediaType, Model, ModelFormat};
use crate::gguf::Metadata;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelDetails {
    /// The model it was made from; empty when it was made from files.
    pub parent_model: String,
    pub format: String,
    pub family: String,
    pub families: Option<Vec<String>>,
    pub parameter_size: String,
    pub quantization_level: String,
    pub context_length: Option<u64>,
    pub embedding_length: Option<u64>,
}

/// What a model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    Completion,
    Embedding,
    Vision,
    Audio,
    Tools,
    /// Filling in between a prompt and a suffix.
    Insert,
    Thinking,
}

impl Capability {
    const ALL: [Self; 7] =
        [Self::Completion, Self::Embedding, Self::Vision, Self::Audio, Self::Tools, Self::Insert, Self::Thinking];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Embedding => "embedding",
            Self::Vision => "vision",
            Self::Audio => "audio",
            Self::Tools => "tools",
            Self::Insert => "insert",
            Self::Thinking => "thinking",
        }
    }

    /// `None` for a word that this program knows nothing of.
    pub fn of_str(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.as_str() == text)
    }
}

impl Model {
    /// Never fails: what broken weights cannot tell is left out.
    pub fn details(&self) -> ModelDetails {
        let config = &self.config;
        let head = self.head();
        let head = head.as_deref();
        let length = |known: u64, key: &str| match known {
            0 => head.and_then(|head| head.arch_u64(key)),
            known => Some(known),
        };
        let quantization_level = match (config.file_type.as_str(), head) {
            ("" | "unknown", Some(head)) => head.file_type(),
            (known, _) => known,
        };
        let parent = self.manifest.layers_of(MediaType::Model).find_map(|layer| layer.from.clone());
        ModelDetails {
            parent_model: parent.unwrap_or_default(),
            format: config.model_format.clone(),
            family: config.model_family.clone(),
            families: config.model_families.clone(),
            parameter_size: config.model_type.clone(),
            quantization_level: quantization_level.to_owned(),
            context_length: length(config.context_length, "context_length"),
            embedding_length: length(config.embedding_length, "embedding_length"),
        }
    }

    /// What the config and the weights tell; what the templates tell comes on top. The config's come first, then
    /// embedding or completion, then the senses; none twice.
    pub fn base_capabilities(&self) -> Vec<Capability> {
        let mut capabilities = Vec::new();
        let mut add = |capability| {
            if !capabilities.contains(&capability) {
                capabilities.push(capability);
            }
        };
        self.config.capabilities.iter().filter_map(|text| Capability::of_str(text)).for_each(&mut add);
        let (deaf, blind) = self.missing_senses();
        if let Some(head) = self.head() {
            add(if is_embedding(&head) { Capability::Embedding } else { Capability::Completion });
            if head.arch("vision.block_count").is_some() && !blind {
                add(Capability::Vision);
            }
            if head.arch("audio.block_count").is_some() && !deaf {
                add(Capability::Audio);
            }
        } else if self.config.capabilities.is_empty() && self.format().is_some() {
            add(Capability::Completion);
        }
        if self.manifest.layers_of(MediaType::Projector).next().is_some() && !blind {
            add(Capability::Vision);
            if self.projector_hears() && !deaf {
                add(Capability::Audio);
            }
        }
        capabilities
    }

    /// Families whose senses Ollama does not offer: (no audio, no vision).
    fn missing_senses(&self) -> (bool, bool) {
        let family = self.config.model_family.as_str();
        let tensors = self.format().is_some_and(|format| format != ModelFormat::Gguf);
        let neither = tensors && (family.starts_with("gemma4") || family.starts_with("nemotron"));
        (neither || family == "nemotron_h_omni", neither)
    }

    fn projector_hears(&self) -> bool {
        let mut heads = self.manifest.layers_of(MediaType::Projector).filter_map(|layer| self.head_of(layer));
        heads.any(|head| {
            head.str("clip.projector_type") != Some("gemma3nv")
                && head.iter().any(|(key, value)| key.ends_with("has_audio_encoder") && value.as_bool() == Some(true))
        })
    }
}

fn is_embedding(head: &Metadata) -> bool {
    head.arch("pooling_type").is_some()
}
