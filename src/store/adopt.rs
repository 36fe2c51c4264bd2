//! Taking a file of this machine's into the store: as a clone where the file system shares blocks between files, else as a
//! second name of the same file; as a copy only when that is asked for.
//!
//! A second name keeps the bytes, not their content: whoever writes into the original writes into the blob. So the file is made
//! read-only, for both names, and what is written all the same is found when the blob is used.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::link;
use super::sound::Tell;
use super::stamp::Stamp;
use super::{Blobs, StoreError};
use crate::types::Digest;

/// Bytes that are read in one go.
const BUFFER: usize = 1 << 20;

/// How a file came into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The store had its content already.
    Present,
    /// A file of its own, whose blocks are shared until one of the two is written to.
    Cloned,
    /// A second name of the same file, which is read-only from now on.
    Linked,
    Copied,
}

impl Blobs {
    /// Takes in the file at `source`. `tell` hears how many bytes have been read, and ends it with `false`.
    ///
    /// # Errors
    /// [`StoreError::NoLink`] when it takes a copy and none was asked for; a file that cannot be read, or that changed
    /// meanwhile.
    pub fn adopt(&self, source: &Path, copy: bool, tell: &mut Tell<'_>) -> Result<(Digest, u64, Taken), StoreError> {
        let source = fs::canonicalize(source).map_err(StoreError::io("find", source))?;
        let mut file = open(&source)?;
        let seen = file.metadata().map_err(StoreError::io("look at", &source))?;
        let folder = self.layout().blobs();
        let (path, taken) = match link::clone_in(&file, &folder) {
            Ok(clone) => (clone.into_temp_path(), Taken::Cloned),
            Err(_) => match link::second_name(&source, &seen, &folder) {
                Ok(path) => (path, Taken::Linked),
                Err(_) if copy => return self.copy_of(&mut file, &source, tell),
                Err(why) => return Err(StoreError::NoLink { path: source, why }),
            },
        };
        // What is hashed is what will be the blob.
        let mut taken_in = open(&path)?;
        let before = stamp(&taken_in, &path)?;
        let (digest, length) = hash(&mut taken_in, &source, &mut io::sink(), tell)?;
        if stamp(&taken_in, &path)? != before {
            return Err(StoreError::io("take in", &source)(io::Error::other("it was written to meanwhile")));
        }
        if self.settle(&digest, Some(length))? {
            self.touch(&digest);
            return Ok((digest, length, Taken::Present));
        }
        self.publish(&taken_in, &digest, |target| path.persist(target).map_err(|error| error.error))?;
        Ok((digest, length, taken))
    }

    fn copy_of(&self, file: &mut File, source: &Path, tell: &mut Tell<'_>) -> Result<(Digest, u64, Taken), StoreError> {
        let mut ingest = self.ingest()?;
        hash(file, source, &mut ingest, tell)?;
        let (digest, length) = ingest.commit(None)?;
        Ok((digest, length, Taken::Copied))
    }
}

/// Opens a regular file; what is none is not waited for.
fn open(path: &Path) -> Result<File, StoreError> {
    let without_waiting = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(without_waiting).open(path);
    let file = file.map_err(StoreError::io("open", path))?;
    match file.metadata() {
        Ok(seen) if seen.is_file() => Ok(file),
        Ok(_) => Err(StoreError::io("take in", path)(io::Error::other("it is no file"))),
        Err(error) => Err(StoreError::io("look at", path)(error)),
    }
}

fn stamp(file: &File, path: &Path) -> Result<Stamp, StoreError> {
    file.metadata().and_then(|seen| Stamp::of(&seen)).map_err(StoreError::io("look at", path))
}

/// Reads a file to its end, into `out`.
fn hash(file: &mut File, path: &Path, out: &mut impl Write, tell: &mut Tell<'_>) -> Result<(Digest, u64), StoreError> {
    let (mut hash, mut buffer, mut length) = (Sha256::new(), vec![0; BUFFER], 0);
    loop {
        let count = file.read(&mut buffer).map_err(StoreError::io("read", path))?;
        if count == 0 {
            return Ok((Digest::from_bytes(hash.finalize().into()), length));
        }
        hash.update(&buffer[..count]);
        out.write_all(&buffer[..count]).map_err(StoreError::io("copy", path))?;
        length += count as u64;
        if !tell(length) {
            return Err(StoreError::io("read", path)(io::ErrorKind::Interrupted.into()));
        }
    }
}

