//! Writing the cache: what has come into the store is given to the hub's own tools as well, as the same bytes on the disk
//! where the file system allows it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::super::transfer::{GitHash, Wanted};
use super::{CachedRepository, etag};
use crate::store::{Shared, Store, share};
use crate::types::Digest;

/// Where a revision of a repository goes.
#[derive(Clone, Debug)]
pub(in super::super) struct Share {
    pub(in super::super) repository: CachedRepository,
    pub(in super::super) revision: String,
    pub(in super::super) commit: GitHash,
    /// Bytes of the disk that a copy leaves free.
    pub(in super::super) reserve: u64,
}

/// A file of the store's, under its name in the repository.
#[derive(Clone, Debug)]
pub(in super::super) struct SharedFile {
    pub(in super::super) path: String,
    pub(in super::super) wanted: Wanted,
    pub(in super::super) digest: Digest,
    /// What the cache has under its name is something else.
    pub(in super::super) wrong: bool,
}

impl Share {
    /// Gives `files` to the cache. One that cannot be written is left alone: the model is there without it.
    pub(in super::super) fn write(&self, store: &Store, files: &[SharedFile]) {
        if let Err(error) = self.try_write(store, files) {
            let cache = self.repository.cache.display();
            tracing::warn!(%error, %cache, "what was pulled is in the store alone: the hub's cache cannot be written");
        }
    }

    fn try_write(&self, store: &Store, files: &[SharedFile]) -> io::Result<()> {
        let repository = &self.repository;
        fs::create_dir_all(repository.folder().join("blobs"))?;
        let mut copied = 0;
        for file in files {
            let Some(etag) = etag(&file.wanted) else { continue };
            copied += self.blob(store, file, &etag)?;
            self.pointer(&file.path, &etag)?;
        }
        if copied > 0 {
            let cache = repository.cache.display();
            tracing::info!(bytes = copied, %cache, "copied: the store and the hub's cache share no files");
        }
        // Last: a revision without its snapshot is a broken cache.
        self.reference()
    }

    /// Gives the bytes that had to be copied.
    fn blob(&self, store: &Store, file: &SharedFile, etag: &str) -> io::Result<u64> {
        let (from, to) = (store.blobs().path(&file.digest), self.repository.blob(etag));
        let seen = fs::metadata(&to).ok();
        let right = !file.wrong && seen.as_ref().is_some_and(|seen| seen.is_file() && seen.len() == file.wanted.size);
        // A link leads to what several repositories of the cache share.
        if right && to.is_symlink() {
            return Ok(0);
        }
        if seen.is_some_and(|seen| seen.is_dir()) {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, format!("`{}` is a folder", to.display())));
        }
        let _lock = lock(&self.repository.lock(etag))?;
        let source = File::open(&from)?;
        if share(&source, &from, &to, false)? != Shared::Not || right {
            return Ok(0);
        }
        let free = rustix::fs::statvfs(self.repository.cache.as_path())?;
        if file.wanted.size.saturating_add(self.reserve) > free.f_bavail.saturating_mul(free.f_frsize) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "a copy has no room"));
        }
        share(&source, &from, &to, true)?;
        Ok(file.wanted.size)
    }

    fn pointer(&self, path: &str, etag: &str) -> io::Result<()> {
        let pointer = self.repository.snapshot(self.commit).join(path);
        if let Some(above) = pointer.parent() {
            fs::create_dir_all(above)?;
        }
        // Up from the file's folder to the snapshot, the snapshots and the repository.
        let target = Path::new(&"../".repeat(path.matches('/').count() + 2)).join("blobs").join(etag);
        match symlink(&target, &pointer) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made,
        }
        if fs::read_link(&pointer).is_ok_and(|there| there == target) {
            return Ok(());
        }
        fs::remove_file(&pointer)?;
        symlink(&target, &pointer)
    }

    fn reference(&self) -> io::Result<()> {
        let commit = self.commit.to_string();
        let path = self.repository.reference(&self.revision);
        if self.revision == commit || fs::read_to_string(&path).is_ok_and(|there| there == commit) {
            return Ok(());
        }
        let above = path.parent().ok_or_else(|| io::Error::other("a revision without a folder"))?;
        fs::create_dir_all(above)?;
        // Not beside it: whatever stands there is taken for a revision.
        let mut names = tempfile::Builder::new();
        let mut fresh = names.permissions(Permissions::from_mode(0o666)).tempfile_in(self.repository.folder())?;
        fresh.write_all(commit.as_bytes())?;
        fresh.as_file().sync_all()?;
        fresh.persist(&path)?;
        Ok(())
    }
}

/// As long as it is open, others wait who want to fetch the same file. One who fetches it already is not waited for: each
/// puts the whole file in place at once.
fn lock(path: &Path) -> io::Result<File> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o664).open(path)?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        tracing::debug!(%error, path = %path.display(), "somebody else holds a file of the cache");
    }
    Ok(file)
}
