//! One content under two names, without a second copy on the disk where the file system allows it.
//!
//! Shared blocks come first (btrfs, XFS): each name is a file of its own, and what is done to the one does not touch the
//! other. Then a hard link. A copy is last, and only where the caller wants one.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use tempfile::{NamedTempFile, TempPath};

use super::blobs::READ_ONLY;

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
        fresh.as_file().set_permissions(Permissions::from_mode(READ_ONLY))?;
        fresh.as_file().sync_all()?;
        fresh.persist(to).map(|_| ()).map_err(|error| error.error)
    };
    if let Ok(clone) = clone_in(source, folder) {
        return finish(clone).map(|()| Shared::Blocks);
    }
    if let Ok(link) = second_name(from, &seen, folder) {
        // Another file may bear the name by now.
        if fs::symlink_metadata(&link).is_ok_and(|linked| is_same(&linked, &seen)) {
            return rename(link, to).map(|()| Shared::File);
        }
    }
    if !may_copy {
        return Ok(Shared::Not);
    }
    let mut fresh = names().tempfile_in(folder)?;
    io::copy(&mut File::open(from)?, fresh.as_file_mut())?;
    finish(fresh).map(|()| Shared::Copied)
}

/// Gives a file its name in place of its temporary one.
pub(super) fn rename(from: TempPath, to: &Path) -> io::Result<()> {
    let temporary = from.to_path_buf();
    from.persist(to).map_err(|error| error.error)?;
    // A rename between two names of one file, when another was quicker, does nothing and leaves both.
    fs::remove_file(temporary).ok();
    Ok(())
}

pub(super) fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Files that are swept when nobody finishes them.
pub(super) fn names() -> tempfile::Builder<'static, 'static> {
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
    Ok(names().make_in(folder, |path| fs::hard_link(source, path))?.into_temp_path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_another_name_without_a_copy_and_each_outlives_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, b"hello").unwrap();
        fs::write(&to, b"other").unwrap();
        let source = File::open(&from).unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        source.set_modified(long_ago).unwrap();
        let shared = share(&source, &from, &to, false).unwrap();
        assert!(matches!(shared, Shared::Blocks | Shared::File), "{shared:?}: one file system needs no copy");
        let again = if shared == Shared::File { Shared::Already } else { shared };
        assert_eq!(share(&source, &from, &to, false).unwrap(), again);
        assert_eq!(source.metadata().unwrap().modified().unwrap(), long_ago, "a blob that is shared stays known");
        fs::remove_file(&from).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"hello");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_bears_the_name_by_now_is_not_taken_for_what_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, b"hello").unwrap();
        let source = File::open(&from).unwrap();
        fs::remove_file(&from).unwrap();
        fs::write(&from, b"other").unwrap();
        match share(&source, &from, &to, false).unwrap() {
            Shared::Blocks => assert_eq!(fs::read(&to).unwrap(), b"hello"),
            shared => assert_eq!((shared, fs::read_dir(folder.path()).unwrap().count()), (Shared::Not, 1)),
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
