//! The cache that the hub's own tools keep, which hanzod reads and writes as they do, so that a file is fetched once for all
//! of them.
//!
//! Of each repository it has `models--<owner>--<repository>/` with `blobs/<hash>` (git's hash, or the SHA-256 of what LFS
//! keeps), `snapshots/<commit>/<path>`, links to those, and `refs/<revision>`, which say a commit each.
//!
//! Invariant: nothing that was read here is believed: it is hashed on its way into the store.

mod read;
mod write;

pub(super) use read::{Found, take_in};
pub(super) use write::{Share, SharedFile};

use std::path::{Path, PathBuf};

use super::repository::Repository;
use super::transfer::{GitHash, Proof, Wanted};

#[derive(Clone, Debug)]
pub(super) struct HubCache {
    folder: PathBuf,
}

impl HubCache {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(super) fn repository(&self, repository: &Repository) -> CachedRepository {
        let folder_name = hf_hub::Repo::model(repository.to_string()).folder_name();
        CachedRepository { cache: self.folder.clone(), folder_name }
    }

    /// The repositories of one owner that have something here.
    pub(super) fn of_owner(&self, owner: &str) -> Vec<String> {
        let prefix = hf_hub::Repo::model(format!("{owner}/")).folder_name();
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix(&prefix)?.to_owned())).collect()
    }
}

/// What the cache has, or may have, of one repository.
#[derive(Clone, Debug)]
pub(super) struct CachedRepository {
    cache: PathBuf,
    folder_name: String,
}

impl CachedRepository {
    pub(super) fn folder(&self) -> PathBuf {
        self.cache.join(&self.folder_name)
    }

    fn blob(&self, etag: &str) -> PathBuf {
        self.folder().join("blobs").join(etag)
    }

    fn snapshot(&self, commit: GitHash) -> PathBuf {
        self.folder().join("snapshots").join(commit.to_string())
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder().join("refs").join(revision)
    }

    /// Held by whoever fetches a file.
    fn lock(&self, etag: &str) -> PathBuf {
        self.cache.join(".locks").join(&self.folder_name).join(format!("{etag}.lock"))
    }

    /// Where a file may be. Where links cannot be made it stands in the snapshot itself.
    pub(super) fn places(&self, commit: GitHash, path: &str, wanted: &Wanted) -> Vec<PathBuf> {
        let blob = etag(wanted).map(|etag| self.blob(&etag));
        blob.into_iter().chain([self.snapshot(commit).join(path)]).collect()
    }
}

/// What a file's content is called here; `None` when nothing is known of it.
fn etag(wanted: &Wanted) -> Option<String> {
    match wanted.proof {
        Proof::Sha256 => Some(wanted.key.hex()),
        Proof::Git(hash) => Some(hash.to_string()),
        Proof::Nothing { .. } => None,
    }
}
