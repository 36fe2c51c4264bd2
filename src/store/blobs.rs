//! Content by its digest: what is there, and how more comes in.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, TempPath};

use super::layout::sync_folder;
use super::sound::{Found, damaged};
use super::stamp::Stamp;
use super::{Layout, StoreError};
use crate::types::Digest;

/// Committed content is never written again.
pub(super) const READ_ONLY: u32 = 0o444;

#[derive(Clone, Debug)]
pub struct Blobs {
    layout: Layout,
    /// Other stores, of which blobs are read and nothing else.
    extras: Arc<[Layout]>,
    found: Found,
}

impl Blobs {
    pub(super) fn new(layout: Layout, extras: Arc<[Layout]>) -> Self {
        Self { layout, extras, found: Found::default() }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// This store's layout, then those of the others.
    pub(super) fn layouts(&self) -> impl Iterator<Item = &Layout> {
        [&self.layout].into_iter().chain(self.extras.iter())
    }

    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// Where the content is, here or in another store, or would be here.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let there = |layout: &&Layout| fs::symlink_metadata(layout.blob(digest)).is_ok();
        let elsewhere = || self.extras.iter().find(there);
        let home = if self.extras.is_empty() || there(&&self.layout) { None } else { elsewhere() };
        home.unwrap_or(&self.layout).blob(digest)
    }

    /// The size of a blob that is there. A folder, a link out of the store or a pipe under its name is no blob.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        let path = self.path(digest);
        let seen = fs::symlink_metadata(&path).ok()?;
        self.regular(&path, seen).ok().map(|seen| seen.len())
    }

    /// All of a small blob, `limit` bytes at the most.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Damaged`], or a file that is too long or cannot be read.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(digest);
        let mut content = Vec::new();
        let read = self.open(digest)?.take(limit + 1).read_to_end(&mut content);
        read.map_err(StoreError::io("read", &path))?;
        if content.len() as u64 > limit {
            let error = io::Error::other(format!("more than the {limit} bytes expected"));
            return Err(StoreError::io("read", &path)(error));
        }
        match Digest::of(&content) {
            actual if actual == *digest => Ok(content),
            actual => Err(damaged(digest, &format!("its content is {actual}"))),
        }
    }

    /// Begins to write content whose digest is not known yet, or is to be checked.
    ///
    /// # Errors
    /// When no file can be made in the store.
    pub fn ingest(&self) -> Result<Ingest, StoreError> {
        let folder = self.layout.blobs();
        let file = tempfile::Builder::new().prefix("ingest-").tempfile_in(&folder);
        Ok(Ingest {
            file: file.map_err(StoreError::io("write in", &folder))?,
            hash: Sha256::new(),
            blobs: self.clone(),
        })
    }

    /// Begins to take in content that another process writes into a file.
    ///
    /// # Errors
    /// When no file can be made in the store.
    pub fn ingest_file(&self) -> Result<IngestFile, StoreError> {
        let folder = self.layout.blobs();
        let file = tempfile::Builder::new().prefix("ingest-").tempfile_in(&folder);
        let path = file.map_err(StoreError::io("write in", &folder))?.into_temp_path();
        Ok(IngestFile { path, blobs: self.clone() })
    }

    /// Stores `content`. What is there already is left, and counts as used now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, content: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(content);
        if self.settle(&digest, Some(content.len() as u64))? {
            self.touch(&digest);
            return Ok(digest);
        }
        let mut ingest = self.ingest()?;
        let path = ingest.file.path().to_owned();
        ingest.write_all(content).map_err(StoreError::io("write", &path))?;
        ingest.commit(Some(&digest)).map(|(digest, _)| digest)
    }

    /// Marks a blob as used now, so that Ollama's sweep of old unreferenced files leaves it.
    pub fn touch(&self, digest: &Digest) {
        if !self.is_own(digest) {
            return;
        }
        let unchanged = self.is_unchanged(digest);
        let Ok(file) = self.open(digest) else { return };
        if file.set_modified(SystemTime::now()).is_ok()
            && unchanged
            && let Ok(stamp) = Stamp::of_file(&file)
        {
            self.record(digest, stamp);
        }
    }

    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.layout.blob(digest);
        fs::remove_file(self.layout.stamp(digest)).ok();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Every blob with its size and the time of its last use.
    pub fn list(&self) -> Vec<(Digest, u64, SystemTime)> {
        let entries = fs::read_dir(self.layout.blobs()).into_iter().flatten().flatten();
        let blob = |entry: fs::DirEntry| {
            let digest = entry.file_name().to_str()?.strip_prefix("sha256-").map(|hex| format!("sha256:{hex}"))?;
            let seen = entry.metadata().ok()?;
            Some((digest.parse().ok()?, seen.len(), seen.modified().ok()?))
        };
        entries.filter_map(blob).collect()
    }

    /// Gives a finished file its place: read-only, sync, rename, sync the folder. After an error of a sync the file's
    /// content is not to be trusted any more, so the caller drops it. `read_at` tells what a file that others can write to was
    /// like when it was read.
    pub(super) fn publish(
        &self,
        file: &File,
        digest: &Digest,
        read_at: Option<Stamp>,
        rename: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let path = self.layout.blob(digest);
        // First, so that the sync is of its rights as well.
        file.set_permissions(Permissions::from_mode(READ_ONLY)).map_err(StoreError::io("protect", &path))?;
        file.sync_all().map_err(StoreError::io("sync", &path))?;
        rename(&path).map_err(StoreError::io("rename to", &path))?;
        sync_folder(&self.layout.blobs())?;
        if let Some(stamp) = read_at.or_else(|| Stamp::of_file(file).ok()) {
            self.record(digest, stamp);
        }
        Ok(())
    }
}