/// Files of the store that are known by more than their names, to be compared with others.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|seen| (seen.dev(), seen.ino()))
}

impl super::Store {
    /// What tells the files of the store's own blobs from all others: device and number.
    pub fn identities(&self) -> std::collections::HashSet<(u64, u64)> {
        let blobs = self.blobs().list().into_iter();
        let paths = blobs.map(|(digest, ..)| -> PathBuf { self.blobs().path(&digest) });
        paths.filter_map(|path| identity(&path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::store::Store;

    #[test]
    fn a_file_gets_a_second_name_and_damage_through_the_first_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let original = folder.path().join("model.gguf");
        fs::write(&original, b"content").unwrap();
        let mut read = 0;
        let (digest, length, taken) = store
            .blobs()
            .adopt(&original, false, &mut |bytes| {
                read = bytes;
                true
            })
            .unwrap();
        assert_eq!((digest, length, read), (Digest::of(b"content"), 7, 7));
        let (one, two) = (fs::metadata(&original).unwrap(), fs::metadata(store.blobs().path(&digest)).unwrap());
        match taken {
            Taken::Linked => assert_eq!((one.ino(), one.mode() & 0o777), (two.ino(), 0o444)),
            // This folder's file system shares blocks.
            Taken::Cloned => assert_ne!(one.ino(), two.ino()),
            other => panic!("{other:?}"),
        }
        assert_eq!(store.blobs().adopt(&original, false, &mut |_| true).unwrap().2, Taken::Present);
        assert!(store.blobs().list().len() == 1 && store.identities().contains(&(two.dev(), two.ino())));

        if taken == Taken::Linked {
            fs::remove_file(&original).unwrap();
            assert_eq!(store.blobs().read(&digest, 7).unwrap(), b"content", "the original may go");
            fs::hard_link(store.blobs().path(&digest), &original).unwrap();
            let mut mode = two.permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o644);
            fs::set_permissions(&original, mode).unwrap();
            let mut file = File::options().write(true).open(&original).unwrap();
            file.write_all(b"CONTENT").unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(2)).unwrap();
            let error = store.blobs().check(&digest, 7).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn another_file_system_takes_a_copy_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let Some(other) = ["/dev/shm", "/run", "/tmp"].into_iter().find_map(|place| {
            let other = tempfile::tempdir_in(place).ok()?;
            let device = |path: &Path| fs::metadata(path).unwrap().dev();
            (device(other.path()) != device(folder.path())).then_some(other)
        }) else {
            println!("skipped: there is no other file system here");
            return;
        };
        let original = other.path().join("model.gguf");
        fs::write(&original, b"content").unwrap();
        let store = Store::open(folder.path()).unwrap();
        let refused = store.blobs().adopt(&original, false, &mut |_| true).unwrap_err();
        assert!(refused.to_string().contains("without a copy"), "{refused}");
        assert!(fs::read_dir(store.layout().blobs()).unwrap().next().is_none());
        let (digest, _, taken) = store.blobs().adopt(&original, true, &mut |_| true).unwrap();
        assert_eq!((digest, taken), (Digest::of(b"content"), Taken::Copied));
        assert_eq!(fs::metadata(&original).unwrap().mode() & 0o222, 0o200, "the original is left as it is");
    }

    #[test]
    fn what_is_no_file_is_refused_at_once_and_a_stop_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let fifo = folder.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for bad in [fifo.as_path(), folder.path(), &folder.path().join("nothing")] {
            assert!(store.blobs().adopt(bad, true, &mut |_| true).is_err(), "{}", bad.display());
        }
        let file = folder.path().join("file");
        fs::write(&file, b"x").unwrap();
        assert!(store.blobs().adopt(&file, false, &mut |_| false).is_err());
        assert!(fs::read_dir(store.layout().blobs()).unwrap().next().is_none());
    }
}
