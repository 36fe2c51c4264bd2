//! Downloads under way: a file each, which is found again after a restart, and is one process's at a time.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::layout::make_folder;
use super::{Blobs, StoreError, link};
use crate::types::Digest;

/// A download under way is its owner's alone.
const WRITABLE: u32 = 0o600;

/// A download under way, found again after a restart. It stays when it is dropped.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    digest: Digest,
    blobs: Blobs,
}

impl Partial {
    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a note of what has come so far may stand. It goes when the download ends.
    pub fn journal(&self) -> PathBuf {
        self.path.with_extension("journal")
    }

    /// Takes the download for this process, as long as the file is open, without waiting. False when another has it, or when
    /// the file is not the one any more that has its name: then it is to be opened again.
    ///
    /// # Errors
    /// A file that cannot be locked or looked at.
    pub fn lock(&self) -> Result<bool, StoreError> {
        let failed = |error: io::Error| StoreError::io("lock", &self.path)(error);
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::NOLCK | Errno::OPNOTSUPP) => {
                tracing::warn!("the store's file system has no locks: only one process may pull into it");
            }
            Err(error) => return Err(failed(error.into())),
        }
        // Whoever held the lock may have renamed or removed the file since it was opened.
        let ours = self.file.metadata().map_err(failed)?;
        Ok(fs::metadata(&self.path).is_ok_and(|named| link::is_same(&named, &ours)))
    }

    /// Makes the content visible. `actual` is what the caller's hashing of all of it gave.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`], after which the file is gone; a file that cannot be synced or renamed.
    pub fn commit(self, actual: Digest) -> Result<(), StoreError> {
        if actual != self.digest {
            let expected = self.digest;
            self.discard();
            return Err(StoreError::DigestMismatch { expected, actual });
        }
        self.commit_as(&actual)
    }

    /// Makes content visible whose digest nobody knew when it was begun: the one it was begun under stood for it.
    ///
    /// # Errors
    /// A file that cannot be synced, which goes; or that cannot be renamed, which stays for the next try.
    pub fn commit_as(self, actual: &Digest) -> Result<(), StoreError> {
        let journal = self.journal();
        let Self { file, path, blobs, .. } = self;
        let mut synced = false;
        let published = blobs.publish(&file, actual, None, |target| {
            synced = true;
            fs::rename(&path, target)
        });
        if published.is_err() && !synced {
            fs::remove_file(&path).ok();
        }
        // Last: until the content has its name, the journal is what a later process goes on with. A journal without a
        // file tells of nothing.
        if fs::symlink_metadata(&path).is_err() {
            fs::remove_file(journal).ok();
        }
        published
    }

    /// Throws away what was fetched.
    pub fn discard(self) {
        fs::remove_file(self.journal()).ok();
        fs::remove_file(&self.path).ok();
    }
}

impl Blobs {
    /// Opens (or goes on with) a download of `digest`. The file is the caller's to fill in any order.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn partial(&self, digest: &Digest) -> Result<Partial, StoreError> {
        let folder = self.layout().partials();
        make_folder(&folder).map_err(StoreError::io("make", &folder))?;
        let path = self.layout().partial(digest);
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = open().or_else(|error| match error.kind() {
            // Its process ended between the two last steps of a commit, when it was read-only already.
            io::ErrorKind::PermissionDenied => {
                fs::set_permissions(&path, Permissions::from_mode(WRITABLE)).and_then(|()| open())
            }
            _ => Err(error),
        });
        Ok(Partial { file: file.map_err(StoreError::io("open", &path))?, path, digest: *digest, blobs: self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::store::blobs::READ_ONLY;
    use crate::store::testing;

    #[test]
    fn a_partial_is_found_again_and_committed() {
        let (_folder, store) = testing::store();
        let blobs = store.blobs();
        let digest = Digest::of(b"hello");
        blobs.partial(&digest).unwrap().file().write_all(b"hel").unwrap();
        let partial = blobs.partial(&digest).unwrap();
        assert_eq!(partial.file().metadata().unwrap().len(), 3);
        assert_eq!(blobs.size(&digest), None);
        fs::write(partial.path(), b"hello").unwrap();
        fs::write(partial.journal(), b"all of it").unwrap();
        // A process that ended just before the rename had made it read-only, and the next one opens it all the same.
        fs::set_permissions(partial.path(), Permissions::from_mode(READ_ONLY)).unwrap();
        let partial = blobs.partial(&digest).unwrap();
        partial.commit(digest).unwrap();
        assert_eq!(blobs.size(&digest), Some(5));
        assert_eq!(fs::read_dir(blobs.layout().partials()).unwrap().count(), 0, "nothing is left beside it");
    }

    #[test]
    fn what_cannot_get_its_name_is_not_fetched_again() {
        let (_folder, store) = testing::store();
        let digest = Digest::of(b"hello");
        let partial = store.blobs().partial(&digest).unwrap();
        partial.file().write_all(b"hello").unwrap();
        fs::write(partial.journal(), b"all of it").unwrap();
        let path = store.blobs().path(&digest);
        fs::create_dir_all(path.join("x")).unwrap();
        assert!(matches!(partial.commit(digest), Err(StoreError::Io { what: "rename to", .. })));
        let partial = store.blobs().partial(&digest).unwrap();
        assert_eq!((fs::read(partial.path()).unwrap(), partial.journal().exists()), (b"hello".to_vec(), true));
        fs::remove_dir_all(&path).unwrap();
        partial.commit(digest).unwrap();
        assert_eq!(fs::read_dir(store.layout().partials()).unwrap().count(), 0);
    }
}
