//! Why a model was not made, in Ollama's words where it has them.

use crate::gguf::GgufError;
use crate::store::StoreError;
use crate::types::ModelName;

#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("invalid model name")]
    InvalidName,
    #[error("file path must be relative")]
    FilePath,
    #[error("invalid digest format")]
    Digest,
    #[error("info field {field:?} must be {kind}")]
    Info { field: &'static str, kind: &'static str },
    #[error("neither 'from' or 'files' was specified")]
    NoSource,
    #[error("bad remote")]
    BadRemote,
    #[error("DRAFT cannot be used with remote models")]
    RemoteDraft,
    #[error("a remote model takes no files")]
    RemoteFiles,
    #[error("--draft-quantize requires a DRAFT model")]
    NoDraft,
    #[error("supplied file was not in GGUF format")]
    NotGguf,
    #[error("unknown type")]
    UnknownType,
    #[error("only one adapter is currently supported")]
    ManyAdapters,
    /// A file that was given is broken, or the files do not make a model; the text says how.
    #[error("{0}")]
    Files(String),
    #[error("`{file}`: {source}")]
    Gguf { file: String, source: GgufError },
    /// A file that is no archive of a model; the text says why.
    #[error("not a model's archive: {0}")]
    Archive(String),
    #[error("{0}")]
    Parameter(#[from] crate::types::options::OptionError),
    /// The model to start from is not here; it may be pulled.
    #[error("model '{}' not found", .0.short())]
    FromNotFound(ModelName),
    #[error("unsupported quantization type {0} - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0")]
    QuantizationType(String),
    #[error("quantization is only supported for F16, BF16 and F32 models")]
    Quantized,
    #[error("quantization to {0} needs an importance matrix, which cannot be given")]
    Matrix(&'static str),
    #[error("only GGUF weights can be quantized")]
    NotGgufWeights,
    /// What was asked for in `quantize` was not done, or something else was.
    #[error("the weights are {from} and were not quantized to {to}")]
    NotQuantized { from: &'static str, to: &'static str },
    /// Nobody waits for the model any more.
    #[error("the client has gone")]
    GivenUp,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateErrorKind {
    BadRequest,
    NotFound,
    Internal,
}

impl CreateError {
    pub fn kind(&self) -> CreateErrorKind {
        match self {
            Self::FromNotFound(_) => CreateErrorKind::NotFound,
            // Ollama finds these while it works, and answers as for any failure
            Self::Store(_)
            | Self::GivenUp
            | Self::QuantizationType(_)
            | Self::Quantized
            | Self::NotQuantized { .. } => CreateErrorKind::Internal,
            Self::Gguf { source, .. } if !source.is_bad_file() => CreateErrorKind::Internal,
            _ => CreateErrorKind::BadRequest,
        }
    }
}
