//! What can be asked of an engine. Every option is resolved; nothing here can be half-filled.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::gguf::FileType;
use crate::types::{Guessing, LoadOptions, SamplingOptions};

/// Which library runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EngineKind {
    /// llama.cpp, for GGUF.
    Llama,
    /// mistral.rs, for safetensors and MLX folders.
    Mistral,
}

/// Where states of prompts are kept on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saving {
    pub folder: PathBuf,
    /// Of all of them at the most.
    pub bytes: u64,
}

/// Everything a runner needs to load a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadSpec {
    pub engine: EngineKind,
    /// The GGUF file (or its parts in order), or the folder of a safetensors model.
    pub weights: Vec<PathBuf>,
    pub adapters: Vec<PathBuf>,
    pub projectors: Vec<PathBuf>,
    /// A small model of the same vocabulary that guesses ahead, or its parts.
    pub drafts: Vec<PathBuf>,
    pub guessing: Guessing,
    /// `num_ctx` is resolved: context of one sequence, greater than zero.
    pub options: LoadOptions,
    /// Sequences that may run at once.
    pub parallel: u32,
    /// The model makes embeddings and no text.
    pub embedding: bool,
    /// What was made of long prompts outlives the runner, there.
    pub saving: Option<Saving>,
}

impl LoadSpec {
    /// Whether the two are one model: of all else that they say, room and speed may differ, but no answer.
    pub fn is_same_model(&self, other: &Self) -> bool {
        self.engine == other.engine
            && self.embedding == other.embedding
            && self.weights == other.weights
            && self.adapters == other.adapters
            && self.projectors == other.projectors
    }
}

/// What is to be quantised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantizeSpec {
    /// The GGUF file, or its parts in order; they come out as one file.
    pub input: Vec<PathBuf>,
    /// Is made, or written over.
    pub output: PathBuf,
    pub to: FileType,
}

/// A piece of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PromptPart {
    /// Text in which special tokens' text means those tokens.
    Text(String),
    /// Tokens as they are.
    Tokens(Vec<u32>),
    /// An image or a sound, as a file's bytes.
    Media(#[serde(with = "at_once")] Vec<u8>),
}

/// Bytes as one value: serde would otherwise take each for one.
mod at_once {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        bytes::Bytes::deserialize(deserializer).map(Vec::from)
    }
}

/// What an answer's text is held to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// A JSON schema, as JSON text; `{"type":"object"}` for any object.
    pub schema: String,
    /// Text that must have been generated before the constraint begins to hold (the end of thinking). `None`: from the
    /// first token on.
    pub after: Option<String>,
    /// Texts that begin a tool call. An answer may begin with one in place of the JSON, and is free from there on.
    pub calls: Vec<String>,
}

/// One answer to generate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerateRequest {
    pub prompt: Vec<PromptPart>,
    /// `stop` holds the stop strings.
    pub sampling: SamplingOptions,
    pub constraint: Option<Constraint>,
    /// Special tokens whose text is to be seen in the answer (`<|channel|>`, `[TOOL_CALLS]` …); the others are hidden.
    pub preserved: Vec<String>,
    /// Log-probabilities wanted, with this many alternatives for each token.
    pub logprobs: Option<u8>,
    /// Tokens that prompt and answer may take together; the runner's own context bounds it, and zero means that.
    pub context: u64,
    /// A prompt longer than the context loses its middle; else it is refused.
    pub truncate: bool,
    /// When the context is full the oldest half goes and generation goes on; else it ends there.
    pub shift: bool,
}

impl GenerateRequest {
    /// The context that this request has in a runner of `most` tokens a sequence.
    pub fn context_in(&self, most: usize) -> usize {
        usize::try_from(self.context).ok().filter(|asked| *asked > 0).map_or(most, |asked| asked.min(most))
    }
}

/// Texts to embed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedRequest {
    pub inputs: Vec<String>,
    /// Inputs longer than the limit are cut; else they are refused.
    pub truncate: bool,
    /// Tokens an input may have, special ones included; the runner's own context bounds it too.
    pub max_tokens: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbedReply {
    /// One vector an input, of norm 1.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all inputs after cutting.
    pub prompt_tokens: u64,
}
