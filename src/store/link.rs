//! One content under two names, without a second copy on the disk where the file system allows it.
//!
//! Shared blocks come first (btrfs, XFS): each name is a file of its own, and what is done to the one does not touch the
//! other. Then a hard link. A copy is last, and only where the caller wants one.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use tempfile::{NamedTempFile, TempPath};

use super::StoreError;
use super::blobs::{Blobs, READ_ONLY};
use super::layout::sync_folder;
use crate::types::Digest;

/// How two names came to have one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// They had it before.
    Already,
    Blocks,
    File,
    /// They have not: there are two copies now.
    Copied,
    /// The content could only have been copied, and was not to be.
    Not,
}

/// Gives the content of the open file `source`, whose name is `from`, the name `to` as well, whole or not at all; what had
/// that name loses it.
///
/// # Errors
/// When nothing can be written beside `to`, or a copy cannot be read.
pub fn share(source: &File, from: &Path, to: &Path, may_copy: bool) -> io::Result<Shared> {
    let seen = source.metadata()?;
    if fs::symlink_metadata(to).is_ok_and(|there| is_same(&there, &seen)) {
        return Ok(Shared::Already);
    }
    let folder = to.parent().ok_or_else(|| io::Error::other("a file without a folder"))?;
    let finish = |fresh: NamedTempFile| {
        fresh.as_file().sync_all()?;
        fresh.as_file().set_permissions(Permissions::from_mode(READ_ONLY))?;
        fresh.persist(to).map(|_| ()).map_err(|error| error.error)
    };
    if let Ok(clone) = clone_in(source, folder) {
        return finish(clone).map(|()| Shared::Blocks);
    }
    if let Ok(link) = second_name(from, &seen, folder) {
        // Another file may bear the name by now.
        if fs::symlink_metadata(&link).is_ok_and(|linked| is_same(&linked, &seen)) {
            let name = link.to_path_buf();
            link.persist(to).map_err(|error| error.error)?;
            // A rename between two names of one file, when another was quicker, does nothing and leaves both.
            fs::remove_file(name).ok();
            return Ok(Shared::File);
        }
    }
    if !may_copy {
        return Ok(Shared::Not);
    }
    let mut fresh = names().tempfile_in(folder)?;
    io::copy(&mut File::open(from)?, fresh.as_file_mut())?;
    finish(fresh).map(|()| Shared::Copied)
}

fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Files that are swept when nobody finishes them.
fn names() -> tempfile::Builder<'static, 'static> {
    let mut names = tempfile::Builder::new();
    names.prefix("ingest-").suffix(".incomplete");
    names
}

/// A file of its own in `folder`, whose blocks are those of `source` until one of the two is written to.
#[cfg(target_os = "linux")]
pub(super) fn clone_in(source: &File, folder: &Path) -> io::Result<NamedTempFile> {
    let clone = names().tempfile_in(folder)?;
    rustix::fs::ioctl_ficlone(&clone, source)?;
    Ok(clone)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn clone_in(_: &File, _: &Path) -> io::Result<NamedTempFile> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A second name in `folder` for the file at `source`, of which `seen` is known. It will be read-only under both, and the rights
/// of what is another's are another's to change.
pub(super) fn second_name(source: &Path, seen: &fs::Metadata, folder: &Path) -> io::Result<TempPath> {
    if seen.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
    }
    let link = names().make_in(folder, |path| fs::hard_link(source, path))?.into_temp_path();
    // An old file is new here: what nobody uses goes by its age.
    File::open(&link)?.set_modified(SystemTime::now()).ok();
    Ok(link)
}

impl Blobs {
    /// Takes in a file from elsewhere on this machine, which stays where it is; a hard link makes it read-only there as
    /// well. `digest` is what the caller's hashing of all of `file` gave.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] when a copy turns out to be something else; a file that cannot be linked or written.
    pub fn link_in(&self, file: &File, path: &Path, digest: &Digest) -> Result<Shared, StoreError> {
        let length = file.metadata().map_err(StoreError::io("look at", path))?.len();
        if self.settle(digest, Some(length))? {
            self.touch(digest);
            return Ok(Shared::Already);
        }
        let place = self.layout().blob(digest);
        // Whoever wrote it may not have made it last.
        file.sync_all().map_err(StoreError::io("sync", path))?;
        let shared = share(file, path, &place, false).map_err(StoreError::io("link", &place))?;
        match shared {
            Shared::Not => {
                let mut ingest = self.ingest()?;
                let mut file = File::open(path).map_err(StoreError::io("open", path))?;
                io::copy(&mut file, &mut ingest).map_err(StoreError::io("copy", path))?;
                return ingest.commit(Some(digest)).map(|_| Shared::Copied);
            }
            Shared::File => {
                let protect = file.set_permissions(Permissions::from_mode(READ_ONLY));
                protect.map_err(StoreError::io("protect", &place))?;
            }
            Shared::Already | Shared::Blocks | Shared::Copied => {}
        }
        place.parent().map_or(Ok(()), sync_folder)?;
        Ok(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_file_is_taken_in_and_given_out_without_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("models")).unwrap();
        let (path, out) = (folder.path().join("file"), folder.path().join("out"));
        fs::write(&path, b"hello").unwrap();
        let digest = Digest::of(b"hello");
        let shared = store.blobs().link_in(&File::open(&path).unwrap(), &path, &digest).unwrap();
        assert!(matches!(shared, Shared::Blocks | Shared::File), "{shared:?}: one file system needs no copy");
        let blob = store.blobs().path(&digest);
        let mode = fs::symlink_metadata(&blob).unwrap().mode() & 0o777;
        assert_eq!((fs::read(&blob).unwrap().as_slice(), mode), (&b"hello"[..], READ_ONLY));

        fs::write(&out, b"other").unwrap();
        let source = File::open(&blob).unwrap();
        assert_eq!(share(&source, &blob, &out, false).unwrap(), shared);
        let again = if shared == Shared::File { Shared::Already } else { shared };
        assert_eq!(share(&source, &blob, &out, false).unwrap(), again);
        store.blobs().remove(&digest).unwrap();
        assert_eq!([&out, &path].map(|path| fs::read(path).unwrap()), [b"hello", b"hello"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing else is left");
    }

    #[test]
    fn what_bears_the_name_by_now_is_not_taken_for_what_was_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("models")).unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"hello").unwrap();
        let hashed = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"other").unwrap();
        let digest = Digest::of(b"hello");
        match store.blobs().link_in(&hashed, &path, &digest) {
            Ok(Shared::Blocks) => assert_eq!(store.blobs().read(&digest, 5).unwrap(), b"hello"),
            other => {
                assert!(matches!(other, Err(StoreError::DigestMismatch { .. })), "{other:?}");
                assert_eq!(fs::read_dir(store.layout().blobs()).unwrap().count(), 0);
            }
        }
    }

    #[test]
    fn many_at_once_leave_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, b"hello").unwrap();
        let source = File::open(&from).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        fs::remove_file(&to).ok();
                        assert_ne!(share(&source, &from, &to, true).unwrap(), Shared::Copied);
                    }
                });
            }
        });
        assert_eq!(fs::read(&to).unwrap(), b"hello");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
