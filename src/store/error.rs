//! What can go wrong in a store.

use std::io;
use std::path::{Path, PathBuf};

use crate::gguf::GgufError;
use crate::types::Digest;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such name; the text is the name as it was asked for.
    #[error("model '{0}' not found")]
    NotFound(String),
    #[error("blob {0} is missing")]
    MissingBlob(Digest),
    /// What stands in its place is not its content. A pull brings it anew.
    #[error("blob {digest} is damaged: {why}")]
    Damaged { digest: Digest, why: String },
    #[error("digest mismatch, expected \"{expected}\", got \"{actual}\"")]
    DigestMismatch { expected: Digest, actual: Digest },
    #[error("manifest of `{name}` is broken: {why}")]
    BrokenManifest { name: String, why: String },
    #[error("manifest is not readable: {0}")]
    Manifest(String),
    /// The model is whole, but no engine here can run it.
    #[error("model `{name}` cannot be run here: {why}")]
    Unusable { name: String, why: String },
    #[error("weights of `{name}` cannot be read: {source}")]
    Gguf { name: String, source: GgufError },
    /// Of a store that is only read.
    #[error("model '{name}' is in `{}`, which is only read here", .store.display())]
    NotOurs { name: String, store: PathBuf },
    /// A file on another file system, mostly.
    #[error("cannot take in `{}` without a copy: {why}", .path.display())]
    NoLink { path: PathBuf, why: io::Error },
    #[error("cannot {what} `{path}`: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

impl StoreError {
    /// For `map_err`: what was being done, to which file.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// True when the store takes nothing: it is full, or may only be read.
    pub(super) fn is_closed(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let Self::Io { source, .. } = self else { return false };
        matches!(source.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied)
    }
}