/// Content being written. Dropped without a commit, it leaves nothing.
#[derive(Debug)]
pub struct Ingest {
    file: NamedTempFile,
    hash: Sha256,
    blobs: Blobs,
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Ingest {
    /// Makes the content visible, and gives its digest and size.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] when it is not what was expected; then nothing is left.
    pub fn commit(self, expected: Option<&Digest>) -> Result<(Digest, u64), StoreError> {
        let Self { file, hash, blobs } = self;
        let actual = Digest::from_bytes(hash.finalize().into());
        if let Some(expected) = expected.filter(|expected| **expected != actual) {
            return Err(StoreError::DigestMismatch { expected: *expected, actual });
        }
        let size = file.as_file().metadata().map_err(StoreError::io("look at", file.path()))?.len();
        let (handle, path) = file.into_parts();
        blobs.publish(&handle, &actual, None, |target| path.persist(target).map_err(|error| error.error))?;
        Ok((actual, size))
    }
}

/// A file of the store that another process writes. Dropped without a commit, it leaves nothing.
#[derive(Debug)]
pub struct IngestFile {
    path: TempPath,
    blobs: Blobs,
}

impl IngestFile {
    /// An empty file for the other process to write into.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Hashes the file, makes it visible, and gives its digest and size. The other process must be done with it.
    ///
    /// # Errors
    /// When it cannot be read, synced or renamed; then nothing is left.
    pub fn commit(self) -> Result<(Digest, u64), StoreError> {
        let Self { path, blobs } = self;
        let mut file = File::open(&path).map_err(StoreError::io("open", &path))?;
        let mut hash = Sha256::new();
        let size = io::copy(&mut file, &mut hash).map_err(StoreError::io("read", &path))?;
        let digest = Digest::from_bytes(hash.finalize().into());
        blobs.publish(&file, &digest, None, |target| path.persist(target).map_err(|error| error.error))?;
        Ok((digest, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        layout.prepare().unwrap();
        (folder, Blobs::new(layout, Arc::default()))
    }

    #[test]
    fn only_whole_content_appears() {
        let (_folder, blobs) = blobs();
        let mut ingest = blobs.ingest().unwrap();
        ingest.write_all(b"hello").unwrap();
        let wrong = Digest::of(b"other");
        assert!(matches!(ingest.commit(Some(&wrong)), Err(StoreError::DigestMismatch { .. })));
        assert!(fs::read_dir(blobs.layout.blobs()).unwrap().next().is_none(), "nothing is left behind");

        let digest = blobs.put(b"hello").unwrap();
        assert_eq!((blobs.size(&digest), blobs.read(&digest, 5).unwrap().as_slice()), (Some(5), &b"hello"[..]));
        assert!(blobs.read(&digest, 4).is_err());
        assert_eq!(fs::metadata(blobs.path(&digest)).unwrap().permissions().mode() & 0o777, READ_ONLY);
    }

    #[test]
    fn a_file_of_another_writer_appears_when_it_is_committed() {
        let (_folder, blobs) = blobs();
        let file = blobs.ingest_file().unwrap();
        fs::write(file.path(), b"hello").unwrap();
        assert!(blobs.list().is_empty());
        let digest = Digest::of(b"hello");
        assert_eq!(file.commit().unwrap(), (digest, 5));
        assert_eq!(blobs.read(&digest, 5).unwrap(), b"hello");
        assert_eq!(fs::metadata(blobs.path(&digest)).unwrap().permissions().mode() & 0o777, READ_ONLY);

        drop(blobs.ingest_file().unwrap());
        assert_eq!(fs::read_dir(blobs.layout.blobs()).unwrap().count(), 1, "what is not committed goes");
    }

    #[test]
    fn what_is_no_file_is_no_blob() {
        let (_folder, blobs) = blobs();
        let digest = Digest::of(b"x");
        fs::create_dir(blobs.path(&digest)).unwrap();
        assert_eq!(blobs.size(&digest), None);
    }
}
