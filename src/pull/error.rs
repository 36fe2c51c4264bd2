//! What can go wrong while models come in or go out, in Ollama's words where it has some.

use std::sync::Arc;
use std::time::Duration;

use super::repository::Repository;
use crate::create::CreateError;
use crate::store::StoreError;
use crate::types::Digest;

/// Cloned to everybody who waits for the same transfer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PullError {
    #[error("pull model manifest: {0}")]
    Manifest(Arc<PullError>),
    /// The registry has no such manifest.
    #[error("file does not exist")]
    NotFound,
    /// The server's refusal; `body` is its beginning, without control characters.
    #[error("{status}: {body}")]
    Status { status: u16, body: String, retry_after: Option<Duration> },
    #[error("unauthorized: access denied")]
    Unauthorized,
    #[error("realm host \"{realm}\" does not match original host \"{original}\"")]
    Realm { realm: String, original: String },
    #[error("max retries exceeded: {0}")]
    Retries(Arc<PullError>),
    #[error("digest mismatch, file must be downloaded again: want {expected}, got {actual}")]
    DigestMismatch { expected: Digest, actual: Digest },
    /// Of a file whose name is git's.
    #[error("hash mismatch, file must be downloaded again: want {expected}, got {actual}")]
    GitMismatch { expected: String, actual: String },
    /// The manifest and the server disagree on a blob's length.
    #[error("blob {digest} is {actual} bytes long, and the manifest says {expected}")]
    Size { digest: Digest, expected: u64, actual: String },
    #[error("this model requires MLX support, but the MLX runtime is not available")]
    Tensors,
    #[error("not enough disk space: {needed} bytes are needed, {free} are free")]
    Full { needed: u64, free: u64 },
    /// No answer, or one that broke off.
    #[error("{0}")]
    Transport(String),
    #[error("no data for {} seconds", .0.as_secs_f32())]
    Stalled(Duration),
    /// An answer that the protocol does not allow.
    #[error("the server's answer is broken: {0}")]
    Broken(String),
    /// An address that this program does not go to.
    #[error("refused to go to {host}: {why}")]
    Refused { host: String, why: &'static str },
    #[error("cannot use the key `{path}`: {why}")]
    Key { path: String, why: String },
    #[error("cannot start the HTTP client: {0}")]
    Client(String),
    #[error("{0}")]
    Store(Arc<StoreError>),
    /// Of a repository on the hub; the text follows its name.
    #[error("{0}")]
    Hub(String),
    /// Another file is there by now.
    #[error("the file has changed on its server meanwhile")]
    Changed,
    #[error("{0} has no such file")]
    NoFile(String),
    /// What came makes no model.
    #[error("{0}")]
    Create(Arc<CreateError>),
    /// A task of ours was torn down, as when the program ends.
    #[error("interrupted")]
    Interrupted,
}

impl From<StoreError> for PullError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DigestMismatch { expected, actual } => Self::DigestMismatch { expected, actual },
            other => Self::Store(Arc::new(other)),
        }
    }
}

impl From<CreateError> for PullError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Store(error) => error.into(),
            other => Self::Create(Arc::new(other)),
        }
    }
}

impl PullError {
    /// What is said of blobs, said of a file that has a name.
    pub(super) fn of_file(self, path: &str) -> Self {
        match self {
            Self::Size { expected, actual, .. } => {
                Self::Broken(format!("`{path}` is {actual} bytes long, not {expected}"))
            }
            other => other,
        }
    }

    pub(super) fn of_repository(self, repository: &Repository) -> Self {
        match self {
            Self::Hub(why) => Self::Hub(format!("{repository} on the hub: {why}")),
            other => other,
        }
    }

    pub(super) fn in_manifest(self) -> Self {
        Self::Manifest(Arc::new(self))
    }

    /// Another try may help.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Transport(_) | Self::Stalled(_) | Self::Broken(_) | Self::Status { .. } | Self::NotFound)
    }

    /// The server was reached and says no; asking the same again will not help.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Status { status, .. } => (400..500).contains(status) && !matches!(status, 408 | 416 | 425 | 429),
            Self::NotFound => true,
            _ => false,
        }
    }

    /// The server does not give this to us.
    pub(super) fn is_denial(&self) -> bool {
        self.is_refusal() || matches!(self, Self::Unauthorized | Self::Realm { .. })
    }

    /// Nobody answers, or nobody who is well.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Transport(_) | Self::Stalled(_)) || self.is_overload()
    }

    /// The server is there, and busy or ill.
    pub(super) fn is_overload(&self) -> bool {
        matches!(self, Self::Status { .. }) && !self.is_refusal()
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
